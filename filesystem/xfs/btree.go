package xfs

import "encoding/binary"

// btreeType is a kind of B+tree within an allocation group.
type btreeType struct {
	magic   string
	record  int // size of a record in bytes
	key     int // size of a key in a node, low and high together
	maxLeaf int // records in a leaf
	maxNode int // keys in a node
}

const sizeShortHeader = 56 // struct xfs_btree_block with short pointers and CRC

func newBtreeType(magic string, record, key int) btreeType {
	const room = blockSize - sizeShortHeader
	return btreeType{magic, record, key, room / record, room / (key + 4)}
}

// The trees of an allocation group.
var (
	byBlockTree  = newBtreeType("AB3B", 8, 8)
	byCountTree  = newBtreeType("AB3C", 8, 8)
	inodeTree    = newBtreeType("IAB3", 16, 4)
	freeInoTree  = newBtreeType("FIB3", 16, 4)
	rmapTree     = newBtreeType("RMB3", 24, 40)
	refcountTree = newBtreeType("R3FC", 12, 4)
)

// treeLimit returns the blocks of a tree of n records whose blocks are as empty
// as the format allows.
func treeLimit(n uint64, t btreeType) uint64 {
	blocks := ceilDiv(n, uint64(t.maxLeaf/2))
	total := blocks
	for blocks > 1 {
		blocks = ceilDiv(blocks, uint64(t.maxNode/2))
		total += blocks
	}
	return max(total, 1)
}

// shares returns over how many blocks n items are spread that hold limit each.
// More than one are left with a little room, so that the first change does not
// split them, but never less than half full.
func shares(n, limit int) int {
	if n <= limit {
		return 1
	}
	return ceil(n, limit-limit/8)
}

// shareOf returns the items [from, to) of block i of k.
func shareOf(n, k, i int) (from, to int) { return n * i / k, n * (i + 1) / k }

// treeBlocks returns the blocks of a tree of n records, the root included.
func treeBlocks(n int, t btreeType) uint32 {
	n = shares(n, t.maxLeaf)
	total := n
	for n > 1 {
		n = shares(n, t.maxNode)
		total += n
	}
	return uint32(total)
}

// agRecords are the records of a tree, encoded, one after the other.
type agRecords struct {
	btreeType
	b []byte
}

func (r *agRecords) len() int { return len(r.b) / r.record }

// build appends the blocks of a tree to the row. The root lies at root, the
// others, of which there are treeBlocks less one, in order from more on.
func (r *agRecords) build(row *blockRow, g *geometry, ag uint64, root, more uint32) agTree {
	out := agTree{root: root}
	items, size, limit := r.b, r.record, r.maxLeaf
	pointers := []uint32(nil) // of the items of a node
	for level := 0; ; level++ {
		n := len(items) / size
		k := shares(n, limit)
		place := func(i int) uint32 {
			if k == 1 {
				return root
			}
			return more + uint32(i)
		}
		var keys []byte
		var above []uint32
		for i := range k {
			from, to := shareOf(n, k, i)
			left, right := uint32(nullBlock), uint32(nullBlock)
			if i > 0 {
				left = place(i - 1)
			}
			if i < k-1 {
				right = place(i + 1)
			}
			part := items[from*size : to*size]
			b := make([]byte, sizeShortHeader, sizeShortHeader+len(part))
			putShortHeader(b, r.magic, level, to-from, left, right)
			b = append(b, part...)
			if level > 0 {
				b = append(b, make([]byte, sizeShortHeader+limit*size-len(b))...)
				for _, p := range pointers[from:to] {
					b = binary.BigEndian.AppendUint32(b, p)
				}
			}
			row.addAt(b, kindShort, ag, g.linear(ag, uint64(place(i))))
			if r.magic == rmapTree.magic {
				keys = appendRmapKeys(keys, part, level)
			} else {
				keys = append(keys, part[:min(r.key, len(part))]...)
			}
			above = append(above, place(i))
		}
		out.blocks += uint32(k)
		if k == 1 {
			out.level = uint32(level) + 1
			return out
		}
		more += uint32(k)
		items, size, limit, pointers = keys, r.key, r.maxNode, above
	}
}

func putShortHeader(b []byte, magic string, level, n int, left, right uint32) {
	be := binary.BigEndian
	copy(b, magic)
	be.PutUint16(b[4:], uint16(level))
	be.PutUint16(b[6:], uint16(n))
	be.PutUint32(b[8:], left)
	be.PutUint32(b[12:], right)
}

func ceil(a, b int) int { return (a + b - 1) / b }
