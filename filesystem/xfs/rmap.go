package xfs

import (
	"encoding/binary"
	"math"
)

// Owners of blocks that are not of an inode (XFS_RMAP_OWN_*).
const (
	ownFS       = math.MaxUint64 - 2 // headers
	ownLog      = math.MaxUint64 - 3
	ownAG       = math.MaxUint64 - 4 // free list, trees of free space and of owners
	ownInobt    = math.MaxUint64 - 5
	ownInodes   = math.MaxUint64 - 6
	ownRefcount = math.MaxUint64 - 7
)

// Flags in the offset of a record.
const (
	rmapAttr = 1 << 63 // of the attribute fork
	rmapBmbt = 1 << 62 // block of the tree of extents
)

const sizeRmap = 24

// owned is struct xfs_rmap_rec: the owner of n blocks from agbno start on.
type owned struct {
	start, n uint32
	owner    uint64
	offset   uint64 // first block of the fork, and flags
}

// inode tells whether the owner is an inode and the offset one within it.
func (o *owned) inode() bool { return o.owner < ownRefcount && o.offset&rmapBmbt == 0 }

// ownedList is the owners of an allocation group, ascending.
type ownedList []owned

// add appends a record, or extends the last one.
func (l *ownedList) add(o owned) {
	if o.n == 0 {
		return
	}
	if k := len(*l); k > 0 {
		last := &(*l)[k-1]
		next := last.offset
		if o.inode() {
			next += uint64(last.n)
		}
		if last.start+last.n == o.start && last.owner == o.owner && next == o.offset {
			last.n += o.n
			return
		}
	}
	*l = append(*l, o)
}

func (l ownedList) encode() []byte {
	b := make([]byte, 0, len(l)*sizeRmap)
	for _, o := range l {
		b = binary.BigEndian.AppendUint32(b, o.start)
		b = binary.BigEndian.AppendUint32(b, o.n)
		b = binary.BigEndian.AppendUint64(b, o.owner)
		b = binary.BigEndian.AppendUint64(b, o.offset)
	}
	return b
}

// appendRmapKeys appends the two keys that a node has for a block of the tree:
// the lowest of what is in it, and the highest that it reaches. Items are
// records in a leaf, pairs of keys above.
func appendRmapKeys(keys, items []byte, level int) []byte {
	const sizeKey = 20
	be := binary.BigEndian
	put := func(o owned) {
		keys = be.AppendUint32(keys, o.start)
		keys = be.AppendUint64(keys, o.owner)
		keys = be.AppendUint64(keys, o.offset)
	}
	get := func(b []byte) owned {
		return owned{start: be.Uint32(b), owner: be.Uint64(b[4:]), offset: be.Uint64(b[12:])}
	}
	if level > 0 {
		put(get(items))
		var high owned
		for ; len(items) > 0; items = items[2*sizeKey:] {
			if o := get(items[sizeKey:]); o.above(high) {
				high = o
			}
		}
		put(high)
		return keys
	}
	var low, high owned
	for i := 0; len(items) > 0; i, items = i+1, items[sizeRmap:] {
		o := owned{be.Uint32(items), be.Uint32(items[4:]), be.Uint64(items[8:]), be.Uint64(items[16:])}
		if i == 0 {
			low = o
		}
		if o.inode() {
			o.offset += uint64(o.n) - 1
		}
		o.start += o.n - 1
		if i == 0 || o.above(high) {
			high = o
		}
	}
	put(low)
	put(high)
	return keys
}

// above compares keys: start, owner, offset without the flags but for those of
// the fork.
func (o *owned) above(other owned) bool {
	if o.start != other.start {
		return o.start > other.start
	}
	if o.owner != other.owner {
		return o.owner > other.owner
	}
	return o.offset > other.offset
}
