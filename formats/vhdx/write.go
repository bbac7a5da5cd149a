// Package vhdx writes a virtual disk as a Virtual Hard Disk v2 image, the format
// of Hyper-V.
//
// Specification: Microsoft, [MS-VHDX]; sections are given with the
// structures. Written is a dynamic disk with logical sectors of 512 bytes and
// physical ones of 4 KiB, as Hyper-V makes them; no fixed and no differencing
// disks, no user metadata.
//
//	0      file type identifier, two headers, two region tables
//	1 MiB  log, which is empty
//	2 MiB  metadata
//	3 MiB  block allocation table
//	       blocks that are not zero
package vhdx

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/formats/pieces"
	"imgbuild/partition"
)

const (
	logicalSector  = 512
	physicalSector = 4 << 10
)

// MaxSize is the largest disk in bytes that the format holds.
const MaxSize = 64 << 40

const (
	// minBlock is the smallest block, and what Microsoft recommends for Linux:
	// ext4 spreads small writes over the disk, each of which allocates a block.
	minBlock = 1 << 20
	// maxBlocks bounds the block allocation table to 8 MiB: disks above 1 TiB have
	// larger blocks, of 64 MiB in the end.
	maxBlocks = 1 << 20
	// chunkSectors is the number of sectors that an entry of the block allocation
	// table for a sector bitmap stands for. These entries, which only differencing
	// disks use, are between those of the blocks.
	chunkSectors = 1 << 23
)

// Options are the optional arguments of Write.
type Options struct {
	// UUID is the identifier that the disk shows to its system; others derive from
	// it. Zero stands for one that all such disks share.
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
// defined state, and has no headers.
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
	table *table
	meta  metadata
}

var _ pieces.Format = (*Writer)(nil)

// NewWriter returns the Writer of a disk of size bytes, which writes what [Write]
// does.
func NewWriter(size int64, f *os.File, opt Options) (*Writer, error) {
	if size == 0 {
		return nil, fault.New(fault.Unsupported, errors.New("vhdx: a disk of no bytes"), "")
	}
	if size > MaxSize {
		return nil, fault.New(fault.Unsupported, fmt.Errorf("vhdx: a disk of %d bytes, more than the %d of the format", size, int64(MaxSize)), "")
	}
	t := newTable(size)
	out := output.NewFile(f)
	return &Writer{pieces.NewCopier(out, t.place), out, t, metadata{
		BlockSize: t.blockSize,
		Size:      divUp(size, logicalSector) * logicalSector,
		DiskID:    output.Identifier(opt.UUID, "vhdx"),
	}}, nil
}

// Finish implements pieces.Format.
func (w *Writer) Finish(context.Context) error {
	// The last block is whole.
	if err := w.out.Truncate(w.table.end); err != nil {
		return err
	}
	if _, err := w.out.WriteAt(w.table.entries, offTable); err != nil {
		return err
	}
	b := make([]byte, sizeMetadata)
	w.meta.encode(b)
	if _, err := w.out.WriteAt(b, offMetadata); err != nil {
		return err
	}
	if _, err := w.out.WriteAt(headers(w.meta.DiskID, w.table.length), 0); err != nil {
		return err
	}
	return w.out.Sync()
}

// headers returns the header section of the disk with the identifier.
func headers(id partition.GUID, tableLength int64) []byte {
	b := make([]byte, sizeHeaders)
	encodeIdentifier(b)
	h := header{
		FileWriteGUID: partition.DeriveGUID(id[:], "file write"),
		DataWriteGUID: partition.DeriveGUID(id[:], "data write"),
	}
	for i, off := range [...]int{offHeader1, offHeader2} {
		h.Sequence = uint64(1 + i)
		h.encode(b[off:][:sizeHeader])
	}
	regions := []region{
		{regionTable, offTable, tableLength},
		{regionMetadata, offMetadata, sizeMetadata},
	}
	for _, off := range [...]int{offRegions1, offRegions2} {
		encodeRegions(b[off:][:sizeRegionTable], regions)
	}
	return b
}

// table is the block allocation table of a disk that is being written.
type table struct {
	blockSize int64
	ratio     int64 // entries of blocks between two entries of bitmaps
	entries   []byte
	length    int64 // of its region in bytes
	end       int64 // of the file
}

// newTable returns the table of a disk of size bytes, not zero, without data.
func newTable(size int64) *table {
	t := &table{blockSize: minBlock}
	for divUp(size, t.blockSize) > maxBlocks {
		t.blockSize *= 2
	}
	t.ratio = chunkSectors * logicalSector / t.blockSize
	blocks := divUp(size, t.blockSize)
	n := blocks + (blocks-1)/t.ratio
	t.entries = make([]byte, 8*n)
	for block := range blocks {
		binary.LittleEndian.PutUint64(t.entry(block), uint64(stateZero))
	}
	t.length = divUp(8*n, regionAlign) * regionAlign
	t.end = offTable + t.length
	return t
}

// entry returns the entry of a block.
func (t *table) entry(block int64) []byte { return t.entries[8*(block+block/t.ratio):] }

// place returns where in the file the byte off of the disk is, and adds its block
// where it is new. Blocks are asked for in ascending order.
func (t *table) place(off int64) (int64, error) {
	entry := t.entry(off / t.blockSize)
	if binary.LittleEndian.Uint64(entry) == uint64(stateZero) {
		binary.LittleEndian.PutUint64(entry, uint64(t.end)|uint64(statePresent))
		t.end += t.blockSize
	}
	return t.end - t.blockSize + off%t.blockSize, nil
}

func divUp(n, d int64) int64 { return (n + d - 1) / d }
