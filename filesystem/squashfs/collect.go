package squashfs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"imgbuild/filesystem"
	"imgbuild/tree"
)

// node is an inode of the image. Its number is its index in collection.nodes
// and 1.
type node struct {
	inode  *tree.Inode
	name   string // and
	parent uint32 // directory where it was met first
	links  uint32
	uid    uint16 // index in collection.ids
	gid    uint16
	xattr  uint32 // index of the set of attributes, or none
	file   uint32 // index in collection.files, of regular files

	place metaRef // in the table of inodes, once it is written
	done  bool    // it is
}

// file is the content of one or more regular files.
type file struct {
	node   uint32 // one that has it
	blocks int    // without the tail
	tail   int    // bytes in a fragment

	start      uint64   // of the first block in the image
	sizes      []uint32 // of the blocks, with plainBlock; nil when all are zero
	stored     int64    // bytes of blocks that are not zero
	fragment   uint32   // index, or none
	fragOffset uint32
}

// collection is all that is known of an image before content is read.
type collection struct {
	opt        *Options
	blockLog   uint
	nodes      []node // each directory's entries next to each other
	files      []file
	ids        []uint32
	xattrs     xattrWriter
	duplicates int
	fragments  []fragment
	byTree     map[*tree.Inode]uint32 // index in nodes
}

// collector builds a collection.
type collector struct {
	*collection
	byID map[uint32]uint16
	todo []uint32 // indices of directories to enter, the next one last
}

// collect walks the tree. A directory is met before what is in it, all entries
// of a directory before those of its first subdirectory: so their numbers are
// next to each other, as listings want them.
func collect(ctx context.Context, root *tree.Inode, opt *Options, meta compressor) (*collection, error) {
	if root == nil || !root.IsDir() {
		return nil, errors.New("squashfs: the root is not a directory")
	}
	c := &collector{
		collection: &collection{
			opt: opt, blockLog: uint(bits.TrailingZeros(uint(opt.BlockSize))),
			byTree: map[*tree.Inode]uint32{root: 0}, xattrs: newXattrWriter(meta),
		},
		byID: map[uint32]uint16{},
		todo: []uint32{0},
	}
	c.nodes = []node{{}}
	if err := c.describe(0, root); err != nil {
		return nil, filesystem.Refuse("squashfs", "/", err)
	}
	for len(c.todo) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d := c.todo[len(c.todo)-1]
		c.todo = c.todo[:len(c.todo)-1]
		if err := c.enter(d); err != nil {
			return nil, err
		}
	}
	return c.collection, nil
}

// enter numbers the entries of a directory.
func (c *collector) enter(d uint32) error {
	subdirs := len(c.todo)
	links := uint32(2)
	for _, e := range c.nodes[d].inode.Entries() {
		index, err := c.number(d, e)
		if err != nil {
			return filesystem.Refuse("squashfs", filesystem.JoinPath(c.path(d), e.Name), err)
		}
		if e.Inode.IsDir() {
			links++
			c.todo = append(c.todo, index)
		}
	}
	slices.Reverse(c.todo[subdirs:])
	c.nodes[d].links = links
	return nil
}

// number returns the index of the node for an entry of the directory d.
func (c *collector) number(d uint32, e tree.Entry) (uint32, error) {
	if e.Inode == nil {
		return 0, errors.New("entry without an inode")
	}
	if index, ok := c.byTree[e.Inode]; ok {
		if e.Inode.IsDir() {
			return 0, fmt.Errorf("the directory is also %s", c.path(index))
		}
		c.nodes[index].links++
		return index, nil
	}
	if len(c.nodes) >= math.MaxInt32 {
		return 0, errors.New("too many files for squashfs")
	}
	index := uint32(len(c.nodes))
	c.byTree[e.Inode] = index
	c.nodes = append(c.nodes, node{name: e.Name, parent: d, links: 1})
	return index, c.describe(index, e.Inode)
}

// describe checks an inode and keeps its owners, attributes and content.
func (c *collector) describe(index uint32, i *tree.Inode) error {
	n := &c.nodes[index]
	n.inode = i
	switch i.Type() {
	case tree.TypeFile:
		if i.Verity != nil {
			return errors.New("squashfs has no fs-verity")
		}
		f := file{node: index, fragment: none}
		size, block := i.Content.Size(), int64(c.opt.BlockSize)
		if size > maxFileBlocks*block {
			return fmt.Errorf("file of %d bytes, more than %d", size, maxFileBlocks*block)
		}
		f.blocks = int((size + block - 1) / block)
		if tail := size % block; tail > 0 && (size < block || c.opt.TailEnds) {
			f.tail = int(tail)
			f.blocks--
		}
		n.file = uint32(len(c.files))
		c.files = append(c.files, f)
	case tree.TypeDir, tree.TypeFIFO, tree.TypeSock:
	case tree.TypeChar, tree.TypeBlock:
		if i.Major > maxMajor || i.Minor > maxMinor {
			return fmt.Errorf("device number %d:%d, more than Linux has", i.Major, i.Minor)
		}
	case tree.TypeLink:
		if t := i.Target; t == "" || len(t) > maxTarget || strings.Contains(t, "\x00") {
			return fmt.Errorf("invalid target of %d bytes of a symbolic link", len(t))
		}
	default:
		return fmt.Errorf("unknown file type %#o", i.Mode)
	}
	var err error
	if n.uid, err = c.owner(i.UID); err != nil {
		return err
	}
	if n.gid, err = c.owner(i.GID); err != nil {
		return err
	}
	n.xattr, err = c.xattrs.add(i.Xattrs)
	return err
}

// owner returns the index of a user or group.
func (c *collector) owner(id uint32) (uint16, error) {
	if index, ok := c.byID[id]; ok {
		return index, nil
	}
	if len(c.ids) == maxIDs {
		return 0, fmt.Errorf("more than %d owners and groups", maxIDs)
	}
	index := uint16(len(c.ids))
	c.ids = append(c.ids, id)
	c.byID[id] = index
	return index, nil
}

// path returns the path of a node, for errors.
func (c *collection) path(index uint32) string {
	return filesystem.Path(index, 0, func(i uint32) (string, uint32) { return c.nodes[i].name, c.nodes[i].parent })
}

// readError is that of content which cannot be read.
func (c *collection) readError(node uint32, err error) error {
	return fmt.Errorf("squashfs: %s: %w", c.path(node), err)
}
