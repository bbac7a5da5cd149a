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

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/compressed"
	"imgbuild/formats/output"
	"imgbuild/formats/pieces"
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
	// Time is the modification time of the member, in whole seconds. Times before
	// 1970 become its beginning.
	Time time.Time
	// Progress is called now and then, from one goroutine at a time, with the
	// number of bytes done of all that img.Data(64 KiB) yields. It may be nil.
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
	w, err := NewWriter(img.Size(), f, opt)
	if err != nil {
		return err
	}
	return pieces.Write(ctx, img, []pieces.Format{w}, opt.Progress)
}

// NewWriter returns the Writer of a disk of size bytes, from pieces that other
// formats may be made of, too. It writes what [Write] does.
func NewWriter(size int64, f *os.File, opt Options) (*compressed.GzipWriter, error) {
	if size > MaxSize {
		return nil, fault.New(fault.Unsupported, fmt.Errorf("gce: a disk of %d bytes, more than %d", size, int64(MaxSize)), "")
	}
	whole := Size(size)
	head := output.TarHeader{Name: member, Size: whole, Modified: opt.Time.Unix(), OldGNU: true}
	return compressed.NewGzipWriter(f, head.Encode(), size, output.TarEnd(output.TarBlock+whole)-output.TarBlock-size)
}
