// Package btrfs writes btrfs file systems.
//
// The format is that of the "On-disk format" page of the btrfs documentation
// and of btrfs-progs 7.1, whose mkfs.btrfs is the model. Written is one device
// with nodes of 16 KiB and sectors of 4 KiB, and the features mixed-backref,
// extended iref, skinny metadata, no-holes and free-space tree: what Linux 5.15
// makes and GRUB 2.06 reads; the block group tree and other checksums as asked
// for. Metadata is there twice or once, data once. Subvolumes, extended
// attributes, hard links with extended references, inline extents, files
// compressed with zstd or zlib, files without copy on write, and fs-verity. Not written are
// several devices, mixed block groups, quotas, snapshots, shared and preallocated
// extents, lzo, zoned devices, the raid stripe tree and encryption.
//
// The file system is clean, without a log. In the order of logical addresses come
// the chunk tree, all other trees and then the content of files, in the order of
// the tree. Trees are encoded when they are read and never held in memory; what a
// checksum of content needs is read once, by all processors, when the file system
// is laid out.
package btrfs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/tree"
)

// Options are the parameters of a file system. The zero value, but for the
// UUID, is a file system as mkfs.btrfs makes it.
type Options struct {
	UUID  [16]byte // fsid, not zeros; all other identifiers derive from it
	Label string   // at most 255 bytes
	Time  int64    // seconds since 1970: when the subvolumes were made

	// SingleMetadata keeps metadata once. mkfs.btrfs keeps it twice.
	SingleMetadata bool

	Checksum Checksum

	// BlockGroupTree keeps block groups in a tree of their own, which makes
	// mounting of large file systems faster. Linux 6.1 can write to that.
	BlockGroupTree bool

	// Compress is the compression of what is in no subvolume.
	Compress Compression

	// Subvolumes are directories of the tree that become subvolumes. The first
	// has the number 256.
	Subvolumes []Subvolume

	// Default is the path of the subvolume that is mounted where none is asked
	// for. "" is the top level.
	Default string

	// NoDataCow are paths of files and directories that get the flag of chattr
	// +C, with all below them: written in place, without checksums and without
	// compression.
	NoDataCow []string

	// Packed is the content of files as [Pack] made it with the same tree and
	// options. There has to be one when something is to be compressed.
	Packed *Packed
}

// Subvolume is a directory that is a subvolume.
type Subvolume struct {
	Path     string // from the root of the file system
	ReadOnly bool
	Compress Compression
}

// Limits of sizes in bytes.
const (
	minSize = 114294784 // as mkfs.btrfs
	maxSize = 1 << 55
)

func (o *Options) validate() error {
	switch {
	case o.UUID == [16]byte{}:
		return errors.New("a UUID of zeros, which Linux does not mount")
	case len(o.Label) > maxLabel:
		return fmt.Errorf("label of %d bytes, more than %d", len(o.Label), maxLabel)
	case strings.ContainsAny(o.Label, "\x00\n"):
		return fmt.Errorf("label %q: NUL or newline in it", o.Label)
	case o.Time < 0 || o.Time >= 1<<40:
		return fmt.Errorf("time %d cannot be stored", o.Time)
	case o.Checksum > SHA256:
		return fmt.Errorf("checksum %d does not exist", o.Checksum)
	case len(o.Subvolumes) > 1<<16:
		return fmt.Errorf("%d subvolumes", len(o.Subvolumes))
	}
	if err := o.Compress.validate(); err != nil {
		return err
	}
	for _, s := range o.Subvolumes {
		if err := s.Compress.validate(); err != nil {
			return fmt.Errorf("subvolume %s: %w", s.Path, err)
		}
	}
	return nil
}

// Compresses tells whether there is anything to compress, and a [Packed] needed.
func (o *Options) Compresses() bool {
	for _, s := range o.Subvolumes {
		if s.Compress.Algorithm != NoCompression {
			return true
		}
	}
	return o.Compress.Algorithm != NoCompression
}

// Write returns the extents, ascending, of a btrfs file system of size bytes
// with the content of root. What is after the last whole sector of size stays
// unused. File content is read for its checksums, and referred to, not copied.
// All time stamps of a file are its Mtime.
//
// An inode with names in several subvolumes, which have numbers of their own,
// becomes one in each, and one with more than 65,535 names becomes several: the
// names from the 65,536th on, in the order of the tree, belong to a copy of it.
//
// The error wraps a *filesystem.TooSmallError when size does not suffice, which
// is 109 MiB at least, and names the path of a file that btrfs cannot hold:
// extended attributes of more than 16,228 bytes with the name or of an unknown
// name space, an invalid access control list, a symbolic link of more than 4,095
// bytes, a device number beyond 4095:1048575, too many names of one hash, one
// directory in two places, fs-verity metadata of another content.
func Write(ctx context.Context, root *tree.Inode, size int64, opt Options) ([]disk.Extent, error) {
	if size > maxSize {
		return nil, fault.New(fault.Unsupported, fmt.Errorf("btrfs: file system of %d bytes, more than %d", size, int64(maxSize)), "")
	}
	c, err := prepare(ctx, root, &opt)
	if err != nil {
		return nil, err
	}
	l, err := c.placeIn(ctx, size, 0)
	var small *shortfall
	if errors.As(err, &small) {
		need, err := c.size(ctx, 0)
		if err != nil {
			return nil, err
		}
		return nil, fault.New(fault.NoSpace, fmt.Errorf("btrfs: %w", &filesystem.TooSmallError{Size: size, Need: need}), "")
	}
	if err != nil {
		return nil, err
	}
	return l.write(ctx)
}

// Size returns a size in bytes, a multiple of 1 MiB and 109 MiB at least, that
// Write accepts for the tree and that leaves free bytes for new files, not
// counting what is set apart for more metadata: a quarter of what there is and 16
// MiB, and a twentieth of the file system if that is more. The size is the
// smallest but for a few MiB.
func Size(root *tree.Inode, free int64, opt Options) (int64, error) {
	if free < 0 || free > maxSize {
		return 0, tooLarge()
	}
	ctx := context.Background()
	c, err := prepare(ctx, root, &opt)
	if err != nil {
		return 0, err
	}
	return c.size(ctx, free)
}

// prepare checks the options and collects the tree.
func prepare(ctx context.Context, root *tree.Inode, opt *Options) (*collection, error) {
	if err := opt.validate(); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("btrfs: %w", err), "")
	}
	if opt.Packed == nil && opt.Compresses() {
		return nil, errors.New("btrfs: compression of content that is not packed")
	}
	return collect(ctx, root, opt)
}

func tooLarge() error {
	return fault.New(fault.Unsupported, fmt.Errorf("btrfs: the content needs a file system of more than %d bytes", int64(maxSize)), "")
}
