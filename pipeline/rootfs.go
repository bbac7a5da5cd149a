package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem/btrfs"
	"imgbuild/filesystem/ext4"
	"imgbuild/filesystem/fat"
	"imgbuild/filesystem/xfs"
	"imgbuild/layouts"
	"imgbuild/partition"
	"imgbuild/tree"
)

// defaultRootFS is the root file system of an image that names none.
const defaultRootFS = "ext4"

// writableRoots are the root file systems that imgbuild writes.
func writableRoots() []string { return []string{"ext4", "xfs", "btrfs"} }

// checkRootFS returns an error when the file system that source asks for cannot
// be written.
func checkRootFS(fs, source string) error {
	roots := writableRoots()
	if slices.Contains(roots, fs) {
		return nil
	}
	return fault.New(fault.Unsupported, fmt.Errorf("root file system %s (%s): imgbuild writes %s", fs, source, strings.Join(roots, ", ")),
		"build with --rootfs "+strings.Join(roots, " or --rootfs "))
}

// writer writes one file system of a disk. least, free and size are in bytes;
// start is the offset of the partition.
type writer struct {
	// size returns the smallest size from least on that leaves free bytes.
	size  func(root *tree.Inode, least, free int64) (int64, error)
	write func(ctx context.Context, root *tree.Inode, start, size int64) ([]disk.Extent, error)
}

// newWriter returns the writer of the file system of a partition.
func (p *planned) newWriter(l *layouts.Layout, id identity, time int64) (writer, error) {
	f := p.FS
	if f.Type == layouts.VFAT {
		opt := fat.Options{VolumeID: p.volumeID, Label: f.Label, SectorSize: int(l.SectorSize), Time: time, Heads: f.Heads, SectorsPerTrack: f.SectorsPerTrack}
		return writer{
			size: func(root *tree.Inode, least, free int64) (int64, error) {
				n, err := fat.Size(root, free, opt)
				return max(n, least), err
			},
			write: func(ctx context.Context, root *tree.Inode, start, size int64) ([]disk.Extent, error) {
				opt := opt
				opt.HiddenSectors = uint32(start / l.SectorSize)
				return fat.Write(ctx, root, size, opt)
			},
		}, nil
	}
	uuid, err := partition.ParseGUID(p.uuid)
	if err != nil {
		return writer{}, err
	}
	switch f.Type {
	case layouts.XFS:
		opt := xfs.Options{UUID: uuid, Label: f.Label, Time: time, AGCount: int64(f.AGCount), SectorSize: l.SectorSize, Features: p.xfsFeatures}
		return writer{
			size: func(root *tree.Inode, least, free int64) (int64, error) { return xfs.SizeFrom(root, least, free, opt) },
			write: func(ctx context.Context, root *tree.Inode, _, size int64) ([]disk.Extent, error) {
				return xfs.Write(ctx, root, size, opt)
			},
		}, nil
	case layouts.Btrfs:
		opt, err := p.btrfsOptions(time)
		if err != nil {
			return writer{}, err
		}
		opt.Packed = p.btrfs.packed
		return writer{
			size: func(root *tree.Inode, least, free int64) (int64, error) {
				n, err := btrfs.Size(root, free, opt)
				return max(n, least), err
			},
			write: func(ctx context.Context, root *tree.Inode, _, size int64) ([]disk.Extent, error) {
				return btrfs.Write(ctx, root, size, opt)
			},
		}, nil
	case layouts.Ext4:
		opt := ext4.Options{UUID: uuid, HashSeed: id.guid(p.key + " hash seed"), Label: f.Label, Time: time, Verity: f.Verity}
		if p.Role() == layouts.RoleRoot {
			opt.BytesPerInode = bytesPerInode
		}
		return writer{
			size: func(root *tree.Inode, least, free int64) (int64, error) { return ext4.SizeFrom(root, least, free, opt) },
			write: func(ctx context.Context, root *tree.Inode, _, size int64) ([]disk.Extent, error) {
				return ext4.Write(ctx, root, size, opt)
			},
		}, nil
	}
	return writer{}, fault.New(fault.Unsupported, fmt.Errorf("file system %s: imgbuild writes ext4, xfs, btrfs and vfat", f.Type), "")
}
