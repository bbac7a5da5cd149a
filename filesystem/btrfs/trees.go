package btrfs

import (
	"cmp"
	"slices"
)

// sorted returns the items in the order of their keys.
func sorted(list itemList) itemList {
	slices.SortFunc(list, func(a, b listItem) int {
		return cmp.Or(cmp.Compare(a.key.object, b.key.object), cmp.Compare(a.key.typ, b.key.typ), cmp.Compare(a.key.offset, b.key.offset))
	})
	return list
}

// chunkItems are the items of the chunk tree.
func (l *layout) chunkItems() itemList {
	dev := make([]byte, sizeDevItem)
	d := l.devItem()
	d.encode(dev)
	list := itemList{{key{devItems, keyDev, 1}, dev}}
	for _, c := range l.chunks {
		list = append(list, listItem{key{firstFree, keyChunk, c.start}, c.item(l.device)})
	}
	return list
}

func (l *layout) devItem() devItem {
	return devItem{total: l.space.size, used: l.allocated(), uuid: l.device, fsid: l.opt.UUID}
}

// systemChunks returns what the superblock has of the chunk tree: the chunk
// that it is in.
func (l *layout) systemChunks() []byte {
	c := l.chunks[0]
	return append(appendKey(nil, key{firstFree, keyChunk, c.start}), c.item(l.device)...)
}

// deviceItems are the items of the device tree.
func (l *layout) deviceItems() itemList {
	list := itemList{{key{0, keyDevStats, 1}, make([]byte, sizeStats)}}
	for _, c := range l.chunks {
		for _, s := range c.stripes[:c.copies] {
			b := make([]byte, 0, sizeDevExtent)
			b = le.AppendUint64(b, chunkTree)
			b = le.AppendUint64(b, firstFree)
			b = le.AppendUint64(b, c.start)
			b = le.AppendUint64(b, c.length)
			list = append(list, listItem{key{1, keyDevExtent, s}, append(b, l.chunkUUID[:]...)})
		}
	}
	return sorted(list)
}

// groupItems are the block groups, of a tree of their own.
func (l *layout) groupItems() itemList {
	var list itemList
	for _, c := range l.chunks {
		b := make([]byte, sizeBlockGroup)
		c.encodeGroup(b)
		list = append(list, listItem{key{c.start, keyBlockGroup, c.length}, b})
	}
	return list
}

// encodeGroup writes struct btrfs_block_group_item.
func (c *chunk) encodeGroup(b []byte) {
	le.PutUint64(b[0:], c.used)
	le.PutUint64(b[8:], firstFree)
	le.PutUint64(b[16:], uint64(c.profile))
}

// freeSpaceItems are the items of the free-space tree. Addresses that no extent
// has are free, those of superblocks too.
func (l *layout) freeSpaceItems() itemList {
	var list itemList
	for _, c := range l.chunks {
		free := c.free()
		b := make([]byte, 8) // struct btrfs_free_space_info
		le.PutUint32(b, uint32(len(free)))
		list = append(list, listItem{key{c.start, keyFreeInfo, c.length}, b})
		for _, r := range free {
			list = append(list, listItem{key{r.start, keyFreeExtent, r.end - r.start}, nil})
		}
	}
	return sorted(list)
}

// uuidItems are the items of the tree that finds subvolumes by their UUID.
func (l *layout) uuidItems() itemList {
	var list itemList
	for i := range l.subs {
		s := &l.subs[i]
		list = append(list, listItem{key{le.Uint64(s.uuid[:]), keyUUID, le.Uint64(s.uuid[8:])}, le.AppendUint64(nil, s.id)})
	}
	return sorted(list)
}

// emptyDir returns the items of an empty directory with the number id.
func emptyDir(id uint64) itemList {
	b := make([]byte, sizeInodeItem)
	i := inodeItem{nbytes: nodeSize, links: 1, mode: 0o40755}
	i.encode(b)
	ref := append(le.AppendUint16(make([]byte, 8, 12), 2), ".."...)
	return itemList{{key{id, keyInode, 0}, b}, {key{id, keyInodeRef, id}, ref}}
}

// relocItems are the items of the tree that relocation uses, without which
// Linux does not mount.
func relocItems() itemList { return emptyDir(firstFree) }

// rootItems are the items of the root tree; root says where the root of a tree
// is. Without it they have the right sizes only.
func (l *layout) rootItems(root func(id uint64) treeRoot) itemList {
	var list itemList
	add := func(id uint64, r rootItem) {
		if root != nil {
			at := root(id)
			r.bytenr, r.level = at.bytenr, at.level
			for _, t := range l.trees {
				if t.owner == id {
					r.blocks = uint64(t.blocks)
				}
			}
		}
		list = append(list, listItem{key{id, keyRoot, 0}, r.encode()})
	}
	for _, id := range []uint64{extentTree, devTree, csumTree, uuidTree, freeSpaceTree} {
		add(id, rootItem{})
	}
	if l.opt.BlockGroupTree {
		add(groupTree, rootItem{})
	}
	add(dataReloc, rootItem{dir: firstFree})
	for i := range l.subs {
		s := &l.subs[i]
		add(s.id, rootItem{dir: firstFree, uuid: s.uuid, time: l.opt.Time, flags: s.flags})
		if i == 0 {
			continue
		}
		p := &l.subs[s.parent]
		b := le.AppendUint64(nil, p.number(s.dir))
		b = le.AppendUint64(b, firstDirIndex+uint64(s.order))
		b = append(le.AppendUint16(b, uint16(len(s.name))), s.name...)
		list = append(list, listItem{key{p.id, keyRootRef, s.id}, b}, listItem{key{s.id, keyRootBack, p.id}, b})
	}
	// The directory that names the default subvolume.
	const name = "default"
	list = append(list, emptyDir(rootDir)...)
	list = append(list,
		listItem{key{rootDir, keyDirItem, uint64(nameHash(name))}, appendDirItem(nil, key{l.defaultSub(), keyRoot, ^uint64(0)}, 2, name, "")},
		listItem{key{fsTree, keyInodeRef, rootDir}, append(le.AppendUint16(make([]byte, 8), uint16(len(name))), name...)})
	return sorted(list)
}

// defaultSub returns the number of the subvolume that is mounted where none is
// asked for.
func (l *layout) defaultSub() uint64 { return l.subs[l.preferred].id }

// extentItems are the items of the extent tree: what is in use, and the block
// groups. The position is a chunk, what is at its very start, its block group or
// the rest, and the index of a block or an extent.
type extentItems struct{ l *layout }

const (
	partAtStart = iota
	partGroup
	partBehind
)

func (t *extentItems) each(from position, yield func(position, key, int) bool) {
	for i := int(from.a); i < len(t.l.chunks); i++ {
		p := position{a: uint32(i), b: t.l.chunks[i].first}
		if i == int(from.a) && from != (position{}) {
			p = from
		}
		if !t.chunk(p, yield) {
			return
		}
	}
}

// chunk yields the items of a chunk from a position on.
func (t *extentItems) chunk(p position, yield func(position, key, int) bool) bool {
	c := t.l.chunks[p.a]
	if p.part == partAtStart {
		if p.b < c.last && t.address(p) == c.start {
			if k, size := t.item(p); !yield(p, k, size) {
				return false
			}
			p.b++
		}
		p.part = partGroup
	}
	if p.part == partGroup {
		if !t.l.opt.BlockGroupTree && !yield(p, key{c.start, keyBlockGroup, c.length}, sizeBlockGroup) {
			return false
		}
		p.part = partBehind
	}
	for ; p.b < c.last; p.b++ {
		if k, size := t.item(p); !yield(p, k, size) {
			return false
		}
	}
	return true
}

func (t *extentItems) ofData(p position) bool { return int(p.a) >= t.l.space.data }

func (t *extentItems) address(p position) uint64 {
	if t.ofData(p) {
		return t.l.extents[p.b].bytenr
	}
	return t.l.addresses[p.b]
}

// item returns key and size of the item of a block or an extent.
func (t *extentItems) item(p position) (key, int) {
	if t.ofData(p) {
		e := &t.l.extents[p.b]
		return key{e.bytenr, keyExtent, uint64(e.disk) << sectorShift}, sizeDataItem
	}
	tree := t.l.treeOf(p.b)
	return key{t.l.addresses[p.b], keyMetadata, uint64(tree.level(p.b - tree.first))}, sizeMetaItem
}

func (t *extentItems) encode(p position, b []byte) error {
	if p.part == partGroup {
		t.l.chunks[p.a].encodeGroup(b)
		return nil
	}
	le.PutUint64(b[0:], 1) // refs
	le.PutUint64(b[8:], generation)
	if !t.ofData(p) {
		le.PutUint64(b[16:], 2) // BTRFS_EXTENT_FLAG_TREE_BLOCK
		b[24] = keyTreeRef
		le.PutUint64(b[25:], t.l.treeOf(p.b).owner)
		return nil
	}
	e := &t.l.extents[p.b]
	sub := t.l.subOf(e.node)
	le.PutUint64(b[16:], 1) // BTRFS_EXTENT_FLAG_DATA
	b[24] = keyDataRef
	le.PutUint64(b[25:], sub.id)
	le.PutUint64(b[33:], sub.number(e.node))
	le.PutUint64(b[41:], e.logical<<sectorShift)
	le.PutUint32(b[49:], 1)
	return nil
}

// sumItems are the items of the checksum tree. The position is a run, and the
// number of the item in it.
type sumItems struct{ l *layout }

func (t *sumItems) each(from position, yield func(position, key, int) bool) {
	most := uint64(t.l.csum.maxSums())
	for i := int(from.a); i < len(t.l.runs); i++ {
		r := &t.l.runs[i]
		p := position{a: uint32(i)}
		if i == int(from.a) {
			p = from
		}
		for ; uint64(p.b)*most < r.n; p.b++ {
			n := min(r.n-uint64(p.b)*most, most)
			if !yield(p, key{csumObject, keyCsum, r.bytenr + uint64(p.b)*most<<sectorShift}, int(n)*t.l.csum.size) {
				return
			}
		}
	}
}

func (t *sumItems) encode(p position, b []byte) error {
	first := t.l.runs[p.a].first + uint64(p.b)*uint64(t.l.csum.maxSums())
	copy(b, t.l.sums[first*uint64(t.l.csum.size):])
	return nil
}
