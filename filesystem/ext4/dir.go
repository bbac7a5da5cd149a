package ext4

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"imgbuild/filesystem"
)

const (
	sizeDirent     = 8  // struct ext4_dir_entry_2, without the name
	sizeDirentTail = 12 // struct ext4_dir_entry_tail: the checksum of a block
	direntRoom     = blockSize - sizeDirentTail
	sizeDots       = 2 * 12 // "." and ".."

	// An indexed directory is a tree of hashes: a root, nodes below it, leaves
	// that are blocks of entries. Only with largedir are there more levels.
	sizeIndexEntry = 8 // struct dx_entry; the first one holds limit and count
	sizeIndexTail  = 8 // struct dx_tail
	rootOffset     = 32
	nodeOffset     = 8
	maxRootEntries = (blockSize - rootOffset - sizeIndexTail) / sizeIndexEntry
	maxNodeEntries = (blockSize - nodeOffset - sizeIndexTail) / sizeIndexEntry

	// leafSlack is what e2fsck -D leaves free in a leaf, so that the first new
	// name does not split it.
	leafSlack = direntRoom / 5

	// lostFoundBlocks is the size that mke2fs gives to lost+found, for e2fsck
	// to fill without having to allocate.
	lostFoundBlocks = 4
)

var errDirTooLarge = errors.New("directory has more entries than ext4 can index")

// dirent is an entry of a directory.
type dirent struct {
	name        string
	ino         uint32
	kind        filesystem.FileType
	hash, minor uint32 // set when the directory is indexed
}

func (e *dirent) size() int { return sizeDirent + align4(len(e.name)) }

// dirWriter encodes directories into a row of blocks.
type dirWriter struct {
	row      *packedBlocks
	fsSeed   uint32
	hashSeed [16]byte
	buf      [blockSize]byte
}

// write appends the blocks of a directory, minBlocks at least, and returns
// their number and whether they are indexed. It sorts entries.
func (w *dirWriter) write(ino, parent uint32, entries []dirent, minBlocks int) (blocks uint64, indexed bool, err error) {
	before := w.row.len()
	size := sizeDots
	for i := range entries {
		size += entries[i].size()
	}
	if size > direntRoom {
		err := w.writeIndexed(ino, parent, entries)
		return w.row.len() - before, true, err
	}
	clear(w.buf[:])
	putDirent(w.buf[0:], ino, 12, filesystem.TypeDir, ".")
	end := 12
	putDirent(w.buf[12:], parent, 12, filesystem.TypeDir, "..")
	last := end
	end = sizeDots
	for i := range entries {
		e := &entries[i]
		putDirent(w.buf[end:], e.ino, e.size(), e.kind, e.name)
		last, end = end, end+e.size()
	}
	w.closeLeaf(ino, last, end)
	for range minBlocks - 1 {
		clear(w.buf[:])
		w.closeLeaf(ino, 0, sizeDirent)
	}
	return w.row.len() - before, false, nil
}

// putDirent writes an entry that takes size bytes.
func putDirent(b []byte, ino uint32, size int, kind filesystem.FileType, name string) {
	binary.LittleEndian.PutUint32(b, ino)
	binary.LittleEndian.PutUint16(b[4:], uint16(size))
	b[6] = uint8(len(name))
	b[7] = uint8(kind)
	copy(b[sizeDirent:], name)
}

// closeLeaf appends the block of entries in buf. The last entry, at last, gets
// what is free behind end.
func (w *dirWriter) closeLeaf(ino uint32, last, end int) {
	b := w.buf[:]
	binary.LittleEndian.PutUint16(b[last+4:], uint16(direntRoom-last))
	crc := crc32c(inodeSeed(w.fsSeed, ino), b[:direntRoom])
	putDirent(b[direntRoom:], 0, sizeDirentTail, typeChecksum, "")
	binary.LittleEndian.PutUint32(b[direntRoom+sizeDirent:], crc)
	w.row.add(b[:end], b[direntRoom:])
}

// leaf is the entries of one block, and the lowest hash of them. The hash is
// odd when entries of the same hash are in the leaf before.
type leaf struct {
	first, end int
	hash       uint32
}

// writeIndexed appends an indexed directory: root, nodes, leaves.
func (w *dirWriter) writeIndexed(ino, parent uint32, entries []dirent) error {
	for i := range entries {
		entries[i].hash, entries[i].minor = dirHash(entries[i].name, &w.hashSeed)
	}
	sortDirents(entries)
	leaves := fillLeaves(entries)
	nodes := 0
	if len(leaves) > maxRootEntries {
		nodes = (len(leaves) + maxNodeEntries - 1) / maxNodeEntries
	}
	if nodes > maxRootEntries || 1+nodes+len(leaves) > maxDirBlocks {
		return errDirTooLarge
	}
	w.beginRoot(ino, parent, nodes)
	if nodes == 0 {
		w.closeIndex(ino, rootOffset, maxRootEntries, leaves, 1, 1)
	} else {
		perNode := (len(leaves) + nodes - 1) / nodes
		nodes = (len(leaves) + perNode - 1) / perNode
		w.closeIndex(ino, rootOffset, maxRootEntries, leaves, perNode, 1)
		for i := range nodes {
			clear(w.buf[:])
			putDirent(w.buf[:], 0, blockSize, 0, "")
			part := leaves[i*perNode : min((i+1)*perNode, len(leaves))]
			w.closeIndex(ino, nodeOffset, maxNodeEntries, part, 1, 1+nodes+i*perNode)
		}
	}
	for _, l := range leaves {
		clear(w.buf[:])
		last, end := 0, 0
		for i := l.first; i < l.end; i++ {
			e := &entries[i]
			putDirent(w.buf[end:], e.ino, e.size(), e.kind, e.name)
			last, end = end, end+e.size()
		}
		w.closeLeaf(ino, last, end)
	}
	return nil
}

// sortDirents sorts entries by their hashes.
func sortDirents(entries []dirent) {
	slices.SortFunc(entries, func(a, b dirent) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.minor, b.minor), strings.Compare(a.name, b.name))
	})
}

// fillLeaves spreads entries, in the order of their hashes, over leaves.
func fillLeaves(entries []dirent) []leaf {
	var leaves []leaf
	left := 0
	for i := range entries {
		e := &entries[i]
		if i == 0 || left < e.size() || left < leafSlack {
			hash := e.hash
			if i > 0 {
				leaves[len(leaves)-1].end = i
				if entries[i-1].hash == hash {
					hash |= 1
				}
			}
			leaves = append(leaves, leaf{first: i, hash: hash})
			left = direntRoom
		}
		left -= e.size()
	}
	leaves[len(leaves)-1].end = len(entries)
	return leaves
}

// beginRoot writes the part of the root before its index to buf: struct
// dx_root.
func (w *dirWriter) beginRoot(ino, parent uint32, nodes int) {
	b := w.buf[:]
	clear(b)
	putDirent(b, ino, 12, filesystem.TypeDir, ".")
	putDirent(b[12:], parent, blockSize-12, filesystem.TypeDir, "..")
	b[28] = hashHalfMD4
	b[29] = 8 // info_length
	if nodes > 0 {
		b[30] = 1 // indirect_levels
	}
}

// closeIndex appends the block in buf with an index at offset that names every
// step-th leaf as the blocks from first on.
func (w *dirWriter) closeIndex(ino uint32, offset, limit int, leaves []leaf, step, first int) {
	le := binary.LittleEndian
	b := w.buf[:]
	end := offset
	for i := 0; i < len(leaves); i += step {
		le.PutUint32(b[end:], leaves[i].hash)
		le.PutUint32(b[end+4:], uint32(first))
		first++
		end += sizeIndexEntry
	}
	le.PutUint16(b[offset:], uint16(limit)) // in place of the first hash, which is the lowest
	le.PutUint16(b[offset+2:], uint16((end-offset)/sizeIndexEntry))
	tail := offset + limit*sizeIndexEntry
	// dt_reserved and dt_checksum count as they are before, zeros.
	crc := crc32c(crc32c(inodeSeed(w.fsSeed, ino), b[:end]), b[tail:tail+sizeIndexTail])
	le.PutUint32(b[tail+4:], crc)
	w.row.add(b[:end], b[tail:])
}
