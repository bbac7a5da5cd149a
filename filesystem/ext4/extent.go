package ext4

import (
	"encoding/binary"
)

const (
	extentMagic       = 0xf30a
	sizeExtent        = 12 // struct ext4_extent, ext4_extent_idx, ext4_extent_header
	maxExtentLen      = 1 << 15
	rootExtents       = (60 - sizeExtent) / sizeExtent
	sizeExtentTail    = 4
	maxExtentsInBlock = (blockSize - sizeExtent - sizeExtentTail) / sizeExtent
)

// extent maps n blocks of a file from block number logical on.
type extent struct {
	logical, n uint32
	start      uint64
}

// appendExtents appends the extents of a run of blocks that lies on the disk at
// start. The list is of one file from index first on; an extent that goes on
// the last one becomes part of it where there is room.
func appendExtents(list []extent, first int, logical, start, n uint64) []extent {
	if k := len(list); k > first {
		last := &list[k-1]
		if uint64(last.logical)+uint64(last.n) == logical && last.start+uint64(last.n) == start {
			more := min(n, maxExtentLen-uint64(last.n))
			last.n += uint32(more)
			logical, start, n = logical+more, start+more, n-more
		}
	}
	for n > 0 {
		k := min(n, maxExtentLen)
		list = append(list, extent{uint32(logical), uint32(k), start})
		logical, start, n = logical+k, start+k, n-k
	}
	return list
}

// treeBlocks returns the number of blocks that a tree of n extents has below
// the inode.
func treeBlocks(n int) uint64 {
	blocks := uint64(0)
	for n > rootExtents {
		n = (n + maxExtentsInBlock - 1) / maxExtentsInBlock
		blocks += uint64(n)
	}
	return blocks
}

// putExtentHeader writes struct ext4_extent_header.
func putExtentHeader(b []byte, entries, limit, depth int) {
	binary.LittleEndian.PutUint16(b[0:], extentMagic)
	binary.LittleEndian.PutUint16(b[2:], uint16(entries))
	binary.LittleEndian.PutUint16(b[4:], uint16(limit))
	binary.LittleEndian.PutUint16(b[6:], uint16(depth))
}

// putExtent writes struct ext4_extent, or ext4_extent_idx when the extent is a
// block of the tree below: its n does not count.
func putExtent(b []byte, e extent, index bool) {
	binary.LittleEndian.PutUint32(b[0:], e.logical)
	if index {
		binary.LittleEndian.PutUint32(b[4:], uint32(e.start))
		binary.LittleEndian.PutUint16(b[8:], uint16(e.start>>32))
		return
	}
	binary.LittleEndian.PutUint16(b[4:], uint16(e.n))
	binary.LittleEndian.PutUint16(b[6:], uint16(e.start>>32))
	binary.LittleEndian.PutUint32(b[8:], uint32(e.start))
}

// writeExtents writes the extents of an inode to its i_block. What does not fit
// there goes to blocks that alloc gives out, in the row.
func writeExtents(block *[60]byte, list []extent, seed uint32, row *packedBlocks, alloc func() (uint64, error)) error {
	depth := 0
	for ; len(list) > rootExtents; depth++ {
		var above []extent
		for len(list) > 0 {
			part := list[:min(len(list), maxExtentsInBlock)]
			list = list[len(part):]
			at, err := alloc()
			if err != nil {
				return err
			}
			var b [blockSize]byte
			putExtentHeader(b[:], len(part), maxExtentsInBlock, depth)
			end := sizeExtent
			for _, e := range part {
				putExtent(b[end:], e, depth > 0)
				end += sizeExtent
			}
			crc := crc32c(seed, b[:blockSize-sizeExtentTail])
			row.add(b[:end], binary.LittleEndian.AppendUint32(nil, crc))
			above = append(above, extent{logical: part[0].logical, start: at})
		}
		list = above
	}
	putExtentHeader(block[:], len(list), rootExtents, depth)
	for i, e := range list {
		putExtent(block[sizeExtent*(1+i):], e, depth > 0)
	}
	return nil
}
