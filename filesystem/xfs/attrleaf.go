package xfs

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

const (
	sizeAttrHead  = 80 // struct xfs_attr3_leaf_hdr
	sizeAttrEntry = 8  // struct xfs_attr_leaf_entry
	attrRoom      = blockSize - sizeAttrHead
	attrFill      = attrRoom - attrRoom/8 // of leaves below a node
	maxLocalAttr  = blockSize / 4 * 3     // xfs_attr_leaf_entsize_local_max

	sizeRemoteHead = 56 // struct xfs_attr3_rmt_hdr
	remoteRoom     = blockSize - sizeRemoteHead
)

// size returns the bytes of name and value in a leaf.
func (a *attr) size() int {
	if a.remote {
		return (11 + len(a.name) + 3) &^ 3 // with the padding of struct xfs_attr_leaf_name_remote
	}
	return (3 + len(a.name) + len(a.value) + 3) &^ 3
}

// remoteBlocks returns the number of blocks of the value.
func (a *attr) remoteBlocks() int { return ceil(len(a.value), remoteRoom) }

// newAttrBlocks stores attributes as blocks: leaves, with a tree above where
// there are several, and behind them the values that are too large for a leaf.
func newAttrBlocks(row *blockRow, list []attr) (*attrSet, error) {
	for i := range list {
		list[i].remote = list[i].size() >= maxLocalAttr
	}
	ends, err := cutAttrs(list)
	if err != nil {
		return nil, err
	}
	next := 1
	if len(ends) > 1 {
		next = daBlocks(len(ends))
	}
	for i := range list {
		if a := &list[i]; a.remote {
			a.block = uint32(next)
			next += a.remoteBlocks()
		}
	}
	if next > math.MaxInt32 {
		return nil, errors.New("too many extended attributes")
	}
	part := blockRow{data: row.data}
	if len(ends) == 1 {
		addAttrLeaf(&part, list, 0, 0)
	} else {
		hashes := make([]uint32, len(ends))
		for i, end := range ends {
			hashes[i] = list[end-1].hash
		}
		start := 0
		addDATree(&part, 0, hashes, func(i int, next, previous uint32) {
			addAttrLeaf(&part, list[start:ends[i]], next, previous)
			start = ends[i]
		})
	}
	for i := range list {
		if list[i].remote {
			addRemote(&part, list[i].value)
		}
	}
	row.data = part.data
	return &attrSet{blocks: part.blocks}, nil
}

// cutAttrs distributes attributes to leaves and returns the end of each. Those
// of one hash stay together, as xfs_repair before 6.10 wants it; where that
// does not go otherwise, values go to blocks of their own.
func cutAttrs(list []attr) (ends []int, err error) {
	total := 0
	for i := range list {
		total += sizeAttrEntry + list[i].size()
	}
	if total <= attrRoom {
		return []int{len(list)}, nil
	}
	used := 0
	for start := 0; start < len(list); {
		end := start + 1
		for end < len(list) && list[end].hash == list[start].hash {
			end++
		}
		size := shrinkAttrs(list[start:end])
		if size > attrRoom {
			return nil, errors.New("too many extended attributes whose names have the same hash")
		}
		if used > 0 && used+size > attrFill {
			ends = append(ends, start)
			used = 0
		}
		used += size
		start = end
	}
	return append(ends, len(list)), nil
}

// shrinkAttrs makes the largest values of a group remote until it fits a leaf,
// and returns the bytes that it takes.
func shrinkAttrs(group []attr) int {
	size := 0
	for i := range group {
		size += sizeAttrEntry + group[i].size()
	}
	if size <= attrRoom {
		return size
	}
	order := make([]*attr, len(group))
	for i := range group {
		order[i] = &group[i]
	}
	slices.SortStableFunc(order, func(a, b *attr) int { return len(b.value) - len(a.value) })
	for _, a := range order {
		before := a.size()
		if size <= attrRoom || a.remote || before <= (11+len(a.name)+3)&^3 {
			continue
		}
		a.remote = true
		size += a.size() - before
	}
	return size
}

// addAttrLeaf appends struct xfs_attr3_leafblock. Entries are behind the
// header, names and values fill the block from its end.
func addAttrLeaf(row *blockRow, list []attr, next, previous uint32) {
	be := binary.BigEndian
	size := 0
	for i := range list {
		size += list[i].size()
	}
	b := make([]byte, sizeAttrHead, sizeAttrHead+sizeAttrEntry*len(list))
	first := blockSize - size
	base := sizeAttrHead + sizeAttrEntry*len(list)
	putDAInfo(b, magicAttrLeaf, next, previous)
	be.PutUint16(b[56:], uint16(len(list)))
	be.PutUint16(b[58:], uint16(size))
	be.PutUint16(b[60:], uint16(first))
	be.PutUint16(b[64:], uint16(base)) // freemap[0]
	be.PutUint16(b[66:], uint16(first-base))
	tail := make([]byte, size)
	at := blockSize
	for i := range list {
		a := &list[i]
		at -= a.size()
		b = be.AppendUint32(b, a.hash)
		b = be.AppendUint16(b, uint16(at))
		t := tail[at-first:]
		if a.remote {
			b = append(b, a.flags, 0)
			be.PutUint32(t[0:], a.block)
			be.PutUint32(t[4:], uint32(len(a.value)))
			t[8] = uint8(len(a.name))
			copy(t[9:], a.name)
			continue
		}
		b = append(b, a.flags|attrLocal, 0)
		be.PutUint16(t[0:], uint16(len(a.value)))
		t[2] = uint8(len(a.name))
		copy(t[3:], a.name)
		copy(t[3+len(a.name):], a.value)
	}
	row.add(kindDA, b, tail)
}

// addRemote appends the blocks of a value.
func addRemote(row *blockRow, value string) {
	for off := 0; off < len(value); off += remoteRoom {
		part := value[off:min(off+remoteRoom, len(value))]
		b := remoteHead("XARM", off, len(part))
		binary.BigEndian.PutUint64(b[48:], noBlock) // no LSN: these blocks are not logged
		row.add(kindRemote, append(b, part...), nil)
	}
}

// remoteHead returns struct xfs_attr3_rmt_hdr, which is xfs_dsymlink_hdr too.
func remoteHead(magic string, off, n int) []byte {
	b := make([]byte, sizeRemoteHead, sizeRemoteHead+n)
	copy(b, magic)
	binary.BigEndian.PutUint32(b[4:], uint32(off))
	binary.BigEndian.PutUint32(b[8:], uint32(n))
	return b
}
