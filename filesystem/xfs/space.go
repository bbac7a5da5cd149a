package xfs

import (
	"fmt"
	"math/bits"

	"imgbuild/content"
	"imgbuild/disk"
)

// shortfall says that so many blocks more are needed, or at least one.
type shortfall struct{ blocks uint64 }

func (s *shortfall) Error() string { return fmt.Sprintf("%d blocks are missing", s.blocks) }

// group is an allocation group: everything before next is in use but for the
// gaps. Numbers are agbnos.
type group struct {
	length  uint64
	next    uint64
	limit   uint64 // end of what is given out
	agfl    uint64 // first block of the free list
	gaps    []run
	chunkAt uint64 // first block of the inodes
	nodes   run    // indices of their nodes
	inobtAt uint64 // blocks of the inode tree besides the root
	inobt   uint64
	owners  ownedList     // of what is behind those
	content []disk.Extent // of what is behind those, ascending
	rowEnd  uint32        // end of the blocks of the row in the last content, or 0
}

// chunks returns the number of chunks of inodes.
func (g *group) chunks() uint64 { return ceilDiv(g.nodes.n, inodesPerChunk) }

// room returns the blocks that can be given out still.
func (g *group) room() uint64 { return g.limit - min(g.next, g.limit) }

// space is the allocation groups of a file system.
type space struct {
	*geometry
	groups []group
	skip   []uint64 // for full groups: the next one that may have room
}

func newSpace(g *geometry) *space {
	s := &space{geometry: g, groups: make([]group, g.agCount), skip: make([]uint64, g.agCount)}
	for i := range s.groups {
		ag := uint64(i)
		length := g.length(ag)
		agfl, end := g.end(ag)
		s.groups[i] = group{length: length, agfl: agfl, next: end, limit: length - min(length, g.reserve(length))}
		if ag == g.logAG && g.logAt > g.fixed {
			s.groups[i].gaps = append(s.groups[i].gaps, run{g.fixed, g.logAt - g.fixed})
		}
		s.skip[i] = ag
	}
	return s
}

// room returns the blocks that can be given out still in the first n groups.
func (s *space) room(n uint64) uint64 {
	total := uint64(0)
	for i := range s.groups[:n] {
		total += s.groups[i].room()
	}
	return total
}

// scale maps positions in a whole to the groups, in proportion to the room that
// they have.
type scale struct {
	ends  []uint64 // of the part of each group
	whole uint64
}

func newScale(groups []group, whole uint64) scale {
	s := scale{ends: make([]uint64, len(groups)), whole: max(whole, 1)}
	end := uint64(0)
	for i := range groups {
		end += groups[i].room()
		s.ends[i] = end
	}
	return s
}

// from returns the group of a position, which is not below that of an earlier
// call for group ag.
func (s *scale) from(ag, position uint64) uint64 {
	last := uint64(len(s.ends) - 1)
	hi, lo := bits.Mul64(min(position, s.whole), s.ends[last])
	if hi >= s.whole {
		return last
	}
	at, _ := bits.Div64(hi, lo, s.whole)
	for ag < last && s.ends[ag] <= at {
		ag++
	}
	return ag
}

// placeInodes distributes the nodes to the groups, in their order, and numbers
// them. Behind the inodes of a group lies the rest of their tree.
func (s *space) placeInodes(nodes []node) error {
	groups := s.groups[:s.inodeGroups()]
	weight := func(n *node) uint64 { return n.blocks*inodesPerBlock + 1 }
	whole := uint64(0)
	for i := range nodes {
		whole += weight(&nodes[i])
	}
	scale := newScale(groups, whole)
	position := uint64(0)
	ag := uint64(0)
	limit := s.inodeLimit(0)
	for i := range nodes {
		next := scale.from(ag, position)
		position += weight(&nodes[i])
		if i < nodeFirst {
			next = 0
		}
		for next > ag || groups[ag].nodes.n >= limit {
			if ag++; ag == uint64(len(groups)) {
				return &shortfall{chunkBlocks}
			}
			limit = s.inodeLimit(ag)
		}
		g := &groups[ag]
		if g.nodes.n == 0 {
			g.nodes.start = uint64(i)
			g.chunkAt = s.chunkAt(ag)
		}
		nodes[i].number = uint32(ag<<(s.agBlockLog+inodesPerBlkLog) | g.chunkAt<<inodesPerBlkLog + g.nodes.n)
		g.nodes.n++
	}
	for i := range groups {
		g := &groups[i]
		if g.nodes.n == 0 {
			continue
		}
		if g.chunkAt > g.next {
			g.gaps = append(g.gaps, run{g.next, g.chunkAt - g.next})
		}
		g.inobtAt = g.chunkAt + g.chunks()*chunkBlocks
		g.inobt = uint64(treeBlocks(int(g.chunks()), inodeTree)) - 1
		g.next = g.inobtAt + g.inobt
	}
	return nil
}

// chunkAt returns where the inodes of a group lie.
func (s *space) chunkAt(ag uint64) uint64 {
	if ag == 0 {
		return s.rootAt
	}
	return roundUp(s.groups[ag].next, chunkBlocks)
}

// inodeLimit returns how many inodes a group has room for, with their tree.
func (s *space) inodeLimit(ag uint64) uint64 {
	at, g := s.chunkAt(ag), &s.groups[ag]
	chunks := (g.limit - min(g.limit, at)) / chunkBlocks
	chunks -= min(chunks, chunks/1000+1) // for the tree, of which a block holds 220 at least
	return chunks * inodesPerChunk
}

// find returns the first group from ag on, the first ones being behind the
// last, that has room. ok is false when none has.
func (s *space) find(ag uint64) (uint64, bool) {
	start := ag
	for hops := 0; s.groups[ag].room() == 0; hops++ {
		if hops > len(s.groups) {
			return 0, false
		}
		if s.skip[ag] == ag || s.groups[s.skip[ag]].room() == 0 {
			s.skip[ag] = (s.skip[ag] + 1) % s.agCount
		}
		ag = s.skip[ag]
	}
	s.skip[start] = ag
	return ag, true
}

// take gives out the next blocks of a group, n at most, or of another one where
// that is full. It returns none when all are full.
func (s *space) take(ag, n uint64) (group, agbno, got uint64) {
	ag, ok := s.find(ag)
	if !ok {
		return 0, 0, 0
	}
	g := &s.groups[ag]
	at := g.next
	got = min(n, g.room())
	g.next += got
	return ag, at, got
}

// own records the owner of blocks just taken.
func (s *space) own(ag uint64, o owned) {
	if s.rmapRoot != 0 {
		s.groups[ag].owners.add(o)
	}
}

// put adds content at a block just taken.
func (s *space) put(ag, agbno uint64, data content.Ref) {
	s.groups[ag].content = append(s.groups[ag].content, disk.Extent{Off: int64(s.linear(ag, agbno)) << blockShift, Data: data})
}
