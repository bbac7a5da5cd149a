package vdi

import (
	"encoding/binary"

	"imgbuild/formats/output"
	"imgbuild/partition"
)

const (
	sizePreheader = 72
	sizeHeader    = 400 // VDIHEADER1PLUS
)

// fileInfo is for eyes only, as VirtualBox says.
const fileInfo = "<<< imgbuild VirtualBox Disk Image >>>\n"

const (
	signature = 0xbeda107f
	version   = 0x00010001 // 1.1
)

// typeNormal is the type of a dynamically growing base image.
const typeNormal = 1

// header is VDIPREHEADER and VDIHEADER1PLUS, little endian like everything in
// the format. Offsets are bytes of the file.
type header struct {
	MapOffset        int64
	DataOffset       int64
	Size             int64  // of the disk in bytes
	Blocks           uint32 // entries of the map
	Allocated        uint32 // blocks that have data
	UUID             partition.GUID
	ModificationUUID partition.GUID // VirtualBox refuses zero in either
}

// encode writes the header to b, which is zero.
func (h *header) encode(b []byte) {
	le := binary.LittleEndian
	copy(b[0x00:0x40], fileInfo)
	le.PutUint32(b[0x40:], signature)
	le.PutUint32(b[0x44:], version)
	le.PutUint32(b[0x48:], sizeHeader)
	le.PutUint32(b[0x4c:], typeNormal)
	// 0x50: no flags. 0x54 to 0x153: no comment.
	le.PutUint32(b[0x154:], uint32(h.MapOffset))
	le.PutUint32(b[0x158:], uint32(h.DataOffset))
	// 0x15c to 0x167: the legacy geometry is left to the reader.
	le.PutUint32(b[0x168:], sectorSize)
	le.PutUint64(b[0x170:], uint64(h.Size))
	le.PutUint32(b[0x178:], blockSize)
	// 0x17c: nothing ahead of the data of a block.
	le.PutUint32(b[0x180:], h.Blocks)
	le.PutUint32(b[0x184:], h.Allocated)
	output.PutGUID(b[0x188:], h.UUID)
	output.PutGUID(b[0x198:], h.ModificationUUID)
	// 0x1a8 to 0x1c7: no parent. 0x1c8 to 0x1d3: no geometry for a BIOS.
	le.PutUint32(b[0x1d4:], sectorSize)
}
