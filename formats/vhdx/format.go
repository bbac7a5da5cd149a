package vhdx

import (
	"encoding/binary"
	"hash/crc32"
	"unicode/utf16"

	"imgbuild/formats/output"
	"imgbuild/partition"
)

// Offsets in the header section, which is the first MiB, in bytes (2.1).
const (
	headerSpacing = 64 << 10 // each of the five structures has as much
	offHeader1    = 1 * headerSpacing
	offHeader2    = 2 * headerSpacing
	offRegions1   = 3 * headerSpacing
	offRegions2   = 4 * headerSpacing
	sizeHeaders   = 1 << 20
)

// regionAlign is the alignment of regions and blocks, and of their lengths.
const regionAlign = 1 << 20

// Regions of fixed length.
const (
	offLog       = sizeHeaders
	sizeLog      = regionAlign // the least
	offMetadata  = offLog + sizeLog
	sizeMetadata = regionAlign
	offTable     = offMetadata + sizeMetadata
)

const (
	sizeHeader      = 4 << 10
	sizeRegionTable = 64 << 10
)

// castagnoli is the polynomial of all checksums.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal sets the checksum of a structure: at offset 4, over all of it with a
// checksum of zero.
func seal(b []byte) {
	clear(b[4:8])
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b, castagnoli))
}

// encodeIdentifier writes the file type identifier (2.2.1) to b, which is zero.
func encodeIdentifier(b []byte) {
	copy(b, fileIdentifier)
	for i, u := range utf16.Encode([]rune("imgbuild")) {
		binary.LittleEndian.PutUint16(b[8+2*i:], u)
	}
}

// header is one of the two headers (2.2.2). That with the larger sequence number
// counts; the other one is there for the moment when it is replaced.
type header struct {
	Sequence      uint64
	FileWriteGUID partition.GUID // changes when the file does
	DataWriteGUID partition.GUID // changes when the disk does
}

// encode writes the header to b, which is zero and sizeHeader long.
func (h *header) encode(b []byte) {
	le := binary.LittleEndian
	copy(b, "head")
	le.PutUint64(b[0x08:], h.Sequence)
	output.PutGUID(b[0x10:], h.FileWriteGUID)
	output.PutGUID(b[0x20:], h.DataWriteGUID)
	// 0x30 to 0x3f: the GUID of the log is zero, there is nothing to replay.
	le.PutUint16(b[0x40:], 0) // version of the log
	le.PutUint16(b[0x42:], 1) // version of the format
	le.PutUint32(b[0x44:], sizeLog)
	le.PutUint64(b[0x48:], offLog)
	seal(b)
}

// region is an entry of the region table (2.2.3.2).
type region struct {
	id     string
	off    int64
	length int64
}

// Regions that every reader must know.
const (
	regionTable    = "2dc27766-f623-4200-9d64-115e9bfd4a08"
	regionMetadata = "8b7ca206-4790-4b9a-b8fe-575f050f886e"
)

// encodeRegions writes the region table (2.2.3) to b, which is zero and
// sizeRegionTable long.
func encodeRegions(b []byte, regions []region) {
	const sizeHead, sizeEntry = 16, 32
	le := binary.LittleEndian
	copy(b, "regi")
	le.PutUint32(b[0x08:], uint32(len(regions)))
	for i, r := range regions {
		e := b[sizeHead+i*sizeEntry:]
		output.PutGUID(e, mustGUID(r.id))
		le.PutUint64(e[0x10:], uint64(r.off))
		le.PutUint32(e[0x18:], uint32(r.length))
		le.PutUint32(e[0x1c:], 1) // required
	}
	seal(b)
}

// itemFlags are the flags of a metadata item (2.6.1.2).
type itemFlags uint32

const (
	itemVirtualDisk itemFlags = 1 << 1 // of the disk, not of the file
	itemRequired    itemFlags = 1 << 2
)

// Metadata items (2.6.2).
const (
	itemFileParameters = "caa16737-fa36-4d43-b3b6-33f0aa44e76b"
	itemDiskSize       = "2fa54224-cd1b-4876-b211-5dbed83bf4b8"
	itemDiskID         = "beca12ab-b2e6-4523-93ef-c309e000c746" // SCSI inquiry page 83
	itemLogicalSector  = "8141bf1d-a96f-4709-ba47-f233a8faab5f"
	itemPhysicalSector = "cda348c7-445d-4471-9cc9-e9885251c556"
)

// metadata is what the metadata region says.
type metadata struct {
	BlockSize int64
	Size      int64 // of the disk in bytes
	DiskID    partition.GUID
}

// encode writes the metadata region (2.6) to b, which is zero: the table, and 64
// KiB behind its beginning the items.
func (m *metadata) encode(b []byte) {
	const sizeHead, sizeEntry = 32, 32
	const offItems = 64 << 10
	le := binary.LittleEndian
	copy(b, "metadata")
	entry, off, count := b[sizeHead:], offItems, 0
	add := func(id string, flags itemFlags, value []byte) {
		output.PutGUID(entry, mustGUID(id))
		le.PutUint32(entry[0x10:], uint32(off))
		le.PutUint32(entry[0x14:], uint32(len(value)))
		le.PutUint32(entry[0x18:], uint32(flags))
		copy(b[off:], value)
		entry, off, count = entry[sizeEntry:], off+len(value), count+1
	}
	id := make([]byte, 16)
	output.PutGUID(id, m.DiskID)
	// Flags of the file parameters: neither fixed nor with a parent.
	add(itemFileParameters, itemRequired, le.AppendUint32(le.AppendUint32(nil, uint32(m.BlockSize)), 0))
	add(itemDiskSize, itemRequired|itemVirtualDisk, le.AppendUint64(nil, uint64(m.Size)))
	add(itemDiskID, itemRequired|itemVirtualDisk, id)
	add(itemLogicalSector, itemRequired|itemVirtualDisk, le.AppendUint32(nil, logicalSector))
	add(itemPhysicalSector, itemRequired|itemVirtualDisk, le.AppendUint32(nil, physicalSector))
	le.PutUint16(b[0x0a:], uint16(count))
}

// blockState is the state of a payload block in the low bits of an entry of the
// block allocation table (2.5.1.1). The offset in the file, a multiple of 1 MiB,
// is in the bits above.
type blockState uint64

const (
	// stateZero is a block that reads as zeros. The default of new files, 0, means
	// that the content is undefined. Hyper-V wants an offset of zero with it.
	stateZero    blockState = 2
	statePresent blockState = 6
)

// mustGUID parses one of the identifiers above.
func mustGUID(s string) partition.GUID {
	g, err := partition.ParseGUID(s)
	if err != nil {
		panic("vhdx: internal error: " + err.Error())
	}
	return g
}
