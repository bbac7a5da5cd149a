// Package vdi writes a virtual disk as a VirtualBox disk image.
//
// There is no specification but the source of VirtualBox, VDICore.h and VDI.cpp:
// written is version 1.1 with the header of 400 bytes, a dynamically growing base
// image with blocks of 1 MiB. As VirtualBox lays it out, the block map and the
// data begin at multiples of 1 MiB:
//
//	header
//	block map
//	blocks that are not zero
package vdi

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/formats/pieces"
	"imgbuild/partition"
)

const (
	sectorSize = 512
	blockSize  = 1 << 20
	// align is the alignment of block map and data, VDI_DATA_ALIGN.
	align = 1 << 20
)

// MaxSize is the largest disk in bytes. The block map, which all programs that
// open the image keep in memory, is 256 MiB then; the format and QEMU would go on
// to nearly 1 PiB.
const MaxSize = 64 << 40

// zeroBlock is the map entry of a block that reads as zeros. The other one
// without data, 0xffffffff, reads as anything, though in fact all readers return
// zeros there, too.
const zeroBlock = 0xfffffffe

// Options are the optional arguments of Write.
type Options struct {
	// UUID identifies the image: VirtualBox registers each identifier once. Zero
	// stands for one that all such disks share.
	UUID partition.GUID
	// Progress is called now and then, from one goroutine at a time, with the
	// number of bytes done of all that img.Data(64 KiB) yields. It may be nil.
	Progress func(done int64)
}

// Write writes img to f, a new empty file, and makes it durable. The bytes are
// a function of the content of img and the options. The size of the disk is
// rounded up to a multiple of 512 bytes.
//
// An error of the file carries a class of package fault; f is then in no
// defined state, and has no header.
func Write(ctx context.Context, img *disk.Image, f *os.File, opt Options) error {
	w, err := NewWriter(img.Size(), f, opt)
	if err != nil {
		return err
	}
	return pieces.Write(ctx, img, []pieces.Format{w}, opt.Progress)
}

// Writer writes an image from pieces that other formats may be made of, too.
type Writer struct {
	*pieces.Copier
	out   *output.File
	head  header
	table []byte // the block map
}

var _ pieces.Format = (*Writer)(nil)

// NewWriter returns the Writer of a disk of size bytes, which writes what [Write]
// does.
func NewWriter(size int64, f *os.File, opt Options) (*Writer, error) {
	if size > MaxSize {
		return nil, fault.New(fault.Unsupported, fmt.Errorf("vdi: a disk of %d bytes, more than %d", size, int64(MaxSize)), "")
	}
	blocks := divUp(size, blockSize)
	w := &Writer{out: output.NewFile(f), head: header{
		MapOffset:  align,
		DataOffset: align + divUp(4*blocks, align)*align,
		Size:       divUp(size, sectorSize) * sectorSize,
		Blocks:     uint32(blocks),
		UUID:       output.Identifier(opt.UUID, "vdi"),
	}}
	w.head.ModificationUUID = partition.DeriveGUID(w.head.UUID[:], "modification")
	w.table = bytes.Repeat(binary.LittleEndian.AppendUint32(nil, zeroBlock), int(blocks))
	w.Copier = pieces.NewCopier(w.out, w.place)
	return w, nil
}

// place adds the block at the byte off of the disk.
func (w *Writer) place(off int64) (int64, error) {
	n := w.head.Allocated
	w.head.Allocated++
	binary.LittleEndian.PutUint32(w.table[4*(off/blockSize):], n)
	return w.head.DataOffset + int64(n)*blockSize, nil
}

// Finish implements pieces.Format.
func (w *Writer) Finish(context.Context) error {
	// The last block is whole.
	if err := w.out.Truncate(w.head.DataOffset + int64(w.head.Allocated)*blockSize); err != nil {
		return err
	}
	if _, err := w.out.WriteAt(w.table, w.head.MapOffset); err != nil {
		return err
	}
	b := make([]byte, sizePreheader+sizeHeader)
	w.head.encode(b)
	if _, err := w.out.WriteAt(b, 0); err != nil {
		return err
	}
	return w.out.Sync()
}

func divUp(n, d int64) int64 { return (n + d - 1) / d }

// A block is the unit that a Copier asks for a place.
var _ [blockSize]byte = [pieces.CopyUnit]byte{}
