package btrfs

import (
	"crypto/sha256"
	"hash/crc32"
	"math/bits"
)

// Checksum is the algorithm that protects metadata and data.
type Checksum uint8

const (
	CRC32C   Checksum = iota // every version of Linux
	XXHash64                 // since Linux 5.5
	SHA256                   // since Linux 5.5
)

// checksum is an algorithm as it is on the disk.
type checksum struct {
	id   uint16
	size int // of a sum, in bytes
	// sum writes the checksum of b to the first bytes of out[:size], which may
	// lie before b in the same array.
	sum func(out, b []byte)
}

func (c Checksum) algorithm() *checksum {
	switch c {
	case XXHash64:
		return &checksum{1, 8, func(out, b []byte) { le.PutUint64(out[:8], xxhash64(b)) }}
	case SHA256:
		return &checksum{2, 32, func(out, b []byte) {
			s := sha256.Sum256(b)
			copy(out[:32], s[:])
		}}
	default:
		return &checksum{0, 4, func(out, b []byte) { le.PutUint32(out[:4], crc32.Checksum(b, castagnoli)) }}
	}
}

// maxSums returns how many checksums Linux puts into one item
// (MAX_CSUM_ITEMS).
func (c *checksum) maxSums() int { return (leafRoom-2*sizeItem)/c.size - 1 }

// xxhash64 is XXH64 of b with seed 0, as of the "xxHash fast digest algorithm"
// specification.
func xxhash64(b []byte) uint64 {
	var (
		p1 uint64 = 0x9E3779B185EBCA87
		p2 uint64 = 0xC2B2AE3D27D4EB4F
		p3 uint64 = 0x165667B19E3779F9
		p4 uint64 = 0x85EBCA77C2B2AE63
		p5 uint64 = 0x27D4EB2F165667C5
	)
	round := func(acc, lane uint64) uint64 { return bits.RotateLeft64(acc+lane*p2, 31) * p1 }
	h := p5
	n := uint64(len(b))
	if n >= 32 {
		acc := [4]uint64{p1 + p2, p2, 0, -p1}
		for ; len(b) >= 32; b = b[32:] {
			acc[0] = round(acc[0], le.Uint64(b))
			acc[1] = round(acc[1], le.Uint64(b[8:]))
			acc[2] = round(acc[2], le.Uint64(b[16:]))
			acc[3] = round(acc[3], le.Uint64(b[24:]))
		}
		h = bits.RotateLeft64(acc[0], 1) + bits.RotateLeft64(acc[1], 7) + bits.RotateLeft64(acc[2], 12) + bits.RotateLeft64(acc[3], 18)
		for _, a := range acc {
			h = (h^round(0, a))*p1 + p4
		}
	}
	h += n
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64(h^round(0, le.Uint64(b)), 27)*p1 + p4
	}
	if len(b) >= 4 {
		h = bits.RotateLeft64(h^uint64(le.Uint32(b))*p1, 23)*p2 + p3
		b = b[4:]
	}
	for _, c := range b {
		h = bits.RotateLeft64(h^uint64(c)*p5, 11) * p1
	}
	h = (h ^ h>>33) * p2
	h = (h ^ h>>29) * p3
	return h ^ h>>32
}
