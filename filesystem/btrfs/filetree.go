package btrfs

import (
	"fmt"
	"io"

	"imgbuild/filesystem"
	"imgbuild/fsverity"
	"imgbuild/tree"
)

// fileTree is the items of a subvolume. A position is the index of a node, a
// part of what it has, and a place in that.
type fileTree struct {
	l   *layout
	sub *subvolume
}

// Parts of what a node has, in the order of their keys.
const (
	partInode     = iota
	partRefs      // names; the place is that in the names of the node
	partExtrefs   // place in collection.extrefs
	partAttrs     // place in the set
	partVerity    // descriptor of fs-verity: its item, its bytes
	partMerkle    // number of the piece of the Merkle tree
	partDirItems  // place in byHash
	partDirIndex  // place in the entries
	partExtents   // place in the extents
	partsOfANode  = partExtents
	firstDirIndex = 2 // of the first entry of a directory
)

// each implements items.
func (t *fileTree) each(from position, yield func(position, key, int) bool) {
	start := max(from.a, t.sub.root)
	for i := start; i < t.sub.end; i++ {
		p := position{a: i}
		if i == from.a {
			p = from
		}
		if !t.node(p, yield) {
			return
		}
	}
}

// node yields the items of a node, from a position on.
func (t *fileTree) node(p position, yield func(position, key, int) bool) bool {
	c := t.l.collection
	n := &c.nodes[p.a]
	number := t.sub.number(p.a)
	var one [1]link
	for ; p.part <= partsOfANode; p = (position{a: p.a, part: p.part + 1}) {
		switch p.part {
		case partInode:
			if !yield(p, key{number, keyInode, 0}, sizeInodeItem) {
				return false
			}
		case partRefs:
			names := t.names(p.a, &one)
			for int(p.b) < len(names) {
				fit, next := refGroup(names, int(p.b))
				size := 0
				for _, k := range names[p.b:fit] {
					size += sizeInodeRef + len(k.name)
				}
				if !yield(p, key{number, keyInodeRef, t.parent(names[p.b].parent)}, size) {
					return false
				}
				p.b = uint32(next)
			}
		case partExtrefs:
			refs := c.extrefs[p.a]
			for int(p.b) < len(refs) {
				next, size := p.b, 0
				for ; int(next) < len(refs) && refs[next].hash == refs[p.b].hash; next++ {
					size += sizeInodeExt + len(c.links[refs[next].link].name)
				}
				if !yield(p, key{number, keyInodeExt, uint64(refs[p.b].hash)}, size) {
					return false
				}
				p.b = next
			}
		case partAttrs:
			if n.set == 0 {
				continue
			}
			set := c.sets[n.set-1]
			for ; int(p.b) < len(set); p.b++ {
				if !yield(p, key{number, keyXattr, uint64(set[p.b].hash)}, len(set[p.b].data)) {
					return false
				}
			}
		case partVerity:
			if n.inode.Verity == nil {
				continue
			}
			for ; p.b < 2; p.b++ {
				if !yield(p, key{number, keyVerity, uint64(p.b)}, []int{sizeVerity, fsverity.SizeDescriptor}[p.b]) {
					return false
				}
			}
		case partMerkle:
			if n.inode.Verity == nil {
				continue
			}
			for size := n.inode.Verity.Tree.Size(); int64(p.b)*merkleItem < size; p.b++ {
				off := int64(p.b) * merkleItem
				if !yield(p, key{number, keyMerkle, uint64(off)}, int(min(merkleItem, size-off))) {
					return false
				}
			}
		case partDirItems:
			if n.inode.IsDir() && !t.dirItems(p, number, yield) {
				return false
			}
		case partDirIndex:
			if !n.inode.IsDir() {
				continue
			}
			entries := n.inode.Entries()
			for ; p.b < n.n; p.b++ {
				if !yield(p, key{number, keyDirIndex, firstDirIndex + uint64(p.b)}, sizeDirItem+len(entries[p.b].Name)) {
					return false
				}
			}
		case partExtents:
			if n.flags&nodeInline != 0 {
				if p.b == 0 && !yield(p, key{number, keyExtentData, 0}, sizeInlineHead+n.inlineSize()) {
					return false
				}
				continue
			}
			if !n.inode.IsFile() {
				continue
			}
			for ; p.b < n.n; p.b++ {
				e := &t.l.extents[n.first+p.b]
				if !yield(p, key{number, keyExtentData, e.logical << sectorShift}, sizeFileExtent) {
					return false
				}
			}
		}
	}
	return true
}

// dirItems yields the entries of a directory by their hashes.
func (t *fileTree) dirItems(p position, number uint64, yield func(position, key, int) bool) bool {
	c := t.l.collection
	n := &c.nodes[p.a]
	entries := n.inode.Entries()
	hashes := c.byHash[n.first : n.first+n.n]
	for p.b < n.n {
		next, size := p.b, 0
		for ; next < n.n && hashes[next]>>32 == hashes[p.b]>>32; next++ {
			size += sizeDirItem + len(entries[uint32(hashes[next])].Name)
		}
		if !yield(p, key{number, keyDirItem, hashes[p.b] >> 32}, size) {
			return false
		}
		p.b = next
	}
	return true
}

// names returns the names of a node; where it has only one, in one.
func (t *fileTree) names(i uint32, one *[1]link) []link {
	n := &t.l.nodes[i]
	switch {
	case i == t.sub.root:
		one[0] = link{i, i, 0, ".."}
		return one[:]
	case n.links > 1:
		return t.l.links[n.link : n.link+n.links]
	}
	one[0] = link{i, n.parent, n.order, n.name}
	return one[:]
}

// refGroup returns where the names in the directory of names[from] end, and
// those of them that fit one item.
func refGroup(names []link, from int) (fit, next int) {
	size := 0
	for fit = from; fit < len(names) && names[fit].parent == names[from].parent; fit++ {
		if size += sizeInodeRef + len(names[fit].name); size > maxItem {
			break
		}
	}
	for next = fit; next < len(names) && names[next].parent == names[from].parent; next++ {
	}
	return fit, next
}

func (t *fileTree) parent(node uint32) uint64 { return t.sub.number(node) }

// index returns the index of a name in its directory.
func (t *fileTree) index(k link) uint64 {
	if k.node == t.sub.root {
		return 0
	}
	return firstDirIndex + uint64(k.order)
}

// encode implements items.
func (t *fileTree) encode(p position, b []byte) error {
	c := t.l.collection
	n := &c.nodes[p.a]
	switch p.part {
	case partInode:
		i := t.inode(n)
		i.encode(b)
	case partRefs:
		var one [1]link
		names := t.names(p.a, &one)
		fit, _ := refGroup(names, int(p.b))
		b = b[:0]
		for _, k := range names[p.b:fit] {
			b = le.AppendUint64(b, t.index(k))
			b = le.AppendUint16(b, uint16(len(k.name)))
			b = append(b, k.name...)
		}
	case partExtrefs:
		refs := c.extrefs[p.a]
		out := b[:0]
		for i := p.b; len(out) < len(b); i++ {
			k := c.links[refs[i].link]
			out = le.AppendUint64(out, t.parent(k.parent))
			out = le.AppendUint64(out, t.index(k))
			out = le.AppendUint16(out, uint16(len(k.name)))
			out = append(out, k.name...)
		}
	case partAttrs:
		copy(b, c.sets[n.set-1][p.b].data)
	case partVerity:
		if p.b == 0 {
			clear(b)
			le.PutUint64(b, fsverity.SizeDescriptor) // size; reserved, encryption
		} else {
			d := n.inode.Verity.Descriptor()
			copy(b, d[:])
		}
	case partMerkle:
		if _, err := n.inode.Verity.Tree.ReadAt(b, int64(p.b)*merkleItem); err != nil && err != io.EOF {
			return fmt.Errorf("btrfs: fs-verity of %s: %w", c.path(p.a), err)
		}
	case partDirItems:
		out := b[:0]
		for i := p.b; len(out) < len(b); i++ {
			out = t.entry(out, n, uint32(c.byHash[n.first+i]))
		}
	case partDirIndex:
		t.entry(b[:0], n, p.b)
	case partExtents:
		return t.extent(n, p, b)
	}
	return nil
}

// entry appends an entry of a directory.
func (t *fileTree) entry(b []byte, n *node, order uint32) []byte {
	e := n.inode.Entries()[order]
	child := t.l.children[n.first+order]
	location := key{t.sub.number(child), keyInode, 0}
	if child&subvolumeEntry != 0 {
		location = key{t.l.subs[child&^subvolumeEntry].id, keyRoot, ^uint64(0)}
	}
	return appendDirItem(b, location, uint8(filesystem.TypeOf(e.Inode.Mode)), e.Name, "")
}

// inode returns the inode item of a node.
func (t *fileTree) inode(n *node) inodeItem {
	i := n.inode
	d := inodeItem{
		links: n.links, uid: i.UID, gid: i.GID, mode: i.Mode & (tree.TypeMask | tree.PermMask), time: i.Mtime,
	}
	if i.Flags&tree.Immutable != 0 {
		d.flags |= flagImmutable
	}
	if i.Verity != nil {
		d.flags |= flagVerity
	}
	if n.flags&nodeNoDataCow != 0 {
		switch {
		case i.IsFile():
			d.flags |= flagNoDataCow | flagNoDataSum
		case i.IsDir():
			d.flags |= flagNoDataCow
		}
	}
	switch i.Type() {
	case tree.TypeDir:
		d.size = n.size
	case tree.TypeFile:
		d.size, d.nbytes = uint64(i.Content.Size()), n.size
		if n.flags&nodeInline != 0 {
			d.nbytes = d.size
		}
	case tree.TypeLink:
		d.size = uint64(len(i.Target))
		d.nbytes = d.size
	case tree.TypeChar, tree.TypeBlock:
		d.rdev = uint64(i.Major)<<20 | uint64(i.Minor)
	}
	return d
}

// extent encodes struct btrfs_file_extent_item.
func (t *fileTree) extent(n *node, p position, b []byte) error {
	le.PutUint64(b, generation)
	if n.flags&nodeInline != 0 {
		size := n.inlineSize()
		b[16] = 0
		if n.packed.compressedInline() {
			size = int(n.inode.Content.Size())
			b[16] = t.sub.compress.Algorithm.id()
		}
		le.PutUint64(b[8:], uint64(size)) // ram_bytes
		b[17], b[18], b[19], b[20] = 0, 0, 0, extentInline
		if err := n.readInline(b[sizeInlineHead:]); err != nil {
			return fmt.Errorf("btrfs: %s: %w", t.l.path(p.a), err)
		}
		return nil
	}
	e := &t.l.extents[n.first+p.b]
	ram := uint64(e.ram) << sectorShift
	le.PutUint64(b[8:], ram)
	b[16], b[17], b[18], b[19], b[20] = 0, 0, 0, 0, extentRegular
	if e.compressed {
		b[16] = t.sub.compress.Algorithm.id()
	}
	le.PutUint64(b[21:], e.bytenr)
	le.PutUint64(b[29:], uint64(e.disk)<<sectorShift)
	le.PutUint64(b[37:], 0) // offset
	le.PutUint64(b[45:], ram)
	return nil
}
