package xfs

import "math/bits"

// nameHash is xfs_da_hashname, of names in directories and of attributes.
func nameHash(name string) uint32 {
	h := uint32(0)
	for ; len(name) >= 4; name = name[4:] {
		h = uint32(name[0])<<21 ^ uint32(name[1])<<14 ^ uint32(name[2])<<7 ^ uint32(name[3]) ^ bits.RotateLeft32(h, 28)
	}
	switch len(name) {
	case 3:
		h = uint32(name[0])<<14 ^ uint32(name[1])<<7 ^ uint32(name[2]) ^ bits.RotateLeft32(h, 21)
	case 2:
		h = uint32(name[0])<<7 ^ uint32(name[1]) ^ bits.RotateLeft32(h, 14)
	case 1:
		h = uint32(name[0]) ^ bits.RotateLeft32(h, 7)
	}
	return h
}
