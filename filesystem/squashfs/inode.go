package squashfs

import (
	"encoding/binary"
	"math"

	"imgbuild/tree"
)

// baseType returns the basic type of an inode.
func baseType(i *tree.Inode) inodeType {
	switch i.Type() {
	case tree.TypeDir:
		return typeDir
	case tree.TypeLink:
		return typeSymlink
	case tree.TypeBlock:
		return typeBlock
	case tree.TypeChar:
		return typeChar
	case tree.TypeFIFO:
		return typeFIFO
	case tree.TypeSock:
		return typeSocket
	}
	return typeFile
}

// listing is where the names in a directory are.
type listing struct {
	place metaRef
	size  int
	index []dirIndex
}

// writeInode writes the inode of the node k, unless that was done for another of
// its names. A directory has a listing.
func (w *writer) writeInode(k uint32, names listing) error {
	n := &w.nodes[k]
	if n.done {
		return nil
	}
	h := inodeHeader{
		kind: baseType(n.inode), mode: uint16(n.inode.Perm()), uid: n.uid, gid: n.gid,
		mtime: uint32(min(max(n.inode.Mtime, 0), math.MaxUint32)), number: k + 1,
	}
	le := binary.LittleEndian
	b := w.scratch[:0]
	switch h.kind {
	case typeDir:
		b = w.appendDir(b, n, h, names)
	case typeFile:
		b = w.appendFile(b, n, h)
	default:
		if n.xattr != none {
			h.kind += extended
		}
		b = h.append(b)
		b = le.AppendUint32(b, n.links)
		switch baseType(n.inode) {
		case typeSymlink:
			b = le.AppendUint32(b, uint32(len(n.inode.Target)))
			b = append(b, n.inode.Target...)
		case typeBlock, typeChar:
			// new_encode_dev
			b = le.AppendUint32(b, n.inode.Minor&0xff|n.inode.Major<<8|n.inode.Minor&^0xff<<12)
		}
		if n.xattr != none {
			b = le.AppendUint32(b, n.xattr)
		}
	}
	w.scratch = b
	n.place, n.done = w.inodes.pos(), true
	return w.inodes.write(b)
}

// appendDir appends the inode of a directory.
func (w *writer) appendDir(b []byte, n *node, h inodeHeader, names listing) []byte {
	le := binary.LittleEndian
	size := names.size + dirExtra
	parent := n.parent + 1
	if n == &w.nodes[0] {
		parent = uint32(len(w.nodes)) + 1 // as mksquashfs has it: a number that is not used
	}
	if size <= math.MaxUint16 && n.xattr == none && len(names.index) == 0 {
		b = h.append(b)
		b = le.AppendUint32(b, uint32(names.place.block))
		b = le.AppendUint32(b, n.links)
		b = le.AppendUint16(b, uint16(size))
		b = le.AppendUint16(b, names.place.offset)
		return le.AppendUint32(b, parent)
	}
	h.kind += extended
	b = h.append(b)
	b = le.AppendUint32(b, n.links)
	b = le.AppendUint32(b, uint32(size))
	b = le.AppendUint32(b, uint32(names.place.block))
	b = le.AppendUint32(b, parent)
	b = le.AppendUint16(b, uint16(len(names.index)))
	b = le.AppendUint16(b, names.place.offset)
	b = le.AppendUint32(b, n.xattr)
	for i := range names.index {
		b = names.index[i].append(b)
	}
	return b
}

// appendFile appends the inode of a regular file.
func (w *writer) appendFile(b []byte, n *node, h inodeHeader) []byte {
	le := binary.LittleEndian
	f := &w.files[n.file]
	size := n.inode.Content.Size()
	sparse := size - f.stored - int64(f.tail)
	if f.start <= math.MaxUint32 && size <= math.MaxUint32 && n.links == 1 && n.xattr == none && sparse == 0 {
		b = h.append(b)
		b = le.AppendUint32(b, uint32(f.start))
		b = le.AppendUint32(b, f.fragment)
		b = le.AppendUint32(b, f.fragOffset)
		b = le.AppendUint32(b, uint32(size))
	} else {
		h.kind += extended
		if sparse == size && size > 0 {
			sparse-- // as mksquashfs has it: no file uses nothing
		}
		b = h.append(b)
		b = le.AppendUint64(b, f.start)
		b = le.AppendUint64(b, uint64(size))
		b = le.AppendUint64(b, uint64(sparse))
		b = le.AppendUint32(b, n.links)
		b = le.AppendUint32(b, f.fragment)
		b = le.AppendUint32(b, f.fragOffset)
		b = le.AppendUint32(b, n.xattr)
	}
	if f.sizes == nil {
		return append(b, make([]byte, 4*f.blocks)...)
	}
	for _, s := range f.sizes {
		b = le.AppendUint32(b, s)
	}
	return b
}
