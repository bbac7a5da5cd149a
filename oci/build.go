package oci

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"imgbuild/tree"
)

// builder turns the entries of a layer into a tree.
type builder struct {
	root       *tree.Inode
	implied    map[*tree.Inode]bool
	made       int // directories made without an entry
	maxImplied int

	// The directory that was used last: entries of one directory mostly follow
	// each other.
	lastPath string
	lastDir  *tree.Inode

	links []link
}

// link is a hard link whose target is looked up at the end. Until then an inode
// of no type holds its place.
type link struct {
	dir    *tree.Inode
	name   string
	place  *tree.Inode
	path   string
	target string
	seen   bool
}

// buildTree makes the tree of a layer. A later entry replaces an earlier one of
// the same path; a directory that comes again keeps its entries. Hard links are
// resolved when all entries are there, as in libostree, so that they can come
// before their target and point at other links.
//
// implied holds the directories that no entry describes: they are 0755 and
// owned by root.
//
// maxImplied is how many there may be: a single entry can ask for two thousand.
func buildTree(ctx context.Context, entries []entry, maxImplied int) (root *tree.Inode, implied map[*tree.Inode]bool, err error) {
	b := &builder{root: tree.NewDir(0o755), implied: make(map[*tree.Inode]bool), maxImplied: maxImplied}
	b.implied[b.root] = true
	b.lastDir = b.root
	for k := range entries {
		if k%1024 == 0 && ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err := b.add(&entries[k]); err != nil {
			return nil, nil, err
		}
	}
	if err := b.resolve(); err != nil {
		return nil, nil, err
	}
	sortAll(b.root)
	return b.root, b.implied, nil
}

func (b *builder) add(e *entry) error {
	if e.path == "" {
		b.describe(b.root, e.inode)
		return nil
	}
	parent, name := "", e.path
	if i := strings.LastIndexByte(e.path, '/'); i >= 0 {
		parent, name = e.path[:i], e.path[i+1:]
	}
	dir, err := b.parent(parent)
	if err != nil {
		return fmt.Errorf("entry %s: %w", clip("/"+e.path), err)
	}
	old := dir.Child(name)
	if old != nil && old.IsDir() {
		if e.inode != nil && e.inode.IsDir() {
			b.describe(old, e.inode)
			return nil
		}
		b.lastPath, b.lastDir = "", b.root // may be within what goes away
	}
	if e.inode != nil {
		dir.Set(name, e.inode)
		return nil
	}
	place := &tree.Inode{Target: e.extra.target}
	b.links = append(b.links, link{dir: dir, name: name, place: place, path: e.path, target: e.extra.target})
	dir.Set(name, place)
	return nil
}

// describe gives the directory i the metadata of an entry.
func (b *builder) describe(i, from *tree.Inode) {
	i.Mode, i.UID, i.GID, i.Mtime, i.Xattrs = from.Mode, from.UID, from.GID, from.Mtime, from.Xattrs
	delete(b.implied, i)
}

// parent returns the directory at the path, which it makes where it is missing.
// Symbolic links are not followed: what they name may be in another layer.
func (b *builder) parent(path string) (*tree.Inode, error) {
	if path == b.lastPath {
		return b.lastDir, nil
	}
	i := b.root
	if path != "" {
		for name := range strings.SplitSeq(path, "/") {
			next := i.Child(name)
			if next == nil {
				if b.made++; b.made > b.maxImplied {
					return nil, limitError("entries", "more than %d directories without an entry", b.maxImplied)
				}
				next = tree.NewDir(0o755)
				b.implied[next] = true
				i.Set(name, next)
			}
			if !next.IsDir() {
				return nil, fmt.Errorf("%s in its path is not a directory", clip(name))
			}
			i = next
		}
	}
	b.lastPath, b.lastDir = path, i
	return i, nil
}

// resolve replaces the places of hard links by their targets.
func (b *builder) resolve() error {
	byPlace := make(map[*tree.Inode]*link, len(b.links))
	for k := range b.links {
		byPlace[b.links[k].place] = &b.links[k]
	}
	final := make(map[*tree.Inode]*tree.Inode, len(b.links))
	for k := range b.links {
		l := &b.links[k]
		if l.dir.Child(l.name) != l.place {
			continue // replaced by a later entry
		}
		target, err := b.follow(l, byPlace, final)
		if err != nil {
			return fmt.Errorf("hard link %s to %s: %w", clip("/"+l.path), clip("/"+l.target), err)
		}
		l.dir.Set(l.name, target)
	}
	return nil
}

// follow returns what a link stands for in the end, along a chain of links of
// which each is followed once for all.
func (b *builder) follow(l *link, byPlace map[*tree.Inode]*link, final map[*tree.Inode]*tree.Inode) (*tree.Inode, error) {
	var chain []*link
	var target *tree.Inode
	for {
		if f := final[l.place]; f != nil {
			target = f
			break
		}
		if l.seen {
			return nil, errors.New("the links form a circle")
		}
		l.seen = true
		chain = append(chain, l)
		i := tree.Lookup(b.root, l.target)
		if i == nil {
			return nil, errors.New("the target is not in the layer")
		}
		if i.IsDir() {
			return nil, errors.New("the target is a directory")
		}
		next := byPlace[i]
		if next == nil {
			target = i
			break
		}
		l = next
	}
	for _, l := range chain {
		final[l.place] = target
	}
	return target, nil
}

// sortAll has every directory sort its entries, so that the tree can be read by
// several goroutines at once.
func sortAll(dir *tree.Inode) {
	for _, e := range dir.Entries() {
		if e.Inode.IsDir() {
			sortAll(e.Inode)
		}
	}
}
