// Package gce writes a virtual disk as an archive that Google Compute Engine
// imports: a tar with one member, disk.raw, compressed with gzip.
//
// Specification: Google, "Requirements to manually import disk images": the tar
// is of the old GNU format, the disk a whole number of GiB. The header is that of
// GNU tar with --format=oldgnu, the compression that of package compressed. The
// member is not marked as sparse.
package gce

import (
	"context"
	"fmt"
	"os"
	"time"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/compressed"
	"imgbuild/formats/output"
)

const (
	member = "disk.raw"
	// sizeUnit is what the size of the disk must be a multiple of.
	sizeUnit = 1 << 30
)

// MaxSize is the largest disk in bytes that Compute Engine has.
const MaxSize = 64 << 40

// Options are the optional arguments of Write.
type Options struct {
	// Level is the level of gzip from 1 to 9, or 0 for its default.
	Level int
	// Time is the modification time of the member, in whole seconds. Times before
	// 1970 become its beginning.
	Time time.Time
	// Progress is called now and then, from one goroutine at a time, with the
	// number of bytes done of about all that img.Data(1 MiB) yields. It may be
	// nil.
	Progress func(done int64)
}

// Size returns the size in bytes of the disk that Write makes of one of size
// bytes. A backup GPT is then not at the end of the disk, as on every disk that is
// made larger than its image.
func Size(size int64) int64 { return (size + sizeUnit - 1) / sizeUnit * sizeUnit }

// Write writes img to f, a new empty file, and makes it durable. The bytes are
// a function of the content of img and the options. The size of the disk is
// rounded up to a multiple of 1 GiB.
//
// An error of the file carries a class of package fault; f is then in no
// defined state, and no whole gzip member.
func Write(ctx context.Context, img *disk.Image, f *os.File, opt Options) error {
	if img.Size() > MaxSize {
		return fault.New(fault.Unsupported, fmt.Errorf("gce: a disk of %d bytes, more than %d", img.Size(), int64(MaxSize)), "")
	}
	archive, err := archive(img, opt.Time)
	if err != nil {
		return err
	}
	return compressed.Write(ctx, archive, f, compressed.Options{
		Compression: compressed.Gzip,
		Level:       opt.Level,
		Progress:    opt.Progress,
	})
}

// archive returns the tar as a disk of its own: the header, the extents of img
// behind it, and zeros.
func archive(img *disk.Image, modified time.Time) (*disk.Image, error) {
	size := Size(img.Size())
	head := output.TarHeader{Name: member, Size: size, Modified: modified.Unix(), OldGNU: true}
	return disk.Compose(output.TarEnd(output.TarBlock+size), []disk.Part{
		{Off: 0, Size: output.TarBlock, Extents: []disk.Extent{{Data: content.Bytes(head.Encode())}}},
		{Off: output.TarBlock, Size: size, Extents: img.Extents()},
	})
}
