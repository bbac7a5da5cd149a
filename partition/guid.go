package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// GUID is a UUID in the order of its text form (RFC 9562, big-endian). The mixed
// byte order that a GPT keeps it in is made by the encoder.
type GUID [16]byte

// dashes are the offsets of the dashes in the text form of a GUID.
var dashes = [...]int{8, 13, 18, 23}

// sizeGUIDText is the length of the text form.
const sizeGUIDText = 36

// ParseGUID parses the text form, in upper or lower case, without braces.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	if len(s) != sizeGUIDText {
		return g, fmt.Errorf("invalid GUID %.50q", s)
	}
	digits := make([]byte, 0, 2*len(g))
	start := 0
	for _, at := range dashes {
		if s[at] != '-' {
			return g, fmt.Errorf("invalid GUID %q", s)
		}
		digits = append(digits, s[start:at]...)
		start = at + 1
	}
	digits = append(digits, s[start:]...)
	if _, err := hex.Decode(g[:], digits); err != nil {
		return GUID{}, fmt.Errorf("invalid GUID %q", s)
	}
	return g, nil
}

// String returns the text form in lower case.
func (g GUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[0:4], g[4:6], g[6:8], g[8:10], g[10:16])
}

// IsZero tells whether all bits are zero: no partition, in a GPT entry.
func (g GUID) IsZero() bool { return g == GUID{} }

// Encode writes g as UEFI keeps it, into 16 bytes: the first three fields
// little-endian.
func (g GUID) Encode(b []byte) {
	binary.LittleEndian.PutUint32(b[0:], binary.BigEndian.Uint32(g[0:]))
	binary.LittleEndian.PutUint16(b[4:], binary.BigEndian.Uint16(g[4:]))
	binary.LittleEndian.PutUint16(b[6:], binary.BigEndian.Uint16(g[6:]))
	copy(b[8:16], g[8:])
}

// DecodeGUID reads what [GUID.Encode] writes.
func DecodeGUID(b []byte) (g GUID) {
	binary.BigEndian.PutUint32(g[0:], binary.LittleEndian.Uint32(b[0:]))
	binary.BigEndian.PutUint16(g[4:], binary.LittleEndian.Uint16(b[4:]))
	binary.BigEndian.PutUint16(g[6:], binary.LittleEndian.Uint16(b[6:]))
	copy(g[8:], b[8:16])
	return g
}

// deriveDomain separates the hashes of [DeriveGUID] from any other use of the
// seed.
const deriveDomain = "imgbuild GUID\x00"

// DeriveGUID returns a GUID that depends on the seed and the name only: the
// first 16 bytes of a SHA-256, with version and variant set to those of a random
// UUID (version 4), as systemd-repart does with its hashes. It is never zero.
func DeriveGUID(seed []byte, name string) GUID {
	h := sha256.New()
	h.Write([]byte(deriveDomain))
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(seed)))
	h.Write(n[:])
	h.Write(seed)
	h.Write([]byte(name))
	var g GUID
	copy(g[:], h.Sum(nil))
	g[6] = g[6]&0x0F | 0x40
	g[8] = g[8]&0x3F | 0x80
	return g
}
