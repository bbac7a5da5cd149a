package partition

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
)

// mbr is the protective master boot record, in the first 512 bytes of sector 0
// whatever the sector size. Little-endian.
//
//	0x000  440  boot code
//	0x1B8    4  disk signature, zero
//	0x1BC    2  zero
//	0x1BE   64  four partition records, of which the first covers the disk
//	0x1FE    2  55 AA
type mbr struct {
	code    []byte // at most sizeBootCode bytes are used
	sectors uint64 // of the disk
}

const (
	sizeMBR      = 512
	sizeBootCode = 440
	mbrRecord    = 0x1BE
	sizeRecord   = 16
)

// maxMBRSectors is what the protective record states for any larger disk.
const maxMBRSectors = 0xFFFFFFFF

func (m mbr) encode(b []byte) {
	copy(b[:sizeBootCode], m.code)
	r := b[mbrRecord:]
	r[0x0] = 0x00 // not active: some UEFI firmware ignores a GPT behind an active record
	// Starting CHS of sector 1, and the ending CHS that stands for "beyond CHS".
	copy(r[0x1:], []byte{0x00, 0x02, 0x00})
	r[0x4] = protectiveType
	copy(r[0x5:], []byte{0xFF, 0xFF, 0xFF})
	binary.LittleEndian.PutUint32(r[0x8:], 1)
	binary.LittleEndian.PutUint32(r[0xC:], uint32(min(m.sectors-1, maxMBRSectors)))
	b[0x1FE], b[0x1FF] = 0x55, 0xAA
}

// header is the GPT header, without magic, revision, size and checksum, which are
// encode's and decodeHeader's business. Little-endian.
type header struct {
	MyLBA         uint64
	AlternateLBA  uint64
	FirstUsable   uint64 // sectors
	LastUsable    uint64 // sectors, inclusive
	DiskID        GUID
	ArrayLBA      uint64
	EntryCount    uint32
	EntrySize     uint32 // bytes
	ArrayChecksum uint32
}

const (
	sizeHeader     = 92
	headerMagic    = "EFI PART"
	headerRevision = 0x00010000
)

func (h header) encode(b []byte) {
	le := binary.LittleEndian
	copy(b[0x00:], headerMagic)
	le.PutUint32(b[0x08:], headerRevision)
	le.PutUint32(b[0x0C:], sizeHeader)
	le.PutUint32(b[0x10:], 0) // checksum, below
	le.PutUint32(b[0x14:], 0) // reserved
	le.PutUint64(b[0x18:], h.MyLBA)
	le.PutUint64(b[0x20:], h.AlternateLBA)
	le.PutUint64(b[0x28:], h.FirstUsable)
	le.PutUint64(b[0x30:], h.LastUsable)
	h.DiskID.Encode(b[0x38:])
	le.PutUint64(b[0x48:], h.ArrayLBA)
	le.PutUint32(b[0x50:], h.EntryCount)
	le.PutUint32(b[0x54:], h.EntrySize)
	le.PutUint32(b[0x58:], h.ArrayChecksum)
	le.PutUint32(b[0x10:], crc32.ChecksumIEEE(b[:sizeHeader]))
}

// decodeHeader reads a header from its sector, and checks its revision, size and
// checksum. The fields of a later revision 1 are not looked at.
func decodeHeader(b []byte) (header, error) {
	le := binary.LittleEndian
	if revision := le.Uint32(b[0x08:]); revision != headerRevision {
		return header{}, fmt.Errorf("revision %08x", revision)
	}
	size := le.Uint32(b[0x0C:])
	if size < sizeHeader || size > uint32(len(b)) {
		return header{}, fmt.Errorf("size %d", size)
	}
	want := le.Uint32(b[0x10:])
	zeroed := bytes.Clone(b[:size])
	le.PutUint32(zeroed[0x10:], 0)
	if sum := crc32.ChecksumIEEE(zeroed); sum != want {
		return header{}, fmt.Errorf("checksum %08x, want %08x", sum, want)
	}
	return header{
		MyLBA:         le.Uint64(b[0x18:]),
		AlternateLBA:  le.Uint64(b[0x20:]),
		FirstUsable:   le.Uint64(b[0x28:]),
		LastUsable:    le.Uint64(b[0x30:]),
		DiskID:        DecodeGUID(b[0x38:]),
		ArrayLBA:      le.Uint64(b[0x48:]),
		EntryCount:    le.Uint32(b[0x50:]),
		EntrySize:     le.Uint32(b[0x54:]),
		ArrayChecksum: le.Uint32(b[0x58:]),
	}, nil
}

// entry is a record of the entry array. Little-endian.
type entry struct {
	Type       GUID // zero: unused
	ID         GUID
	FirstLBA   uint64
	LastLBA    uint64 // inclusive
	Attributes Attributes
	Name       [maxName]uint16 // UTF-16, NUL-padded
}

const sizeEntry = 128

func (e entry) encode(b []byte) {
	le := binary.LittleEndian
	e.Type.Encode(b[0x00:])
	e.ID.Encode(b[0x10:])
	le.PutUint64(b[0x20:], e.FirstLBA)
	le.PutUint64(b[0x28:], e.LastLBA)
	le.PutUint64(b[0x30:], uint64(e.Attributes))
	for i, u := range e.Name {
		le.PutUint16(b[0x38+2*i:], u)
	}
}

func decodeEntry(b []byte) entry {
	le := binary.LittleEndian
	e := entry{
		Type:       DecodeGUID(b[0x00:]),
		ID:         DecodeGUID(b[0x10:]),
		FirstLBA:   le.Uint64(b[0x20:]),
		LastLBA:    le.Uint64(b[0x28:]),
		Attributes: Attributes(le.Uint64(b[0x30:])),
	}
	for i := range e.Name {
		e.Name[i] = le.Uint16(b[0x38+2*i:])
	}
	return e
}

// name returns the name up to the first NUL; halves of surrogate pairs become
// U+FFFD.
func (e entry) name() string {
	n := 0
	for n < len(e.Name) && e.Name[n] != 0 {
		n++
	}
	return string(utf16.Decode(e.Name[:n]))
}
