package composefs

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"imgbuild/fault"
	"imgbuild/tree"
)

// node is an inode of the image.
type node struct {
	name          string
	src           *tree.Inode // what it is made from
	parent        uint32      // index in image.nodes
	first, count  uint32      // children, index in image.nodes
	xfirst, xlast uint32      // xattrs, index in image.xattrIDs
	mode          uint32      // that of src, but for whiteouts
	nlink         uint32
	mtime         int64
	size          uint64 // of a regular file or symbolic link, in bytes
	rdev          uint32

	// Set by layout.
	pos       uint64 // of the inode in the image, in bytes
	blocks    uint32 // full blocks of data
	tail      uint32 // bytes of data behind the inode
	xattrSize uint32 // bytes of xattrs behind the inode, before the tail
	compact   bool
}

func (n *node) typ() uint32 { return n.mode & tree.TypeMask }

// image is a composefs image in the making.
type image struct {
	digest func(*tree.Inode) ([32]byte, bool)
	ostree bool

	nodes    []node   // breadth first, the children of one side by side
	xattrIDs []uint32 // index in xattrs.all, ascending by name for each node
	xattrs   xattrTable
	whiteout *tree.Inode // of the root: in effect, so not escaped
	version  uint32      // of the composefs format: 1 where the tree has a whiteout
	minMtime int64       // the time that compact inodes have

	// Set by layout.
	inodesEnd uint64 // offset in bytes; the shared xattrs follow
	dataStart uint64 // offset in bytes of the first data block
	end       uint64 // length of the image in bytes
}

// collect lists the nodes of the tree, with the xattrs they have in the image.
func (img *image) collect(root *tree.Inode) error {
	img.nodes = make([]node, 0, 512)
	if err := img.addNode("", root, 0); err != nil {
		return err
	}
	img.minMtime = img.nodes[0].mtime
	scratch := make([]tree.Xattr, 0, 16)
	for i := 0; i < len(img.nodes); i++ {
		if img.nodes[i].typ() == tree.TypeDir {
			if err := img.addChildren(uint32(i)); err != nil {
				return err
			}
		}
		var err error
		if scratch, err = img.addXattrs(uint32(i), scratch[:0]); err != nil {
			return fmt.Errorf("%s: %w", img.path(uint32(i)), err)
		}
		img.minMtime = min(img.minMtime, img.nodes[i].mtime)
	}
	return nil
}

// isWhiteout tells whether i is an overlay whiteout.
func isWhiteout(i *tree.Inode) bool {
	return i.Type() == tree.TypeChar && i.Major == 0 && i.Minor == 0
}

// addNode appends a node for the inode, without xattrs and children.
func (img *image) addNode(name string, i *tree.Inode, parent uint32) error {
	if len(img.nodes) == math.MaxUint32 {
		return fault.New(fault.Unsupported, errors.New("more than 2^32-1 inodes"), "")
	}
	n := node{name: name, src: i, parent: parent, mode: i.Mode & (tree.TypeMask | tree.PermMask), nlink: 1, mtime: i.Mtime}
	if img.ostree {
		n.mtime = 0
	}
	err := img.fill(&n)
	img.nodes = append(img.nodes, n)
	if err != nil {
		return fmt.Errorf("%s: %w", img.path(uint32(len(img.nodes)-1)), err)
	}
	return nil
}

// fill sets what depends on the type of the node, and checks it.
func (img *image) fill(n *node) error {
	switch n.typ() {
	case tree.TypeDir:
	case tree.TypeFile:
		n.size = uint64(n.src.Content.Size())
		if n.size > maxFileSize {
			return fault.New(fault.Unsupported, fmt.Errorf("%d bytes, more than the %d that a composefs image can hold", n.size, int64(maxFileSize)), "")
		}
		if n.size > 0 && n.src.Object == (tree.Sum{}) {
			return errors.New("regular file without an object checksum")
		}
	case tree.TypeLink:
		n.size = uint64(len(n.src.Target))
		// PATH_MAX counts the NUL at the end.
		if n.size == 0 || n.size >= 4096 || strings.Contains(n.src.Target, "\x00") {
			return fault.New(fault.BadImage, fmt.Errorf("symbolic link target of %d bytes is not a path", n.size), "")
		}
	case tree.TypeChar, tree.TypeBlock, tree.TypeFIFO, tree.TypeSock:
		return img.fillSpecial(n)
	default:
		return fmt.Errorf("unknown file type in mode %#o", n.src.Mode)
	}
	return nil
}

func (img *image) fillSpecial(n *node) error {
	switch {
	case n.src == img.whiteout:
	case img.ostree:
		return fault.New(fault.BadImage, errors.New("device nodes, fifos and sockets cannot be part of an ostree commit"), "")
	case isWhiteout(n.src):
		// Shown as what it is through overlayfs' escaped xattrs.
		n.mode = tree.TypeFile | n.mode&tree.PermMask
		img.version = 1
	case n.typ() == tree.TypeChar || n.typ() == tree.TypeBlock:
		// The kernel's new_encode_dev.
		const maxMajor, maxMinor = 0xfff, 0xfffff
		major, minor := n.src.Major, n.src.Minor
		if major > maxMajor || minor > maxMinor {
			return fault.New(fault.BadImage, fmt.Errorf("device number %d:%d is out of range", major, minor), "")
		}
		n.rdev = minor&0xff | major<<8 | minor&^0xff<<12
	}
	return nil
}

// addChildren appends the children of a directory.
func (img *image) addChildren(dir uint32) error {
	first := uint32(len(img.nodes))
	entries := img.nodes[dir].src.Entries()
	if dir == 0 {
		entries = img.rootEntries(entries)
	}
	img.nodes = slices.Grow(img.nodes, len(entries))
	nlink := uint32(2)
	for _, e := range entries {
		if e.Inode.IsDir() {
			nlink++
		}
		if err := img.addNode(e.Name, e.Inode, dir); err != nil {
			return err
		}
	}
	d := &img.nodes[dir]
	d.first, d.count, d.nlink = first, uint32(len(entries)), nlink
	return nil
}

// rootEntries returns the entries of the root of the image: those of the tree,
// what ostree adds, and 256 whiteouts that hide the directories of the data-only
// layer, "00" to "ff".
func (img *image) rootEntries(entries []tree.Entry) []tree.Entry {
	root := img.nodes[0].src
	have := func(name string) bool { return root.Child(name) != nil }
	entries = slices.Clone(entries)
	if img.ostree {
		for _, name := range ostreeDirs {
			if !have(name) {
				entries = append(entries, tree.Entry{Name: name, Inode: tree.NewDir(0o755)})
			}
		}
	}
	img.whiteout = &tree.Inode{Mode: tree.TypeChar | 0o644, UID: root.UID, GID: root.GID, Mtime: root.Mtime}
	if label, ok := root.Xattr("security.selinux"); ok {
		img.whiteout.Xattrs = []tree.Xattr{{Name: "security.selinux", Value: label}}
	}
	for i := range 256 {
		if name := fmt.Sprintf("%02x", i); !have(name) {
			entries = append(entries, tree.Entry{Name: name, Inode: img.whiteout})
		}
	}
	slices.SortFunc(entries, func(a, b tree.Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries
}

// path returns the path of a node, for errors.
func (img *image) path(i uint32) string {
	p := ""
	for ; i != 0; i = img.nodes[i].parent {
		p = "/" + img.nodes[i].name + p
	}
	if p == "" {
		return "/"
	}
	return p
}
