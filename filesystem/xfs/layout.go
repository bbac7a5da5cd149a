package xfs

import (
	"context"

	"imgbuild/content"
	"imgbuild/filesystem"
)

// layout is a collection with a place for everything.
type layout struct {
	*collection
	*space
	extents []extent             // of all nodes
	deep    map[forkKey]deepFork // forks whose extents the inode does not hold
}

// forkKey identifies a fork: 0 is data, 1 attributes.
type forkKey struct {
	node uint32
	fork uint8
}

// deepFork is the root of a tree of extents and the number of blocks below it.
type deepFork struct {
	root   []byte
	blocks uint64
}

const (
	dataFork = iota
	attrFork
)

// placeIn places the collection in so many blocks of which free ones remain for
// anyone. It returns a *shortfall when that does not go. The collection can be
// placed again, but only one layout of it be written.
func (c *collection) placeIn(ctx context.Context, blocks, free uint64) (*layout, error) {
	g, err := newGeometry(blocks, c.opt)
	if err != nil {
		return nil, err
	}
	s := newSpace(&g)
	need := c.blocks + uint64(len(c.nodes))/inodesPerBlock + free
	if free > 0 {
		need += g.pool()
	}
	if room := s.room(g.agCount); need > room {
		return nil, &shortfall{need - room}
	}
	if err := s.placeInodes(c.nodes); err != nil {
		return nil, err
	}
	first := len(c.row.blocks)
	l := &layout{collection: c, space: s, deep: map[forkKey]deepFork{}}
	if err := l.placeNodes(ctx); err != nil {
		c.row.blocks = c.row.blocks[:first]
		return nil, err
	}
	if need = free; free > 0 {
		need += g.pool()
	}
	if room := s.room(g.agCount); need > room {
		c.row.blocks = c.row.blocks[:first]
		return nil, &shortfall{need - room}
	}
	return l, nil
}

// placeNodes places what nodes have outside their inodes: in a group first all
// metadata, then the content of files.
func (l *layout) placeNodes(ctx context.Context) error {
	scale := newScale(l.groups, l.collection.blocks)
	l.extents = make([]extent, 0, len(l.nodes))
	for _, place := range [...]func(ag uint64, i uint32) error{l.placeMetadata, l.placeFile} {
		ag, position := uint64(0), uint64(0)
		for i := range l.nodes {
			if i%4096 == 0 {
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			if l.nodes[i].blocks == 0 {
				continue
			}
			ag = scale.from(ag, position)
			position += l.nodes[i].blocks
			if err := place(ag, uint32(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeMetadata places the blocks of directories, symbolic links and
// attributes.
func (l *layout) placeMetadata(ag uint64, i uint32) error {
	n := &l.nodes[i]
	if n.inode == nil {
		return nil
	}
	first := len(l.extents)
	switch {
	case n.dir != nil:
		at := n.first
		for _, part := range [...]struct {
			n      uint32
			offset uint64
		}{{n.dir.data, 0}, {n.dir.leaves, leafOffset}, {n.dir.free, freeOffset}} {
			if err := l.placeRow(ag, i, dataFork, first, at, part.n, part.offset); err != nil {
				return err
			}
			at += part.n
		}
	case n.inode.IsLink() && len(n.inode.Target) > n.dataRoom():
		if err := l.placeRow(ag, i, dataFork, first, n.first, 1, 0); err != nil {
			return err
		}
	}
	if !n.inode.IsFile() {
		if err := l.endFork(ag, i, dataFork, first, n.dataRoom()); err != nil {
			return err
		}
	}
	if n.attrs == nil {
		return nil
	}
	first = len(l.extents)
	if err := l.placeRow(ag, i, attrFork, first, n.firstAttr, uint32(len(n.attrs.blocks)), 0); err != nil {
		return err
	}
	return l.endFork(ag, i, attrFork, first, n.attrRoom())
}

// placeRow places n blocks of the row, from index at on, as blocks of a fork
// from offset on. The extents of the fork are those from index first on.
func (l *layout) placeRow(ag uint64, i uint32, fork uint8, first int, at, n uint32, offset uint64) error {
	number := uint64(l.nodes[i].number)
	for n > 0 {
		ag, agbno, got := l.take(ag, uint64(n))
		if got == 0 {
			return &shortfall{uint64(n)}
		}
		l.extents = appendExtents(l.extents, first, offset, l.fsblock(ag, agbno), got)
		l.ownFork(ag, agbno, got, number, fork, offset)
		for k := range uint32(got) {
			b := &l.row.blocks[at+k]
			b.owner, b.address = number, l.linear(ag, agbno+uint64(k))
		}
		l.putRow(ag, agbno, at, got)
		at, n, offset = at+uint32(got), n-uint32(got), offset+got
	}
	return nil
}

// putRow adds blocks of the row, as part of the last content where they go on
// that.
func (l *layout) putRow(ag, agbno uint64, at uint32, n uint64) {
	g := &l.groups[ag]
	size := int64(n) << blockShift
	if g.rowEnd == at && at > 0 && len(g.content) > 0 && g.content[len(g.content)-1].End() == int64(l.linear(ag, agbno))<<blockShift {
		last := &g.content[len(g.content)-1]
		size += last.Data.Size()
		last.Data = content.NewRef(&l.row, int64(at+uint32(n))<<blockShift-size, size)
	} else {
		l.put(ag, agbno, content.NewRef(&l.row, int64(at)<<blockShift, size))
	}
	g.rowEnd = at + uint32(n)
}

// ownFork records blocks of an inode.
func (l *layout) ownFork(ag, agbno, n, number uint64, fork uint8, offset uint64) {
	if fork == attrFork {
		offset |= rmapAttr
	}
	l.own(ag, owned{uint32(agbno), uint32(n), number, offset})
}

// placeFile places the content of a regular file.
func (l *layout) placeFile(ag uint64, i uint32) error {
	n := &l.nodes[i]
	if n.inode == nil || !n.inode.IsFile() {
		return nil
	}
	c := n.inode.Content
	first := len(l.extents)
	for start, count := range filesystem.DataBlocks(c, blockShift) {
		data := run{start, count}
		for data.n > 0 {
			ag, agbno, got := l.take(ag, data.n)
			if got == 0 {
				return &shortfall{data.n}
			}
			l.extents = appendExtents(l.extents, first, data.start, l.fsblock(ag, agbno), got)
			l.ownFork(ag, agbno, got, uint64(n.number), dataFork, data.start)
			off := int64(data.start) << blockShift
			size := min(int64(got)<<blockShift, c.Size()-off)
			l.put(ag, agbno, c.Slice(off, size))
			l.groups[ag].rowEnd = 0
			data.start, data.n = data.start+got, data.n-got
		}
	}
	return l.endFork(ag, i, dataFork, first, n.dataRoom())
}

// endFork ends the extents of a fork of room bytes, which begin at index first,
// and makes the tree of extents where there is no room for them.
func (l *layout) endFork(ag uint64, i uint32, fork uint8, first, room int) error {
	n := &l.nodes[i]
	list := l.extents[first:]
	n.extents[fork] = extentList{uint32(first), uint32(len(list))}
	if len(list)*sizeExtent <= room {
		return nil
	}
	number := uint64(n.number)
	deep := deepFork{}
	var err error
	deep.root, err = buildBmbt(&l.row, list, room, number, func(at uint32) (fsblock, linear uint64, err error) {
		ag, agbno, got := l.take(ag, 1)
		if got == 0 {
			return 0, 0, &shortfall{1}
		}
		flags := uint64(rmapBmbt)
		if fork == attrFork {
			flags |= rmapAttr
		}
		l.own(ag, owned{uint32(agbno), 1, number, flags})
		l.putRow(ag, agbno, at, 1)
		deep.blocks++
		return l.fsblock(ag, agbno), l.linear(ag, agbno), nil
	})
	if err != nil {
		return err
	}
	l.deep[forkKey{i, fork}] = deep
	return nil
}
