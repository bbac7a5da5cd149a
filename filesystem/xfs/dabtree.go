package xfs

import "encoding/binary"

// Magic numbers of the blocks of the hashed index of a directory and of the
// attributes of an inode.
const (
	magicNode     = 0x3ebe // XFS_DA3_NODE_MAGIC
	magicDirLeaf  = 0x3df1 // XFS_DIR3_LEAF1_MAGIC: the only one
	magicDirLeafN = 0x3dff // XFS_DIR3_LEAFN_MAGIC: below a node
	magicAttrLeaf = 0x3bee // XFS_ATTR3_LEAF_MAGIC
)

const (
	sizeDAInfo = 56 // struct xfs_da3_blkinfo
	sizeDAHead = 64 // that, count, level or stale, padding
	nodeFanout = (blockSize - sizeDAHead) / 8
)

// putDAInfo writes struct xfs_da3_blkinfo: magic number and neighbours, as
// block numbers of the fork, 0 for none.
func putDAInfo(b []byte, magic uint16, next, previous uint32) {
	binary.BigEndian.PutUint32(b[0:], next)
	binary.BigEndian.PutUint32(b[4:], previous)
	binary.BigEndian.PutUint16(b[8:], magic)
}

// daChild is a block below a node: its number in the fork and the largest hash
// in it.
type daChild struct{ hash, block uint32 }

// daBlocks returns the blocks of an index with n leaves.
func daBlocks(n int) int {
	total := n + 1
	for n > nodeFanout {
		n = shares(n, nodeFanout)
		total += n
	}
	return total
}

// addDATree appends the blocks of an index to the row: the root, which is block
// base of the fork, the leaves, which leaf appends, the nodes between. hashes
// are the largest ones of the leaves. leaf gets the numbers of the neighbours.
func addDATree(row *blockRow, base uint32, hashes []uint32, leaf func(i int, next, previous uint32)) {
	first := base + 1
	children := make([]daChild, len(hashes))
	for i, h := range hashes {
		children[i] = daChild{h, first + uint32(i)}
	}
	next := first + uint32(len(hashes))
	var between [][]byte
	level := 1
	for ; len(children) > nodeFanout; level++ {
		n := len(children)
		k := shares(n, nodeFanout)
		above := make([]daChild, k)
		for i := range above {
			from, to := shareOf(n, k, i)
			above[i] = daChild{children[to-1].hash, next + uint32(i)}
			var right, left uint32
			if i > 0 {
				left = next + uint32(i) - 1
			}
			if i < k-1 {
				right = next + uint32(i) + 1
			}
			between = append(between, daNode(level, children[from:to], right, left))
		}
		next += uint32(k)
		children = above
	}
	row.add(kindDA, daNode(level, children, 0, 0), nil)
	for i := range hashes {
		var right, left uint32
		if i > 0 {
			left = first + uint32(i) - 1
		}
		if i < len(hashes)-1 {
			right = first + uint32(i) + 1
		}
		leaf(i, right, left)
	}
	for _, b := range between {
		row.add(kindDA, b, nil)
	}
}

// daNode returns a node, struct xfs_da3_intnode.
func daNode(level int, children []daChild, next, previous uint32) []byte {
	be := binary.BigEndian
	b := make([]byte, sizeDAHead, sizeDAHead+8*len(children))
	putDAInfo(b, magicNode, next, previous)
	be.PutUint16(b[56:], uint16(len(children)))
	be.PutUint16(b[58:], uint16(level))
	for _, c := range children {
		b = be.AppendUint32(b, c.hash)
		b = be.AppendUint32(b, c.block)
	}
	return b
}
