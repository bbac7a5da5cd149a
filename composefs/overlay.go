package composefs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/fault"
	"imgbuild/tree"
)

// Overlayfs' own xattrs, and their escaped forms, which a mounted overlay shows
// without the second "overlay.".
const (
	overlayPrefix = "trusted.overlay."
	escapePrefix  = "trusted.overlay.overlay."
	userPrefix    = "user.overlay." // for overlays mounted with userxattr

	overlayMetacopy = overlayPrefix + "metacopy"
	overlayRedirect = overlayPrefix + "redirect"
	overlayOpaque   = overlayPrefix + "opaque"
)

const (
	maxXattrName  = 255
	maxXattrBytes = 0xffff / 2 // LCFS_INODE_EXTERNAL_XATTR_MAX, the room for all xattrs of an inode
	// Beside its name and value an xattr counts for its entry, padded, and the
	// first one of an inode for the header too.
	xattrOverhead      = 2*sizeXattrEntry - 1
	firstXattrOverhead = sizeXattrHeader
)

// addXattrs gives a node its xattrs: those of the tree, with overlayfs' own
// escaped, and those that make the overlay. scratch is reused between calls.
// A directory must have its children.
func (img *image) addXattrs(i uint32, scratch []tree.Xattr) ([]tree.Xattr, error) {
	n := &img.nodes[i]
	list, err := escapeXattrs(scratch, n.src.Xattrs)
	if err != nil {
		return list, fault.New(fault.BadImage, err, "")
	}
	switch {
	case n.typ() == tree.TypeFile && n.size > 0:
		list = setXattr(list, overlayMetacopy, img.metacopy(n.src))
		list = setXattr(list, overlayRedirect, "/"+objectPath(n.src.Object))
	case n.src != img.whiteout && isWhiteout(n.src):
		list = setXattr(list, escapePrefix+"whiteout", "")
		list = setXattr(list, userPrefix+"whiteout", "")
	case img.hasWhiteout(n):
		for _, prefix := range [...]string{escapePrefix, userPrefix} {
			list = setXattr(list, prefix+"whiteouts", "")
			list = setXattr(list, prefix+"opaque", "x")
		}
	}
	if i == 0 {
		list = setXattr(list, overlayOpaque, "y")
	}
	slices.SortFunc(list, func(a, b tree.Xattr) int { return strings.Compare(a.Name, b.Name) })
	n.xfirst = uint32(len(img.xattrIDs))
	for _, x := range list {
		img.xattrIDs = append(img.xattrIDs, img.xattrs.add(x))
	}
	n.xlast = uint32(len(img.xattrIDs))
	return list, nil
}

// escapeXattrs appends the xattrs of the tree to list. Those of overlayfs are
// renamed; as all of them are, no name is taken by another.
func escapeXattrs(list, xattrs []tree.Xattr) ([]tree.Xattr, error) {
	total := firstXattrOverhead
	for _, x := range xattrs {
		if x.Name == "" || len(x.Name) > maxXattrName || strings.Contains(x.Name, "\x00") {
			return list, fmt.Errorf("xattr %q: invalid name", x.Name)
		}
		if total += xattrOverhead + len(x.Name) + len(x.Value); total > maxXattrBytes {
			return list, errors.New("more xattrs than a composefs image can hold for one inode")
		}
		if rest, ok := strings.CutPrefix(x.Name, overlayPrefix); ok {
			x.Name = escapePrefix + rest
		}
		list = append(list, x)
	}
	return list, nil
}

// metacopy returns the value of overlayfs' metacopy xattr: struct
// ovl_metacopy with the fs-verity digest that the content must have, or nothing.
func (img *image) metacopy(i *tree.Inode) string {
	if img.digest == nil {
		return ""
	}
	sum, ok := img.digest(i)
	if !ok {
		return ""
	}
	const version, length, flags, sha256 = 0, 4 + len(sum), 0, 1
	return string(append([]byte{version, byte(length), flags, sha256}, sum[:]...))
}

// hasWhiteout tells whether a whiteout of the tree is a child of the node.
func (img *image) hasWhiteout(n *node) bool {
	for k := n.first; k < n.first+n.count; k++ {
		if src := img.nodes[k].src; src != img.whiteout && isWhiteout(src) {
			return true
		}
	}
	return false
}

// setXattr sets an xattr in a list that is in no particular order.
func setXattr(list []tree.Xattr, name, value string) []tree.Xattr {
	for i := range list {
		if list[i].Name == name {
			list[i].Value = value
			return list
		}
	}
	return append(list, tree.Xattr{Name: name, Value: value})
}
