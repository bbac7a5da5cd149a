package output

import (
	"encoding/binary"

	"imgbuild/partition"
)

// PutGUID writes g to the first 16 bytes of b as Microsoft keeps a GUID in a
// file: the first three fields little-endian.
func PutGUID(b []byte, g partition.GUID) {
	binary.LittleEndian.PutUint32(b[0:], binary.BigEndian.Uint32(g[0:]))
	binary.LittleEndian.PutUint16(b[4:], binary.BigEndian.Uint16(g[4:]))
	binary.LittleEndian.PutUint16(b[6:], binary.BigEndian.Uint16(g[6:]))
	copy(b[8:16], g[8:])
}

// GetGUID returns what PutGUID wrote to b.
func GetGUID(b []byte) (g partition.GUID) {
	binary.BigEndian.PutUint32(g[0:], binary.LittleEndian.Uint32(b[0:]))
	binary.BigEndian.PutUint16(g[4:], binary.LittleEndian.Uint16(b[4:]))
	binary.BigEndian.PutUint16(g[6:], binary.LittleEndian.Uint16(b[6:]))
	copy(g[8:], b[8:16])
	return g
}

// Identifier returns g, or where that is zero, which readers refuse, an
// identifier that is the same for all disks of the format.
func Identifier(g partition.GUID, format string) partition.GUID {
	if g.IsZero() {
		return partition.DeriveGUID(nil, format)
	}
	return g
}
