package ext4

import (
	"encoding/binary"
	"math/bits"
)

// hashHalfMD4 is DX_HASH_HALF_MD4, the hash of names in indexed directories.
const hashHalfMD4 = 1

// dirHash returns the major and minor hash of a name, as the kernel's
// ext4fs_dirhash does for half MD4 of signed characters.
func dirHash(name string, seed *[16]byte) (major, minor uint32) {
	buf := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	if *seed != [16]byte{} {
		for i := range buf {
			buf[i] = binary.LittleEndian.Uint32(seed[4*i:])
		}
	}
	for len(name) > 0 {
		in := hashWords(name)
		halfMD4(&buf, &in)
		name = name[min(len(name), 32):]
	}
	major = buf[1] &^ 1
	if major == 0xfffffffe {
		major = 0xfffffffc // the largest is the kernel's mark for the end of a directory
	}
	return major, buf[2]
}

// hashWords returns the first 32 bytes of name as big-endian words, sign
// extended byte by byte and padded with the length of the rest.
func hashWords(name string) (in [8]uint32) {
	pad := uint32(len(name)) | uint32(len(name))<<8
	pad |= pad << 16
	for i := range in {
		in[i] = pad
	}
	for i := range min(len(name), 32) {
		if i%4 == 0 {
			in[i/4] = pad
		}
		in[i/4] = uint32(int32(int8(name[i]))) + in[i/4]<<8
	}
	return in
}

// halfMD4 is the three rounds of eight steps of the kernel's half_md4_transform.
func halfMD4(buf *[4]uint32, in *[8]uint32) {
	const k2, k3 = 0x5a827999, 0x6ed9eba1
	f := func(x, y, z uint32) uint32 { return z ^ (x & (y ^ z)) }
	g := func(x, y, z uint32) uint32 { return (x & y) + ((x ^ y) & z) }
	h := func(x, y, z uint32) uint32 { return x ^ y ^ z }
	a, b, c, d := buf[0], buf[1], buf[2], buf[3]
	for i := 0; i < 8; i += 4 {
		a = bits.RotateLeft32(a+f(b, c, d)+in[i], 3)
		d = bits.RotateLeft32(d+f(a, b, c)+in[i+1], 7)
		c = bits.RotateLeft32(c+f(d, a, b)+in[i+2], 11)
		b = bits.RotateLeft32(b+f(c, d, a)+in[i+3], 19)
	}
	for i := range 2 {
		a = bits.RotateLeft32(a+g(b, c, d)+in[1-i]+k2, 3)
		d = bits.RotateLeft32(d+g(a, b, c)+in[3-i]+k2, 5)
		c = bits.RotateLeft32(c+g(d, a, b)+in[5-i]+k2, 9)
		b = bits.RotateLeft32(b+g(c, d, a)+in[7-i]+k2, 13)
	}
	for i := range 2 {
		a = bits.RotateLeft32(a+h(b, c, d)+in[3-2*i]+k3, 3)
		d = bits.RotateLeft32(d+h(a, b, c)+in[7-2*i]+k3, 9)
		c = bits.RotateLeft32(c+h(d, a, b)+in[2-2*i]+k3, 11)
		b = bits.RotateLeft32(b+h(c, d, a)+in[6-2*i]+k3, 15)
	}
	buf[0] += a
	buf[1] += b
	buf[2] += c
	buf[3] += d
}
