package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem/ext4"
	"imgbuild/filesystem/xfs"
	"imgbuild/tree"
)

// defaultRootFS is the root file system of an image that names none.
const defaultRootFS = "ext4"

// writableRoots are the root file systems that imgbuild writes.
func writableRoots() []string { return []string{"ext4", "xfs"} }

// checkRootFS returns an error when the file system that source asks for cannot
// be written.
func checkRootFS(fs, source string) error {
	roots := writableRoots()
	if slices.Contains(roots, fs) {
		return nil
	}
	return fault.New(fault.Unsupported, fmt.Errorf("root file system %s (%s): imgbuild writes %s so far", fs, source, strings.Join(roots, " and ")),
		"build with --rootfs "+strings.Join(roots, " or --rootfs "))
}

// rootWriter writes the root file system of a disk. free and size are in bytes.
type rootWriter struct {
	size  func(root *tree.Inode, free int64) (int64, error)
	write func(ctx context.Context, root *tree.Inode, size int64) ([]disk.Extent, error)
}

// newRootWriter returns the writer of the file system fs, which is writable.
func newRootWriter(fs string, id identity, time int64) rootWriter {
	uuid := id.guid("root file system")
	if fs == "xfs" {
		opt := xfs.Options{UUID: uuid, Label: "root", Time: time}
		return rootWriter{
			size: func(root *tree.Inode, free int64) (int64, error) { return xfs.Size(root, free, opt) },
			write: func(ctx context.Context, root *tree.Inode, size int64) ([]disk.Extent, error) {
				return xfs.Write(ctx, root, size, opt)
			},
		}
	}
	opt := ext4.Options{UUID: uuid, HashSeed: id.guid("root hash seed"), Label: "root", Time: time, Verity: true, BytesPerInode: bytesPerInode}
	return rootWriter{
		size: func(root *tree.Inode, free int64) (int64, error) { return ext4.Size(root, free, opt) },
		write: func(ctx context.Context, root *tree.Inode, size int64) ([]disk.Extent, error) {
			return ext4.Write(ctx, root, size, opt)
		},
	}
}
