package xfs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/filesystem"
	"imgbuild/tree"
)

// node is an inode of the file system to be.
type node struct {
	inode  *tree.Inode // nil for those of the realtime part
	name   string      // and
	parent uint32      // index of the directory where it was met first
	links  uint32
	number uint32 // of the inode, when it is placed

	attrs *attrSet // nil without attributes
	dir   *dirForm // of a directory

	// Blocks in the row of metadata: of a directory or a symbolic link, and of
	// attributes.
	first, firstAttr uint32

	blocks  uint64        // of both forks, in all
	extents [2]extentList // of data and attributes, when they are placed
}

// extentList is a part of layout.extents.
type extentList struct{ first, n uint32 }

// Indices of nodes, which are the inodes at the start of the first chunk.
const (
	nodeRoot = iota
	nodeRTBitmap
	nodeRTSummary
	nodeFirst // of the others
)

// collection is all that is known of a file system before its size. Numbers of
// inodes in directories are indices of nodes still.
type collection struct {
	opt    *Options
	nodes  []node // in tree order
	row    blockRow
	blocks uint64 // of all nodes
	attrs  bool   // there are attributes
	// With parent pointers: the names of files beside the first, by node, and
	// attributes whose blocks are filled last.
	links   []parentLink
	pending map[uint32]*pendingAttrs
}

// collector builds a collection.
type collector struct {
	*collection
	dirs   dirWriter
	byTree map[*tree.Inode]uint32 // index
	sets   map[attrKey]*attrSet
	key    []byte   // scratch
	list   []dirent // scratch
	todo   []uint32 // indices of directories to enter, the next one last
}

// attrKey identifies equal attributes in forks of equal room.
type attrKey struct {
	sum    [32]byte
	device bool
}

// maxNodes is how many inodes have numbers of 32 bits for sure: groups give
// half a TiB to them at least.
const maxNodes = 1 << 30

// collect walks the tree. A directory is met before what is in it, all entries
// of a directory before those of its first subdirectory.
func collect(ctx context.Context, root *tree.Inode, opt *Options) (*collection, error) {
	c := &collector{
		collection: &collection{opt: opt, row: blockRow{uuid: opt.UUID}},
		byTree:     map[*tree.Inode]uint32{},
		sets:       map[attrKey]*attrSet{},
	}
	c.dirs.row = &c.row
	if root == nil || !root.IsDir() {
		return nil, errors.New("xfs: the root is not a directory")
	}
	c.nodes = make([]node, nodeFirst)
	c.nodes[nodeRTBitmap].links, c.nodes[nodeRTSummary].links = 1, 1
	c.byTree[root] = nodeRoot
	if err := c.describe(nodeRoot, root); err != nil {
		return nil, filesystem.Refuse("xfs", "/", err)
	}
	c.todo = append(c.todo, nodeRoot)
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
	slices.SortStableFunc(c.links, func(a, b parentLink) int { return cmp.Compare(a.node, b.node) })
	links := c.links
	for i := range c.nodes {
		for len(links) > 0 && links[0].node < uint32(i) {
			links = links[1:]
		}
		if n := &c.nodes[i]; n.inode != nil && !n.inode.IsDir() {
			if err := c.store(uint32(i), links); err != nil {
				return nil, filesystem.Refuse("xfs", c.path(uint32(i)), err)
			}
		}
		c.collection.blocks += c.nodes[i].blocks
	}
	c.links = nil
	return c.collection, nil
}

// enter numbers the entries of a directory and stores it.
func (c *collector) enter(d uint32) error {
	entries := c.nodes[d].inode.Entries()
	subdirs := len(c.todo)
	c.list = slices.Grow(c.list[:0], len(entries))
	for _, e := range entries {
		index, err := c.index(d, e)
		if err != nil {
			return filesystem.Refuse("xfs", filesystem.JoinPath(c.path(d), e.Name), err)
		}
		c.list = append(c.list, dirent{name: e.Name, node: index, kind: filesystem.TypeOf(e.Inode.Mode)})
		if e.Inode.IsDir() {
			c.nodes[d].links++
			c.todo = append(c.todo, index)
		}
	}
	slices.Reverse(c.todo[subdirs:])
	n := &c.nodes[d]
	n.links += 2
	n.first = c.row.len()
	n.dir = c.dirs.write(d, n.parent, c.list, n.dataRoom())
	n.blocks += uint64(n.dir.blocks())
	return nil
}

// index returns the index of the node for an entry of the directory d, of a new
// one where the inode has none yet.
func (c *collector) index(d uint32, e tree.Entry) (uint32, error) {
	if e.Inode == nil {
		return 0, errors.New("entry without an inode")
	}
	if index, ok := c.byTree[e.Inode]; ok {
		if e.Inode.IsDir() {
			return 0, fmt.Errorf("the directory is also %s", c.path(index))
		}
		c.nodes[index].links++
		if c.opt.has(Parent) {
			c.links = append(c.links, parentLink{index, d, e.Name})
		}
		return index, nil
	}
	if len(c.nodes) >= maxNodes {
		return 0, errors.New("too many files")
	}
	index := uint32(len(c.nodes))
	c.byTree[e.Inode] = index
	c.nodes = append(c.nodes, node{name: e.Name, parent: d})
	if !e.Inode.IsDir() {
		c.nodes[index].links = 1
	}
	return index, c.describe(index, e.Inode)
}

// describe checks the inode of a node, and stores the attributes of a directory.
func (c *collector) describe(index uint32, i *tree.Inode) error {
	c.nodes[index].inode = i
	if i.Flags&tree.Immutable != 0 && !i.IsFile() && !i.IsDir() {
		return errors.New("only files and directories can be immutable")
	}
	switch i.Type() {
	case tree.TypeFile:
		if i.Verity != nil {
			return errors.New("protected by fs-verity, which Linux does not have on XFS")
		}
	case tree.TypeFIFO, tree.TypeSock:
	case tree.TypeDir:
		return c.setAttrs(index, nil)
	case tree.TypeChar, tree.TypeBlock:
		if i.Major > maxMajor || i.Minor > maxMinor {
			return fmt.Errorf("device number %d:%d, more than %d:%d", i.Major, i.Minor, maxMajor, maxMinor)
		}
	case tree.TypeLink:
		if t := i.Target; t == "" || len(t) > maxTarget || strings.Contains(t, "\x00") {
			return fmt.Errorf("invalid target of %d bytes of a symbolic link, XFS allows 1 to %d", len(t), maxTarget)
		}
	default:
		return fmt.Errorf("unknown file type %#o", i.Mode)
	}
	return nil
}

// store stores what a node that is no directory has outside its inode, when all
// of its names are known, and counts its blocks.
func (c *collector) store(index uint32, links []parentLink) error {
	if err := c.setAttrs(index, links); err != nil {
		return err
	}
	n := &c.nodes[index]
	switch i := n.inode; i.Type() {
	case tree.TypeFile:
		runs := uint64(0)
		for _, count := range filesystem.DataBlocks(i.Content, blockShift) {
			n.blocks += count
			runs += ceilDiv(count, maxExtentLen)
		}
		n.blocks += bmbtBlocks(runs, n.dataRoom())
	case tree.TypeLink:
		if t := i.Target; len(t) > n.dataRoom() {
			n.first = c.row.len()
			n.blocks++
			c.row.add(kindRemote, append(remoteHead("XSLM", 0, len(t)), t...), nil)
		}
	}
	return nil
}

// setAttrs stores the attributes of a node. links are as for parentsOf.
func (c *collector) setAttrs(index uint32, links []parentLink) error {
	n := &c.nodes[index]
	if c.opt.has(Parent) {
		return c.setParents(index, c.parentsOf(index, links))
	}
	list := n.inode.Xattrs
	if len(list) == 0 {
		return nil
	}
	c.key = filesystem.XattrKey(c.key[:0], list)
	key := attrKey{sha256.Sum256(c.key), isDevice(n.inode.Mode)}
	set, ok := c.sets[key]
	if !ok {
		attrs, err := newAttrs(list)
		if err != nil {
			return err
		}
		if len(attrs) > 0 {
			if set, err = newAttrSet(&c.row, attrs, maxAttrRoom(n.inode)); err != nil {
				return err
			}
		}
		c.sets[key] = set
	}
	if set == nil {
		return nil
	}
	n.attrs = set
	n.firstAttr = c.row.len()
	n.blocks += uint64(len(set.blocks))
	c.row.blocks = append(c.row.blocks, set.blocks...)
	c.attrs = true
	return nil
}

// maxAttrRoom returns the most bytes that attributes may take within an inode.
func maxAttrRoom(i *tree.Inode) int {
	if isDevice(i.Mode) {
		return literal - deviceRoom
	}
	return literal - minDataRoom
}

// setParents stores the attributes of a node and its parent pointers.
func (c *collector) setParents(index uint32, parents []attr) error {
	n := &c.nodes[index]
	list, err := newAttrs(n.inode.Xattrs)
	if err != nil || len(list)+len(parents) == 0 {
		return err
	}
	c.attrs = true
	if b := shortParents(list, parents, maxAttrRoom(n.inode)); b != nil {
		n.attrs = &attrSet{local: b}
		return nil
	}
	pending, blocks := planParents(append(list, parents...))
	if c.pending == nil {
		c.pending = map[uint32]*pendingAttrs{}
	}
	c.pending[index] = pending
	n.attrs = &attrSet{blocks: make([]rowBlock, blocks)}
	n.firstAttr = c.row.len()
	n.blocks += uint64(blocks)
	c.row.blocks = append(c.row.blocks, n.attrs.blocks...)
	return nil
}

// attrAt returns where the attribute fork of a node begins in the literal area,
// 0 without one.
func (n *node) attrAt() int {
	switch {
	case n.attrs == nil:
		return 0
	case isDevice(n.inode.Mode):
		return deviceRoom
	}
	return (literal - max(n.attrs.room(), minAttrRoom)) &^ 7
}

// dataRoom returns the room of the data fork in bytes.
func (n *node) dataRoom() int {
	if at := n.attrAt(); at > 0 {
		return at
	}
	return literal
}

// attrRoom returns the room of the attribute fork in bytes.
func (n *node) attrRoom() int { return literal - n.attrAt() }

// path returns the path of a node, for errors.
func (c *collection) path(index uint32) string {
	return filesystem.Path(index, nodeRoot, func(i uint32) (string, uint32) { return c.nodes[i].name, c.nodes[i].parent })
}
