package btrfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/fsverity"
	"imgbuild/tree"
)

// node is an inode of the file system to be.
type node struct {
	inode  *tree.Inode
	name   string // and
	parent uint32 // index of the directory where it was met first
	order  uint32 // place of the name in that directory, from 0
	links  uint32
	set    uint32 // of attributes, plus 1, or 0

	// Of a directory: its part of collection.children and byHash. Of a file: its
	// part of layout.extents, when it is placed.
	first, n uint32
	// link is the first of the names of a file with several in
	// collection.links.
	link uint32

	// size is i_size of a directory, or the bytes in the extents of a file.
	size   uint64
	packed *packedFile // content, or nil where the inode tells it
	flags  nodeFlag
}

type nodeFlag uint8

const (
	nodeInline    nodeFlag = 1 << iota // content is inline
	nodeNoDataCow                      // and what is in it, if it is a directory
)

// subvolume is a tree of files.
type subvolume struct {
	id       uint64
	uuid     [16]byte
	inode    *tree.Inode
	root     uint32 // index of its root directory, the first of its nodes
	end      uint32 // index behind the last
	parent   uint32 // of the subvolumes, and
	dir      uint32 // node of the directory that has it as an entry
	order    uint32 // place of its name in that directory
	name     string
	flags    uint64
	compress Compression
	met      bool
	depth    int // of the path
}

// subvolumeEntry is the bit that tells a subvolume in collection.children.
const subvolumeEntry = 1 << 31

// link is a name of a file that has several.
type link struct {
	node, parent, order uint32
	name                string
}

// extref is a name in an extended reference: which one of the names of a node,
// and its hash.
type extref struct {
	hash uint32
	link uint32
}

// collection is all that is known of a file system before its size.
type collection struct {
	opt   *Options
	subs  []subvolume
	order []uint32 // of subs, as their nodes come: each behind what it is in
	nodes []node   // of one subvolume after the other, in tree order

	// Of all directories, entries in the order of their names: the index of the
	// node or subvolume, and the same entries in the order of the hashes of
	// their names, hash<<32 | place.
	children []uint32
	byHash   []uint64

	links   []link              // by node, parent and order
	extrefs map[uint32][]extref // by node; ascending by hash
	sets    []attrSet

	preferred uint32 // index in subs of the default subvolume
	verity    bool   // there are files with fs-verity

	sectors  uint64 // of content outside the trees
	metadata uint64 // bytes of the trees of files, and of what belongs to them elsewhere
}

// attrSet is the stored form of extended attributes.
type attrSet []attr

// attr is an item of attributes whose names have one hash.
type attr struct {
	hash uint32
	data []byte
}

// collector builds a collection.
type collector struct {
	*collection
	sub      uint32                 // that is being walked
	byDir    map[*tree.Inode]uint32 // node of a directory
	byTree   map[*tree.Inode]uint32 // node of a file of this subvolume; of several copies the last
	bySub    map[*tree.Inode]uint32 // subvolumes
	inPlace  map[*tree.Inode]bool   // NoDataCow
	setsByID map[string]uint32      // plus 1, or 0
	key      []byte                 // scratch
	todo     []uint32               // directories to enter, the next one last
}

// maxNodes bounds indices.
const maxNodes = subvolumeEntry - 1

// collect walks the tree. A directory is met before what is in it, all entries
// of a directory before those of its first subdirectory.
func collect(ctx context.Context, root *tree.Inode, opt *Options) (*collection, error) {
	c := &collector{
		collection: &collection{opt: opt, extrefs: map[uint32][]extref{}},
		byDir:      map[*tree.Inode]uint32{},
		bySub:      map[*tree.Inode]uint32{},
		inPlace:    map[*tree.Inode]bool{},
		setsByID:   map[string]uint32{},
	}
	if root == nil || !root.IsDir() {
		return nil, errors.New("btrfs: the root is not a directory")
	}
	if err := c.resolve(root); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("btrfs: %w", err), "")
	}
	for _, s := range c.order {
		if err := c.walk(ctx, s); err != nil {
			return nil, err
		}
	}
	return c.collection, nil
}

// resolve finds what the options name, and the order of the subvolumes.
func (c *collector) resolve(root *tree.Inode) error {
	o := c.opt
	c.subs = append(c.subs, subvolume{id: fsTree, inode: root, compress: o.Compress, met: true, uuid: c.derive("subvolume /")})
	c.bySub[root] = 0
	for i, s := range o.Subvolumes {
		dir := tree.Lookup(root, s.Path)
		full := path.Clean("/" + s.Path)
		if dir == nil || !dir.IsDir() {
			return fmt.Errorf("subvolume %s: not a directory of the tree", s.Path)
		}
		if _, ok := c.bySub[dir]; ok {
			return fmt.Errorf("subvolume %s: named twice", s.Path)
		}
		sub := subvolume{id: firstFree + uint64(i), inode: dir, compress: s.Compress, uuid: c.derive("subvolume " + full), depth: strings.Count(full, "/")}
		if s.ReadOnly {
			sub.flags = rootReadOnly
		}
		c.bySub[dir] = uint32(len(c.subs))
		c.subs = append(c.subs, sub)
	}
	if o.Default != "" {
		sub, ok := c.bySub[tree.Lookup(root, o.Default)]
		if !ok {
			return fmt.Errorf("default subvolume %s: not a subvolume", o.Default)
		}
		c.preferred = sub
	}
	for _, p := range o.NoDataCow {
		i := tree.Lookup(root, p)
		if i == nil || !i.IsDir() && !i.IsFile() {
			return fmt.Errorf("%s, to be written in place: not a file or directory of the tree", p)
		}
		c.inPlace[i] = true
	}
	for i := range c.subs {
		c.order = append(c.order, uint32(i))
	}
	slices.SortStableFunc(c.order, func(a, b uint32) int { return cmp.Compare(c.subs[a].depth, c.subs[b].depth) })
	return nil
}

// walk collects a subvolume.
func (c *collector) walk(ctx context.Context, s uint32) error {
	sub := &c.subs[s]
	if !sub.met {
		return fmt.Errorf("btrfs: subvolume %d is not reached", sub.id)
	}
	c.sub = s
	c.byTree = map[*tree.Inode]uint32{}
	sub.root = uint32(len(c.nodes))
	n := node{links: 1, parent: sub.dir, name: sub.name}
	if s != 0 {
		n.flags = c.nodes[sub.dir].flags & nodeNoDataCow
	}
	c.nodes = append(c.nodes, n)
	firstLink := len(c.links)
	if err := c.describe(sub.root, sub.inode); err != nil {
		return filesystem.Refuse("btrfs", c.path(sub.root), err)
	}
	c.todo = append(c.todo[:0], sub.root)
	for len(c.todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		d := c.todo[len(c.todo)-1]
		c.todo = c.todo[:len(c.todo)-1]
		if err := c.enter(d); err != nil {
			return err
		}
	}
	sub.end = uint32(len(c.nodes))
	return c.sortLinks(firstLink)
}

// enter numbers the entries of a directory.
func (c *collector) enter(d uint32) error {
	entries := c.nodes[d].inode.Entries()
	subdirs := len(c.todo)
	first := len(c.children)
	size := 0
	for order, e := range entries {
		child, err := c.child(d, uint32(order), e)
		if err != nil {
			return filesystem.Refuse("btrfs", filesystem.JoinPath(c.path(d), e.Name), err)
		}
		c.children = append(c.children, child)
		c.byHash = append(c.byHash, uint64(nameHash(e.Name))<<32|uint64(order))
		if e.Inode.IsDir() && child&subvolumeEntry == 0 {
			c.todo = append(c.todo, child)
		}
		size += len(e.Name)
	}
	slices.Reverse(c.todo[subdirs:])
	n := &c.nodes[d]
	n.first, n.n = uint32(first), uint32(len(entries))
	n.size = 2 * uint64(size)
	c.metadata += uint64(2*(len(entries)*(sizeItem+sizeDirItem)+size) + len(entries)*sizeInodeRef + size)
	hashes := c.byHash[first:]
	slices.Sort(hashes)
	// Names of one hash share an item.
	total := 0
	for i, h := range hashes {
		if i == 0 || h>>32 != hashes[i-1]>>32 {
			total = 0
		}
		if total += sizeDirItem + len(entries[uint32(h)].Name); total > maxItem {
			return filesystem.Refuse("btrfs", c.path(d), errors.New("too many names with the same hash"))
		}
	}
	return nil
}

// child returns what collection.children has for an entry of the directory d:
// a subvolume, a node that is there already, or a new one.
func (c *collector) child(d, order uint32, e tree.Entry) (uint32, error) {
	if e.Inode == nil {
		return 0, errors.New("entry without an inode")
	}
	if s, ok := c.bySub[e.Inode]; ok {
		sub := &c.subs[s]
		if sub.met {
			return 0, fmt.Errorf("the directory is also %s", filesystem.JoinPath(c.path(sub.dir), sub.name))
		}
		sub.met, sub.parent, sub.dir, sub.order, sub.name = true, c.sub, d, order, e.Name
		return subvolumeEntry | s, nil
	}
	seen := c.byTree
	if e.Inode.IsDir() {
		seen = c.byDir
	}
	if index, ok := seen[e.Inode]; ok {
		n := &c.nodes[index]
		if e.Inode.IsDir() {
			return 0, fmt.Errorf("the directory is also %s", c.path(index))
		}
		if n.links < maxLinks {
			if n.links == 1 {
				c.links = append(c.links, link{index, n.parent, n.order, n.name})
			}
			n.links++
			c.links = append(c.links, link{index, d, order, e.Name})
			return index, nil
		}
	}
	if len(c.nodes) >= maxNodes {
		return 0, errors.New("too many files")
	}
	index := uint32(len(c.nodes))
	seen[e.Inode] = index
	c.nodes = append(c.nodes, node{name: e.Name, parent: d, order: order, links: 1, flags: c.nodes[d].flags & nodeNoDataCow})
	return index, c.describe(index, e.Inode)
}

// describe checks the inode of a node, stores its attributes, and counts what it
// takes.
func (c *collector) describe(index uint32, i *tree.Inode) error {
	n := &c.nodes[index]
	n.inode = i
	if c.inPlace[i] {
		n.flags |= nodeNoDataCow
	}
	if i.Flags&tree.Immutable != 0 && !i.IsFile() && !i.IsDir() {
		return errors.New("only files and directories can be immutable")
	}
	c.metadata += 2*sizeItem + sizeInodeItem
	switch i.Type() {
	case tree.TypeFile:
		if i.Verity != nil {
			if !i.Verity.Valid(i.Content.Size()) {
				return errors.New("fs-verity metadata of another content")
			}
			c.verity = true
			size := i.Verity.Tree.Size()
			c.metadata += uint64(2*sizeItem + sizeVerity + fsverity.SizeDescriptor)
			// Seven of these items fill a leaf but for a tenth.
			c.metadata += uint64(size + size/8)
		}
		c.describeContent(n)
	case tree.TypeDir, tree.TypeFIFO, tree.TypeSock:
	case tree.TypeChar, tree.TypeBlock:
		if i.Major > maxMajor || i.Minor > maxMinor {
			return fmt.Errorf("device number %d:%d, more than %d:%d", i.Major, i.Minor, maxMajor, maxMinor)
		}
	case tree.TypeLink:
		t := i.Target
		if t == "" || len(t) > maxTarget || strings.Contains(t, "\x00") {
			return fmt.Errorf("invalid target of %d bytes of a symbolic link, btrfs allows 1 to %d", len(t), maxTarget)
		}
		n.flags |= nodeInline
		c.countInline(n)
	default:
		return fmt.Errorf("unknown file type %#o", i.Mode)
	}
	return c.setAttrs(n)
}

func (c *collector) countInline(n *node) {
	c.metadata += uint64(sizeItem + sizeInlineHead + n.inlineSize())
}

// describeContent decides how the content of a regular file is stored.
func (c *collector) describeContent(n *node) {
	ref := n.inode.Content
	n.packed, _ = c.opt.Packed.file(n.inode, c.compression(n))
	if n.packed.compressedInline() || n.flags&nodeNoDataCow == 0 && ref.Size() <= maxInline && hasData(ref) {
		n.flags |= nodeInline
		c.countInline(n)
		return
	}
	extents := uint64(0)
	for p := range n.data() {
		c.sectors += uint64(p.onDisk())
		extents++
	}
	c.metadata += extents * (2*sizeItem + sizeFileExtent + sizeDataItem)
}

// inlineSize returns the bytes of inline content as they are in the tree.
func (n *node) inlineSize() int {
	switch {
	case n.inode.IsLink():
		return len(n.inode.Target)
	case n.packed.compressedInline():
		return int(n.packed.inline.Size())
	}
	return int(n.inode.Content.Size())
}

// readInline reads inline content as it is in the tree, which b has the size of.
func (n *node) readInline(b []byte) error {
	ref := n.inode.Content
	switch {
	case n.inode.IsLink():
		copy(b, n.inode.Target)
		return nil
	case n.packed.compressedInline():
		ref = n.packed.inline
	}
	if _, err := ref.ReadAt(b, 0); err != nil && err != io.EOF {
		return err
	}
	return nil
}

// compression returns the compression of a node of the subvolume that is being
// walked.
func (c *collector) compression(n *node) Compression {
	if n.flags&nodeNoDataCow != 0 {
		return Compression{}
	}
	return c.subs[c.sub].compress
}

func hasData(c content.Ref) bool {
	for range c.Data() {
		return true
	}
	return false
}

// sortLinks sorts the names, from index first on, of the files of a subvolume
// that have several, and finds those that need an extended reference.
func (c *collector) sortLinks(first int) error {
	list := c.links[first:]
	slices.SortFunc(list, func(a, b link) int {
		return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.parent, b.parent), cmp.Compare(a.order, b.order))
	})
	var last, size uint32
	for i := range list {
		k := &list[i]
		n := &c.nodes[k.node]
		if i == 0 || k.node != list[i-1].node {
			n.link = uint32(first + i)
			size = 0
		} else if k.parent != list[i-1].parent {
			size = 0
		}
		size += uint32(sizeInodeRef + len(k.name))
		if size > maxItem {
			h := extrefHash(c.subs[c.sub].number(k.parent), k.name)
			c.extrefs[k.node] = append(c.extrefs[k.node], extref{h, uint32(first + i)})
			c.metadata += uint64(sizeItem + sizeInodeExt + len(k.name))
			last = k.node
		}
	}
	if last == 0 {
		return nil
	}
	for index := range c.extrefs {
		if index < c.subs[c.sub].root {
			continue
		}
		refs := c.extrefs[index]
		slices.SortFunc(refs, func(a, b extref) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.link, b.link)) })
		total := 0
		for i, r := range refs {
			if i == 0 || r.hash != refs[i-1].hash {
				total = 0
			}
			if total += sizeInodeExt + len(c.links[r.link].name); total > maxItem {
				return filesystem.Refuse("btrfs", c.path(index), errors.New("too many names with the same hash"))
			}
		}
	}
	return nil
}

// number returns the inode number of a node of the subvolume.
func (s *subvolume) number(node uint32) uint64 { return firstFree + uint64(node-s.root) }

// path returns the path of a node, for errors.
func (c *collection) path(index uint32) string {
	return filesystem.Path(index, 0, func(i uint32) (string, uint32) { return c.nodes[i].name, c.nodes[i].parent })
}

// subOf returns the subvolume of a node.
func (c *collection) subOf(index uint32) *subvolume {
	k, found := slices.BinarySearchFunc(c.order, index, func(s, index uint32) int { return cmp.Compare(c.subs[s].root, index) })
	if !found {
		k--
	}
	return &c.subs[c.order[k]]
}
