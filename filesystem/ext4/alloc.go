package ext4

import (
	"cmp"
	"slices"
)

// run is n blocks from start.
type run struct{ start, n uint64 }

func (r run) end() uint64 { return r.start + r.n }

// space gives out blocks in ascending order, without ever leaving one out: what
// is in use are the fixed runs and everything before next.
type space struct {
	fixed []run // ascending, not touching: metadata of the groups, the journal
	i     int   // fixed[:i] ends at or before next
	next  uint64
	end   uint64
}

// newSpace returns the space of a file system with the tables in place.
func newSpace(g *geometry, tables []groupTables) *space {
	var fixed []run
	fixed = append(fixed, run{0, uint64(g.base(0))})
	for _, b := range g.backups() {
		fixed = append(fixed, run{uint64(b) * blocksPerGroup, uint64(g.base(b))})
	}
	for first := 0; first < len(tables); first += flexGroups {
		flex := tables[first:min(first+flexGroups, len(tables))]
		local := make([]run, 0, 3*flexGroups)
		for _, t := range flex {
			local = append(local, run{t.blockBitmap, 1})
		}
		for _, t := range flex {
			local = append(local, run{t.inodeBitmap, 1})
		}
		for _, t := range flex {
			local = append(local, run{t.inodeTable, uint64(g.tableBlocks)})
		}
		fixed = append(fixed, joinRuns(local)...)
	}
	return &space{fixed: sortRuns(fixed), end: g.blocks}
}

// joinRuns joins neighbours in the list that touch in order.
func joinRuns(runs []run) []run {
	out := runs[:0]
	for _, r := range runs {
		if k := len(out); k > 0 && out[k-1].end() == r.start {
			out[k-1].n += r.n
			continue
		}
		out = append(out, r)
	}
	return out
}

func sortRuns(runs []run) []run {
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.start, b.start) })
	return joinRuns(runs)
}

// take gives out the next blocks that lie together, n at most. It returns an
// empty run when there are none.
func (s *space) take(n uint64) run {
	for s.i < len(s.fixed) && s.fixed[s.i].start <= s.next {
		s.next = max(s.next, s.fixed[s.i].end())
		s.i++
	}
	end := s.end
	if s.i < len(s.fixed) {
		end = s.fixed[s.i].start
	}
	r := run{s.next, min(n, end-min(s.next, end))}
	s.next += r.n
	return r
}

// takeFrom fixes n blocks, the first free ones from goal on or, where too few
// follow, from next on. It returns nil when there are too few.
func (s *space) takeFrom(goal, n uint64) []run {
	for _, start := range [...]uint64{max(goal, s.next), s.next} {
		t := space{fixed: s.fixed, next: start, end: s.end}
		var runs []run
		left := n
		for left > 0 {
			r := t.take(left)
			if r.n == 0 {
				break
			}
			runs = append(runs, r)
			left -= r.n
		}
		if left == 0 {
			s.fixed = sortRuns(append(slices.Clone(s.fixed), runs...))
			s.i = 0
			return runs
		}
	}
	return nil
}

// used calls fn for the runs in use within [start, end), ascending.
func (s *space) used(start, end uint64, fn func(run)) {
	if start < s.next {
		n := min(s.next, end) - start
		fn(run{start, n})
		start += n
	}
	i, _ := slices.BinarySearchFunc(s.fixed, start, func(r run, at uint64) int {
		if r.end() <= at {
			return -1
		}
		return 1
	})
	for ; i < len(s.fixed) && s.fixed[i].start < end; i++ {
		from, to := max(s.fixed[i].start, start), min(s.fixed[i].end(), end)
		if from < to {
			fn(run{from, to - from})
		}
	}
}

// countUsed returns the number of blocks in use within [start, end).
func (s *space) countUsed(start, end uint64) uint64 {
	n := uint64(0)
	s.used(start, end, func(r run) { n += r.n })
	return n
}
