// Package ext4 writes ext4 file systems.
//
// The format is that of Documentation/filesystems/ext4 in the Linux kernel and
// of e2fsprogs 1.47, whose mke2fs is the model: an empty file system has the
// same bytes. Written are blocks of 4 KiB, inodes of 256 bytes and the features
// has_journal, ext_attr, resize_inode, dir_index, filetype, extent, 64bit,
// flex_bg, sparse_super, large_file, huge_file, dir_nlink, extra_isize,
// metadata_csum and, when asked for or needed, verity: what Linux 4.18 (5.4
// for verity) and GRUB 2.06 read. Not written are inline data, attributes in inodes of their own,
// quotas, encryption, case folding, bigalloc, meta_bg and the orphan file.
//
// The file system is clean and its journal empty. Files are laid out in the
// order of the tree, those of one directory together, each in as few extents as
// possible; holes stay holes. Groups without content are left uninitialised and
// cost nothing.
package ext4

import (
	"context"
	"errors"
	"fmt"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/tree"
)

// Options are the parameters of a file system. The zero value is a file system
// as mke2fs makes it, with a UUID of zeros.
type Options struct {
	UUID     [16]byte // s_uuid; the journal has the same, as mke2fs does it
	HashSeed [16]byte // s_hash_seed, of the hashes of names in large directories
	Label    string   // at most 16 bytes
	Time     int64    // seconds since 1970: when the file system was made, written and checked last

	// Verity sets the verity feature, as mke2fs -O verity: files can be
	// protected with fs-verity. It is set as well where files of the tree are.
	Verity bool

	// BytesPerInode makes room for one file for so many bytes of the file
	// system; what is below 4096 counts as 4096. 0 is what mke2fs.conf says for
	// the size, and more where the tree needs it: an eighth is always left.
	BytesPerInode int64

	// ReservedPercent is the part of the blocks that only root may use, at most
	// 50. 0 is 5 as with mke2fs, a negative number none.
	ReservedPercent int

	// JournalSize is the size of the journal in bytes, 4 MiB at least. 0 is
	// what mke2fs chooses for the size (none below 8 MiB), a negative number no
	// journal.
	JournalSize int64
}

func (o *Options) reservedPercent() uint64 {
	switch {
	case o.ReservedPercent < 0:
		return 0
	case o.ReservedPercent == 0:
		return 5
	}
	return uint64(o.ReservedPercent)
}

func (o *Options) validate() error {
	const (
		minJournal = 1024 * blockSize       // JBD2_MIN_JOURNAL_BLOCKS
		maxJournal = 10_240_000 * blockSize // as mke2fs has it
	)
	switch {
	case len(o.Label) > maxLabel:
		return fmt.Errorf("label %q is longer than %d bytes", o.Label, maxLabel)
	case o.Time < 0 || o.Time >= 1<<40:
		return fmt.Errorf("time %d cannot be stored", o.Time)
	case o.BytesPerInode < 0:
		return fmt.Errorf("%d bytes per inode", o.BytesPerInode)
	case o.ReservedPercent > 50:
		return fmt.Errorf("%d percent reserved, more than 50", o.ReservedPercent)
	case o.JournalSize > 0 && o.JournalSize < minJournal, o.JournalSize > maxJournal:
		return fmt.Errorf("journal of %d bytes, not between %d and %d", o.JournalSize, int64(minJournal), int64(maxJournal))
	}
	return nil
}

// Write returns the extents, ascending, of an ext4 file system of size bytes
// with the content of root. What is after the last whole block of size stays
// unused. File content is referred to, not copied.
//
// A directory lost+found in root is used as such; where there is none it is
// made, mode 0700 and owned by root. All time stamps of a file are its Mtime,
// clamped to the years 1901 to 2310. An inode with more than
// 65,000 names, which ext4 does not allow, becomes several: the names from
// 65,001 on, in the order of the tree, belong to a copy of it.
//
// The error wraps a *filesystem.TooSmallError when size does not suffice, and
// names the path of a file that ext4 cannot hold: larger than 16 TiB less one
// block, extended attributes of more than about 4 KiB or of an unknown name
// space, an invalid access control list or symbolic link, one directory in two
// places, fs-verity metadata of another content.
func Write(ctx context.Context, root *tree.Inode, size int64, opt Options) ([]disk.Extent, error) {
	if err := opt.validate(); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("ext4: %w", err), "")
	}
	if size > maxBlocks*blockSize {
		return nil, fault.New(fault.Unsupported, fmt.Errorf("ext4: file system of %d bytes, more than %d", size, int64(maxBlocks*blockSize)), "")
	}
	c, err := collect(ctx, root, &opt)
	if err != nil {
		return nil, err
	}
	l, err := c.placeIn(uint64(max(size, 0)) >> blockShift)
	if errors.Is(err, errTooSmall) {
		need, err := c.size(0, 0)
		if err != nil {
			return nil, tooLarge()
		}
		return nil, fault.New(fault.NoSpace, fmt.Errorf("ext4: %w", &filesystem.TooSmallError{Size: size, Need: int64(need) << blockShift}), "")
	}
	if err != nil {
		return nil, err
	}
	return l.write(ctx)
}

// Size returns the smallest size in bytes, a multiple of 4096, that Write
// accepts for the tree and that leaves free bytes for new files, not counting
// the blocks that are reserved for root.
func Size(root *tree.Inode, free int64, opt Options) (int64, error) {
	return SizeFrom(root, 0, free, opt)
}

// SizeFrom returns the smallest size in bytes, not below least, that Write
// accepts for the tree and that leaves free bytes as with [Size]. A size above an
// accepted one need not be accepted: a larger file system gets a larger journal.
func SizeFrom(root *tree.Inode, least, free int64, opt Options) (int64, error) {
	if err := opt.validate(); err != nil {
		return 0, fault.New(fault.Usage, fmt.Errorf("ext4: %w", err), "")
	}
	if free < 0 || free > maxBlocks*blockSize || least < 0 || least > maxBlocks*blockSize {
		return 0, tooLarge()
	}
	c, err := collect(context.Background(), root, &opt)
	if err != nil {
		return 0, err
	}
	blocks, err := c.size(ceilDiv(uint64(least), blockSize), ceilDiv(uint64(free), blockSize))
	if err != nil {
		return 0, tooLarge()
	}
	return int64(blocks) << blockShift, nil
}

// placeIn places the collection in so many blocks.
func (c *collection) placeIn(blocks uint64) (*layout, error) {
	g, err := newGeometry(blocks, c.inodes(), c.opt)
	if err != nil {
		return nil, err
	}
	return c.place(g)
}

func tooLarge() error {
	return fault.New(fault.Unsupported, fmt.Errorf("ext4: the content needs a file system of more than %d bytes", int64(maxBlocks*blockSize)), "")
}
