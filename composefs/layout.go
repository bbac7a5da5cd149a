package composefs

import (
	"errors"
	"iter"
	"math"
	"math/bits"

	"imgbuild/fault"
	"imgbuild/tree"
)

// layout gives every inode its place. The image is
//
//	0            file header
//	1024         superblock
//	1152         inodes, breadth first, each followed by its xattrs and tail
//	inodesEnd    shared xattrs
//	dataStart    full blocks of directories and long symbolic links, breadth first
func (img *image) layout() error {
	pos, blocks := uint64(superOffset+sizeSuper), uint64(0)
	for i := range img.nodes {
		n := &img.nodes[i]
		img.sizeData(uint32(i))
		n.compact = img.fitsCompact(n)
		n.xattrSize = img.xattrs.bodySize(img.xattrIDs[n.xfirst:n.xlast])
		pos = roundUp(pos, slotSize)
		pos += n.placeTail(pos)
		n.pos = pos
		pos += n.length()
		blocks += uint64(n.blocks)
	}
	img.inodesEnd = roundUp(pos, slotSize)
	img.dataStart = roundUp(img.inodesEnd+img.xattrs.size, blockSize)
	img.end = img.dataStart + blocks*blockSize
	if img.end/blockSize > math.MaxUint32 || img.xattrs.size > math.MaxUint32 || img.end > math.MaxInt {
		return fault.New(fault.Unsupported, errors.New("the tree is too large for an image"), "")
	}
	return nil
}

// nid returns the number of the inode in dirents.
func (n *node) nid() uint64 { return n.pos / slotSize }

// inodeSize returns the length of the inode record in bytes.
func (n *node) inodeSize() uint64 {
	if n.compact {
		return sizeCompact
	}
	return sizeExtended
}

// length returns the bytes from the start of the inode to the end of its tail.
func (n *node) length() uint64 {
	return n.inodeSize() + uint64(n.xattrSize) + uint64(n.tail)
}

// sizeData sets how much data the node has, and how much of it is to be tail.
func (img *image) sizeData(i uint32) {
	n := &img.nodes[i]
	switch {
	case n.typ() == tree.TypeDir:
		n.blocks, n.tail = img.sizeDir(i)
	case n.typ() == tree.TypeLink:
		n.tail = uint32(n.size)
	case n.typ() == tree.TypeFile && n.size > 0:
		n.tail = sizeChunkAddr
	}
}

// fitsCompact tells whether the compact inode can hold the node's values.
func (img *image) fitsCompact(n *node) bool {
	size := n.size
	if n.typ() == tree.TypeDir {
		size = uint64(n.blocks)*blockSize + uint64(n.tail)
	}
	return n.mtime == img.minMtime && size <= maxCompactSize &&
		n.nlink <= maxCompactID && n.src.UID <= maxCompactID && n.src.GID <= maxCompactID
}

// chunkBits returns log2 of the smallest chunk that holds size > 0 bytes.
func chunkBits(size uint64) int { return max(bits.Len64(size-1), blockBits) }

// placeTail returns the padding in bytes that goes before an inode at pos, so
// that its tail does not cross the end of a block. A tail for which there is no
// such place becomes a block.
func (n *node) placeTail(pos uint64) uint64 {
	body := n.inodeSize() + uint64(n.xattrSize)
	tail := uint64(n.tail)
	toBlock := roundUp(pos, blockSize) - pos
	if n.typ() == tree.TypeLink {
		// All of a symbolic link is to be in one block.
		total := body + tail
		if total >= blockSize {
			n.blocks, n.tail = 1, 0
		}
		if pos/blockSize != (pos+total-1)/blockSize {
			return toBlock
		}
		return 0
	}
	room := blockSize - (pos+body)%blockSize
	if room >= tail {
		return 0
	}
	// Start the tail in a new block, unless rounding to slots spoils it.
	pad := roundUp(room, slotSize)
	if tail <= blockSize-(pos+body+pad)%blockSize {
		return pad
	}
	n.blocks++
	n.tail = 0
	return toBlock
}

// maxDirTail is the size in bytes above which the last part of a directory
// becomes a block: libcomposefs' heuristic.
const maxDirTail = blockSize / 2

// sizeDir returns the full blocks of a directory and the bytes of its tail.
func (img *image) sizeDir(dir uint32) (blocks, tail uint32) {
	for _, size := range img.dirBlocks(dir) {
		if tail > 0 {
			blocks++
		}
		tail = uint32(size)
	}
	if tail > maxDirTail {
		return blocks + 1, 0
	}
	return blocks, tail
}

// entry is an entry of a directory: index in image.nodes, and its name.
type entry struct {
	node uint32
	name string
}

// dirBlocks yields the entries of each block of a directory, with the bytes
// that they take. The slice is valid until the next iteration.
func (img *image) dirBlocks(dir uint32) iter.Seq2[[]entry, int] {
	return func(yield func([]entry, int) bool) {
		size, block := 0, make([]entry, 0, min(int(img.nodes[dir].count)+2, blockSize/(sizeDirent+1)))
		for e := range img.entries(dir) {
			length := sizeDirent + len(e.name)
			if size+length > blockSize {
				if !yield(block, size) {
					return
				}
				size, block = 0, block[:0]
			}
			size += length
			block = append(block, e)
		}
		yield(block, size)
	}
}

// entries yields the entries of a directory, ascending by the bytes of their
// names, "." and ".." among them.
func (img *image) entries(dir uint32) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		n := &img.nodes[dir]
		children := img.nodes[n.first : n.first+n.count]
		k := 0
		upTo := func(name string) bool {
			for ; k < len(children) && (name == "" || children[k].name < name); k++ {
				if !yield(entry{n.first + uint32(k), children[k].name}) {
					return false
				}
			}
			return true
		}
		_ = upTo(".") && yield(entry{dir, "."}) && upTo("..") && yield(entry{n.parent, ".."}) && upTo("")
	}
}
