package xfs

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

// A parent pointer is an attribute of a file for each of its names: called as
// the name, with the number and the generation of the directory as its value
// (struct xfs_parent_rec). The hash has the number of the directory in it, so
// the order of attributes is known only when all inodes have their places. How
// many blocks they take must be known before: see planParents.

const (
	attrParent       = 0x08 // XFS_ATTR_PARENT
	sizeParentRecord = 12   // number u64, generation u32: 0 with us
)

// parentLink is a name of a file that has several.
type parentLink struct {
	node, dir uint32 // indices
	name      string
}

// parentAttr returns the attribute for a name in the directory dir.
func parentAttr(dir uint32, name string) attr {
	value := make([]byte, sizeParentRecord)
	binary.BigEndian.PutUint64(value, uint64(dir))
	return attr{flags: attrParent, name: name, value: string(value)}
}

// parentsOf returns the attributes for all names of a node. links are those of
// the collection from the first one of the node on.
func (c *collection) parentsOf(index uint32, links []parentLink) []attr {
	if index == nodeRoot {
		return nil
	}
	n := &c.nodes[index]
	list := []attr{parentAttr(n.parent, n.name)}
	for _, l := range links {
		if l.node != index {
			break
		}
		list = append(list, parentAttr(l.dir, l.name))
	}
	return list
}

// pendingAttrs are attributes whose leaves are filled when the numbers of inodes
// are known.
type pendingAttrs struct {
	list   []attr // those of parents have indices in their values
	leaves int
}

// maxSplitAttr bounds what an attribute takes in one of several leaves, so that
// any order of them can be divided evenly.
const maxSplitAttr = attrRoom / 3

// planParents counts the blocks of attributes in no known order: leaves, the
// tree above them, values. Where one leaf does not do, values that take much of
// one go to blocks of their own. The sum of all sizes T is then divided evenly
// by the number of leaves k: an attribute belongs to the leaf in whose share of
// T it begins. With k = ceil(T/(room-M)), M the largest size, no leaf overflows
// (T/k+M <= room) and none is empty (T/k >= (room-M)/2 >= M).
func planParents(list []attr) (p *pendingAttrs, blocks int) {
	p = &pendingAttrs{list: list, leaves: 1}
	total := 0
	for i := range list {
		a := &list[i]
		a.remote = a.size() >= maxLocalAttr
		total += sizeAttrEntry + a.size()
	}
	if total > attrRoom {
		total = 0
		largest := 0
		for i := range list {
			a := &list[i]
			a.remote = a.remote || sizeAttrEntry+a.size() > maxSplitAttr
			size := sizeAttrEntry + a.size()
			total += size
			largest = max(largest, size)
		}
		if total > attrRoom {
			p.leaves = ceil(total, attrRoom-largest)
		}
	}
	blocks = 1
	if p.leaves > 1 {
		blocks = daBlocks(p.leaves)
	}
	for i := range list {
		if a := &list[i]; a.remote {
			a.block = uint32(blocks)
			blocks += a.remoteBlocks()
		}
	}
	return p, blocks
}

// fill stores the attributes in the row's blocks from at on, with the numbers of
// directories.
func (p *pendingAttrs) fill(row *blockRow, at uint32, number func(node uint32) uint32) {
	part := blockRow{data: row.data}
	values := slices.Clone(p.list) // in the order in which their blocks were counted
	for i := range p.list {
		a := &p.list[i]
		a.hash = nameHash(a.name)
		if a.flags&attrParent != 0 {
			value := []byte(a.value)
			n := number(uint32(binary.BigEndian.Uint64(value)))
			binary.BigEndian.PutUint64(value, uint64(n))
			a.value = string(value)
			a.hash ^= n
		}
	}
	slices.SortStableFunc(p.list, func(a, b attr) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.flags, b.flags), strings.Compare(a.name, b.name), strings.Compare(a.value, b.value))
	})
	if p.leaves == 1 {
		addAttrLeaf(&part, p.list, 0, 0)
	} else {
		ends := shareAttrs(p.list, p.leaves)
		hashes := make([]uint32, len(ends))
		for i, end := range ends {
			hashes[i] = p.list[end-1].hash
		}
		start := 0
		addDATree(&part, 0, hashes, func(i int, next, previous uint32) {
			addAttrLeaf(&part, p.list[start:ends[i]], next, previous)
			start = ends[i]
		})
	}
	for i := range values {
		if values[i].remote {
			addRemote(&part, values[i].value)
		}
	}
	row.data = part.data
	for k, b := range part.blocks {
		b.owner, b.address = row.blocks[at+uint32(k)].owner, row.blocks[at+uint32(k)].address
		row.blocks[at+uint32(k)] = b
	}
}

// shareAttrs divides attributes among leaves as planParents says, and returns
// the end of each. Equal hashes may be in two leaves: only xfs_repair before
// 6.10 minds, which does not know parent pointers.
func shareAttrs(list []attr, leaves int) []int {
	total := 0
	for i := range list {
		total += sizeAttrEntry + list[i].size()
	}
	ends := make([]int, 0, leaves)
	start, leaf := 0, 0
	for i := range list {
		if belongs := start * leaves / total; belongs > leaf {
			ends = append(ends, i)
			leaf = belongs
		}
		start += sizeAttrEntry + list[i].size()
	}
	return append(ends, len(list))
}

// shortParents appends parent pointers to attributes in the short form, which
// has no order, or returns nil where there is no room for them.
func shortParents(list, parents []attr, room int) []byte {
	if len(list)+len(parents) > math.MaxUint8 {
		return nil
	}
	return shortAttrs(append(list[:len(list):len(list)], parents...), room)
}

// resolveAttrs replaces the indices in the parent pointers of the short form by
// the numbers of inodes.
func resolveAttrs(b []byte, number func(node uint32) uint32) {
	be := binary.BigEndian
	for at := sizeShortAttrs; at < len(b); {
		value := at + sizeShortAttr + int(b[at])
		if b[at+2]&attrParent != 0 {
			be.PutUint64(b[value:], uint64(number(uint32(be.Uint64(b[value:])))))
		}
		at = value + int(b[at+1])
	}
}
