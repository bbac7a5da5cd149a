package ext4

import (
	"errors"
	"slices"
)

// errTooSmall says that something does not fit the blocks or inodes there are.
// It never leaves the package.
var errTooSmall = errors.New("does not fit")

// minTail is the number of free blocks below which mke2fs leaves out a last
// group that is not whole.
const minTail = 50

// geometry is what follows from the size of a file system, the number of its
// inodes and the options, before anything is placed. It is chosen as mke2fs
// 1.47 chooses it for blocks of 4 KiB.
type geometry struct {
	blocks         uint64
	groups         uint32
	descBlocks     uint32 // of one copy of the group descriptors
	reservedGDT    uint32 // blocks for descriptors of groups to come
	inodesPerGroup uint32
	tableBlocks    uint32 // of the inode table of one group
	rootBlocks     uint64 // s_r_blocks_count, what only root may use
	journalBlocks  uint32 // 0 without a journal
	resizeInode    bool
}

// newGeometry returns the geometry of blocks blocks for at least inodes inodes,
// the first 10 included.
func newGeometry(blocks, inodes uint64, opt *Options) (geometry, error) {
	g := geometry{blocks: blocks}
	// The resize inode maps blocks with 32 bits; Linux grows what is larger
	// with meta_bg.
	g.resizeInode = blocks <= 1<<32-1
	want := wantedInodes(blocks, inodes, opt)
	for {
		if g.blocks == 0 {
			return g, errTooSmall
		}
		g.groups = uint32(ceilDiv(g.blocks, blocksPerGroup))
		g.descBlocks = uint32(ceilDiv(uint64(g.groups), descsPerBlock))
		if err := g.setInodes(want); err != nil {
			return g, err
		}
		g.reservedGDT = 0
		if g.resizeInode {
			g.reservedGDT = reservedGDT(g.blocks, g.descBlocks)
		}
		tail := g.blocks % blocksPerGroup
		overhead := uint64(g.base(g.groups-1)) + 2 + uint64(g.tableBlocks)
		if tail == 0 || tail >= overhead+minTail {
			break
		}
		if g.groups == 1 {
			if tail < overhead {
				return g, errTooSmall
			}
			break
		}
		g.blocks -= tail
	}
	if uint64(g.inodesPerGroup)*uint64(g.groups) < inodes {
		return g, errTooSmall
	}
	if percent := opt.reservedPercent(); percent > 0 {
		g.rootBlocks = g.blocks/100*percent + g.blocks%100*percent/100
	}
	var err error
	g.journalBlocks, err = journalBlocks(g.blocks, opt)
	return g, err
}

// wantedInodes returns how many inodes to make room for: one for so many bytes
// as mke2fs.conf says, and an eighth more than there are files. Linux and
// resize2fs never add inodes to a group.
func wantedInodes(blocks, inodes uint64, opt *Options) uint64 {
	per := uint64(opt.BytesPerInode)
	if per == 0 {
		per = bytesPerInode(blocks)
	}
	return min(max(blocks*blockSize/max(per, blockSize), inodes+inodes/8), maxInodes)
}

// bytesPerInode returns the inode_ratio of Debian's and Fedora's mke2fs.conf.
func bytesPerInode(blocks uint64) uint64 {
	const meg = 1 << 20 / blockSize
	switch {
	case blocks < 3*meg: // "floppy"
		return 8192
	case blocks < 512*meg: // "small"
		return 4096
	case blocks < 4<<20*meg:
		return 16384
	case blocks < 16<<20*meg: // "big"
		return 32768
	}
	return 65536 // "huge"
}

// setInodes spreads want inodes over the groups, in whole blocks of the inode
// table.
func (g *geometry) setInodes(want uint64) error {
	per := ceilDiv(want, uint64(g.groups))
	per = (per + inodesPerBlock - 1) &^ (inodesPerBlock - 1)
	per = min(max(per, inodesPerBlock), maxInodesPerGroup)
	for per*uint64(g.groups) > maxInodes {
		per -= inodesPerBlock
	}
	if per == 0 {
		return errTooSmall
	}
	g.inodesPerGroup = uint32(per)
	g.tableBlocks = uint32(per / inodesPerBlock)
	return nil
}

// reservedGDT returns the number of blocks after the group descriptors that
// mke2fs reserves: for growth to 1024 times the size, and no more than one
// indirect block of the resize inode can name.
func reservedGDT(blocks uint64, descBlocks uint32) uint32 {
	const factor, maxBlocks = 1024, 1<<32 - 1
	future := uint64(maxBlocks)
	if blocks < maxBlocks/factor {
		future = blocks * factor
	}
	n := ceilDiv(ceilDiv(future, blocksPerGroup), descsPerBlock)
	return uint32(min(n-min(n, uint64(descBlocks)), addrsPerBlock))
}

// journalBlocks returns the size of the journal in blocks.
func journalBlocks(blocks uint64, opt *Options) (uint32, error) {
	const minJournal = 1024 // JBD2_MIN_JOURNAL_BLOCKS
	if opt.JournalSize < 0 {
		return 0, nil
	}
	if opt.JournalSize > 0 {
		n := uint64(opt.JournalSize) / blockSize
		if n >= blocks/2 {
			return 0, errTooSmall // as mke2fs: not more than half of the file system
		}
		return uint32(n), nil
	}
	// ext2fs_default_journal_size
	switch {
	case blocks < 2048:
		return 0, nil
	case blocks < 32768:
		return minJournal, nil
	case blocks < 256<<10:
		return 4096, nil
	case blocks < 512<<10:
		return 8192, nil
	case blocks < 4096<<10:
		return 16384, nil
	case blocks < 8192<<10:
		return 32768, nil
	case blocks < 16384<<10:
		return 65536, nil
	case blocks < 32768<<10:
		return 131072, nil
	}
	return 262144, nil
}

// hasSuper tells whether a group begins with a copy of the superblock and the
// group descriptors: 0, 1 and the powers of 3, 5 and 7 (sparse_super).
func hasSuper(group uint32) bool {
	if group <= 1 {
		return true
	}
	for _, base := range [...]uint64{3, 5, 7} {
		p := base
		for p < uint64(group) {
			p *= base
		}
		if p == uint64(group) {
			return true
		}
	}
	return false
}

// backups returns the groups after the first that have copies, ascending.
func (g *geometry) backups() []uint32 {
	if g.groups < 2 {
		return nil
	}
	list := []uint32{1}
	for _, base := range [...]uint64{3, 5, 7} {
		for p := base; p < uint64(g.groups); p *= base {
			list = append(list, uint32(p))
		}
	}
	slices.Sort(list)
	return list
}

// base returns the number of blocks at the start of a group that superblock,
// group descriptors and reserved descriptor blocks take.
func (g *geometry) base(group uint32) uint32 {
	if !hasSuper(group) {
		return 0
	}
	return 1 + g.descBlocks + g.reservedGDT
}

// groupBlocks returns the number of blocks of a group.
func (g *geometry) groupBlocks(group uint32) uint64 {
	return min(g.blocks-uint64(group)*blocksPerGroup, blocksPerGroup)
}

// overhead returns the number of blocks that the metadata of all groups takes.
func (g *geometry) overhead() uint64 {
	copies := uint64(1 + len(g.backups()))
	return copies*uint64(1+g.descBlocks+g.reservedGDT) + uint64(g.groups)*uint64(2+g.tableBlocks)
}

// groupTables is where the bitmaps and the inode table of a group are, as block
// numbers.
type groupTables struct{ blockBitmap, inodeBitmap, inodeTable uint64 }

// placeTables returns the tables of every group. Those of the 16 groups of a
// flex group lie together in its first group: block bitmaps, inode bitmaps,
// inode tables. (mke2fs leaves gaps of 15 blocks in a flex group of one group;
// here there are none.)
func (g *geometry) placeTables() ([]groupTables, error) {
	tables := make([]groupTables, g.groups)
	for first := uint32(0); first < g.groups; first += flexGroups {
		flex := tables[first:min(first+flexGroups, g.groups)]
		next := uint64(first) * blocksPerGroup
		for i := range flex {
			flex[i].blockBitmap = g.skipBase(&next, 1)
		}
		for i := range flex {
			flex[i].inodeBitmap = g.skipBase(&next, 1)
		}
		for i := range flex {
			flex[i].inodeTable = g.skipBase(&next, uint64(g.tableBlocks))
		}
		if next > g.blocks {
			return nil, errTooSmall
		}
	}
	return tables, nil
}

// skipBase returns the first place at or after *next for n blocks that no copy
// of the superblock is in the way of, and moves *next behind it.
func (g *geometry) skipBase(next *uint64, n uint64) uint64 {
	at := *next
	for group := at / blocksPerGroup; group <= (at+n-1)/blocksPerGroup && group < uint64(g.groups); group++ {
		start := group * blocksPerGroup
		if end := start + uint64(g.base(uint32(group))); at < end && start < at+n {
			at = end
		}
	}
	*next = at + n
	return at
}

func ceilDiv(a, b uint64) uint64 { return (a + b - 1) / b }
