package fat

import (
	"encoding/binary"
	"time"
)

// All fields are little-endian. Names in parentheses are those of the
// specification.

// Sectors of the reserved area. The ones between are zero.
const (
	sectorBoot       = 0
	sectorFSInfo     = 1
	sectorBackup     = 6 // the place that drivers look at when sector 0 is unreadable
	sectorFSInfoCopy = sectorBackup + sectorFSInfo
	reservedSectors  = 32 // as every mkfs has it; the specification's "typically 32"
	fatCount         = 2
)

// bootSector is the first sector. What depends on nothing is set by encode.
type bootSector struct {
	SectorSize        uint16 // (BPB_BytsPerSec)
	SectorsPerCluster uint8  // (BPB_SecPerClus)
	SectorsPerTrack   uint16 // (BPB_SecPerTrk)
	Heads             uint16 // (BPB_NumHeads)
	HiddenSectors     uint32 // (BPB_HiddSec)
	TotalSectors      uint32 // (BPB_TotSec32)
	FATSectors        uint32 // of one FAT (BPB_FATSz32)
	VolumeID          uint32 // (BS_VolID)
	Label             shortName
}

// sizeBootSector is what encode writes, whatever the sector size: the signature
// is at 510 in larger sectors, too.
const sizeBootSector = 512

const (
	mediaFixed    = 0xF8 // also the low byte of FAT entry 0
	driveNumber   = 0x80
	extendedBoot  = 0x29 // VolumeID, Label and the type name are present
	bootCodeStart = 0x5A
)

// bootCode is what runs when a BIOS starts the partition: INT 18h, which tells
// the BIOS to try the next device, and a halt should it return.
var bootCode = [...]byte{0xCD, 0x18, 0xF4, 0xEB, 0xFD}

func (s bootSector) encode(b []byte) {
	le := binary.LittleEndian
	copy(b[0x00:], []byte{0xEB, bootCodeStart - 2, 0x90}) // (BS_jmpBoot)
	copy(b[0x03:], "MSWIN4.1")                            // (BS_OEMName) the one the specification recommends
	le.PutUint16(b[0x0B:], s.SectorSize)
	b[0x0D] = s.SectorsPerCluster
	le.PutUint16(b[0x0E:], reservedSectors)
	b[0x10] = fatCount
	// 0x11 root entries, 0x13 and 0x16 16-bit sizes: zero on FAT32
	b[0x15] = mediaFixed
	le.PutUint16(b[0x18:], s.SectorsPerTrack) // for INT 13h without LBA only
	le.PutUint16(b[0x1A:], s.Heads)
	le.PutUint32(b[0x1C:], s.HiddenSectors)
	le.PutUint32(b[0x20:], s.TotalSectors)
	le.PutUint32(b[0x24:], s.FATSectors)
	// 0x28 flags: both FATs are live; 0x2A version 0.0
	le.PutUint32(b[0x2C:], rootCluster)
	le.PutUint16(b[0x30:], sectorFSInfo)
	le.PutUint16(b[0x32:], sectorBackup)
	b[0x40] = driveNumber
	// 0x41: zero; bit 0 is Linux's and Windows' "not cleanly unmounted"
	b[0x42] = extendedBoot
	le.PutUint32(b[0x43:], s.VolumeID)
	copy(b[0x47:], s.Label[:])
	copy(b[0x52:], "FAT32   ") // (BS_FilSysType)
	copy(b[bootCodeStart:], bootCode[:])
	b[0x1FE], b[0x1FF] = 0x55, 0xAA
}

// fsInfo is the FSInfo sector, behind the boot sector.
type fsInfo struct {
	Free uint32 // clusters
	Last uint32 // cluster allocated last, where the search for a free one starts
}

const sizeFSInfo = 512

func (s fsInfo) encode(b []byte) {
	le := binary.LittleEndian
	copy(b[0x000:], "RRaA")
	copy(b[0x1E4:], "rrAa")
	le.PutUint32(b[0x1E8:], s.Free)
	le.PutUint32(b[0x1EC:], s.Last)
	b[0x1FE], b[0x1FF] = 0x55, 0xAA
}

// FAT entries.
const (
	sizeFATEntry = 4
	// fatEntry0 has the media byte; the rest is ones.
	fatEntry0 = 0x0FFFFF00 | mediaFixed
	// fatEntry1 has the "clean shutdown" bit 27 and the "no disk errors" bit 26
	// set, with all others.
	fatEntry1 = 0x0FFFFFFF
	fatEnd    = 0x0FFFFFFF // of a chain

	// rootCluster is the first cluster there is, and the root's.
	rootCluster = 2
)

// attributes are the attribute bits of a directory entry.
type attributes uint8

const (
	attrReadOnly attributes = 0x01
	attrHidden   attributes = 0x02
	attrSystem   attributes = 0x04
	attrVolumeID attributes = 0x08
	attrDir      attributes = 0x10
	attrArchive  attributes = 0x20
	attrLongName            = attrReadOnly | attrHidden | attrSystem | attrVolumeID
)

// shortName is eight characters of name and three of extension, blank-padded,
// without the dot; or a volume label.
type shortName [11]byte

// sizeEntry is the size of a directory entry, short or long.
const sizeEntry = 32

// entry is a short directory entry.
type entry struct {
	Name    shortName
	Attr    attributes
	Time    timestamp
	Cluster uint32
	Size    uint32 // bytes; zero for a directory
}

func (e entry) encode(b []byte) {
	le := binary.LittleEndian
	copy(b[0x00:], e.Name[:])
	b[0x0B] = byte(e.Attr)
	b[0x0D] = e.Time.hundredths // (DIR_CrtTimeTenth)
	le.PutUint16(b[0x0E:], e.Time.time)
	le.PutUint16(b[0x10:], e.Time.date)
	le.PutUint16(b[0x12:], e.Time.date) // last access has no time of day
	le.PutUint16(b[0x14:], uint16(e.Cluster>>16))
	le.PutUint16(b[0x16:], e.Time.time)
	le.PutUint16(b[0x18:], e.Time.date)
	le.PutUint16(b[0x1A:], uint16(e.Cluster))
	le.PutUint32(b[0x1C:], e.Size)
}

// Long entries precede their short entry, the last part of the name first.
const (
	longUnits = 13   // UTF-16 units of the name in one long entry
	longLast  = 0x40 // set in the ordinal of the entry with the end of the name
	// maxUnits is the length of a name in UTF-16 units, 20 entries of which the
	// last is not filled.
	maxUnits = 255
)

// longOffsets are where the units of a long entry are.
var longOffsets = [longUnits]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

// encodeLong writes the long entry with the given ordinal, from 1, of the name.
// The name's end is marked by a NUL and filled with ones, unless it fills the
// entry.
func encodeLong(b []byte, name []uint16, ordinal int, sum uint8) {
	le := binary.LittleEndian
	part := name[(ordinal-1)*longUnits:]
	b[0x00] = byte(ordinal)
	if len(part) <= longUnits {
		b[0x00] |= longLast
	}
	b[0x0B] = byte(attrLongName)
	b[0x0D] = sum
	for i, off := range longOffsets {
		unit := uint16(0xFFFF)
		if i < len(part) {
			unit = part[i]
		} else if i == len(part) {
			unit = 0
		}
		le.PutUint16(b[off:], unit)
	}
}

// checksum is what ties long entries to their short one.
func (n shortName) checksum() uint8 {
	var sum uint8
	for _, c := range n {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// timestamp is a time as a directory entry has it.
type timestamp struct {
	date       uint16 // years since 1980 << 9 | month << 5 | day
	time       uint16 // hour << 11 | minute << 5 | seconds / 2
	hundredths uint8  // of a second, 0 to 199, beyond time
}

// Times that FAT can hold, in seconds since 1970.
const (
	minTime = 315532800  // 1980-01-01 00:00:00
	maxTime = 4354819199 // 2107-12-31 23:59:59
)

// newTimestamp returns the nearest time to sec, in seconds since 1970.
func newTimestamp(sec int64) timestamp {
	t := time.Unix(min(max(sec, minTime), maxTime), 0).UTC()
	return timestamp{
		date:       uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day()),
		time:       uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2),
		hundredths: uint8(t.Second() % 2 * 100),
	}
}
