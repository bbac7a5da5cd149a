package vhdx

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"imgbuild/formats/input"
	"imgbuild/formats/output"
)

const fileIdentifier = "vhdxfile"

// Limits of what is read.
const (
	maxEntries   = 2047 // of the region and the metadata table
	maxRegion    = 1 << 30
	minBlockRead = 1 << 20
	maxBlockRead = 256 << 20
)

// Further states of payload blocks (2.5.1.1).
const (
	stateNotPresent       blockState = 0
	stateUndefined        blockState = 1
	stateUnmapped         blockState = 3
	stateUnmappedV1       blockState = 5
	statePartiallyPresent blockState = 7
)

// logSector is the alignment of entries in the log, and logSignature what each
// begins with (2.3.1.1).
const (
	logSector    = 4 << 10
	logSignature = "loge"
	maxLog       = 64 << 20
)

// Probe tells whether a file that begins with b is of this format.
func Probe(b []byte) bool { return bytes.HasPrefix(b, []byte(fileIdentifier)) }

// Open returns the disk in the file, which is not trusted: a dynamic or fixed one.
//
// Errors are of class fault.BadImage for what is damaged, and fault.Unsupported
// for differencing disks, and for a log with changes that were not applied. More
// can come when the disk is read.
func Open(f *input.File) (*input.Disk, error) {
	b, err := f.Read(0, int64(len(fileIdentifier)))
	if err != nil {
		return nil, err
	}
	if !Probe(b) {
		return nil, input.ErrFormat
	}
	if err := checkHeaders(f); err != nil {
		return nil, err
	}
	regions, err := readRegions(f)
	if err != nil {
		return nil, err
	}
	r, err := readMetadata(f, regions[regionMetadata])
	if err != nil {
		return nil, err
	}
	r.ratio = chunkSectors * r.sector / r.block
	r.blocks = divUp(r.size, r.block)
	entries := r.blocks
	if r.blocks > 0 {
		entries += (r.blocks - 1) / r.ratio
	}
	at := regions[regionTable]
	if entries > at.length/8 {
		return nil, input.Bad("a block allocation table of %d bytes, a disk of %d bytes needs %d entries", at.length, r.size, entries)
	}
	if r.table, err = input.NewTable(f, at.off, entries, 8); err != nil {
		return nil, fmt.Errorf("block allocation table: %w", err)
	}
	d := &input.Disk{Details: fmt.Sprintf("dynamic, blocks of %d MiB", r.block>>20)}
	if r.fixed {
		d.Details = "fixed"
	}
	if r.sector != logicalSector {
		d.Notes = append(d.Notes, fmt.Sprintf("it has sectors of %d bytes, which only some formats and machines know: a partition table is not found where they are of 512", r.sector))
	}
	d.Image, err = input.New(f, r.size, r)
	return d, err
}

// checkHeaders checks that there is a header (2.2.2), and that there is nothing in
// the log which would have to be applied first.
func checkHeaders(f *input.File) error {
	le := binary.LittleEndian
	var current []byte
	for _, off := range []int64{offHeader1, offHeader2} {
		b, err := f.Read(off, sizeHeader)
		if err != nil {
			return err
		}
		if string(b[:4]) == "head" && sealed(b) && (current == nil || le.Uint64(b[8:]) > le.Uint64(current[8:])) {
			current = b
		}
	}
	if current == nil {
		return input.Bad("no header with a right checksum")
	}
	if v := le.Uint16(current[0x42:]); v != 1 {
		return input.Unsupported("", "version %d", v)
	}
	id := current[0x30:0x40]
	if bytes.Equal(id, make([]byte, 16)) {
		return nil
	}
	length, off := int64(le.Uint32(current[0x44:])), le.Uint64(current[0x48:])
	if length > maxLog || off > uint64(f.Size()) {
		return input.Bad("a log of %d bytes at %d", length, off)
	}
	for pos := int64(0); pos+logSector <= length; pos += logSector {
		b, err := f.Read(int64(off)+pos, 64)
		if err != nil {
			return fmt.Errorf("log: %w", err)
		}
		// The identifier of the log that an entry belongs to is at 0x20.
		if string(b[:4]) == logSignature && bytes.Equal(b[0x20:0x30], id) {
			return input.Unsupported("attach it once with Hyper-V, or repair it with qemu-img check -r all",
				"the log has changes that were not applied: the disk was not detached properly")
		}
	}
	return nil
}

// sealed tells whether the checksum of a structure is right.
func sealed(b []byte) bool {
	want := binary.LittleEndian.Uint32(b[4:])
	zeroed := bytes.Clone(b)
	clear(zeroed[4:8])
	return crc32.Checksum(zeroed, castagnoli) == want
}

// readRegions returns the regions of the first table that is whole (2.2.3).
func readRegions(f *input.File) (map[string]region, error) {
	var first error
	for _, off := range []int64{offRegions1, offRegions2} {
		b, err := f.Read(off, sizeRegionTable)
		if err != nil {
			return nil, err
		}
		regions, err := decodeRegions(b)
		if err == nil {
			return regions, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func decodeRegions(b []byte) (map[string]region, error) {
	const sizeHead, sizeEntry = 16, 32
	le := binary.LittleEndian
	if string(b[:4]) != "regi" || !sealed(b) {
		return nil, input.Bad("no region table with a right checksum")
	}
	count := le.Uint32(b[8:])
	if count > maxEntries {
		return nil, input.Bad("a region table of %d entries", count)
	}
	regions := map[string]region{}
	for i := range int(count) {
		e := b[sizeHead+i*sizeEntry:]
		id := output.GetGUID(e).String()
		switch id {
		case regionTable, regionMetadata:
			off, length := le.Uint64(e[0x10:]), int64(le.Uint32(e[0x18:]))
			if off >= 1<<62 || length > maxRegion {
				return nil, input.Bad("a region of %d bytes at %d", length, off)
			}
			regions[id] = region{id, int64(off), length}
		default:
			if le.Uint32(e[0x1c:])&1 != 0 {
				return nil, input.Unsupported("", "the unknown region %s, which must be known", id)
			}
		}
	}
	if len(regions) != 2 {
		return nil, input.Bad("no region for the block allocation table or the metadata")
	}
	return regions, nil
}

// itemParent is the metadata item that says where a parent is (2.6.2.6).
const itemParent = "a8d35f2d-b30b-454d-abf7-d3d84834ab0c"

// Flags of the file parameters (2.6.2.1).
const (
	parametersFixed  = 1 << 0
	parametersParent = 1 << 1
)

// readMetadata returns what the metadata say of the disk (2.6).
func readMetadata(f *input.File, at region) (*reader, error) {
	const sizeHead, sizeEntry = 32, 32
	const sizeTable = 64 << 10
	le := binary.LittleEndian
	b, err := f.Read(at.off, min(at.length, sizeTable))
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if len(b) < sizeTable || string(b[:8]) != "metadata" {
		return nil, input.Bad("no metadata table")
	}
	count := le.Uint16(b[0x0a:])
	if count > maxEntries {
		return nil, input.Bad("a metadata table of %d entries", count)
	}
	values := map[string][]byte{}
	for i := range int(count) {
		e := b[sizeHead+i*sizeEntry:]
		id := output.GetGUID(e).String()
		length, known := itemLengths()[id]
		switch {
		case !known && itemFlags(le.Uint32(e[0x18:]))&itemRequired != 0:
			return nil, input.Unsupported("", "the unknown metadata item %s, which must be known", id)
		case !known || length == 0:
			continue
		}
		off := int64(le.Uint32(e[0x10:]))
		if off > at.length-length || int64(le.Uint32(e[0x14:])) < length {
			return nil, input.Bad("metadata item %s is outside its region or too short", id)
		}
		if values[id], err = f.Read(at.off+off, length); err != nil {
			return nil, fmt.Errorf("metadata item %s: %w", id, err)
		}
	}
	for _, id := range []string{itemFileParameters, itemDiskSize, itemLogicalSector} {
		if values[id] == nil {
			return nil, input.Bad("no metadata item %s", id)
		}
	}
	flags := le.Uint32(values[itemFileParameters][4:])
	if flags&parametersParent != 0 {
		return nil, input.Unsupported("merge it with its parent first", "a differencing disk, whose parent is not opened")
	}
	r := &reader{
		block: int64(le.Uint32(values[itemFileParameters])), fixed: flags&parametersFixed != 0,
		size: int64(le.Uint64(values[itemDiskSize])), sector: int64(le.Uint32(values[itemLogicalSector])),
	}
	return r, r.check()
}

// itemLengths returns the lengths of the metadata items that are read, in bytes,
// and 0 for those that are only known.
func itemLengths() map[string]int64 {
	return map[string]int64{
		itemFileParameters: 8, itemDiskSize: 8, itemLogicalSector: 4, itemPhysicalSector: 0, itemDiskID: 0, itemParent: 0,
	}
}

func (r *reader) check() error {
	switch {
	case r.sector != 512 && r.sector != 4096:
		return input.Bad("sectors of %d bytes", r.sector)
	case r.block < minBlockRead || r.block > maxBlockRead || r.block&(r.block-1) != 0:
		return input.Bad("blocks of %d bytes", r.block)
	case r.size < 0 || r.size > MaxSize || r.size%r.sector != 0:
		return input.Bad("a disk of %d bytes", uint64(r.size))
	}
	return nil
}

// reader is a disk that is read.
type reader struct {
	table  *input.Table
	block  int64 // bytes
	size   int64 // of the disk in bytes
	sector int64 // bytes
	ratio  int64 // entries of blocks between two entries of bitmaps
	blocks int64
	fixed  bool
}

var _ input.Mapper = (*reader)(nil)

// Map implements input.Mapper.
func (r *reader) Map(off int64) (input.Run, error) {
	number, inner := off/r.block, off%r.block
	if number >= r.blocks {
		return input.Run{}, input.Bad("beyond the block allocation table")
	}
	b, err := r.table.Entry(number + number/r.ratio)
	if err != nil {
		return input.Run{}, err
	}
	run := input.Run{Size: r.block - inner}
	entry := binary.LittleEndian.Uint64(b)
	switch state := blockState(entry & 7); state {
	case statePresent:
		at := entry &^ (regionAlign - 1)
		if at > 1<<62 {
			return run, input.Bad("a block at %d of the file", at)
		}
		run.Kind, run.Off = input.Plain, int64(at)+inner
		return run, nil
	case stateNotPresent, stateUndefined, stateZero, stateUnmapped, stateUnmappedV1:
		// Undefined content may be anything; zeros are.
		return run, nil
	case statePartiallyPresent:
		return run, input.Bad("a block that is partly in a parent, of a disk without one")
	default:
		return run, input.Bad("a block in state %d", state)
	}
}

// Unpack implements input.Mapper.
func (r *reader) Unpack([]byte, int64) error { panic("vhdx: internal error: nothing is packed") }
