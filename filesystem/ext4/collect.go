package ext4

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/filesystem"
	"imgbuild/tree"
)

// node is an inode of the file system to be. Its number is its index in
// collection.nodes plus inoRoot.
type node struct {
	inode  *tree.Inode
	name   string // and
	parent uint32 // directory where it was met first
	links  uint32

	inline     []byte // attributes in the inode
	xattrBlock uint64 // index of the block of attributes in the row of metadata, plus 1, or 0

	// Of directories and long symbolic links: blocks in the row of metadata.
	first, blocks uint64
	indexed       bool
}

// collection is all that is known of a file system before its size: inodes with
// their numbers, the content of directories, links and attributes.
type collection struct {
	opt   *Options
	seed  uint32 // of checksums, from the UUID
	nodes []node // root, gaps up to lost+found, lost+found, the rest in tree order

	row         packedBlocks // directories, symbolic links, attributes
	early       uint64       // blocks of the row that come before the journal
	xattrBlocks []uint64     // indices in the row
	dataBlocks  uint64       // of all regular files, without holes
	verity      packedBlocks // descriptors of fs-verity, one a file that has it
}

// inodes returns the number of inodes in use, the reserved ones included.
func (c *collection) inodes() uint64 { return uint64(len(c.nodes)) + inoRoot - 1 }

// collector builds a collection.
type collector struct {
	*collection
	dirs   dirWriter
	byTree map[*tree.Inode]uint32  // node index; of several copies the last
	xattrs map[[32]byte]*sharedSet // by checksum of the attributes
	key    []byte                  // scratch
	list   []dirent                // scratch
	todo   []uint32                // indices of directories to enter, the next one last
}

// sharedSet is the stored form of attributes that several inodes have.
type sharedSet struct {
	xattrSet
	index uint64 // of the block in the row
	refs  uint32 // to that block
}

// lostFound is the index of lost+found in collection.nodes.
const lostFound = inoFirst - inoRoot

// collect walks the tree. A directory is met before what is in it, all entries
// of a directory before those of its first subdirectory.
func collect(ctx context.Context, root *tree.Inode, opt *Options) (*collection, error) {
	c := &collector{
		collection: &collection{opt: opt, seed: crc32c(^uint32(0), opt.UUID[:])},
		byTree:     map[*tree.Inode]uint32{},
		xattrs:     map[[32]byte]*sharedSet{},
	}
	c.dirs = dirWriter{row: &c.row, fsSeed: c.seed, hashSeed: opt.HashSeed}
	if root == nil || !root.IsDir() {
		return nil, errors.New("ext4: the root is not a directory")
	}
	entries := root.Entries()
	lost := root.Child("lost+found")
	if lost == nil {
		lost = tree.NewDir(0o700)
		lost.Mtime = opt.Time
		at, _ := slices.BinarySearchFunc(entries, "lost+found", func(e tree.Entry, name string) int {
			return strings.Compare(e.Name, name)
		})
		entries = slices.Insert(slices.Clone(entries), at, tree.Entry{Name: "lost+found", Inode: lost})
	}
	if !lost.IsDir() {
		return nil, filesystem.Refuse("ext4", "/lost+found", errors.New("not a directory, as e2fsck needs it"))
	}
	c.nodes = make([]node, lostFound+1)
	c.nodes[lostFound] = node{name: "lost+found", parent: 0}
	c.byTree[root], c.byTree[lost] = 0, lostFound
	for _, d := range []struct {
		index uint32
		inode *tree.Inode
	}{{0, root}, {lostFound, lost}} {
		if err := c.describe(d.index, d.inode); err != nil {
			return nil, filesystem.Refuse("ext4", c.path(d.index), err)
		}
	}
	// The root first, then lost+found, then the journal: as mke2fs has it.
	if err := c.enter(0, entries); err != nil {
		return nil, err
	}
	for n := 0; len(c.todo) > 0; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d := c.todo[len(c.todo)-1]
		c.todo = c.todo[:len(c.todo)-1]
		if err := c.enter(d, c.nodes[d].inode.Entries()); err != nil {
			return nil, err
		}
		if n == 0 { // lost+found
			c.early = c.row.len()
		}
	}
	return c.collection, nil
}

// enter numbers the entries of a directory and writes its blocks.
func (c *collector) enter(d uint32, entries []tree.Entry) error {
	subdirs := len(c.todo)
	c.list = slices.Grow(c.list[:0], len(entries))
	for _, e := range entries {
		index, err := c.number(d, e)
		if err != nil {
			return filesystem.Refuse("ext4", filesystem.JoinPath(c.path(d), e.Name), err)
		}
		c.list = append(c.list, dirent{name: e.Name, ino: index + inoRoot, kind: filesystem.TypeOf(e.Inode.Mode)})
		if e.Inode.IsDir() {
			c.nodes[d].links++
			if index != lostFound {
				c.todo = append(c.todo, index)
			}
		}
	}
	slices.Reverse(c.todo[subdirs:])
	minBlocks := 1
	switch d {
	case 0:
		c.todo = append(c.todo, lostFound)
	case lostFound:
		minBlocks = lostFoundBlocks
	}
	n := &c.nodes[d]
	n.links += 2
	if n.links > maxLinks {
		n.links = 1 // dir_nlink: not counted any more
	}
	n.first = c.row.len()
	var err error
	n.blocks, n.indexed, err = c.dirs.write(d+inoRoot, n.parent+inoRoot, c.list, minBlocks)
	if err != nil {
		return filesystem.Refuse("ext4", c.path(d), err)
	}
	return nil
}

// number returns the index of the node for an entry of the directory d, a new
// one where the inode has none yet or that has all the links it may have.
func (c *collector) number(d uint32, e tree.Entry) (uint32, error) {
	if e.Inode == nil {
		return 0, errors.New("entry without an inode")
	}
	index, ok := c.byTree[e.Inode]
	switch {
	case ok && index == lostFound && d == 0 && e.Name == "lost+found":
		return index, nil
	case ok && e.Inode.IsDir():
		return 0, fmt.Errorf("the directory is also %s", c.path(index))
	case ok && c.nodes[index].links < maxLinks:
		c.nodes[index].links++
		return index, nil
	}
	if c.inodes() >= maxInodes {
		return 0, errors.New("too many files for ext4")
	}
	index = uint32(len(c.nodes))
	c.byTree[e.Inode] = index
	c.nodes = append(c.nodes, node{name: e.Name, parent: d})
	if !e.Inode.IsDir() {
		c.nodes[index].links = 1
	}
	return index, c.describe(index, e.Inode)
}

// describe checks the inode of a node, and stores its attributes and its target
// and counts its blocks.
func (c *collector) describe(index uint32, i *tree.Inode) error {
	n := &c.nodes[index]
	n.inode = i
	if i.Flags&tree.Immutable != 0 && !i.IsFile() && !i.IsDir() {
		return errors.New("only files and directories can be immutable")
	}
	switch i.Type() {
	case tree.TypeFile:
		if size := i.Content.Size(); size > maxFileSize {
			return fmt.Errorf("file of %d bytes, more than the %d that ext4 can hold", size, int64(maxFileSize))
		}
		for _, n := range filesystem.DataBlocks(i.Content, blockShift) {
			c.dataBlocks += n
		}
		if i.Verity != nil {
			if err := c.addVerity(i); err != nil {
				return err
			}
		}
	case tree.TypeDir, tree.TypeFIFO, tree.TypeSock:
	case tree.TypeChar, tree.TypeBlock:
		if i.Major > maxMajor || i.Minor > maxMinor {
			return fmt.Errorf("device number %d:%d, more than Linux has", i.Major, i.Minor)
		}
	case tree.TypeLink:
		switch t := i.Target; {
		case t == "" || len(t) > maxTarget || strings.Contains(t, "\x00"):
			return fmt.Errorf("invalid target of %d bytes of a symbolic link", len(t))
		case len(t) >= maxFastLink:
			n.first, n.blocks = c.row.add([]byte(t), nil), 1
		}
	default:
		return fmt.Errorf("unknown file type %#o", i.Mode)
	}
	return c.setXattrs(n)
}

// setXattrs stores the attributes of a node.
func (c *collector) setXattrs(n *node) error {
	attrs := n.inode.Xattrs
	if len(attrs) == 0 {
		return nil
	}
	c.key = filesystem.XattrKey(c.key[:0], attrs)
	sum := sha256.Sum256(c.key)
	s := c.xattrs[sum]
	if s == nil {
		set, err := newXattrSet(attrs)
		if err != nil {
			return err
		}
		s = &sharedSet{xattrSet: set, refs: maxXattrRefs}
		c.xattrs[sum] = s
	}
	n.inline = s.inline
	if s.head == nil {
		return nil
	}
	if s.refs == maxXattrRefs {
		s.index, s.refs = c.row.add(s.head, s.tail), 0
		c.xattrBlocks = append(c.xattrBlocks, s.index)
	}
	s.refs++
	binary.LittleEndian.PutUint32(c.row.head(s.index)[4:], s.refs)
	n.xattrBlock = s.index + 1
	return nil
}

// path returns the path of a node, for errors.
func (c *collection) path(index uint32) string {
	return filesystem.Path(index, 0, func(i uint32) (string, uint32) { return c.nodes[i].name, c.nodes[i].parent })
}
