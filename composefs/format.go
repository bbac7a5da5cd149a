package composefs

import "encoding/binary"

// Geometry. libcomposefs fixes the block size on all architectures.
const (
	blockBits = 12
	blockSize = 1 << blockBits
	slotSize  = 32 // inodes start on multiples of it; a nid counts them
)

// fileHeader is composefs' own structure at offset 0 of the image, in the
// kilobyte that EROFS leaves to boot loaders.
type fileHeader struct {
	flags   headerFlags
	version uint32 // composefs format version: 0, or 1 where the tree has whiteouts
}

const (
	fileHeaderMagic  = 0xd078629a
	fileHeaderFormat = 1 // version of the header itself
)

// headerFlags are the flags of fileHeader.
type headerFlags uint32

// flagACL says that some inode has a POSIX ACL; without it the image is mounted
// with noacl.
const flagACL headerFlags = 1 << 0

func (h *fileHeader) encode(b []byte) {
	binary.LittleEndian.PutUint32(b[0x00:], fileHeaderMagic)
	binary.LittleEndian.PutUint32(b[0x04:], fileHeaderFormat)
	binary.LittleEndian.PutUint32(b[0x08:], uint32(h.flags))
	binary.LittleEndian.PutUint32(b[0x0c:], h.version)
	// 0x10: four unused words
}

// superBlock is struct erofs_super_block.
type superBlock struct {
	rootNID     uint16
	inodes      uint64
	buildTime   int64  // seconds; the time of every compact inode
	blocks      uint32 // length of the image
	xattrBlkAdr uint32 // block that shared xattr ids count from
}

const (
	superOffset = 1024
	superMagic  = 0xe0f5e1e2
	sizeSuper   = 128
)

// featureCompat are the compatible features of a superblock.
type featureCompat uint32

const (
	compatMtime       featureCompat = 0x2 // times are mtimes
	compatXattrFilter featureCompat = 0x4 // xattrHeader.filter is valid
)

// encode leaves out what is always zero: checksum, UUID, volume name, the
// incompatible features (even though chunk-based files are one) and
// meta_blkaddr, as the inodes start in block 0.
func (s *superBlock) encode(b []byte) {
	binary.LittleEndian.PutUint32(b[0x00:], superMagic)
	binary.LittleEndian.PutUint32(b[0x08:], uint32(compatMtime|compatXattrFilter))
	b[0x0c] = blockBits
	binary.LittleEndian.PutUint16(b[0x0e:], s.rootNID)
	binary.LittleEndian.PutUint64(b[0x10:], s.inodes)
	binary.LittleEndian.PutUint64(b[0x18:], uint64(s.buildTime))
	binary.LittleEndian.PutUint32(b[0x24:], s.blocks)
	binary.LittleEndian.PutUint32(b[0x2c:], s.xattrBlkAdr)
}

// dataLayout says where the data of an inode is.
type dataLayout uint16

const (
	layoutPlain  dataLayout = 0 // in blocks
	layoutInline dataLayout = 2 // in blocks, and the tail behind the inode
	layoutChunk  dataLayout = 4 // in chunks, whose addresses stand behind the inode
)

// inodeRecord is what struct erofs_inode_compact and erofs_inode_extended hold.
type inodeRecord struct {
	layout      dataLayout
	xattrICount uint16 // see xattrICount
	mode        uint32
	nlink       uint32
	size        uint64
	union       uint32 // block address, device number or chunk format
	ino         uint32
	uid, gid    uint32
	mtime       int64 // extended only, seconds
}

const (
	sizeCompact  = 32
	sizeExtended = 64

	maxCompactID   = 0xffff     // nlink, uid, gid
	maxCompactSize = 0xffffffff // bytes
)

func (i *inodeRecord) encodeCompact(b []byte) {
	binary.LittleEndian.PutUint16(b[0x00:], uint16(i.layout<<1))
	binary.LittleEndian.PutUint16(b[0x02:], i.xattrICount)
	binary.LittleEndian.PutUint16(b[0x04:], uint16(i.mode))
	binary.LittleEndian.PutUint16(b[0x06:], uint16(i.nlink))
	binary.LittleEndian.PutUint32(b[0x08:], uint32(i.size))
	binary.LittleEndian.PutUint32(b[0x10:], i.union)
	binary.LittleEndian.PutUint32(b[0x14:], i.ino)
	binary.LittleEndian.PutUint16(b[0x18:], uint16(i.uid))
	binary.LittleEndian.PutUint16(b[0x1a:], uint16(i.gid))
}

func (i *inodeRecord) encodeExtended(b []byte) {
	binary.LittleEndian.PutUint16(b[0x00:], uint16(i.layout<<1|1))
	binary.LittleEndian.PutUint16(b[0x02:], i.xattrICount)
	binary.LittleEndian.PutUint16(b[0x04:], uint16(i.mode))
	binary.LittleEndian.PutUint64(b[0x08:], i.size)
	binary.LittleEndian.PutUint32(b[0x10:], i.union)
	binary.LittleEndian.PutUint32(b[0x14:], i.ino)
	binary.LittleEndian.PutUint32(b[0x18:], i.uid)
	binary.LittleEndian.PutUint32(b[0x1c:], i.gid)
	binary.LittleEndian.PutUint64(b[0x20:], uint64(i.mtime))
	binary.LittleEndian.PutUint32(b[0x2c:], i.nlink)
}

// Chunks. A file's content is elsewhere, so that all its chunks are holes; they
// are made as large as the file.
const (
	sizeChunkAddr = 4
	nullChunkAddr = 0xffffffff
	// maxChunkBits is what the five bits of the chunk format (log2 of blocks)
	// can say. A larger file needs several chunks, whose table libcomposefs
	// places where the kernel does not look when it does not fit the block.
	maxChunkBits = 31 + blockBits
	maxFileSize  = 1 << maxChunkBits
)

// dirent is struct erofs_dirent. The dirents of a block come first, then their
// names.
type dirent struct {
	nid     uint64
	nameOff uint16 // from the start of the block
	typ     fileType
}

const sizeDirent = 12

// fileType is EROFS_FT_*.
type fileType uint8

const (
	ftFile fileType = iota + 1
	ftDir
	ftChar
	ftBlock
	ftFIFO
	ftSock
	ftLink
)

func (d *dirent) encode(b []byte) {
	binary.LittleEndian.PutUint64(b[0x00:], d.nid)
	binary.LittleEndian.PutUint16(b[0x08:], d.nameOff)
	b[0x0a] = byte(d.typ)
}

// xattrHeader is struct erofs_xattr_ibody_header, which follows an inode that
// has xattrs. Followed by shared ids (u32 each), then xattrEntry structures.
type xattrHeader struct {
	filter uint32 // a bit is set where no xattr hashes to it
	shared uint8  // number of shared ids
}

const (
	sizeXattrHeader = 12
	sizeSharedID    = 4
)

func (h *xattrHeader) encode(b []byte) {
	binary.LittleEndian.PutUint32(b[0x00:], h.filter)
	b[0x04] = h.shared
}

// xattrEntry is struct erofs_xattr_entry. Followed by the name without its
// prefix and the value, then zeros up to a multiple of xattrAlign.
type xattrEntry struct {
	nameLen  uint8
	index    xattrIndex
	valueLen uint16
}

const (
	sizeXattrEntry = 4
	xattrAlign     = 4
)

func (e *xattrEntry) encode(b []byte) {
	b[0x00] = e.nameLen
	b[0x01] = byte(e.index)
	binary.LittleEndian.PutUint16(b[0x02:], e.valueLen)
}

// xattrICount returns the i_xattr_icount of an inode with size bytes of xattrs,
// the header included.
func xattrICount(size uint32) uint16 {
	if size == 0 {
		return 0
	}
	return uint16((size-sizeXattrHeader)/xattrAlign + 1)
}

// roundUp returns n rounded up to a multiple of to, a power of two.
func roundUp(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }
