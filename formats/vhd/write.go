// Package vhd writes a virtual disk as a Virtual Hard Disk image, for Hyper-V,
// Azure and everything that reads "vpc" images.
//
// Specification: Microsoft, "Virtual Hard Disk Image Format Specification",
// version 1.0 (2006). Written are fixed disks, which are the bytes of the disk
// and a footer, and dynamic ones with blocks of 2 MiB; no differencing disks.
//
// A dynamic disk is
//
//	copy of the footer
//	dynamic disk header
//	block allocation table
//	blocks that are not zero, each with its bitmap ahead
//	footer
//
// The size of the disk is exact: it is not rounded up to a CHS geometry, as with
// the option force_size of qemu-img. It is a multiple of 512 bytes; Azure wants
// whole MiB, which is the business of the layout.
package vhd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/partition"
)

// Subformat is the kind of an image.
type Subformat int

const (
	Fixed   Subformat = iota // as long as the disk; what Azure takes
	Dynamic                  // without the blocks that are zero
)

func (s Subformat) String() string {
	switch s {
	case Fixed:
		return "fixed"
	case Dynamic:
		return "dynamic"
	}
	return fmt.Sprintf("subformat %d", int(s))
}

// ParseSubformat reads "fixed" or "dynamic". An error is of class fault.Usage.
func ParseSubformat(s string) (Subformat, error) {
	for _, f := range []Subformat{Fixed, Dynamic} {
		if s == f.String() {
			return f, nil
		}
	}
	return 0, fault.New(fault.Usage, fmt.Errorf("vhd: subformat %q is not known", s), "use fixed or dynamic")
}

// Options are the optional arguments of Write. The zero value is a fixed disk.
type Options struct {
	Subformat Subformat
	// UUID identifies the disk. Zero stands for one that all such disks share.
	UUID partition.GUID
	// Time is when the disk was made. Times before 2000 become its beginning.
	Time time.Time
	// Progress is called now and then, from one goroutine at a time, with the
	// number of bytes done of all that img.Data(4 KiB) yields. It may be nil.
	Progress func(done int64)
}

// Write writes img to f, a new empty file, and makes it durable. The bytes are
// a function of the content of img and the options. The size of the disk is
// rounded up to a multiple of 512 bytes.
//
// An error of the file carries a class of package fault; f is then in no
// defined state, and has no footer.
func Write(ctx context.Context, img *disk.Image, f *os.File, opt Options) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if opt.Subformat != Fixed && opt.Subformat != Dynamic {
		return fault.New(fault.Usage, fmt.Errorf("vhd: %v is not known", opt.Subformat), "use fixed or dynamic")
	}
	if img.Size() > MaxSize {
		return fault.New(fault.Unsupported, fmt.Errorf("vhd: a disk of %d bytes, more than the %d of the format", img.Size(), int64(MaxSize)), "use vhdx")
	}
	out := output.NewFile(f)
	defer out.Stop()

	opt.UUID = output.Identifier(opt.UUID, "vhd")
	write := writeFixed
	if opt.Subformat == Dynamic {
		write = writeDynamic
	}
	if err := write(ctx, img, out, opt); err != nil {
		return err
	}
	return out.Sync()
}

// size returns the size of the disk as the image has it.
func size(img *disk.Image) int64 { return divUp(img.Size(), sectorSize) * sectorSize }

func writeFixed(ctx context.Context, img *disk.Image, out *output.File, opt Options) error {
	// Without the footer: a file that stays incomplete is no image.
	if err := out.Truncate(size(img)); err != nil {
		return err
	}
	place := func(off int64) (int64, error) { return off, nil }
	if err := output.Copy(ctx, img, out, place, opt.Progress); err != nil {
		return err
	}
	foot := footer{
		DataOffset: none,
		Time:       timestamp(opt.Time),
		Size:       size(img),
		Type:       typeFixed,
		UUID:       opt.UUID,
	}
	b := make([]byte, sizeFooter)
	foot.encode(b)
	_, err := out.WriteAt(b, size(img))
	return err
}

func writeDynamic(ctx context.Context, img *disk.Image, out *output.File, opt Options) error {
	const tableOffset = sizeFooter + sizeHeader
	blocks := int(divUp(img.Size(), blockSize))
	table := bytes.Repeat([]byte{0xff}, int(divUp(int64(blocks)*4, sectorSize)*sectorSize))

	// All sectors of a block count as written: they are, some with zeros.
	bitmap := bytes.Repeat([]byte{0xff}, sizeBitmap)
	end := int64(tableOffset + len(table))
	last, lastAt := int64(-1), int64(0) // the block that was added last
	err := output.Copy(ctx, img, out, func(off int64) (int64, error) {
		if block := off / blockSize; block != last {
			if _, err := out.WriteAt(bitmap, end); err != nil {
				return 0, err
			}
			binary.BigEndian.PutUint32(table[4*block:], uint32(end/sectorSize))
			last, lastAt = block, end+sizeBitmap
			end = lastAt + blockSize
		}
		return lastAt + off%blockSize, nil
	}, opt.Progress)
	if err != nil {
		return err
	}

	foot := footer{
		DataOffset: sizeFooter,
		Time:       timestamp(opt.Time),
		Size:       size(img),
		Type:       typeDynamic,
		UUID:       opt.UUID,
	}
	head := header{TableOffset: tableOffset, Blocks: blocks}
	b := make([]byte, tableOffset)
	foot.encode(b)
	head.encode(b[sizeFooter:])
	if _, err := out.WriteAt(b[:sizeFooter], end); err != nil {
		return err
	}
	_, err = out.WriteAt(append(b, table...), 0)
	return err
}

func divUp(n, d int64) int64 { return (n + d - 1) / d }
