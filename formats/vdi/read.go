package vdi

import (
	"encoding/binary"
	"fmt"

	"imgbuild/formats/input"
)

// Types of images that are read.
const (
	typeFixed = 2
	typeDiff  = 4
)

// freeBlock is the map entry of a block that was never written.
const freeBlock = 0xffffffff

// Limits of what is read.
const (
	minBlock = sectorSize
	maxBlock = 256 << 20
)

// Probe tells whether a file that begins with b is of this format.
func Probe(b []byte) bool {
	return len(b) >= 0x48 && binary.LittleEndian.Uint32(b[0x40:]) == signature
}

// Open returns the disk in the file, which is not trusted: a dynamically growing
// or a fixed image of version 1.1.
//
// Errors are of class fault.BadImage for what is damaged, and fault.Unsupported
// for differencing images and other versions. More can come when the disk is read.
func Open(f *input.File) (*input.Disk, error) {
	b, err := f.Read(0, sizePreheader+sizeHeader)
	if err != nil {
		return nil, err
	}
	if !Probe(b) {
		return nil, input.ErrFormat
	}
	le := binary.LittleEndian
	if v := le.Uint32(b[0x44:]); v != version {
		return nil, input.Unsupported("open and save it with VirtualBox", "version %d.%d", v>>16, v&0xffff)
	}
	kind := le.Uint32(b[0x4c:])
	switch kind {
	case typeNormal, typeFixed:
	case typeDiff:
		return nil, input.Unsupported("merge it with its parent first", "a differencing image, whose parent is not opened")
	default:
		return nil, input.Unsupported("", "image type %d", kind)
	}
	r := &reader{
		data: int64(le.Uint32(b[0x158:])), size: int64(le.Uint64(b[0x170:])),
		block: int64(le.Uint32(b[0x178:])), extra: int64(le.Uint32(b[0x17c:])), blocks: int64(le.Uint32(b[0x180:])),
	}
	switch {
	case r.size < 0 || r.size%sectorSize != 0:
		return nil, input.Bad("a disk of %d bytes", uint64(r.size))
	case r.block < minBlock || r.block > maxBlock || r.block&(r.block-1) != 0:
		return nil, input.Bad("blocks of %d bytes", r.block)
	case r.extra > maxBlock:
		return nil, input.Bad("%d bytes ahead of each block", r.extra)
	case r.blocks < divUp(r.size, r.block):
		return nil, input.Bad("%d blocks of %d bytes, for a disk of %d", r.blocks, r.block, r.size)
	}
	r.blocks = divUp(r.size, r.block)
	if r.table, err = input.NewTable(f, int64(le.Uint32(b[0x154:])), r.blocks, 4); err != nil {
		return nil, fmt.Errorf("block map: %w", err)
	}
	d := &input.Disk{Details: "dynamic"}
	if kind == typeFixed {
		d.Details = "fixed"
	}
	d.Image, err = input.New(f, r.size, r)
	return d, err
}

// reader is an image that is read.
type reader struct {
	table  *input.Table
	data   int64 // offset of the first block
	size   int64 // of the disk in bytes
	block  int64 // bytes
	extra  int64 // bytes ahead of each block
	blocks int64
}

var _ input.Mapper = (*reader)(nil)

// Map implements input.Mapper.
func (r *reader) Map(off int64) (input.Run, error) {
	number, inner := off/r.block, off%r.block
	if number >= r.blocks {
		return input.Run{}, input.Bad("beyond the block map")
	}
	b, err := r.table.Entry(number)
	if err != nil {
		return input.Run{}, err
	}
	run := input.Run{Size: r.block - inner}
	if at := binary.LittleEndian.Uint32(b); at != freeBlock && at != zeroBlock {
		run.Kind, run.Off = input.Plain, r.data+int64(at)*(r.block+r.extra)+r.extra+inner
	}
	return run, nil
}

// Unpack implements input.Mapper.
func (r *reader) Unpack([]byte, int64) error { panic("vdi: internal error: nothing is packed") }
