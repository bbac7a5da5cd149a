package xfs

import (
	"encoding/binary"
	"slices"

	"imgbuild/filesystem"
)

const (
	sizeShortHead  = 6  // struct xfs_dir2_sf_hdr with a parent of 4 bytes
	sizeDataHead   = 64 // struct xfs_dir3_data_hdr
	sizeHashEntry  = 8  // struct xfs_dir2_leaf_entry
	sizeBlockTail  = 8  // struct xfs_dir2_block_tail
	sizeDirAddress = 8  // unit of the addresses of entries
	freeTag        = 0xffff

	// Block numbers within the fork of a directory.
	leafOffset = 32 << 30 >> blockShift // XFS_DIR2_LEAF_OFFSET
	freeOffset = 64 << 30 >> blockShift // XFS_DIR2_FREE_OFFSET

	freePerBlock = (blockSize - sizeDirFree) / 2
	sizeDirFree  = 64 // struct xfs_dir3_free_hdr

	// leafFill is how many entries a leaf gets at most: some room is left to
	// cut between different hashes, and for the first change.
	leafFill = nodeFanout - nodeFanout/8
)

// dirent is an entry of a directory. Where the number of the inode goes, its
// index is written at first: numbers are known only when all is placed.
type dirent struct {
	name string
	node uint32
	kind filesystem.FileType
}

// dirForm is how a directory is stored.
type dirForm struct {
	local []byte // short form, within the inode

	// Blocks in the row, one after the other: entries, index by hash, index of
	// free room.
	data, leaves, free uint32
}

func (d *dirForm) blocks() uint32 { return d.data + d.leaves + d.free }

// entrySize returns the size of an entry in a block: inode, length and name,
// type, tag.
func entrySize(name string) int { return (12 + len(name) + 7) &^ 7 }

// dirWriter stores directories in a row of blocks.
type dirWriter struct {
	row    *blockRow
	head   []byte   // scratch
	hashes []uint64 // scratch: hash and address of the entries
}

// write stores a directory with the entries list in a fork of room bytes, or in
// blocks.
func (d *dirWriter) write(self, parent uint32, list []dirent, room int) *dirForm {
	short, inBlock := sizeShortHead, sizeDataHead+entrySize(".")+entrySize("..")
	for _, e := range list {
		short += 4 + 4 + len(e.name)
		inBlock += entrySize(e.name)
	}
	if short <= room {
		return &dirForm{local: shortDir(parent, list, short)}
	}
	all := make([]dirent, 0, len(list)+2)
	all = append(all, dirent{".", self, filesystem.TypeDir}, dirent{"..", parent, filesystem.TypeDir})
	all = append(all, list...)
	if tail := sizeHashEntry*len(all) + sizeBlockTail; inBlock+tail <= blockSize {
		d.writeBlock(all, inBlock, tail)
		return &dirForm{data: 1}
	}
	f := &dirForm{}
	room16 := d.writeData(all)
	f.data = uint32(len(room16))
	slices.Sort(d.hashes)
	if sizeDAHead+sizeHashEntry*len(all)+2*len(room16)+4 <= blockSize {
		d.writeLeaf(room16)
		f.leaves = 1
		return f
	}
	f.leaves = d.writeNode()
	f.free = d.writeFree(room16)
	return f
}

// shortDir returns a directory in the short form, of size bytes.
func shortDir(parent uint32, list []dirent, size int) []byte {
	be := binary.BigEndian
	b := make([]byte, 0, size)
	b = append(b, uint8(len(list)), 0)
	b = be.AppendUint32(b, parent)
	offset := sizeDataHead + entrySize(".") + entrySize("..") // in block form
	for _, e := range list {
		b = append(b, uint8(len(e.name)))
		b = be.AppendUint16(b, uint16(offset))
		b = append(b, e.name...)
		b = append(b, uint8(e.kind))
		b = be.AppendUint32(b, e.node)
		offset += entrySize(e.name)
	}
	return b
}

// appendEntry appends struct xfs_dir2_data_entry to a block.
func appendEntry(b []byte, e *dirent) []byte {
	be := binary.BigEndian
	tag := len(b)
	b = be.AppendUint64(b, uint64(e.node))
	b = append(b, uint8(len(e.name)))
	b = append(b, e.name...)
	b = append(b, uint8(e.kind))
	for end := tag + entrySize(e.name) - 2; len(b) < end; {
		b = append(b, 0)
	}
	return be.AppendUint16(b, uint16(tag))
}

// finishData ends the entries of a block, of which size bytes are for them: it
// appends the header of the gap and returns the tag that ends it.
func finishData(b []byte, size int) (head, tag []byte) {
	be := binary.BigEndian
	gap := size - len(b)
	if gap == 0 {
		return b, nil
	}
	at := uint16(len(b))
	be.PutUint16(b[48:], at) // best free
	be.PutUint16(b[50:], uint16(gap))
	b = be.AppendUint16(b, freeTag)
	b = be.AppendUint16(b, uint16(gap))
	return b, be.AppendUint16(nil, at)
}

func (d *dirWriter) begin(magic string) []byte {
	b := append(d.head[:0], make([]byte, sizeDataHead)...)
	copy(b, magic)
	return b
}

func (d *dirWriter) hash(name string, block, offset int) {
	address := uint64(block)*(blockSize/sizeDirAddress) + uint64(offset/sizeDirAddress)
	d.hashes = append(d.hashes, uint64(nameHash(name))<<32|address)
}

func (d *dirWriter) appendHashes(b []byte, hashes []uint64) []byte {
	for _, h := range hashes {
		b = binary.BigEndian.AppendUint64(b, h)
	}
	return b
}

// writeBlock appends a directory of one block, XFS_DIR3_BLOCK_MAGIC, with tail
// bytes of hashes behind the entries.
func (d *dirWriter) writeBlock(list []dirent, size, tail int) {
	be := binary.BigEndian
	d.hashes = d.hashes[:0]
	b := d.begin("XDB3")
	for i := range list {
		d.hash(list[i].name, 0, len(b))
		b = appendEntry(b, &list[i])
	}
	slices.Sort(d.hashes)
	head, end := finishData(b, blockSize-tail)
	end = d.appendHashes(end, d.hashes)
	end = be.AppendUint32(end, uint32(len(list)))
	end = be.AppendUint32(end, 0) // stale
	d.row.add(kindDir, head, end)
	d.head = head
}

// writeData appends the blocks of entries, XFS_DIR3_DATA_MAGIC, and returns the
// free bytes of each. The hashes are left in d.
func (d *dirWriter) writeData(list []dirent) (room []uint16) {
	d.hashes = slices.Grow(d.hashes[:0], len(list))
	b := d.begin("XDD3")
	flush := func() {
		room = append(room, uint16(blockSize-len(b)))
		head, end := finishData(b, blockSize)
		d.row.add(kindDir, head, end)
		d.head = head
	}
	for i := range list {
		if len(b)+entrySize(list[i].name) > blockSize {
			flush()
			b = d.begin("XDD3")
		}
		d.hash(list[i].name, len(room), len(b))
		b = appendEntry(b, &list[i])
	}
	flush()
	return room
}

// hashLeaf returns the start of a leaf of the index, struct xfs_dir3_leaf.
func (d *dirWriter) hashLeaf(magic uint16, hashes []uint64, next, previous uint32) []byte {
	b := append(d.head[:0], make([]byte, sizeDAHead)...)
	putDAInfo(b, magic, next, previous)
	binary.BigEndian.PutUint16(b[56:], uint16(len(hashes)))
	b = d.appendHashes(b, hashes)
	d.head = b
	return b
}

// writeLeaf appends the index as one leaf, that ends with the free bytes of the
// blocks of entries.
func (d *dirWriter) writeLeaf(room []uint16) {
	be := binary.BigEndian
	var tail []byte
	for _, n := range room {
		tail = be.AppendUint16(tail, n)
	}
	tail = be.AppendUint32(tail, uint32(len(room)))
	d.row.add(kindDA, d.hashLeaf(magicDirLeaf, d.hashes, 0, 0), tail)
}

// writeNode appends the index as a tree and returns the number of its blocks.
func (d *dirWriter) writeNode() uint32 {
	ends := cutHashes(d.hashes)
	largest := make([]uint32, len(ends))
	for i, end := range ends {
		largest[i] = uint32(d.hashes[end-1] >> 32)
	}
	if len(ends) == 1 {
		d.row.add(kindDA, d.hashLeaf(magicDirLeafN, d.hashes, 0, 0), nil)
		return 1
	}
	before := d.row.len()
	start := 0
	addDATree(d.row, leafOffset, largest, func(i int, next, previous uint32) {
		d.row.add(kindDA, d.hashLeaf(magicDirLeafN, d.hashes[start:ends[i]], next, previous), nil)
		start = ends[i]
	})
	return d.row.len() - before
}

// cutHashes distributes entries to leaves and returns the end of each. Leaves
// are cut between different hashes, as xfs_repair before 6.10 wants it, unless
// one hash has more entries than a leaf.
func cutHashes(hashes []uint64) (ends []int) {
	for start := 0; start < len(hashes); {
		end := min(start+leafFill, len(hashes))
		if end < len(hashes) {
			same := func(i int) bool { return hashes[i-1]>>32 == hashes[i]>>32 }
			at := end
			for at > start && same(at) {
				at--
			}
			if at == start { // one hash so far: up to its end, or a full leaf
				at = end
				for at < min(start+nodeFanout, len(hashes)) && same(at) {
					at++
				}
			}
			end = at
		}
		ends = append(ends, end)
		start = end
	}
	return ends
}

// writeFree appends the index of free room, XFS_DIR3_FREE_MAGIC, and returns
// the number of its blocks.
func (d *dirWriter) writeFree(room []uint16) uint32 {
	be := binary.BigEndian
	blocks := uint32(0)
	for first := 0; first < len(room); first += freePerBlock {
		part := room[first:min(first+freePerBlock, len(room))]
		b := append(d.head[:0], make([]byte, sizeDirFree)...)
		copy(b, "XDF3")
		be.PutUint32(b[48:], uint32(first))
		be.PutUint32(b[52:], uint32(len(part))) // nvalid
		be.PutUint32(b[56:], uint32(len(part))) // nused
		for _, n := range part {
			b = be.AppendUint16(b, n)
		}
		d.row.add(kindDir, b, nil)
		d.head = b
		blocks++
	}
	return blocks
}

// resolveShort replaces the indices in a directory of the short form by the
// numbers of inodes.
func resolveShort(b []byte, number func(node uint32) uint32) {
	be := binary.BigEndian
	replace := func(b []byte) { be.PutUint32(b, number(be.Uint32(b))) }
	replace(b[2:])
	for b = b[sizeShortHead:]; len(b) > 0; {
		n := int(b[0])
		replace(b[4+n:])
		b = b[8+n:]
	}
}

// resolveData does the same with a block of entries.
func resolveData(b []byte, number func(node uint32) uint32) {
	be := binary.BigEndian
	for at := sizeDataHead; at < len(b) && be.Uint16(b[at:]) != freeTag; {
		be.PutUint64(b[at:], uint64(number(uint32(be.Uint64(b[at:])))))
		at += (12 + int(b[at+8]) + 7) &^ 7
	}
}
