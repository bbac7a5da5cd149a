package squashfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"imgbuild/filesystem"
)

const (
	// maxRun is how many entries share a header (SQUASHFS_DIR_COUNT).
	maxRun = 256
	// maxIndex is how many entries the index of a directory can have.
	maxIndex = math.MaxUint16
)

// writeDir writes the inodes of all that is in the directory k, and its listing.
//
// A directory's own inode is written with those of its siblings, after what is
// below it: so a listing refers to inodes next to each other.
func (w *writer) writeDir(ctx context.Context, k uint32) (listing, error) {
	if err := ctx.Err(); err != nil {
		return listing{}, err
	}
	entries := w.nodes[k].inode.Entries()
	below := make(map[uint32]listing)
	for _, e := range entries {
		if !e.Inode.IsDir() {
			continue
		}
		child := w.byTree[e.Inode]
		names, err := w.writeDir(ctx, child)
		if err != nil {
			return listing{}, err
		}
		below[child] = names
	}
	for _, e := range entries {
		child := w.byTree[e.Inode]
		if err := w.writeInode(child, below[child]); err != nil {
			return listing{}, err
		}
	}
	if w.inodes.pos().block > math.MaxUint32 {
		return listing{}, fmt.Errorf("squashfs: the tables of inodes are larger than 4 GiB")
	}
	return w.writeListing(k)
}

// writeListing writes the names in a directory: runs of entries whose inodes are
// in one block of metadata, with a header each.
func (w *writer) writeListing(k uint32) (listing, error) {
	le := binary.LittleEndian
	var b []byte
	var index []dirIndex
	header, count := -1, 0 // of the run: its place in b, and its entries
	var block uint64
	var number uint32
	indexed := 0 // the place in b from which on there is no index
	for _, e := range w.nodes[k].inode.Entries() {
		child := w.byTree[e.Inode]
		place := w.nodes[child].place
		delta := int64(child+1) - int64(number)
		full := header >= 0 && len(b)+sizeDirEntry+len(e.Name)-indexed > metadataBlock
		if header < 0 || count == maxRun || full || place.block != block || delta > math.MaxInt16 || delta < math.MinInt16 {
			if full {
				index = append(index, dirIndex{offset: uint32(len(b)), name: e.Name})
				indexed = len(b)
			}
			header, count, block, number, delta = len(b), 0, place.block, child+1, 0
			b = le.AppendUint32(b, 0) // set below
			b = le.AppendUint32(b, uint32(block))
			b = le.AppendUint32(b, number)
		}
		b = le.AppendUint16(b, place.offset)
		b = le.AppendUint16(b, uint16(delta))
		b = le.AppendUint16(b, uint16(baseType(e.Inode)))
		b = le.AppendUint16(b, uint16(len(e.Name)-1))
		b = append(b, e.Name...)
		le.PutUint32(b[header:], uint32(count)) // less one
		count++
	}
	if len(index) > maxIndex || len(b) > math.MaxUint32-dirExtra {
		return listing{}, filesystem.Refuse("squashfs", w.path(k), fmt.Errorf("directory of %d entries", w.nodes[k].inode.Len()))
	}
	names := listing{place: w.dirs.pos(), size: len(b), index: index}
	done := 0
	for i := range index {
		if err := w.dirs.write(b[done:index[i].offset]); err != nil {
			return listing{}, err
		}
		done = int(index[i].offset)
		index[i].start = uint32(w.dirs.pos().block)
	}
	return names, w.dirs.write(b[done:])
}
