package composefs

import (
	"encoding/binary"

	"imgbuild/tree"
)

// encode writes the image that layout has planned.
func (img *image) encode() []byte {
	b := make([]byte, img.end)

	// (1) composefs' header
	header := fileHeader{version: img.version}
	if img.xattrs.acl {
		header.flags |= flagACL
	}
	header.encode(b)

	// (2) superblock
	super := superBlock{
		rootNID:     uint16(img.nodes[0].nid()),
		inodes:      uint64(len(img.nodes)),
		buildTime:   img.minMtime,
		blocks:      uint32(img.end / blockSize),
		xattrBlkAdr: uint32(img.inodesEnd / blockSize),
	}
	super.encode(b[superOffset:])

	// (3) inodes with their tails, and (5) the blocks they refer to
	data := img.dataStart
	for i := range img.nodes {
		n := &img.nodes[i]
		img.encodeInode(b[n.pos:][:n.length()], uint32(i), data)
		img.encodeData(b, uint32(i), data)
		data += uint64(n.blocks) * blockSize
	}

	// (4) shared xattrs
	for _, id := range img.xattrs.shared {
		x := &img.xattrs.all[id]
		x.put(b[img.inodesEnd+uint64(x.offset):])
	}
	return b
}

// encodeInode writes the inode record and the xattrs of a node whose blocks
// start at the offset data.
func (img *image) encodeInode(b []byte, i uint32, data uint64) {
	n := &img.nodes[i]
	rec := inodeRecord{
		layout:      layoutPlain,
		xattrICount: xattrICount(n.xattrSize),
		mode:        n.mode,
		nlink:       n.nlink,
		size:        n.size,
		union:       n.rdev,
		ino:         i,
		uid:         n.src.UID,
		gid:         n.src.GID,
		mtime:       n.mtime,
	}
	if n.tail > 0 {
		rec.layout = layoutInline
	}
	if n.blocks > 0 {
		rec.union = uint32(data / blockSize)
	}
	switch {
	case n.typ() == tree.TypeDir:
		rec.size = uint64(n.blocks)*blockSize + uint64(n.tail)
	case n.typ() == tree.TypeFile && n.size > 0:
		rec.layout = layoutChunk
		rec.union = uint32(chunkBits(n.size) - blockBits)
	}
	if n.compact {
		rec.encodeCompact(b)
	} else {
		rec.encodeExtended(b)
	}
	img.encodeXattrs(b[n.inodeSize():], img.xattrIDs[n.xfirst:n.xlast])
}

// encodeXattrs writes the xattrs behind an inode: the ids of the shared ones,
// then the others.
func (img *image) encodeXattrs(b []byte, ids []uint32) {
	if len(ids) == 0 {
		return
	}
	header := xattrHeader{filter: 0xffffffff}
	off := sizeXattrHeader
	for _, id := range ids {
		x := &img.xattrs.all[id]
		header.filter &^= x.filter
		if x.shared() && header.shared < maxShared {
			// Ids count words from the start of the block that the
			// shared xattrs start in.
			at := img.inodesEnd%blockSize + uint64(x.offset)
			binary.LittleEndian.PutUint32(b[off:], uint32(at/xattrAlign))
			off += sizeSharedID
			header.shared++
		}
	}
	header.encode(b)
	shared := 0
	for _, id := range ids {
		x := &img.xattrs.all[id]
		if x.shared() && shared < maxShared {
			shared++
			continue
		}
		off += x.put(b[off:])
	}
}

// encodeData writes the data of a node: the tail behind the inode, blocks from
// the offset data.
func (img *image) encodeData(b []byte, i uint32, data uint64) {
	n := &img.nodes[i]
	tail := b[n.pos+n.length()-uint64(n.tail):][:n.tail]
	switch {
	case n.typ() == tree.TypeDir:
		block := uint32(0)
		for entries := range img.dirBlocks(i) {
			if block < n.blocks {
				img.encodeEntries(b[data+uint64(block)*blockSize:], entries)
			} else {
				img.encodeEntries(tail, entries)
			}
			block++
		}
	case n.typ() == tree.TypeLink && n.blocks > 0:
		copy(b[data:], n.src.Target)
	case n.typ() == tree.TypeLink:
		copy(tail, n.src.Target)
	case n.typ() == tree.TypeFile && n.size > 0:
		binary.LittleEndian.PutUint32(tail, nullChunkAddr)
	}
}

// encodeEntries writes one block, or the tail, of a directory.
func (img *image) encodeEntries(b []byte, entries []entry) {
	off := len(entries) * sizeDirent
	for k, e := range entries {
		d := dirent{nid: img.nodes[e.node].nid(), nameOff: uint16(off), typ: img.nodes[e.node].fileType()}
		d.encode(b[k*sizeDirent:])
		off += copy(b[off:], e.name)
	}
}

// fileType returns the type of the node in dirents.
func (n *node) fileType() fileType {
	switch n.typ() {
	case tree.TypeFile:
		return ftFile
	case tree.TypeDir:
		return ftDir
	case tree.TypeChar:
		return ftChar
	case tree.TypeBlock:
		return ftBlock
	case tree.TypeFIFO:
		return ftFIFO
	case tree.TypeSock:
		return ftSock
	}
	return ftLink
}
