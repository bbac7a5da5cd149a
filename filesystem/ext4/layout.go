package ext4

import (
	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/filesystem"
)

// layout is a collection with a place for everything.
type layout struct {
	*collection
	geometry
	tables []groupTables
	space  *space

	row      placed // of collection.row
	dind     uint64 // double indirect block of the resize inode, or 0
	journal  []extent
	extents  []extent             // of all nodes, in their order
	counts   []uint32             // of extents of each node
	deep     map[uint32]*[60]byte // i_block of the inodes, by number, whose extents it does not hold
	tree     packedBlocks         // blocks of those extents
	treeAt   placed
	fileData []disk.Extent // content of regular files, ascending
}

// place chooses the place of everything. It returns errTooSmall when something
// does not fit.
//
// The order is: superblock, descriptors and tables at the start of a flex
// group; the root directory, lost+found, the resize inode; the journal in the
// middle of the file system; the other directories with their long symbolic
// links and attributes; the content of files; the extent trees of what is
// fragmented.
func (c *collection) place(g geometry) (*layout, error) {
	l := &layout{collection: c, geometry: g, deep: map[uint32]*[60]byte{}}
	var err error
	if l.tables, err = g.placeTables(); err != nil {
		return nil, err
	}
	l.space = newSpace(&g, l.tables)
	if err := l.placeRow(c.early); err != nil {
		return nil, err
	}
	if g.resizeInode {
		if l.dind, err = l.takeOne(); err != nil {
			return nil, err
		}
	}
	if err := l.placeJournal(); err != nil {
		return nil, err
	}
	if err := l.placeRow(c.row.len() - c.early); err != nil {
		return nil, err
	}
	if err := l.placeFiles(); err != nil {
		return nil, err
	}
	return l, l.placeTrees()
}

func (l *layout) takeOne() (uint64, error) {
	r := l.space.take(1)
	if r.n == 0 {
		return 0, errTooSmall
	}
	return r.start, nil
}

// placeRow places the next n blocks of the row.
func (l *layout) placeRow(n uint64) error {
	for n > 0 {
		r := l.space.take(n)
		if r.n == 0 {
			return errTooSmall
		}
		l.row.add(r)
		n -= r.n
	}
	return nil
}

// placeJournal places the journal where mke2fs puts it: in one of the groups in
// the middle of the file system, that with the most free blocks.
func (l *layout) placeJournal() error {
	if l.journalBlocks == 0 {
		return nil
	}
	group := uint32(l.geometry.blocks / 2 / blocksPerGroup)
	if group > flexGroups {
		group &^= flexGroups - 1
		for group < l.groups && l.freeIn(group) == 0 {
			group++
		}
		if group == l.groups {
			group = 0
		}
	}
	start, end := group, min(group+1, l.groups-1)
	if group <= flexGroups && group > 0 {
		start--
	}
	best := start
	for g := start + 1; g <= end; g++ {
		if l.freeIn(g) > l.freeIn(best) {
			best = g
		}
	}
	runs := l.space.takeFrom(uint64(best)*blocksPerGroup, uint64(l.journalBlocks))
	if runs == nil {
		return errTooSmall
	}
	logical := uint64(0)
	for _, r := range runs {
		l.journal = appendExtents(l.journal, 0, logical, r.start, r.n)
		logical += r.n
	}
	return nil
}

func (l *layout) freeIn(group uint32) uint64 {
	start, n := uint64(group)*blocksPerGroup, l.groupBlocks(group)
	return n - l.space.countUsed(start, start+n)
}

// placeFiles places the content of files in the order of their inodes, and
// collects the extents of all nodes.
func (l *layout) placeFiles() error {
	l.extents = make([]extent, 0, len(l.nodes))
	l.counts = make([]uint32, len(l.nodes))
	l.fileData = make([]disk.Extent, 0, len(l.nodes))
	protected := uint64(0) // files with fs-verity so far
	for i := range l.nodes {
		n := &l.nodes[i]
		first := len(l.extents)
		switch {
		case n.inode == nil:
		case n.inode.IsFile():
			for start, count := range filesystem.DataBlocks(n.inode.Content, blockShift) {
				if !l.placeData(n.inode.Content, 0, first, run{start, count}) {
					return errTooSmall
				}
			}
			if n.inode.Verity != nil {
				if !l.placeVerity(n.inode.Verity, protected, first) {
					return errTooSmall
				}
				protected++
			}
		default:
			for done := uint64(0); done < n.blocks; {
				r := l.row.at(n.first+done, n.blocks-done)
				l.extents = appendExtents(l.extents, first, done, r.start, r.n)
				done += r.n
			}
		}
		l.counts[i] = uint32(len(l.extents) - first)
	}
	return nil
}

// placeData places a run of blocks of c, which begins at the block base of a
// file whose extents are those from index first on.
func (l *layout) placeData(c content.Ref, base uint64, first int, data run) bool {
	for data.n > 0 {
		r := l.space.take(data.n)
		if r.n == 0 {
			return false
		}
		l.extents = appendExtents(l.extents, first, base+data.start, r.start, r.n)
		off := int64(data.start) << blockShift
		size := min(int64(r.n)<<blockShift, c.Size()-off)
		l.fileData = append(l.fileData, disk.Extent{Off: int64(r.start) << blockShift, Data: c.Slice(off, size)})
		data.start += r.n
		data.n -= r.n
	}
	return true
}

// placeTrees writes the extent trees of the inodes that need one.
func (l *layout) placeTrees() error {
	alloc := func() (uint64, error) {
		at, err := l.takeOne()
		if err == nil {
			l.treeAt.add(run{at, 1})
		}
		return at, err
	}
	write := func(ino uint32, list []extent) error {
		if len(list) <= rootExtents {
			return nil
		}
		block := new([60]byte)
		l.deep[ino] = block
		return writeExtents(block, list, inodeSeed(l.seed, ino), &l.tree, alloc)
	}
	if err := write(inoJournal, l.journal); err != nil {
		return err
	}
	first := 0
	for i, n := range l.counts {
		if err := write(uint32(i)+inoRoot, l.extents[first:first+int(n)]); err != nil {
			return err
		}
		first += int(n)
	}
	return nil
}

// usedBlocks returns the number of blocks in use.
func (l *layout) usedBlocks() uint64 { return l.space.countUsed(0, l.geometry.blocks) }
