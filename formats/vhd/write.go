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
	"imgbuild/formats/pieces"
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
	// number of bytes done of all that img.Data(64 KiB) yields. It may be nil.
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
	w, err := NewWriter(img.Size(), f, opt)
	if err != nil {
		return err
	}
	return pieces.Write(ctx, img, []pieces.Format{w}, opt.Progress)
}

// NewWriter returns what writes a disk of size bytes from pieces that other formats
// may be made of, too. It writes what [Write] does.
func NewWriter(size int64, f *os.File, opt Options) (pieces.Format, error) {
	if opt.Subformat != Fixed && opt.Subformat != Dynamic {
		return nil, fault.New(fault.Usage, fmt.Errorf("vhd: %v is not known", opt.Subformat), "use fixed or dynamic")
	}
	if size > MaxSize {
		return nil, fault.New(fault.Unsupported, fmt.Errorf("vhd: a disk of %d bytes, more than the %d of the format", size, int64(MaxSize)), "use vhdx")
	}
	foot := footer{
		DataOffset: none,
		Time:       timestamp(opt.Time),
		Size:       divUp(size, sectorSize) * sectorSize,
		Type:       typeFixed,
		UUID:       output.Identifier(opt.UUID, "vhd"),
	}
	out := output.NewFile(f)
	if opt.Subformat == Dynamic {
		foot.DataOffset, foot.Type = sizeFooter, typeDynamic
		return newDynamic(size, out, foot), nil
	}
	// Without the footer: a file that stays incomplete is no image.
	if err := out.Truncate(foot.Size); err != nil {
		out.Stop()
		return nil, err
	}
	place := func(off int64) (int64, error) { return off, nil }
	return &fixedWriter{pieces.NewCopier(out, place), out, foot}, nil
}

// fixedWriter writes a fixed disk.
type fixedWriter struct {
	*pieces.Copier
	out  *output.File
	foot footer
}

// Finish implements pieces.Format.
func (w *fixedWriter) Finish(context.Context) error {
	b := make([]byte, sizeFooter)
	w.foot.encode(b)
	if _, err := w.out.WriteAt(b, w.foot.Size); err != nil {
		return err
	}
	return w.out.Sync()
}

// tableOffset is where the block allocation table of a dynamic disk begins.
const tableOffset = sizeFooter + sizeHeader

// dynamicWriter writes a dynamic disk.
type dynamicWriter struct {
	*pieces.Copier
	out    *output.File
	foot   footer
	blocks int
	table  []byte
	bitmap []byte // of every block
	end    int64  // of the file
	last   int64  // the block that was added last, or -1
	lastAt int64  // where its data begins
}

func newDynamic(size int64, out *output.File, foot footer) *dynamicWriter {
	blocks := int(divUp(size, blockSize))
	w := &dynamicWriter{
		out: out, foot: foot, blocks: blocks, last: -1,
		table: bytes.Repeat([]byte{0xff}, int(divUp(int64(blocks)*4, sectorSize)*sectorSize)),
		// All sectors of a block count as written: they are, some with zeros.
		bitmap: bytes.Repeat([]byte{0xff}, sizeBitmap),
	}
	w.end = int64(tableOffset + len(w.table))
	w.Copier = pieces.NewCopier(out, w.place)
	return w
}

// place returns where in the file the byte off of the disk is, and adds its block
// where it is new.
func (w *dynamicWriter) place(off int64) (int64, error) {
	if block := off / blockSize; block != w.last {
		if _, err := w.out.WriteAt(w.bitmap, w.end); err != nil {
			return 0, err
		}
		binary.BigEndian.PutUint32(w.table[4*block:], uint32(w.end/sectorSize))
		w.last, w.lastAt = block, w.end+sizeBitmap
		w.end = w.lastAt + blockSize
	}
	return w.lastAt + off%blockSize, nil
}

// Finish implements pieces.Format.
func (w *dynamicWriter) Finish(context.Context) error {
	head := header{TableOffset: tableOffset, Blocks: w.blocks}
	b := make([]byte, tableOffset)
	w.foot.encode(b)
	head.encode(b[sizeFooter:])
	if _, err := w.out.WriteAt(b[:sizeFooter], w.end); err != nil {
		return err
	}
	if _, err := w.out.WriteAt(append(b, w.table...), 0); err != nil {
		return err
	}
	return w.out.Sync()
}

func divUp(n, d int64) int64 { return (n + d - 1) / d }
