package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"

	"imgbuild/content"
	"imgbuild/fsverity"
	"imgbuild/tree"
)

// What fs-verity keeps of a file lies behind its data (fs/ext4/verity.c): from
// the next multiple of verityAlign on the Merkle tree, then the descriptor at
// the start of a block and its size in the last four bytes of that block. The
// size of the file does not count them.
const (
	verityAlign        = 64 << 10
	sizeDescriptorSize = 4
)

// verityStart returns the block of a file of size bytes where its fs-verity
// metadata begins.
func verityStart(size int64) uint64 {
	return ceilDiv(uint64(size), verityAlign) * (verityAlign / blockSize)
}

// addVerity keeps the descriptor of a regular file, and counts the blocks of its
// metadata.
func (c *collector) addVerity(i *tree.Inode) error {
	size := i.Content.Size()
	if !i.Verity.Valid(size) {
		return errors.New("fs-verity metadata of another content")
	}
	blocks := uint64(fsverity.TreeSize(size))>>blockShift + 1
	if verityStart(size)+blocks > maxFileSize>>blockShift {
		return fmt.Errorf("file of %d bytes, which leaves no room for fs-verity behind it", size)
	}
	d := i.Verity.Descriptor()
	head := len(d)
	for head > 0 && d[head-1] == 0 {
		head--
	}
	c.verity.add(d[:head], binary.LittleEndian.AppendUint32(make([]byte, 0, sizeDescriptorSize), uint32(len(d))))
	c.dataBlocks += blocks
	return nil
}

// placeVerity places the fs-verity metadata of a file whose extents are those
// from index first on; its descriptor has the index k.
func (l *layout) placeVerity(m *fsverity.Metadata, k uint64, first int) bool {
	start := verityStart(m.Size)
	blocks := uint64(m.Tree.Size()) >> blockShift
	descriptor := content.NewRef(&l.verity, int64(k)<<blockShift, blockSize)
	return l.placeData(m.Tree, start, first, run{0, blocks}) && l.placeData(descriptor, start+blocks, first, run{0, 1})
}
