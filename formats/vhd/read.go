package vhd

import (
	"encoding/binary"
	"fmt"
	"strings"

	"imgbuild/formats/input"
)

// typeDifferencing is a disk that is only what differs from another one.
const typeDifferencing diskType = 4

// Blocks that are read.
const (
	minBlock = sectorSize
	maxBlock = 256 << 20
)

// Probe tells whether f, which begins with head, is of this format: a fixed disk
// has nothing but a footer at its end, and otherwise looks like a raw one.
func Probe(f *input.File, head []byte) bool {
	if strings.HasPrefix(string(head), footerCookie) {
		return true
	}
	b, err := f.Read(f.Size()-sizeFooter, sizeFooter)
	return err == nil && strings.HasPrefix(string(b), footerCookie) && sealed(b, 0x40)
}

// Open returns the disk in the file, which is not trusted: a fixed or dynamic one.
// Bitmaps of blocks are not read, as QEMU does not: what is not written is zero in
// a disk without a parent.
//
// Errors are of class fault.BadImage for what is damaged, and fault.Unsupported
// for differencing disks. More can come when the disk is read.
func Open(f *input.File) (*input.Disk, error) {
	foot, err := readFooter(f)
	if err != nil {
		return nil, err
	}
	switch foot.Type {
	case typeFixed:
		if foot.Size > f.Size()-sizeFooter {
			return nil, input.Bad("a disk of %d bytes in a file of %d", foot.Size, f.Size())
		}
		d := &input.Disk{Details: "fixed"}
		d.Image, err = input.New(f, foot.Size, plain(foot.Size))
		return d, err
	case typeDynamic:
		return openDynamic(f, foot)
	case typeDifferencing:
		return nil, input.Unsupported("merge it with its parent first", "a differencing disk, whose parent is not opened")
	}
	return nil, input.Bad("disk type %d", foot.Type)
}

// readFooter returns the footer, or where it is damaged the copy of it that a
// dynamic disk begins with.
func readFooter(f *input.File) (*footer, error) {
	var first error
	for _, off := range []int64{f.Size() - sizeFooter, 0} {
		b, err := f.Read(max(off, 0), sizeFooter)
		if err != nil {
			return nil, err
		}
		foot, err := decodeFooter(b)
		if err == nil && off == 0 && foot.Type == typeFixed {
			err = input.Bad("a fixed disk without a footer: the file is incomplete")
		}
		if err == nil {
			return foot, nil
		}
		if first == nil || first == input.ErrFormat {
			first = err
		}
	}
	return nil, first
}

func decodeFooter(b []byte) (*footer, error) {
	be := binary.BigEndian
	if string(b[:len(footerCookie)]) != footerCookie {
		return nil, input.ErrFormat
	}
	if !sealed(b, 0x40) {
		return nil, input.Bad("the footer has a wrong checksum")
	}
	if v := be.Uint32(b[0x0c:]); v>>16 != formatVersion>>16 {
		return nil, input.Unsupported("", "version %d.%d", v>>16, v&0xffff)
	}
	f := &footer{
		DataOffset: be.Uint64(b[0x10:]),
		Size:       int64(be.Uint64(b[0x30:])),
		Type:       diskType(be.Uint32(b[0x3c:])),
	}
	// Virtual PC itself makes a disk of its geometry, which is smaller than the
	// size by a part of a cylinder. All other programs use the size.
	geometry := int64(be.Uint16(b[0x38:])) * int64(b[0x3a]) * int64(b[0x3b])
	if string(b[0x1c:0x20]) == "vpc " && geometry != cylinders*heads*sectors {
		f.Size = geometry * sectorSize
	}
	if f.Size < 0 || f.Size > MaxSize || f.Size%sectorSize != 0 {
		return nil, input.Bad("a disk of %d bytes", uint64(f.Size))
	}
	return f, nil
}

// sealed tells whether the checksum at the offset of a structure is right.
func sealed(b []byte, at int) bool {
	want := binary.BigEndian.Uint32(b[at:])
	copied := append([]byte{}, b...)
	clear(copied[at : at+4])
	return checksum(copied) == want
}

// plain is a disk that is the file, up to a size.
type plain int64

// Map implements input.Mapper.
func (p plain) Map(off int64) (input.Run, error) {
	return input.Run{Kind: input.Plain, Size: int64(p) - off, Off: off}, nil
}

// Unpack implements input.Mapper.
func (p plain) Unpack([]byte, int64) error { panic("vhd: internal error: nothing is packed") }

// dynamic is a dynamic disk that is read.
type dynamic struct {
	plain
	table  *input.Table
	block  int64 // bytes
	bitmap int64 // bytes ahead of each block
	blocks int64
}

var _ input.Mapper = (*dynamic)(nil)

func openDynamic(f *input.File, foot *footer) (*input.Disk, error) {
	be := binary.BigEndian
	if foot.DataOffset > uint64(f.Size()) {
		return nil, input.Bad("the header is at %d, beyond the file", foot.DataOffset)
	}
	b, err := f.Read(int64(foot.DataOffset), sizeHeader)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if string(b[:8]) != headerCookie || !sealed(b, 0x24) {
		return nil, input.Bad("the header at %d has no name or a wrong checksum", foot.DataOffset)
	}
	d := &dynamic{block: int64(be.Uint32(b[0x20:])), blocks: int64(be.Uint32(b[0x1c:]))}
	offset := be.Uint64(b[0x10:])
	switch {
	case d.block < minBlock || d.block > maxBlock || d.block&(d.block-1) != 0:
		return nil, input.Bad("blocks of %d bytes", d.block)
	case d.blocks < divUp(foot.Size, d.block):
		return nil, input.Bad("%d blocks of %d bytes, for a disk of %d", d.blocks, d.block, foot.Size)
	case offset > uint64(f.Size()):
		return nil, input.Bad("the table is at %d, beyond the file", offset)
	}
	d.blocks = divUp(foot.Size, d.block)
	d.bitmap = divUp(d.block/sectorSize, 8*sectorSize) * sectorSize
	if d.table, err = input.NewTable(f, int64(offset), d.blocks, 4); err != nil {
		return nil, fmt.Errorf("block allocation table: %w", err)
	}
	disk := &input.Disk{Details: fmt.Sprintf("dynamic, blocks of %d KiB", d.block>>10)}
	disk.Image, err = input.New(f, foot.Size, d)
	return disk, err
}

// Map implements input.Mapper.
func (d *dynamic) Map(off int64) (input.Run, error) {
	number, inner := off/d.block, off%d.block
	if number >= d.blocks {
		return input.Run{}, input.Bad("beyond the block allocation table")
	}
	b, err := d.table.Entry(number)
	if err != nil {
		return input.Run{}, err
	}
	run := input.Run{Size: d.block - inner}
	if at := binary.BigEndian.Uint32(b); at != unallocated {
		run.Kind, run.Off = input.Plain, int64(at)*sectorSize+d.bitmap+inner
	}
	return run, nil
}
