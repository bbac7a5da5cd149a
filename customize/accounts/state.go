package accounts

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"imgbuild/customize"
	"imgbuild/tree"
)

// state is the accounts of a system while they are changed, in memory. Nothing is
// written before all changes have been found possible.
type state struct {
	validator // collects the problems
	warnings  Problems

	sys     *customize.System
	defs    loginDefs
	useradd useraddDefaults
	version version
	known   *known
	subids  bool // nsswitch.conf leaves /etc/subuid and /etc/subgid to shadow

	passwd, shadow, group, gshadow, subuid, subgid *table
	uids, gids                                     map[uint32]string // of the files of /etc

	today  string          // for the fields of shadow(5)
	failed map[string]bool // groups that could not be made, and were reported
	homes  []home
}

// version is what differs between versions of shadow, as far as the image's
// useradd shows it. An image without one counts as having an old one.
type version struct {
	// current is 4.20 or later: PASS_MIN_DAYS has no effect any more, and a range
	// that subuid(5) has for the name of a new user is no reason to give none, as it
	// is from 4.14 on.
	current bool
	// xattrs is a version that copies extended attributes from /etc/skel.
	xattrs bool
}

// maxProgram is the size of the largest useradd that is looked into.
const maxProgram = 4 << 20

// load reads the accounts of a system.
func load(sys *customize.System) (*state, error) {
	s := &state{sys: sys, failed: map[string]bool{}}
	for _, t := range []struct {
		table **table
		path  string
		mode  uint32
		valid func([]string) bool
	}{
		{&s.passwd, "/etc/passwd", 0o644, validPasswd},
		{&s.shadow, "/etc/shadow", 0o400, validShadow},
		{&s.group, "/etc/group", 0o644, validGroup},
		{&s.gshadow, "/etc/gshadow", 0o400, validGshadow},
		{&s.subuid, "/etc/subuid", 0o644, validSubID},
		{&s.subgid, "/etc/subgid", 0o644, validSubID},
	} {
		var err error
		if *t.table, err = readTable(sys, t.path, t.mode, t.valid); err != nil {
			return nil, err
		}
	}
	s.passwd.ids, s.group.ids = []int{pwUID, pwGID}, []int{grGID}
	s.uids, s.gids = numbers(s.passwd, pwUID), numbers(s.group, grGID)
	if err := s.settings(); err != nil {
		return nil, err
	}
	var err error
	if s.known, err = readKnown(sys); err != nil {
		return nil, err
	}
	s.version = findVersion(sys)
	// 0 would ask for a new password at once, and shadow leaves it out.
	if day := sys.Time() / 86400; day > 0 {
		s.today = strconv.FormatInt(day, 10)
	}
	return s, nil
}

// settings reads login.defs and the defaults of useradd.
func (s *state) settings() error {
	text, err := readText(s.sys, "/etc/login.defs", maxSettings)
	if err != nil {
		return err
	}
	s.defs = parseLoginDefs(text)
	if s.defs.number("MAX_MEMBERS_PER_GROUP", 0, 0) > 0 {
		return errors.New("/etc/login.defs sets MAX_MEMBERS_PER_GROUP, which is not supported")
	}
	if s.defs.yes("USE_TCB") {
		return errors.New("/etc/login.defs sets USE_TCB, which is not supported")
	}
	osRelease, err := readText(s.sys, "/usr/lib/os-release", maxSettings)
	if err != nil {
		return err
	}
	s.useradd = builtinDefaults(isDebian(osRelease))
	if text, err = readText(s.sys, "/etc/default/useradd", maxSettings); err != nil {
		return err
	}
	s.useradd.parse(text)
	if text, err = readText(s.sys, "/etc/nsswitch.conf", maxSettings); err != nil {
		return err
	}
	services := parseSwitch(text)["subid"]
	s.subids = len(services) == 0 || services[0] == "files"
	return nil
}

// findVersion looks into the image's useradd: for a setting that came when
// PASS_MIN_DAYS went, and for the function of libattr.
func findVersion(sys *customize.System) version {
	for _, path := range []string{"/usr/sbin/useradd", "/usr/bin/useradd"} {
		if b, err := sys.ReadFile(path, maxProgram); err == nil {
			return version{current: bytes.Contains(b, []byte("SUB_UID_STORE_BY_UID")), xattrs: bytes.Contains(b, []byte("attr_copy_f"))}
		}
	}
	return version{}
}

// numbers returns the names of the ids of a table, the first of each.
func numbers(t *table, field int) map[uint32]string {
	ids := map[uint32]string{}
	for _, l := range t.lines {
		if l.fields == nil {
			continue
		}
		if id, ok := parseID(l.fields[field]); ok && ids[id] == "" {
			ids[id] = l.fields[0]
		}
	}
	return ids
}

func (s *state) warn(p Problem, field string, err error) {
	p.Field, p.Item, p.Err = field, -1, err
	s.warnings = append(s.warnings, p)
}

// uidOwner returns the user that has a uid, or "".
func (s *state) uidOwner(uid uint32) string {
	if name := s.uids[uid]; name != "" {
		return name
	}
	return s.known.uids[uid]
}

// gidOwner returns the group that has a gid, or "".
func (s *state) gidOwner(gid uint32) string {
	if name := s.gids[gid]; name != "" {
		return name
	}
	return s.known.gids[gid]
}

// findGroup returns the gid of a group that exists; fixed is false where that will
// be chosen when the system starts.
func (s *state) findGroup(name string) (gid uint32, fixed, ok bool) {
	if f := s.group.find(name); f != nil {
		gid, _ = parseID(f[grGID])
		return gid, true, true
	}
	if g := s.known.groups[name]; g != nil {
		return g.gid, g.fixed, true
	}
	return 0, false, false
}

// newGroup adds a group to group(5) and gshadow(5).
func (s *state) newGroup(name, password, lock string, gid uint32, list []string) error {
	if err := s.group.update([]string{name, password, id(gid), strings.Join(list, ",")}); err != nil {
		return err
	}
	s.gids[gid] = name
	if !s.gshadow.present {
		return nil
	}
	return s.gshadow.update([]string{name, lock, "", strings.Join(list, ",")})
}

func id(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// addGroup does what groupadd(8) does. A group that the image has, with the gid
// asked for, is left as it is.
func (s *state) addGroup(i int, g *Group) {
	p := inGroup(i, g)
	if have, fixed, ok := s.findGroup(g.Name); ok && (fixed || g.GID == nil) {
		if g.GID != nil && *g.GID != int64(have) {
			s.failed[g.Name] = true
			s.add(p, "gid", fmt.Errorf("the image has this group with gid %d, which cannot be changed", have))
		}
		return
	}
	var gid uint32
	if g.GID != nil {
		gid = uint32(*g.GID)
		if owner := s.gidOwner(gid); owner != "" {
			s.failed[g.Name] = true
			s.add(p, "gid", fmt.Errorf("%d is the gid of group %q of the image", gid, owner))
			return
		}
	} else {
		var ok bool
		if gid, ok = s.freeGID(); !ok {
			s.failed[g.Name] = true
			s.add(p, "gid", errors.New("no gid is free between GID_MIN and GID_MAX of /etc/login.defs"))
			return
		}
	}
	if err := s.newGroup(g.Name, "x", "!", gid, nil); err != nil {
		s.add(p, "name", err)
	}
}

// localGroup makes sure that a group that exists is in /etc/group, and returns its
// gid: shadow changes groups there only. One of nss-altfiles or userdb is copied
// with its members, one of sysusers.d is made as systemd-sysusers would make it.
func (s *state) localGroup(name string) (gid uint32, err error) {
	if f := s.group.find(name); f != nil {
		gid, _ = parseID(f[grGID])
		return gid, nil
	}
	g := s.known.groups[name]
	if g == nil {
		return 0, errUnknownGroup
	}
	gid = g.gid
	if !g.fixed {
		var ok bool
		if gid, ok = s.systemID("GID"); !ok {
			return 0, fmt.Errorf("no gid is free for this group of %s", g.source)
		}
	} else if owner := s.gids[gid]; owner != "" {
		return 0, fmt.Errorf("%s gives this group gid %d, which is that of group %q", g.source, gid, owner)
	}
	return gid, s.newGroup(name, "x", "!*", gid, g.members)
}

// commit writes all changes.
func (s *state) commit() error {
	for _, t := range []*table{s.passwd, s.shadow, s.group, s.gshadow, s.subuid, s.subgid} {
		if err := t.write(s.sys); err != nil {
			return err
		}
	}
	for i := range s.homes {
		if err := s.homes[i].make(s); err != nil {
			return err
		}
	}
	return nil
}

// lookupDir returns the directory at a path, or nil.
func (s *state) lookupDir(path string) *tree.Inode {
	if d := s.sys.Lookup(path); d != nil && d.IsDir() {
		return d
	}
	return nil
}
