package vhd

import (
	"encoding/binary"
	"time"

	"imgbuild/partition"
)

const sectorSize = 512

// maxSectors is the largest size in sectors: 2040 GiB, the limit of Hyper-V and
// of qemu-img with force_size. A CHS geometry ends at 127.5 GiB.
const maxSectors = 0xff000000

// MaxSize is the largest disk in bytes that the format holds.
const MaxSize = maxSectors * sectorSize

const (
	// blockSize is what one entry of the block allocation table stands for: the
	// default of the specification.
	blockSize = 2 << 20
	// sizeBitmap is the length of the bitmap ahead of each block: a bit for each
	// sector, one sector in all.
	sizeBitmap = blockSize / sectorSize / 8
	// unallocated is the table entry of a block that is zero.
	unallocated = 0xffffffff
)

// diskType is the type of a disk in the footer.
type diskType uint32

const (
	typeFixed   diskType = 2
	typeDynamic diskType = 3
)

// none is the offset of a structure that is not there.
const none = 0xffffffffffffffff

// Values of the footer that never change.
const (
	footerCookie    = "conectix"
	headerCookie    = "cxsparse"
	reservedFeature = 2 // "must always be set to 1", bit 1
	formatVersion   = 0x00010000
	creatorHost     = "Wi2k"
	// creatorApp and creatorVersion name the program that made the file, and
	// decide whether a reader takes the size from the field of that name or from
	// the geometry, which only comes near it. QEMU trusts the field for a few
	// names, among them its own, which is known by all readers.
	creatorApp     = "qem2"
	creatorVersion = 0x00050003
)

// The geometry of a disk whose size is taken from the field: the largest there
// is, as qemu-img writes it with force_size.
const (
	cylinders = 65535
	heads     = 16
	sectors   = 255
)

const (
	sizeFooter = 512
	sizeHeader = 1024
)

// epoch is what time stamps count from, in seconds.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// timestamp returns t as seconds since the epoch, the epoch itself where it is
// out of range.
func timestamp(t time.Time) uint32 {
	s := t.Unix() - epoch.Unix()
	if s < 0 || s > 0xffffffff {
		return 0
	}
	return uint32(s)
}

// footer is the hard disk footer, big endian like everything in the format. It
// is the last sector of the file, and of a dynamic disk the first one, too.
type footer struct {
	DataOffset uint64 // of the dynamic disk header, or none
	Time       uint32 // seconds since the beginning of 2000
	Size       int64  // of the disk in bytes
	Type       diskType
	UUID       partition.GUID
}

func (f *footer) encode(b []byte) {
	be := binary.BigEndian
	b = b[:sizeFooter]
	clear(b)
	copy(b[0x00:], footerCookie)
	be.PutUint32(b[0x08:], reservedFeature)
	be.PutUint32(b[0x0c:], formatVersion)
	be.PutUint64(b[0x10:], f.DataOffset)
	be.PutUint32(b[0x18:], f.Time)
	copy(b[0x1c:], creatorApp)
	be.PutUint32(b[0x20:], creatorVersion)
	copy(b[0x24:], creatorHost)
	be.PutUint64(b[0x28:], uint64(f.Size)) // when it was made
	be.PutUint64(b[0x30:], uint64(f.Size)) // now
	be.PutUint16(b[0x38:], cylinders)
	b[0x3a] = heads
	b[0x3b] = sectors
	be.PutUint32(b[0x3c:], uint32(f.Type))
	copy(b[0x44:], f.UUID[:])
	// 0x54: no saved state.
	be.PutUint32(b[0x40:], checksum(b))
}

// header is the dynamic disk header of a disk without a parent.
type header struct {
	TableOffset uint64 // of the block allocation table, in bytes
	Blocks      int    // entries of the table
}

func (h *header) encode(b []byte) {
	be := binary.BigEndian
	b = b[:sizeHeader]
	clear(b)
	copy(b[0x00:], headerCookie)
	be.PutUint64(b[0x08:], none)
	be.PutUint64(b[0x10:], h.TableOffset)
	be.PutUint32(b[0x18:], formatVersion)
	be.PutUint32(b[0x1c:], uint32(h.Blocks))
	be.PutUint32(b[0x20:], blockSize)
	// 0x28 to 0x3ff: no parent.
	be.PutUint32(b[0x24:], checksum(b))
}

// checksum is the one's complement of the sum of all bytes, with a checksum
// field of zero.
func checksum(b []byte) uint32 {
	sum := uint32(0)
	for _, c := range b {
		sum += uint32(c)
	}
	return ^sum
}
