package iso

import (
	"encoding/binary"
	"time"
)

// systemArea is the number of blocks in front of the descriptors.
const systemArea = 16

// partitionBase is the block that addresses in the second set of descriptors
// count from: the first block of the partition around the file system.
const partitionBase = systemArea

// maxBlocks is the number of blocks that 32-bit addresses reach.
const maxBlocks = 1 << 32

// maxExtent is the longest extent in bytes: sizes have 32 bits, and all extents
// of a file but the last are whole blocks.
const maxExtent = 1<<32 - BlockSize

// Volume descriptors (ECMA-119 8). All of them are one block.
type descriptorType byte

const (
	descriptorBoot          descriptorType = 0
	descriptorPrimary       descriptorType = 1
	descriptorSupplementary descriptorType = 2
	descriptorEnd           descriptorType = 255
)

// standardID is at offset 1 of every descriptor.
const standardID = "CD001"

// Offsets in the primary and supplementary descriptors (ECMA-119 8.4, 8.5);
// numbers are in both byte orders unless said otherwise.
const (
	volSystemID    = 8   // 32 characters
	volVolumeID    = 40  // 32 characters
	volBlocks      = 80  // u32 blocks of the volume
	volEscapes     = 88  // 32 bytes, of a supplementary descriptor
	volSetSize     = 120 // u16
	volSequence    = 124 // u16
	volBlockSize   = 128 // u16
	volTableSize   = 132 // u32 bytes of a path table
	volTableL      = 140 // u32 little-endian, block
	volTableM      = 148 // u32 big-endian, block
	volRoot        = 156 // directory record of the root
	volSetID       = 190 // 128 characters
	volPublisher   = 318 // 128 characters
	volPreparer    = 446 // 128 characters
	volApplication = 574 // 128 characters
	volCopyright   = 702 // 37 characters
	volAbstract    = 739 // 37 characters
	volBiblio      = 776 // 37 characters
	volCreated     = 813 // 17 bytes
	volModified    = 830
	volExpires     = 847
	volEffective   = 864
	volStructure   = 881 // u8, 1
	volUse         = 883 // 512 bytes for applications
	sizeUse        = 512
)

// jolietEscapes says UCS-2, level 3.
const jolietEscapes = "%/E"

// Directory records (ECMA-119 9.1).
const (
	recLength   = 0  // u8
	recBlock    = 2  // u32 both
	recSize     = 10 // u32 both, bytes
	recTime     = 18 // 7 bytes
	recFlags    = 25
	recSequence = 28 // u16 both
	recIDLength = 32 // u8
	recID       = 33
	sizeRecord  = 33  // without identifier
	maxRecord   = 254 // the largest even length
)

type recordFlags byte

const (
	flagDirectory recordFlags = 1 << 1
	flagMore      recordFlags = 1 << 7 // the next record is the next extent
)

// El Torito (version 1.0, sections 2.0 to 2.5; UEFI 2.10, 13.3.2.1).
const (
	elToritoID       = "EL TORITO SPECIFICATION"
	bootSystem       = 7    // offset of elToritoID in the boot record
	bootCatalog      = 0x47 // u32 little-endian, block
	sizeCatalogEntry = 32

	headerMore     = 0x90
	headerLast     = 0x91
	catalogValid   = 0x01
	entryBootable  = 0x88
	platformX86    = 0x00
	platformEFI    = 0xEF
	biosLoad       = 4 // virtual sectors of 512 bytes: what cdboot.img is
	virtualSector  = 512
	maxLoad        = 0xFFFF
	catalogEntries = BlockSize / sizeCatalogEntry
)

// Boot information table (mkisofs -boot-info-table) and GRUB's block list in a
// boot image.
const (
	infoTable      = 8    // u32 block of the descriptor, of the image, bytes, checksum
	infoSummed     = 64   // where the checksum begins
	infoBlockList  = 2548 // u64, 512-byte sector of what follows diskboot.img
	sizeCDBoot     = 2048 // of cdboot.img
	mbrCore        = 0x1B0
	sectorsInBlock = BlockSize / virtualSector
)

// putBoth16 and putBoth32 write a number in both byte orders.
func putBoth16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}

func putBoth32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

// putText writes s, cut to the length of b and padded with blanks.
func putText(b []byte, s string) {
	for i := copy(b, s); i < len(b); i++ {
		b[i] = ' '
	}
}

// sizeTime is the length of the time of a directory record.
const sizeTime = 7

// putTime writes a time as directory records have it (ECMA-119 9.1.5), in UTC.
// Years beyond those that it can say become the nearest.
func putTime(b []byte, seconds int64) {
	t := time.Unix(seconds, 0).UTC()
	switch {
	case t.Year() < 1900:
		t = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 2155:
		t = time.Date(2155, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	b[0], b[1], b[2] = byte(t.Year()-1900), byte(t.Month()), byte(t.Day())
	b[3], b[4], b[5], b[6] = byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0
}

// getTime returns what putTime wrote.
func getTime(b []byte) int64 {
	zone := int64(int8(b[6])) * 15 * 60
	t := time.Date(1900+int(b[0]), time.Month(b[1]), int(b[2]), int(b[3]), int(b[4]), int(b[5]), 0, time.UTC)
	return t.Unix() - zone
}

// putLongTime writes a time as descriptors have it (ECMA-119 8.4.26.1).
func putLongTime(b []byte, seconds int64) {
	t := time.Unix(seconds, 0).UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		t = time.Unix(0, 0).UTC()
	}
	copy(b, t.Format("20060102150405")+"00")
	b[16] = 0
}

// noLongTime is a time that is not given.
const noLongTime = "0000000000000000\x00"

// blocks returns the number of blocks of n bytes.
func blocks(n int64) int64 { return (n + BlockSize - 1) / BlockSize }
