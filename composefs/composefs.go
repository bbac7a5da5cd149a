// Package composefs writes composefs images: EROFS file systems that hold the
// whole metadata of a tree and no file content. The kernel mounts one under an
// overlay whose data-only lower layer is a directory of objects, and finds the
// content of a file through its overlay xattrs.
//
// The image is the one that libcomposefs 1.0 makes, byte for byte, because its
// fs-verity digest is what a signed commit vouches for. The rules are those of
// lcfs-writer-erofs.c (format versions 0 and 1) and of libostree's
// ostree-repo-composefs.c; the structures are those of the kernel's
// "EROFS on-disk format" (Documentation/filesystems/erofs.rst, erofs_fs.h) with
// 4096-byte blocks. All integers are little-endian.
//
// Not written: inline file content, hard links (every path is its own inode),
// sub-second times, and files above 8 TiB. Images are never read.
package composefs

import (
	"encoding/hex"
	"fmt"

	"imgbuild/tree"
)

// Options are what an image can be varied in.
type Options struct {
	// Digest returns the fs-verity digest to record for a regular file of more
	// than zero bytes, which the overlay then checks. Nil, or ok false, records
	// none; ostree records none on a repository without fs-verity.
	Digest func(i *tree.Inode) (sum [32]byte, ok bool)
}

// ostreeDirs are the directories that libostree adds at the root of the image
// where the commit lacks them, as places to mount on.
var ostreeDirs = [...]string{"usr", "etc", "boot", "var", "sysroot"}

// Ostree returns the image of the tree of an ostree commit as libostree makes
// it: modification times are zero and the directories usr, etc, boot, var and
// sysroot exist. Otherwise it is [Write].
//
// The tree must be that of the commit, not of a deployment: one with anything
// but directories, regular files and symbolic links is an error. It is not
// modified.
func Ostree(root *tree.Inode, opt Options) ([]byte, error) {
	return build(root, opt, true)
}

// Write returns the image of the tree as mkcomposefs makes it from a dump. A
// regular file of more than zero bytes must have its Object set, the checksum
// that names its content in the directory of objects: xx/<62 hex digits>.file.
// An inode with several names becomes as many inodes.
//
// Overlay xattrs of the tree are escaped, and so are whiteouts (character
// devices 0:0), so that the mounted overlay shows them as they are. The tree is
// not modified. An error names the path.
func Write(root *tree.Inode, opt Options) ([]byte, error) {
	return build(root, opt, false)
}

func build(root *tree.Inode, opt Options, ostree bool) ([]byte, error) {
	if !root.IsDir() {
		return nil, fmt.Errorf("composefs: /: not a directory")
	}
	img := &image{digest: opt.Digest, ostree: ostree}
	if err := img.collect(root); err != nil {
		return nil, fmt.Errorf("composefs: %w", err)
	}
	img.xattrs.share()
	if err := img.layout(); err != nil {
		return nil, fmt.Errorf("composefs: %w", err)
	}
	return img.encode(), nil
}

// objectPath returns where the content of a file object is, below the directory
// of objects.
func objectPath(sum tree.Sum) string {
	name := hex.EncodeToString(sum[:])
	return name[:2] + "/" + name[2:] + ".file"
}
