package btrfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/filesystem"
)

// layout is a collection with a place for everything.
type layout struct {
	*collection
	*space
	extents []extent      // of all files, by logical address
	data    []disk.Extent // content of the extents, on the device
	runs    []sumRun
	summed  uint64 // sectors with a checksum

	csum      *checksum
	sums      []byte // of all those sectors
	device    [16]byte
	chunkUUID [16]byte // of the chunk tree; Linux does not look at it

	trees     []*btree
	addresses []uint64 // of the blocks of all trees, logical
	systems   uint32   // addresses[:systems] are in the chunk of the chunk tree
}

// extent is a part of a file on the disk.
type extent struct {
	bytenr     uint64 // logical address
	logical    uint64 // first sector within the file
	node       uint32
	ram, disk  uint32 // sectors of the file, and on the disk
	compressed bool
	sums       uint64 // number of its first checksum, or noSums
}

const noSums = 1<<64 - 1

// sumRun is sectors that lie together and have checksums.
type sumRun struct {
	bytenr, n, first uint64
}

// piece is a part of the content of a file, at most maxExtent bytes: sectors
// from first on, which are disk sectors in the spool of packed content from off
// on, or where disk is 0, as they are.
type piece struct {
	first     uint64
	ram, disk uint32
	off       int64
}

func (p *piece) onDisk() uint32 {
	if p.disk > 0 {
		return p.disk
	}
	return p.ram
}

// data yields the pieces of a regular file that is not inline.
func (n *node) data() iter.Seq[piece] {
	return func(yield func(piece) bool) {
		if n.packed != nil {
			for _, p := range n.packed.pieces {
				if !yield(p) {
					return
				}
			}
			return
		}
		const most = maxExtent >> sectorShift
		for first, count := range filesystem.DataBlocks(n.inode.Content, sectorShift) {
			for count > 0 {
				k := min(count, most)
				if !yield(piece{first: first, ram: uint32(k)}) {
					return
				}
				first, count = first+k, count-k
			}
		}
	}
}

// placeIn places the collection on a device of size bytes, of which free ones
// remain for new content. It returns a *shortfall when that does not go.
func (c *collection) placeIn(ctx context.Context, size, free int64) (*layout, error) {
	device := uint64(max(size, 0)) &^ (sectorSize - 1)
	csum := c.opt.Checksum.algorithm()
	// What the trees take, nearly: leaves are full but for one item, and every
	// 493 of them make a node.
	need := c.metadata + c.sectors*uint64(csum.size)
	need += need/64 + 64*nodeSize
	for range 8 {
		l := &layout{
			collection: c, csum: csum,
			device: c.derive("device"), chunkUUID: c.derive("chunk tree"),
		}
		var err error
		if l.space, err = newSpace(device, c.opt.SingleMetadata, need+need/4+16*mebi); err != nil {
			return nil, err
		}
		if least, left := c.sectors<<sectorShift+uint64(free), l.unallocated(); least > left {
			return nil, &shortfall{least - left}
		}
		if err := l.placeFiles(ctx); err != nil {
			return nil, err
		}
		if got := l.space.free(); got < uint64(free) {
			return nil, &shortfall{uint64(free) - got}
		}
		err = l.plant()
		var small *shortfall
		if !errors.As(err, &small) {
			return l, err
		}
		need += small.bytes
	}
	return nil, errors.New("btrfs: no room for metadata is enough")
}

// derive returns the identifier called name.
func (c *collection) derive(name string) [16]byte {
	sum := sha256.Sum256(append(append([]byte("btrfs\x00"), c.opt.UUID[:]...), name...))
	id := [16]byte(sum[:16])
	id[6] = id[6]&0x0f | 0x40 // version 4, as mkfs.btrfs draws them
	id[8] = id[8]&0x3f | 0x80
	return id
}

// placeFiles places the content of files, in the order of their inodes.
func (l *layout) placeFiles(ctx context.Context) error {
	l.extents = make([]extent, 0, len(l.nodes))
	l.data = make([]disk.Extent, 0, len(l.nodes))
	for i := range l.nodes {
		if i%4096 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		n := &l.nodes[i]
		if !n.inode.IsFile() || n.flags&nodeInline != 0 {
			continue
		}
		first := len(l.extents)
		n.size = 0
		for p := range n.data() {
			if err := l.placePiece(uint32(i), p); err != nil {
				return err
			}
			n.size += uint64(p.ram) << sectorShift
		}
		n.first, n.n = uint32(first), uint32(len(l.extents)-first)
	}
	if len(l.chunks) == l.space.data {
		if _, err := l.dataChunk(); err != nil {
			return err
		}
	}
	return nil
}

// placePiece places a piece of a file, as one extent when it is compressed.
func (l *layout) placePiece(i uint32, p piece) error {
	n := &l.nodes[i]
	for p.ram > 0 {
		want := uint64(p.onDisk()) << sectorShift
		least := uint64(sectorSize)
		if p.disk > 0 {
			least = want
		}
		c, r, err := l.take(want, least)
		if err != nil {
			return err
		}
		if len(l.extents) >= maxNodes {
			return errors.New("btrfs: too many extents")
		}
		if c.first == c.last {
			c.first = uint32(len(l.extents))
		}
		c.last = uint32(len(l.extents)) + 1
		got := uint32((r.end - r.start) >> sectorShift)
		e := extent{bytenr: r.start, logical: p.first, node: i, ram: got, disk: got, sums: noSums}
		var ref content.Ref
		if p.disk > 0 {
			e.ram, e.compressed = p.ram, true
			ref = l.opt.Packed.spool.Ref(p.off, int64(want))
		} else {
			off := int64(p.first) << sectorShift
			ref = n.inode.Content.Slice(off, min(int64(got)<<sectorShift, n.inode.Content.Size()-off))
		}
		if n.flags&nodeNoDataCow == 0 {
			e.sums = l.sum(c, r)
		}
		l.extents = append(l.extents, e)
		l.data = append(l.data, disk.Extent{Off: int64(c.physical(r.start, 0)), Data: ref})
		p.first, p.ram = p.first+uint64(e.ram), p.ram-e.ram
	}
	return nil
}

// sum makes room for the checksums of an extent, and returns the number of the
// first.
func (l *layout) sum(c *chunk, r run) uint64 {
	n := (r.end - r.start) >> sectorShift
	first := l.summed
	l.summed += n
	if k := len(l.runs); k > 0 && r.start > c.start {
		if last := &l.runs[k-1]; last.bytenr+last.n<<sectorShift == r.start {
			last.n += n
			return first
		}
	}
	l.runs = append(l.runs, sumRun{r.start, n, first})
	return first
}

// plant makes all trees and places their blocks. It returns a *shortfall when
// the chunks of metadata are too small.
func (l *layout) plant() error {
	chunks := newBtree(chunkTree, l.chunkItems())
	l.trees = []*btree{chunks}
	// The trees that hold what depends on the place of blocks come first, with
	// items of the right number and sizes.
	root := newBtree(rootTree, l.rootItems(nil))
	own := []*btree{newBtree(devTree, l.deviceItems()), newBtree(csumTree, &sumItems{l}), newBtree(uuidTree, l.uuidItems()), newBtree(dataReloc, relocItems())}
	for i := range l.subs {
		own = append(own, newBtree(l.subs[i].id, &fileTree{l, &l.subs[i]}))
	}
	if l.opt.BlockGroupTree {
		own = append(own, newBtree(groupTree, l.groupItems()))
	}
	// The extent tree and the free-space tree have items for their own blocks.
	// Their number settles; should it ever swing, another place of the first
	// block stops that.
	for skip := range uint64(8) {
		extents, free := newBtree(extentTree, itemList(nil)), newBtree(freeSpaceTree, itemList(nil))
		for range 20 {
			l.trees = append([]*btree{chunks, root, extents, free}, own...)
			if err := l.placeTrees(skip); err != nil {
				return err
			}
			e, f := newBtree(extentTree, &extentItems{l}), newBtree(freeSpaceTree, l.freeSpaceItems())
			same := e.blocks == extents.blocks && f.blocks == free.blocks
			e.first, f.first = extents.first, free.first
			extents, free = e, f
			if same {
				l.trees[2], l.trees[3] = extents, free
				l.finish(root)
				return nil
			}
		}
	}
	return errors.New("btrfs: the size of the extent tree does not settle")
}

// finish fills in what depends on the place of blocks and on what is in use.
func (l *layout) finish(root *btree) {
	root.items = l.rootItems(func(id uint64) treeRoot {
		for _, t := range l.trees {
			if t.owner == id {
				return l.root(t)
			}
		}
		return treeRoot{}
	})
	for _, t := range l.trees {
		if t.owner == groupTree {
			t.items = l.groupItems()
		}
	}
}

// placeTrees gives every block of every tree an address, from the block skip of
// the metadata on.
func (l *layout) placeTrees(skip uint64) error {
	total := uint64(0)
	for _, t := range l.trees {
		t.first = uint32(total)
		total += uint64(t.blocks)
	}
	if total > 1<<31 {
		return fmt.Errorf("btrfs: %d blocks of metadata", total)
	}
	l.addresses = l.addresses[:0]
	l.systems = l.trees[0].blocks
	for _, c := range l.chunks[:l.space.data] {
		c.reset()
		c.first, c.last = uint32(len(l.addresses)), uint32(len(l.addresses))
	}
	// The first chunk is for the chunk tree alone.
	if !l.placeBlocks(l.chunks[:1], uint64(l.systems)) {
		return errors.New("btrfs: the chunk tree is too large")
	}
	meta := l.chunks[1:l.space.data]
	if skip > 0 {
		at := meta[0].next + skip*nodeSize
		meta[0].holes = []run{{meta[0].next, at}}
		meta[0].next = at
	}
	if !l.placeBlocks(meta, total) {
		return &shortfall{(total-uint64(len(l.addresses)))*nodeSize + total*nodeSize/16}
	}
	return nil
}

// placeBlocks gives addresses in the chunks until there are n.
func (l *layout) placeBlocks(chunks []*chunk, n uint64) bool {
	for _, c := range chunks {
		c.first = uint32(len(l.addresses))
		for uint64(len(l.addresses)) < n {
			r := c.take(nodeSize, nodeSize)
			if r.end == r.start {
				break
			}
			l.addresses = append(l.addresses, r.start)
		}
		c.last = uint32(len(l.addresses))
	}
	return uint64(len(l.addresses)) == n
}
