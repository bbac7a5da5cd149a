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
	// number of bytes done of all that img.Data(4 KiB) yields. It may be nil.
	Progress func(done int64)
}

// Write writes img to f, a new empty file, and makes it durable. The bytes are
// a function of the content of img and the options. The size of the disk is
// rounded up to a multiple of 512 bytes.
//
// An error of the file carries a class of package fault; f is then in no
// defined state, and has no header.
func Write(ctx context.Context, img *disk.Image, f *os.File, opt Options) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if img.Size() > MaxSize {
		return fault.New(fault.Unsupported, fmt.Errorf("vdi: a disk of %d bytes, more than %d", img.Size(), int64(MaxSize)), "")
	}
	out := output.NewFile(f)
	defer out.Stop()

	blocks := divUp(img.Size(), blockSize)
	h := header{
		MapOffset:  align,
		DataOffset: align + divUp(4*blocks, align)*align,
		Size:       divUp(img.Size(), sectorSize) * sectorSize,
		Blocks:     uint32(blocks),
		UUID:       output.Identifier(opt.UUID, "vdi"),
	}
	h.ModificationUUID = partition.DeriveGUID(h.UUID[:], "modification")

	zero := binary.LittleEndian.AppendUint32(nil, zeroBlock)
	table := bytes.Repeat(zero, int(blocks))
	err := output.Copy(ctx, img, out, func(off int64) (int64, error) {
		n := h.Allocated
		h.Allocated++
		binary.LittleEndian.PutUint32(table[4*(off/blockSize):], n)
		return h.DataOffset + int64(n)*blockSize, nil
	}, opt.Progress)
	if err != nil {
		return err
	}
	// The last block is whole.
	if err := out.Truncate(h.DataOffset + int64(h.Allocated)*blockSize); err != nil {
		return err
	}
	if _, err := out.WriteAt(table, h.MapOffset); err != nil {
		return err
	}
	b := make([]byte, sizePreheader+sizeHeader)
	h.encode(b)
	if _, err := out.WriteAt(b, 0); err != nil {
		return err
	}
	return out.Sync()
}

func divUp(n, d int64) int64 { return (n + d - 1) / d }

// A block is the unit that output.Copy asks for a place.
var _ [blockSize]byte = [output.CopyUnit]byte{}
