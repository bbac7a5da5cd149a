package xfs

import (
	"encoding/binary"

	"imgbuild/filesystem"
)

// blockKind tells where the header of a block of metadata has what depends on
// the place of the block.
type blockKind uint8

const (
	kindDir    blockKind = iota // struct xfs_dir3_blk_hdr: entries of a directory, free index
	kindDA                      // struct xfs_da3_blkinfo: leaves and nodes of directories and attributes
	kindRemote                  // struct xfs_attr3_rmt_hdr, xfs_dsymlink_hdr
	kindLong                    // struct xfs_btree_block with long pointers
	kindShort                   // struct xfs_btree_block with short pointers
)

// blockFields are offsets within a block.
type blockFields struct{ crc, address, uuid, owner int }

func (k blockKind) fields() blockFields {
	switch k {
	case kindDir:
		return blockFields{crc: 4, address: 8, uuid: 24, owner: 40}
	case kindDA:
		return blockFields{crc: 12, address: 16, uuid: 32, owner: 48}
	case kindRemote:
		return blockFields{crc: 12, address: 40, uuid: 16, owner: 32}
	case kindLong:
		return blockFields{crc: 64, address: 24, uuid: 40, owner: 56}
	default:
		return blockFields{crc: 52, address: 16, uuid: 32, owner: 48}
	}
}

// blockRow is a row of blocks of metadata, most of them partly empty, that
// keeps of each only the bytes at its start and at its end. It is a
// content.Source: address, owner, UUID and checksum of a block are filled in
// when it is read, and have to be known by then.
type blockRow struct {
	uuid   [16]byte
	data   []byte
	blocks []rowBlock
}

// rowBlock is a block: data[off:off+head] at its start, the tail bytes behind
// that at its end, zeros between them.
type rowBlock struct {
	off        int
	address    uint64 // of the block, linear
	owner      uint64 // inode or allocation group
	head, tail uint16
	kind       blockKind
}

// keep stores a block for one or several places in the row. The two parts are
// at most blockSize bytes together.
func (r *blockRow) keep(kind blockKind, head, tail []byte) rowBlock {
	b := rowBlock{off: len(r.data), head: uint16(len(head)), tail: uint16(len(tail)), kind: kind}
	r.data = append(append(r.data, head...), tail...)
	return b
}

// add appends a block whose owner and address are set later.
func (r *blockRow) add(kind blockKind, head, tail []byte) {
	r.blocks = append(r.blocks, r.keep(kind, head, tail))
}

// addAt appends a block with its owner and address.
func (r *blockRow) addAt(head []byte, kind blockKind, owner, address uint64) {
	b := r.keep(kind, head, nil)
	b.owner, b.address = owner, address
	r.blocks = append(r.blocks, b)
}

// head returns the bytes kept at the start of a block, to be modified in place.
func (r *blockRow) head(i uint32) []byte {
	b := r.blocks[i]
	return r.data[b.off : b.off+int(b.head)]
}

// len returns the number of blocks.
func (r *blockRow) len() uint32 { return uint32(len(r.blocks)) }

// expand writes a block to out, blockSize bytes.
func (r *blockRow) expand(i int, out []byte) {
	b := &r.blocks[i]
	head := int(b.head)
	tail := blockSize - int(b.tail)
	copy(out, r.data[b.off:b.off+head])
	clear(out[head:tail])
	copy(out[tail:], r.data[b.off+head:b.off+head+int(b.tail)])
	f := b.kind.fields()
	binary.BigEndian.PutUint64(out[f.address:], b.address*basicPerBlock)
	copy(out[f.uuid:f.uuid+16], r.uuid[:])
	if b.kind == kindShort {
		binary.BigEndian.PutUint32(out[f.owner:], uint32(b.owner))
	} else {
		binary.BigEndian.PutUint64(out[f.owner:], b.owner)
	}
	putChecksum(out[:blockSize], f.crc)
}

// ReadAt implements io.ReaderAt.
func (r *blockRow) ReadAt(out []byte, off int64) (int, error) {
	return filesystem.ReadUnits(out, off, blockSize, len(r.blocks), func(i int, unit []byte) error {
		r.expand(i, unit)
		return nil
	})
}
