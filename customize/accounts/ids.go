package accounts

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// The ranges where login.defs has none, in find_new_gid.c and find_new_sub_uids.c
// of shadow.
const (
	defaultMin, defaultMax              = 1000, 60000
	defaultSystemMin                    = 101
	defaultSubMin, defaultSubMax        = 100000, 600100000
	defaultSubCount              uint32 = 65536
	deterministicMin                    = 65536
	deterministicMax             uint32 = math.MaxUint32
)

// next returns the id behind the highest of the range that local has, and where
// that is not free the next that is, at last from the start of the range:
// find_new_uid of shadow.
func next(local *table, field int, least, most uint32, taken func(uint32) bool) (uint32, bool) {
	from := uint64(least)
	for _, l := range local.lines {
		if l.fields == nil {
			continue
		}
		if id, _ := parseID(l.fields[field]); uint64(id) >= from && id <= most {
			from = uint64(id) + 1
		}
	}
	if from > uint64(most) {
		from = uint64(least)
	}
	for _, start := range []uint64{from, uint64(least)} {
		for id := start; id <= uint64(most); id++ {
			if usable(uint32(id)) && !taken(uint32(id)) {
				return uint32(id), true
			}
		}
	}
	return 0, false
}

// usable leaves out -1 in 16 and 32 bits.
func usable(id uint32) bool { return id != math.MaxUint16 && id != math.MaxUint32 }

func (s *state) uidRange() (least, most uint32) {
	return s.defs.id("UID_MIN", defaultMin), s.defs.id("UID_MAX", defaultMax)
}

func (s *state) freeUID() (uint32, bool) {
	least, most := s.uidRange()
	return next(s.passwd, pwUID, least, most, func(id uint32) bool { return s.uidOwner(id) != "" })
}

func (s *state) freeGID() (uint32, bool) {
	least, most := s.defs.id("GID_MIN", defaultMin), s.defs.id("GID_MAX", defaultMax)
	return next(s.group, grGID, least, most, func(id uint32) bool { return s.gidOwner(id) != "" })
}

// userGID returns the gid of a user's own group: the uid where that is free and in
// the range of groups.
func (s *state) userGID(uid uint32) (uint32, bool) {
	least, most := s.defs.id("GID_MIN", defaultMin), s.defs.id("GID_MAX", defaultMax)
	if uid >= least && uid <= most && usable(uid) && s.gidOwner(uid) == "" {
		return uid, true
	}
	return s.freeGID()
}

// systemID returns an id for a user or group of sysusers.d, from the top of the
// range of the system's, free as uid and as gid: systemd-sysusers takes the same
// for both.
func (s *state) systemID(kind string) (uint32, bool) {
	least := s.defs.id("SYS_"+kind+"_MIN", defaultSystemMin)
	most := s.defs.id("SYS_"+kind+"_MAX", max(s.defs.id(kind+"_MIN", defaultMin), 1)-1)
	for id := uint64(most); id >= uint64(max(least, 1)); id-- {
		if n := uint32(id); usable(n) && s.uidOwner(n) == "" && s.gidOwner(n) == "" {
			return n, true
		}
	}
	return 0, false
}

// addSubIDs gives a new user its ranges in subuid(5) and subgid(5): users only,
// none of the system's, and only where the files exist.
func (s *state) addSubIDs(name string, uid uint32) error {
	least, most := s.uidRange()
	if !s.subids || uid == 0 || uid < least || uid > most {
		return nil
	}
	for _, t := range []struct {
		table *table
		kind  string
	}{{s.subuid, "SUB_UID"}, {s.subgid, "SUB_GID"}} {
		count := s.defs.id(t.kind+"_COUNT", defaultSubCount)
		if !t.table.present || count == 0 {
			continue
		}
		start, err := s.subRange(t.table, t.kind, uid, count)
		if err != nil {
			return fmt.Errorf("%s: %w", t.table.path, err)
		}
		if !s.version.current && t.table.find(name) != nil {
			continue
		}
		owner := name
		if s.defs.yes(t.kind + "_STORE_BY_UID") {
			owner = id(uid)
		}
		t.table.add([]string{owner, id(start), id(count)})
	}
	return nil
}

// errNoRange says that the ranges are used up.
var errNoRange = errors.New("no range is free between the limits of /etc/login.defs")

// subRange returns the start of a new range.
func (s *state) subRange(t *table, kind string, uid, count uint32) (uint32, error) {
	if s.defs.yes(kind + "_DETERMINISTIC") {
		least, most := s.defs.id(kind+"_MIN", deterministicMin), s.defs.id(kind+"_MAX", deterministicMax)
		first := s.defs.id(kind[len("SUB_"):]+"_MIN", defaultMin)
		space := uint64(most) - uint64(least) + 1
		if uid < first || least > most || uint64(count) > space {
			return 0, errNoRange
		}
		slot, slots := uint64(uid-first), space/uint64(count)
		if slot >= slots {
			if !s.defs.yes("UNSAFE_" + kind + "_DETERMINISTIC_WRAP") {
				return 0, errNoRange
			}
			slot %= slots
		}
		return uint32(uint64(least) + slot*uint64(count)), nil
	}
	return t.freeRange(s.defs.id(kind+"_MIN", defaultSubMin), s.defs.id(kind+"_MAX", defaultSubMax), count)
}

// freeRange returns the start of the lowest hole of count ids: find_free_range of
// shadow, which leaves the file sorted.
func (t *table) freeRange(least, most, count uint32) (uint32, error) {
	if count == 0 || most < least || uint64(count) > uint64(most-least)+1 {
		return 0, errNoRange
	}
	t.sortRanges()
	low := uint64(least)
	for _, l := range t.lines {
		if l.fields == nil || l.fields[subCount] == "0" {
			continue
		}
		first, _ := parseID(l.fields[subStart])
		n, _ := strconv.ParseUint(l.fields[subCount], 10, 64)
		high := min(uint64(first), uint64(most)+1)
		if high > low && high-low >= uint64(count) {
			return uint32(low), nil
		}
		if low = max(low, uint64(first)+n); low > uint64(most) {
			return 0, errNoRange
		}
	}
	if uint64(most)-low+1 >= uint64(count) {
		return uint32(low), nil
	}
	return 0, errNoRange
}

// sortRanges sorts by start, count and owner, what is no range last.
func (t *table) sortRanges() {
	if len(t.lines) < 2 {
		return
	}
	t.changed = true
	slices.SortStableFunc(t.lines, func(a, b *line) int {
		switch {
		case a.fields == nil && b.fields == nil:
			return 0
		case a.fields == nil:
			return 1
		case b.fields == nil:
			return -1
		}
		as, _ := parseID(a.fields[subStart])
		bs, _ := parseID(b.fields[subStart])
		an, _ := strconv.ParseUint(a.fields[subCount], 10, 64)
		bn, _ := strconv.ParseUint(b.fields[subCount], 10, 64)
		return cmp.Or(cmp.Compare(as, bs), cmp.Compare(an, bn), cmp.Compare(a.fields[subOwner], b.fields[subOwner]))
	})
}
