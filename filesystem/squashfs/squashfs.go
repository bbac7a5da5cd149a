// Package squashfs writes squashfs images: compressed, read-only file systems.
//
// The format is squashfs 4.0, little-endian, as of fs/squashfs of Linux and of
// squashfs-tools 4, whose mksquashfs is the model for what is stored in which
// way. Written are all types of files, hard links, extended attributes (each set
// once, large values once), fragments, sparse blocks, files of the same content
// once, directory indexes and the table for NFS, compressed with zstd, gzip or xz
// or not at all. Linux reads zstd since 4.14. Not written are lzo, lz4 and lzma,
// filters of xz, and what squashfs cannot hold: access control lists, inode flags
// and times behind 2106.
//
// The order of the image is: superblock, options of the compressor, content in
// the order of the tree, then the tables of inodes, directories, fragments,
// inode numbers, owners and attributes. The image is the same however many
// processors compress.
package squashfs

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/bits"

	"imgbuild/fault"
	"imgbuild/tree"
)

// Options are the parameters of an image. The zero value is one as mksquashfs
// -comp zstd makes it, made in 1970.
type Options struct {
	Compression Compression

	// BlockSize is how many bytes are compressed together: a power of two from
	// 4 KiB to 1 MiB. 0 is 128 KiB. Larger blocks compress better and cost
	// readers time.
	BlockSize int

	// TailEnds packs the ends of files that are larger than a block together as
	// well, and not only whole files that are smaller.
	TailEnds bool

	Time int64 // seconds since 1970: when the image was made

	// Progress, which may be nil, is told of bytes of content that are done.
	Progress func(n int64)
}

// Result says what was written.
type Result struct {
	Size       int64 // of the image in bytes, a multiple of 4 KiB
	Used       int64 // bytes without the padding
	Inodes     int
	Fragments  int // blocks of them
	Duplicates int // files whose content is stored with another one
}

// normal returns the options with defaults filled in, or what is wrong with them.
func (o Options) normal() (Options, error) {
	if o.BlockSize == 0 {
		o.BlockSize = 128 << 10
	}
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	switch {
	case o.BlockSize < 4<<10 || o.BlockSize > maxBlock || bits.OnesCount(uint(o.BlockSize)) != 1:
		return o, fmt.Errorf("block size %d is not a power of two from 4096 to %d", o.BlockSize, maxBlock)
	case o.Time < 0 || o.Time > math.MaxUint32:
		return o, fmt.Errorf("time %d cannot be stored", o.Time)
	}
	return o, o.Compression.validate()
}

// Write writes an image with the content of root to the empty file w, front to
// back but for the superblock, which comes last: what is cut short is no image.
//
// Times of files are clamped to the years 1970 to 2106, and the immutable flag
// is not kept: nothing in the image can be changed.
//
// The error names the path of what squashfs cannot hold: extended attributes of
// other name spaces than user, trusted and security, more than 65,535 different
// owners and groups, files of too many blocks, fs-verity, one directory in two
// places.
func Write(ctx context.Context, w io.WriterAt, root *tree.Inode, opt Options) (Result, error) {
	opt, err := opt.normal()
	if err != nil {
		return Result{}, fault.New(fault.Usage, fmt.Errorf("squashfs: %w", err), "")
	}
	meta, err := newCompressor(opt.Compression, metadataBlock)
	if err != nil {
		return Result{}, fmt.Errorf("squashfs: %w", err)
	}
	c, err := collect(ctx, root, &opt, meta)
	if err != nil {
		return Result{}, err
	}
	if err := c.findDuplicates(ctx); err != nil {
		return Result{}, err
	}
	out := &writer{collection: c, meta: meta, file: fileWriter{w: w, pos: sizeSuperblock}}
	if err := out.image(ctx); err != nil {
		return Result{}, err
	}
	size := alignUp(out.super.bytesUsed, padding)
	return Result{Size: size, Used: out.super.bytesUsed, Inodes: len(c.nodes), Fragments: len(c.fragments), Duplicates: c.duplicates}, nil
}
