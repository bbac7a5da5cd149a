package ostree

import (
	"errors"
	"fmt"
	"strings"

	"imgbuild/tree"
)

// Names of whiteouts in the layers of an OCI image (image-spec, layer.md).
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	// whiteoutMeta begins the names that AUFS once kept for itself. Beside the
	// opaque marker they mean nothing.
	whiteoutMeta = ".wh..wh."
)

// errEtc is libostree's message.
var errEtc = errors.New("tree contains both /etc and /usr/etc")

// Merge lays imported layers over each other, the first one lowest, as libostree
// does when ostree-ext makes the merge commit:
//
//   - a directory with an opaque marker replaces the one below it;
//   - in each directory first the files come in ascending order, a whiteout
//     deleting what has its name by then, then the directories;
//   - a directory that is there already keeps its owner, mode and xattrs;
//   - a file replaces a directory and a directory a file.
//
// In the end an empty usr/etc/hostname or usr/etc/resolv.conf, left by a
// container build, is removed. The directories are new, the files shared with
// the layers.
func Merge(layers ...*tree.Inode) (*tree.Inode, error) { return MergeBase(nil, layers...) }

// MergeBase does the same on top of base, the tree of an encapsulated commit,
// which may be nil. In that a name like that of a whiteout is an ordinary one.
func MergeBase(base *tree.Inode, layers ...*tree.Inode) (*tree.Inode, error) {
	if base != nil {
		base = copyDirs(base)
	}
	root, err := overlayAll(base, layers)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return nil, badImage("the image has no layers")
	}
	if etc := tree.Lookup(root, "usr/etc"); etc != nil && etc.IsDir() {
		for _, name := range []string{"hostname", "resolv.conf"} {
			if i := etc.Child(name); i != nil && i.IsFile() && i.Content.Size() == 0 {
				etc.Remove(name)
			}
		}
	}
	return root, nil
}

// copyDirs returns a copy of the tree with directories of its own.
func copyDirs(dir *tree.Inode) *tree.Inode {
	c := dir.Copy()
	for _, e := range dir.Entries() {
		if e.Inode.IsDir() {
			c.Set(e.Name, copyDirs(e.Inode))
		} else {
			c.Set(e.Name, e.Inode)
		}
	}
	return c
}

// overlayAll lays the layers over root, which may be nil and is modified, and
// returns the merged root.
func overlayAll(root *tree.Inode, layers []*tree.Inode) (*tree.Inode, error) {
	for k, layer := range layers {
		if !layer.IsDir() {
			return nil, fmt.Errorf("merge layer %d: the root is not a directory", k)
		}
		var err error
		if root, err = overlay("/", root, layer, 0); err != nil {
			return nil, fmt.Errorf("merge layer %d: %w", k, err)
		}
	}
	return root, nil
}

// overlay returns lower, or a new directory in its place, with upper laid over
// it. lower may be nil; it belongs to the merged tree and is modified.
func overlay(path string, lower, upper *tree.Inode, depth int) (*tree.Inode, error) {
	if depth > maxDepth {
		return nil, badImage("%s: %w", path, errDepth)
	}
	opaque := upper.Child(whiteoutOpaque)
	if lower == nil || !lower.IsDir() || opaque != nil && !opaque.IsDir() {
		lower = upper.Copy()
	}
	entries := upper.Entries()
	for _, e := range entries {
		if strings.HasPrefix(e.Name, whiteoutPrefix) {
			if err := whiteout(path, lower, e); err != nil {
				return nil, err
			}
		} else if !e.Inode.IsDir() {
			lower.Set(e.Name, e.Inode)
		}
	}
	for _, e := range entries {
		if !e.Inode.IsDir() || strings.HasPrefix(e.Name, whiteoutPrefix) {
			continue
		}
		child, err := overlay(join(path, e.Name), lower.Child(e.Name), e.Inode, depth+1)
		if err != nil {
			return nil, err
		}
		lower.Set(e.Name, child)
	}
	return lower, nil
}

// whiteout deletes from lower what the whiteout e says.
func whiteout(path string, lower *tree.Inode, e tree.Entry) error {
	if strings.HasPrefix(e.Name, whiteoutMeta) {
		return nil
	}
	// libostree takes a link or directory of this name for content and would
	// leave it in the tree.
	if !e.Inode.IsFile() {
		return badImage("%s: a whiteout that is not a regular file", join(path, e.Name))
	}
	name := e.Name[len(whiteoutPrefix):]
	if !tree.ValidName(name) {
		return badImage("%s: whiteout of the name %q", join(path, e.Name), name)
	}
	lower.Remove(name)
	return nil
}
