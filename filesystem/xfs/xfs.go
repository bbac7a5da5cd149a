// Package xfs writes XFS file systems.
//
// The format is that of the "XFS Algorithms & Data Structures" document and of
// xfsprogs 6.1, whose mkfs.xfs is the model: geometry and fixed blocks are the
// same. Written is version 5 (checksums) with blocks of 4 KiB, inodes of 512
// bytes, file types in directories and sparse inodes; finobt, rmapbt, reflink,
// inobtcount, bigtime, nrext64, exchange-range and parent pointers as asked for.
// All forms of directories (short, block, leaf, node) and attributes (short, leaf, node,
// remote values), extent lists and B+trees of any depth. Not written are
// version 4, metadata directories, quotas, project
// identifiers, a realtime part, an external log and shared extents.
//
// The file system is clean and its log empty. Files are laid out in the order
// of the tree, spread over the allocation groups in proportion to what they
// have room for: in every group first the inodes, then directories, attributes
// and symbolic links, then the content of files, then free space in one piece.
// Inode numbers need 32 bits at most. Holes stay holes.
package xfs

import (
	"context"
	"errors"
	"fmt"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/tree"
)

// Features are the parts of the format that are optional. What cannot be read
// without knowing them: Bigtime since Linux 5.10 and GRUB 2.06, NrExt64 since
// 5.19 and 2.06 as Debian has it (2.12), ExchangeRange and Parent since 6.10 and
// 2.14. The
// others concern writing only: finobt since Linux 3.16, rmapbt and reflink
// since 4.9, inobtcount since 5.10.
type Features uint32

const (
	Finobt        Features = 1 << iota // tree of free inodes
	Rmapbt                             // tree of the owners of blocks
	Reflink                            // tree of shared blocks: files can be cloned
	InobtCount                         // sizes of the inode trees are recorded; needs Finobt
	Bigtime                            // time stamps up to the year 2486, not 2038
	NrExt64                            // 2^48 extents in a file, not 2^31
	ExchangeRange                      // files can exchange extents atomically
	Parent                             // files know the directories of their names; for Linux with ExchangeRange

	// DefaultFeatures are those of mkfs.xfs 6.1: everything that Linux 5.10 and
	// GRUB 2.06 know, and no rmapbt.
	DefaultFeatures = Finobt | Reflink | InobtCount | Bigtime

	// NoFeatures asks for none.
	NoFeatures Features = 1 << 31

	allFeatures = Finobt | Rmapbt | Reflink | InobtCount | Bigtime | NrExt64 | ExchangeRange | Parent
)

// Options are the parameters of a file system. The zero value, but for the
// UUID, is a file system as mkfs.xfs makes it.
type Options struct {
	UUID  [16]byte // not zeros: Linux does not mount that
	Label string   // at most 12 bytes
	Time  int64    // seconds since 1970: of the inodes that are not in the tree

	Features Features // 0 is DefaultFeatures

	// SectorSize is that of the disk in bytes, 512 or 4096. 0 is 512. A file
	// system of 4096 is good for both, one of 512 only for disks of 512.
	SectorSize int64

	// AGCount is the number of allocation groups, at least 2, which Linux can
	// only add to. 0 is what mkfs.xfs chooses for the size, usually 4.
	AGCount int64

	// StripeUnit and StripeWidth are the geometry of a RAID in bytes, multiples
	// of 4096 and the width a multiple of the unit. 0 is none.
	StripeUnit, StripeWidth int64

	// LogSize is the size of the log in bytes, from 64 MiB to 2038 MiB. 0 is
	// what mkfs.xfs chooses for the size.
	LogSize int64
}

// Limits of sizes in bytes.
const (
	minSize   = 300 << 20 // as mkfs.xfs
	maxSize   = 1 << 50   // as far as Linux distributions support
	minLog    = minLogBlocks << blockShift
	maxLog    = maxLogBlocks << blockShift
	maxStripe = 1 << 30
)

func (o *Options) has(f Features) bool {
	if o.Features == 0 {
		return DefaultFeatures&f != 0
	}
	return o.Features&f != 0
}

func (o *Options) sectorSize() uint32 {
	if o.SectorSize == 0 {
		return basicBlock
	}
	return uint32(o.SectorSize)
}

func (o *Options) validate() error {
	switch {
	case o.UUID == [16]byte{}:
		return errors.New("a UUID of zeros, which Linux does not mount")
	case len(o.Label) > maxLabel:
		return fmt.Errorf("label %q is longer than %d bytes", o.Label, maxLabel)
	case o.Time < 0 || o.Time >= 1<<40:
		return fmt.Errorf("time %d cannot be stored", o.Time)
	case o.Features&^(allFeatures|NoFeatures) != 0, o.Features&NoFeatures != 0 && o.Features != NoFeatures:
		return fmt.Errorf("features %#x do not exist", uint32(o.Features))
	case o.has(InobtCount) && !o.has(Finobt):
		return errors.New("the feature inobtcount without finobt")
	case o.SectorSize != 0 && o.SectorSize != basicBlock && o.SectorSize != blockSize:
		return fmt.Errorf("sectors of %d bytes, not 512 or 4096", o.SectorSize)
	case o.AGCount < 0 || o.AGCount == 1:
		return fmt.Errorf("%d allocation groups, not 2 at least", o.AGCount)
	case o.StripeUnit < 0 || o.StripeUnit > maxStripe || o.StripeUnit%blockSize != 0,
		o.StripeUnit == 0 && o.StripeWidth != 0,
		o.StripeUnit > 0 && (o.StripeWidth <= 0 || o.StripeWidth > maxStripe || o.StripeWidth%o.StripeUnit != 0):
		return fmt.Errorf("stripes of %d bytes in units of %d bytes", o.StripeWidth, o.StripeUnit)
	case o.LogSize != 0 && (o.LogSize < minLog || o.LogSize > maxLog):
		return fmt.Errorf("log of %d bytes, not between %d and %d", o.LogSize, int64(minLog), int64(maxLog))
	}
	return nil
}

// Write returns the extents, ascending, of an XFS file system of size bytes
// with the content of root. What is after the last whole block of size stays
// unused. File content is referred to, not copied.
//
// All time stamps of a file are its Mtime, clamped to the years 1901 to 2486,
// or 2038 without Bigtime. trusted.SGI_ACL_FILE and trusted.SGI_ACL_DEFAULT,
// the names under which XFS itself shows access control lists, are left out
// beside the lists as Linux has them.
//
// The error wraps a *filesystem.TooSmallError when size does not suffice, which
// is 300 MiB at least, and names the path of a file that XFS cannot hold:
// extended attributes of an unknown name space, a symbolic link of more than
// 1023 bytes, a device number beyond 511:262143, an invalid access control list,
// one directory in two places.
func Write(ctx context.Context, root *tree.Inode, size int64, opt Options) ([]disk.Extent, error) {
	if err := opt.validate(); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("xfs: %w", err), "")
	}
	if size > maxSize {
		return nil, fault.New(fault.Unsupported, fmt.Errorf("xfs: file system of %d bytes, more than %d", size, int64(maxSize)), "")
	}
	c, err := collect(ctx, root, &opt)
	if err != nil {
		return nil, err
	}
	l, err := c.placeIn(ctx, uint64(max(size, 0))>>blockShift, 0)
	var small *shortfall
	if errors.As(err, &small) {
		need, err := c.size(ctx, 0, 0)
		if err != nil {
			return nil, err
		}
		return nil, fault.New(fault.NoSpace, fmt.Errorf("xfs: %w", &filesystem.TooSmallError{Size: size, Need: int64(need) << blockShift}), "")
	}
	if err != nil {
		return nil, err
	}
	return l.write(ctx)
}

// Size returns a size in bytes, a multiple of 1 MiB and 300 MiB at least, that
// Write accepts for the tree and that leaves free bytes for new files, not
// counting what Linux keeps to itself: room for its trees in every allocation
// group and, where free is not 0, a pool of up to 32 MiB. The size is the
// smallest but for a few MiB.
func Size(root *tree.Inode, free int64, opt Options) (int64, error) {
	return SizeFrom(root, 0, free, opt)
}

// SizeFrom returns a size as [Size] does, not below least bytes. A size above an
// accepted one need not be accepted: a larger file system gets a larger log.
func SizeFrom(root *tree.Inode, least, free int64, opt Options) (int64, error) {
	if err := opt.validate(); err != nil {
		return 0, fault.New(fault.Usage, fmt.Errorf("xfs: %w", err), "")
	}
	if free < 0 || free > maxSize || least < 0 || least > maxSize {
		return 0, tooLarge()
	}
	ctx := context.Background()
	c, err := collect(ctx, root, &opt)
	if err != nil {
		return 0, err
	}
	blocks, err := c.size(ctx, ceilDiv(uint64(least), blockSize), ceilDiv(uint64(free), blockSize))
	if err != nil {
		return 0, err
	}
	return int64(blocks) << blockShift, nil
}

func tooLarge() error {
	return fault.New(fault.Unsupported, fmt.Errorf("xfs: the content needs a file system of more than %d bytes", int64(maxSize)), "")
}
