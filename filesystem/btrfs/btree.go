package btrfs

import (
	"imgbuild/filesystem"
)

// position is a place among the items of a tree; what it means is the tree's
// own business.
type position struct {
	a    uint32
	part uint8
	b    uint32
}

// items are those of a tree, ascending by their keys. They are encoded one by
// one, whenever a block of the tree is read.
type items interface {
	// each calls yield with the items from a position on, with their keys and
	// sizes in bytes, until it returns false. The zero position is the first.
	each(from position, yield func(position, key, int) bool)
	// encode writes the item at a position to b, which has its size.
	encode(at position, b []byte) error
}

// itemList is items that are held in memory.
type itemList []listItem

type listItem struct {
	key  key
	data []byte
}

func (l itemList) each(from position, yield func(position, key, int) bool) {
	for i := int(from.a); i < len(l); i++ {
		if !yield(position{a: uint32(i)}, l[i].key, len(l[i].data)) {
			return
		}
	}
}

func (l itemList) encode(at position, b []byte) error {
	copy(b, l[at.a].data)
	return nil
}

// btree is a tree: leaves that are filled one after the other, and nodes above
// them. Its blocks are numbered from 0: the leaves, the nodes of every level
// above, the root last.
type btree struct {
	owner  uint64
	items  items
	leaves []leaf
	levels []uint32 // number of the first block of every level
	blocks uint32
	first  uint32 // index of block 0 in layout.addresses
}

// leaf is where a leaf begins.
type leaf struct {
	at  position
	key key
	n   uint32
}

// newBtree divides items into leaves.
func newBtree(owner uint64, list items) *btree {
	t := &btree{owner: owner, items: list}
	room := 0
	list.each(position{}, func(p position, k key, size int) bool {
		size += sizeItem
		if size > room {
			t.leaves = append(t.leaves, leaf{at: p, key: k})
			room = leafRoom
		}
		room -= size
		t.leaves[len(t.leaves)-1].n++
		return true
	})
	if len(t.leaves) == 0 {
		t.leaves = append(t.leaves, leaf{})
	}
	for n := len(t.leaves); ; n = (n + nodeFanout - 1) / nodeFanout {
		t.levels = append(t.levels, t.blocks)
		t.blocks += uint32(n)
		if n == 1 {
			return t
		}
	}
}

func (t *btree) rootLevel() uint8 { return uint8(len(t.levels) - 1) }

// level returns the level of a block.
func (t *btree) level(block uint32) uint8 {
	l := len(t.levels) - 1
	for t.levels[l] > block {
		l--
	}
	return uint8(l)
}

// firstKey returns the first key below the block with the number n of a level.
func (t *btree) firstKey(level uint8, n uint32) key {
	for ; level > 0; level-- {
		n *= nodeFanout
	}
	return t.leaves[n].key
}

// root returns where the root of a tree is.
func (l *layout) root(t *btree) treeRoot {
	return treeRoot{l.addresses[t.first+t.blocks-1], t.rootLevel()}
}

// treeBlocks is a content.Source of all blocks of all trees, in the order of
// layout.addresses.
type treeBlocks struct{ l *layout }

// ReadAt implements io.ReaderAt.
func (r *treeBlocks) ReadAt(b []byte, off int64) (int, error) {
	return filesystem.ReadUnits(b, off, nodeSize, len(r.l.addresses), func(i int, unit []byte) error {
		return r.l.encodeBlock(uint32(i), unit)
	})
}

// treeOf returns the tree that a block belongs to.
func (l *layout) treeOf(block uint32) *btree {
	lo, hi := 0, len(l.trees)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; l.trees[mid].first <= block {
			lo = mid
		} else {
			hi = mid
		}
	}
	return l.trees[lo]
}

// encodeBlock writes a block of a tree to b, nodeSize bytes.
func (l *layout) encodeBlock(index uint32, b []byte) error {
	t := l.treeOf(index)
	n := index - t.first
	level := t.level(n)
	clear(b)
	copy(b[32:], l.opt.UUID[:])
	le.PutUint64(b[48:], l.addresses[index])
	le.PutUint64(b[56:], 1|1<<56) // WRITTEN, BTRFS_MIXED_BACKREF_REV
	copy(b[64:], l.chunkUUID[:])
	le.PutUint64(b[80:], generation)
	le.PutUint64(b[88:], t.owner)
	b[100] = level
	if level > 0 {
		l.encodeNode(t, level, n-t.levels[level], b)
	} else if err := t.encodeLeaf(n, b); err != nil {
		return err
	}
	l.csum.sum(b[:0], b[32:])
	return nil
}

// encodeNode writes the keys and pointers of the block with the number n of a
// level.
func (l *layout) encodeNode(t *btree, level uint8, n uint32, b []byte) {
	below := t.levels[level-1]
	first := n * nodeFanout
	end := min(first+nodeFanout, t.levels[level]-below)
	le.PutUint32(b[96:], end-first)
	for i := first; i < end; i++ {
		at := b[sizeHeader+(i-first)*sizeKeyPtr:]
		t.firstKey(level-1, i).encode(at)
		le.PutUint64(at[sizeKey:], l.addresses[t.first+below+i])
		le.PutUint64(at[sizeKey+8:], generation)
	}
}

// encodeLeaf writes the items of a leaf: their heads from the start on, their
// data from the end on.
func (t *btree) encodeLeaf(n uint32, b []byte) (err error) {
	leaf := &t.leaves[n]
	le.PutUint32(b[96:], leaf.n)
	if leaf.n == 0 {
		return nil
	}
	done := uint32(0)
	end := nodeSize
	t.items.each(leaf.at, func(p position, k key, size int) bool {
		head := b[sizeHeader+done*sizeItem:]
		end -= size
		k.encode(head)
		le.PutUint32(head[sizeKey:], uint32(end-sizeHeader))
		le.PutUint32(head[sizeKey+4:], uint32(size))
		err = t.items.encode(p, b[end:end+size:end+size])
		done++
		return err == nil && done < leaf.n
	})
	return err
}
