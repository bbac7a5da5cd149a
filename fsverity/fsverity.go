// Package fsverity computes what fs-verity keeps of a file: its Merkle tree and
// the descriptor whose hash is the digest of the file, as `fsverity measure`
// prints it.
//
// The format is that of the kernel's Documentation/filesystems/fsverity.rst
// ("Merkle tree", "fs-verity descriptor", "File digest computation") with
// SHA-256, blocks of 4096 bytes and no salt: what ostree, bootc and composefs
// enable. Signatures built into the descriptor are not written. The tree is in
// the order in which file systems store it, from the root down.
package fsverity

import (
	"crypto/sha256"
	"encoding/binary"

	"imgbuild/content"
)

const (
	// BlockSize is the size of the blocks of data and of the tree, in bytes.
	BlockSize  = 1 << blockShift
	blockShift = 12

	sizeHash  = sha256.Size
	perBlock  = BlockSize / sizeHash // hashes in a block of the tree
	maxLevels = 8                    // FS_VERITY_MAX_LEVELS; a file of 2^63 bytes has 8

	// SizeDescriptor is sizeof(struct fsverity_descriptor) without a signature.
	SizeDescriptor = 256
)

// Descriptor is struct fsverity_descriptor, little-endian.
type Descriptor [SizeDescriptor]byte

// Metadata is what fs-verity keeps of a file. The zero value is of an empty
// file.
type Metadata struct {
	Size int64             // of the file in bytes
	Root [sha256.Size]byte // hash of the root block, or of the only block of data
	Tree content.Ref       // Merkle tree, TreeSize(Size) bytes
}

// Descriptor returns the descriptor of the file.
func (m *Metadata) Descriptor() Descriptor {
	const version, algorithmSHA256 = 1, 1
	var d Descriptor
	d[0x00] = version
	d[0x01] = algorithmSHA256
	d[0x02] = blockShift
	// 0x03: length of the salt; 0x04: length of the signature
	binary.LittleEndian.PutUint64(d[0x08:], uint64(m.Size))
	copy(d[0x10:], m.Root[:]) // 64 bytes
	// 0x50: salt, 32 bytes; 0x70: reserved
	return d
}

// Digest returns the digest of the file: the hash of its descriptor.
func (m *Metadata) Digest() [sha256.Size]byte {
	d := m.Descriptor()
	return sha256.Sum256(d[:])
}

// Valid tells whether the metadata can be those of a file of size bytes.
func (m *Metadata) Valid(size int64) bool {
	return m.Size == size && m.Tree.Size() == TreeSize(size)
}

// TreeSize returns the size of the Merkle tree of a file of size bytes, in
// bytes, a multiple of BlockSize: 0 for a file of one block or none.
func TreeSize(size int64) int64 {
	g := shapeOf(size)
	return g.size
}

// shape is where the levels of a Merkle tree lie.
type shape struct {
	levels int              // 0 is that of the hashes of data
	start  [maxLevels]int64 // of each level in the tree, in bytes
	hashes [maxLevels]int64 // in each level
	size   int64            // of the tree in bytes
}

func shapeOf(size int64) shape {
	var s shape
	for n := blocksOf(size); n > 1; n = (n + perBlock - 1) / perBlock {
		s.hashes[s.levels] = n
		s.levels++
	}
	for l := s.levels - 1; l >= 0; l-- {
		s.start[l] = s.size
		s.size += (s.hashes[l] + perBlock - 1) / perBlock * BlockSize
	}
	return s
}

// blocksOf returns the number of blocks of size bytes.
func blocksOf(size int64) int64 {
	n := size >> blockShift
	if size&(BlockSize-1) != 0 {
		n++
	}
	return n
}
