package composefs

import (
	"encoding/binary"
	"math/bits"
)

// xxh32 is XXH32 of the xxHash specification 0.1.1, section "XXH32 algorithm",
// which EROFS takes for its xattr name filter.
func xxh32(s string, seed uint32) uint32 {
	const (
		prime1 uint32 = 0x9e3779b1
		prime2 uint32 = 0x85ebca77
		prime3 uint32 = 0xc2b2ae3d
		prime4 uint32 = 0x27d4eb2f
		prime5 uint32 = 0x165667b1
	)
	p := []byte(s)
	h := seed + prime5
	if len(p) >= 16 {
		acc := [4]uint32{seed, seed, seed, seed}
		acc[0] += prime1
		acc[0] += prime2
		acc[1] += prime2
		acc[3] -= prime1
		for ; len(p) >= 16; p = p[16:] {
			for i := range acc {
				acc[i] += binary.LittleEndian.Uint32(p[4*i:]) * prime2
				acc[i] = bits.RotateLeft32(acc[i], 13) * prime1
			}
		}
		h = bits.RotateLeft32(acc[0], 1) + bits.RotateLeft32(acc[1], 7) +
			bits.RotateLeft32(acc[2], 12) + bits.RotateLeft32(acc[3], 18)
	}
	h += uint32(len(s))
	for ; len(p) >= 4; p = p[4:] {
		h += binary.LittleEndian.Uint32(p) * prime3
		h = bits.RotateLeft32(h, 17) * prime4
	}
	for _, b := range p {
		h += uint32(b) * prime5
		h = bits.RotateLeft32(h, 11) * prime1
	}
	h ^= h >> 15
	h *= prime2
	h ^= h >> 13
	h *= prime3
	h ^= h >> 16
	return h
}
