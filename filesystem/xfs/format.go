package xfs

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	blockSize  = 4096
	blockShift = 12
	maxLabel   = 12

	basicBlock      = 512 // unit of disk addresses (daddr)
	basicPerBlock   = blockSize / basicBlock
	inodeSize       = 512
	inodesPerBlock  = blockSize / inodeSize
	inodesPerChunk  = 64
	chunkBlocks     = inodesPerChunk / inodesPerBlock
	sparseAlign     = 4 // sb_spino_align, in blocks
	inodesPerBlkLog = 3

	nullBlock = 1<<32 - 1 // NULLAGBLOCK, NULLAGINO
)

// Bits of sb_versionnum, the version in its low four bits.
const (
	versionBase   = 0xb4a5 // 5 with NLINK, ALIGN, LOGV2, EXTFLG, DIRV2 and MOREBITS
	versionAttr   = 0x0010
	versionDAlign = 0x0100
	versionSector = 0x0800
)

// features2 is sb_features2: LAZYSBCOUNT, ATTR2, PROJID32 and CRC.
const features2 = 0x18a

// Bits of sb_features_ro_compat.
const (
	roFinobt = 1 << iota
	roRmapbt
	roReflink
	roInobtCount
)

// Bits of sb_features_incompat.
const (
	incompatFtype    = 0x01
	incompatSparse   = 0x02
	incompatBigtime  = 0x08
	incompatNrExt64  = 0x20
	incompatExchange = 0x40
	incompatParent   = 0x80
)

// castagnoli is the table of all checksums of the format.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// putChecksum sets the checksum of a structure at offset at. Of all that the
// format has, it alone is little-endian.
func putChecksum(b []byte, at int) {
	clear(b[at : at+4])
	binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b, castagnoli))
}

// sizeSuper is the size of struct xfs_dsb as far as it is used.
const sizeSuper = 264

// superblock is struct xfs_dsb, in the first sector of every allocation group.
type superblock struct {
	blocks       uint64 // sb_dblocks
	uuid         [16]byte
	logStart     uint64 // fsblock
	root         uint64 // inode; the bitmap and summary of the realtime part follow
	agBlocks     uint32
	agCount      uint32
	logBlocks    uint32
	version      uint16
	sectorSize   uint16
	label        string
	agBlockLog   uint8
	sectorLog    uint8
	maxPercent   uint8 // sb_imax_pct
	inodes       uint64
	freeInodes   uint64
	freeBlocks   uint64
	stripeUnit   uint32 // blocks
	stripeWidth  uint32 // blocks
	logSectorLog uint8  // 0 for 512 bytes
	logSector    uint16 // 0 for 512 bytes
	logUnit      uint32 // bytes; 1 without a stripe
	roCompat     uint32
	incompat     uint32
}

// encode writes the superblock to its sector, whose checksum it sets.
func (s *superblock) encode(b []byte) {
	be := binary.BigEndian
	copy(b[0:], "XFSB")
	be.PutUint32(b[4:], blockSize)
	be.PutUint64(b[8:], s.blocks)
	copy(b[32:48], s.uuid[:])
	be.PutUint64(b[48:], s.logStart)
	be.PutUint64(b[56:], s.root)
	be.PutUint64(b[64:], s.root+1) // sb_rbmino
	be.PutUint64(b[72:], s.root+2) // sb_rsumino
	be.PutUint32(b[80:], 1)        // sb_rextsize
	be.PutUint32(b[84:], s.agBlocks)
	be.PutUint32(b[88:], s.agCount)
	be.PutUint32(b[96:], s.logBlocks)
	be.PutUint16(b[100:], s.version)
	be.PutUint16(b[102:], s.sectorSize)
	be.PutUint16(b[104:], inodeSize)
	be.PutUint16(b[106:], inodesPerBlock)
	copy(b[108:120], s.label)
	b[120], b[121], b[122], b[123] = blockShift, s.sectorLog, 9, inodesPerBlkLog
	b[124] = s.agBlockLog
	b[127] = s.maxPercent
	be.PutUint64(b[128:], s.inodes)
	be.PutUint64(b[136:], s.freeInodes)
	be.PutUint64(b[144:], s.freeBlocks)
	be.PutUint32(b[180:], chunkBlocks) // sb_inoalignmt
	be.PutUint32(b[184:], s.stripeUnit)
	be.PutUint32(b[188:], s.stripeWidth)
	b[193] = s.logSectorLog
	be.PutUint16(b[194:], s.logSector)
	be.PutUint32(b[196:], s.logUnit)
	be.PutUint32(b[200:], features2)
	be.PutUint32(b[204:], features2) // sb_bad_features2
	be.PutUint32(b[212:], s.roCompat)
	be.PutUint32(b[216:], s.incompat)
	be.PutUint32(b[228:], sparseAlign)
	putChecksum(b, 224)
}

// agTree is the root of a B+tree of an allocation group. Levels count from 1;
// 0 is no tree.
type agTree struct {
	root, level uint32
	blocks      uint32 // the root included
}

// agFree is struct xfs_agf, the header of the free space.
type agFree struct {
	uuid                [16]byte
	seqno, length       uint32
	byBlock, byCount    agTree
	rmap, refcount      agTree
	listCount           uint32 // blocks in the free list
	freeBlocks, longest uint32
	treeBlocks          uint32 // of byBlock, byCount and rmap, without the roots
}

func (a *agFree) encode(b []byte) {
	be := binary.BigEndian
	copy(b[0:], "XAGF")
	be.PutUint32(b[4:], 1)
	be.PutUint32(b[8:], a.seqno)
	be.PutUint32(b[12:], a.length)
	be.PutUint32(b[16:], a.byBlock.root)
	be.PutUint32(b[20:], a.byCount.root)
	be.PutUint32(b[24:], a.rmap.root)
	be.PutUint32(b[28:], a.byBlock.level)
	be.PutUint32(b[32:], a.byCount.level)
	be.PutUint32(b[36:], a.rmap.level)
	be.PutUint32(b[40:], 1) // agf_flfirst, as mkfs.xfs
	be.PutUint32(b[44:], a.listCount)
	be.PutUint32(b[48:], a.listCount)
	be.PutUint32(b[52:], a.freeBlocks)
	be.PutUint32(b[56:], a.longest)
	be.PutUint32(b[60:], a.treeBlocks)
	copy(b[64:80], a.uuid[:])
	be.PutUint32(b[80:], a.rmap.blocks)
	be.PutUint32(b[84:], a.refcount.blocks)
	be.PutUint32(b[88:], a.refcount.root)
	be.PutUint32(b[92:], a.refcount.level)
	putChecksum(b, 216)
}

// agInodes is struct xfs_agi, the header of the inodes. Inode numbers in it are
// relative to the group.
type agInodes struct {
	uuid             [16]byte
	seqno, length    uint32
	count, freeCount uint32
	tree, free       agTree
	newest           uint32 // agi_newino
	counted          bool   // the feature inobtcount
}

func (a *agInodes) encode(b []byte) {
	be := binary.BigEndian
	copy(b[0:], "XAGI")
	be.PutUint32(b[4:], 1)
	be.PutUint32(b[8:], a.seqno)
	be.PutUint32(b[12:], a.length)
	be.PutUint32(b[16:], a.count)
	be.PutUint32(b[20:], a.tree.root)
	be.PutUint32(b[24:], a.tree.level)
	be.PutUint32(b[28:], a.freeCount)
	be.PutUint32(b[32:], a.newest)
	be.PutUint32(b[36:], nullBlock) // agi_dirino
	for i := range 64 {             // agi_unlinked
		be.PutUint32(b[40+4*i:], nullBlock)
	}
	copy(b[296:312], a.uuid[:])
	be.PutUint32(b[328:], a.free.root)
	be.PutUint32(b[332:], a.free.level)
	if a.counted {
		be.PutUint32(b[336:], a.tree.blocks)
		be.PutUint32(b[340:], a.free.blocks)
	}
	putChecksum(b, 312)
}

// encodeFreeList writes struct xfs_agfl with n blocks from first on to its
// sector. The list is a ring that begins at index 1.
func encodeFreeList(b []byte, uuid [16]byte, seqno, first, n uint32) {
	const sizeHeader = 36
	be := binary.BigEndian
	copy(b[0:], "XAFL")
	be.PutUint32(b[4:], seqno)
	copy(b[8:24], uuid[:])
	for at := sizeHeader; at < len(b); at += 4 {
		be.PutUint32(b[at:], nullBlock)
	}
	for i := range n {
		be.PutUint32(b[sizeHeader+4*(1+i):], first+i)
	}
	putChecksum(b, 32)
}
