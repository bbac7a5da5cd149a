package xfs

import (
	"encoding/binary"
)

const (
	sizeExtent   = 16        // xfs_bmbt_rec_t
	maxExtentLen = 1<<21 - 1 // XFS_MAX_BMBT_EXTLEN
	sizeLongHead = 72        // struct xfs_btree_block with long pointers and CRC
	bmbtFanout   = (blockSize - sizeLongHead) / sizeExtent
	noBlock      = 1<<64 - 1 // NULLFSBLOCK
	sizeRootHead = 4         // struct xfs_bmdr_block
)

// run is n blocks from start.
type run struct{ start, n uint64 }

func (r run) end() uint64 { return r.start + r.n }

// extent is xfs_bmbt_rec_t: 1 bit unwritten, 54 bits first block of the fork,
// 52 bits fsblock, 21 bits count.
type extent struct{ hi, lo uint64 }

func newExtent(logical, start, n uint64) extent {
	return extent{logical<<9 | start>>43, start<<21 | n}
}

func (e extent) logical() uint64 { return e.hi >> 9 & (1<<54 - 1) }
func (e extent) start() uint64   { return e.hi&(1<<9-1)<<43 | e.lo>>21 }
func (e extent) n() uint64       { return e.lo & maxExtentLen }

// appendExtents appends the extents of a run of blocks of a fork that lies on
// the disk at the fsblock start. The list is of one fork from index first on;
// an extent that goes on the last one becomes part of it where there is room.
func appendExtents(list []extent, first int, logical, start, n uint64) []extent {
	if k := len(list); k > first {
		last := list[k-1]
		if last.logical()+last.n() == logical && last.start()+last.n() == start {
			more := min(n, maxExtentLen-last.n())
			list[k-1] = newExtent(last.logical(), last.start(), last.n()+more)
			logical, start, n = logical+more, start+more, n-more
		}
	}
	for n > 0 {
		k := min(n, maxExtentLen)
		list = append(list, newExtent(logical, start, k))
		logical, start, n = logical+k, start+k, n-k
	}
	return list
}

// rootFanout returns how many pointers fit the root of a tree of extents in a
// fork of room bytes.
func rootFanout(room int) int { return (room - sizeRootHead) / sizeExtent }

// bmbtBlocks returns the number of blocks that n extents need besides the
// inode, whose fork has room bytes.
func bmbtBlocks(n uint64, room int) uint64 {
	if n*sizeExtent <= uint64(room) {
		return 0
	}
	total := uint64(0)
	for first := true; first || n > uint64(rootFanout(room)); first = false {
		n = uint64(shares(int(n), bmbtFanout))
		total += n
	}
	return total
}

// bmbtItem is an extent, or a block of the tree by the first block of the fork
// that it covers and its fsblock.
type bmbtItem struct{ key, pointer uint64 }

// buildBmbt appends the blocks of a tree of extents to the row and returns the
// root, as the fork of room bytes holds it. alloc gives out the address of a
// block of the row, as an fsblock and as a linear one.
func buildBmbt(row *blockRow, list []extent, room int, owner uint64, alloc func(at uint32) (fsblock, linear uint64, err error)) ([]byte, error) {
	be := binary.BigEndian
	var items []bmbtItem
	n := len(list)
	level := 0
	for ; level == 0 || n > rootFanout(room); level++ {
		k := shares(n, bmbtFanout)
		blocks := make([]bmbtItem, k)
		linear := make([]uint64, k)
		for i := range blocks {
			var err error
			if blocks[i].pointer, linear[i], err = alloc(row.len() + uint32(i)); err != nil {
				return nil, err
			}
		}
		for i := range blocks {
			from, to := shareOf(n, k, i)
			left, right := uint64(noBlock), uint64(noBlock)
			if i > 0 {
				left = blocks[i-1].pointer
			}
			if i < k-1 {
				right = blocks[i+1].pointer
			}
			b := make([]byte, sizeLongHead, blockSize)
			copy(b, "BMA3")
			be.PutUint16(b[4:], uint16(level))
			be.PutUint16(b[6:], uint16(to-from))
			be.PutUint64(b[8:], left)
			be.PutUint64(b[16:], right)
			if level == 0 {
				blocks[i].key = list[from].logical()
				for _, e := range list[from:to] {
					b = be.AppendUint64(be.AppendUint64(b, e.hi), e.lo)
				}
			} else {
				blocks[i].key = items[from].key
				b = appendBmbtItems(b, items[from:to], bmbtFanout)
			}
			row.addAt(b, kindLong, owner, linear[i])
		}
		items, n = blocks, k
	}
	root := be.AppendUint16(nil, uint16(level))
	root = be.AppendUint16(root, uint16(n))
	return appendBmbtItems(root, items, rootFanout(room)), nil
}

// appendBmbtItems appends the keys of a node and, behind the room for limit of
// them, the pointers.
func appendBmbtItems(b []byte, items []bmbtItem, limit int) []byte {
	for _, i := range items {
		b = binary.BigEndian.AppendUint64(b, i.key)
	}
	b = append(b, make([]byte, 8*(limit-len(items)))...)
	for _, i := range items {
		b = binary.BigEndian.AppendUint64(b, i.pointer)
	}
	return b
}
