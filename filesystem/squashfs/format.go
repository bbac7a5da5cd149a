package squashfs

import "encoding/binary"

// Sizes in bytes, and limits.
const (
	metadataBlock = 8 << 10 // of metadata, before it is compressed
	maxBlock      = 1 << 20 // SQUASHFS_FILE_MAX_SIZE
	padding       = 4 << 10 // images are padded so that loop devices show all of them

	sizeSuperblock = 96
	sizeFragment   = 16
	sizeXattrID    = 16
	sizeXattrTable = 16
	sizeDirHeader  = 12
	sizeDirEntry   = 8
	sizeDirIndex   = 12

	maxIDs    = 1<<16 - 1 // the superblock counts them in 16 bits
	maxTarget = 4095      // of a symbolic link: Linux reads no longer ones since 6.10
	maxXattr  = 64 << 10  // XATTR_SIZE_MAX
	maxMajor  = 1<<12 - 1
	maxMinor  = 1<<20 - 1
	// maxFileBlocks keeps the list of a file's blocks in memory small. With the
	// usual blocks it is 1 TiB.
	maxFileBlocks = 8 << 20

	none     = 1<<32 - 1 // SQUASHFS_INVALID_FRAG and SQUASHFS_INVALID_XATTR
	noTable  = -1        // SQUASHFS_INVALID_BLK
	dirExtra = 3         // the size of a directory is that of its listing and this, for . and ..
)

// Bits of sizes that say that the block is not compressed.
const (
	plainMetadata = 1 << 15
	plainBlock    = 1 << 24
)

// superFlags are the flags of the superblock.
type superFlags uint16

const (
	plainInodes     superFlags = 1 << 0
	plainData       superFlags = 1 << 1
	plainFragments  superFlags = 1 << 3
	withDuplicates  superFlags = 1 << 6
	exportable      superFlags = 1 << 7
	plainXattrs     superFlags = 1 << 8
	noXattrs        superFlags = 1 << 9
	compressOptions superFlags = 1 << 10
	plainIDs        superFlags = 1 << 11

	plainAll = plainInodes | plainData | plainFragments | plainXattrs | plainIDs
)

// superblock is struct squashfs_super_block, at the start of the image. Places
// are in bytes from there.
type superblock struct {
	inodes         uint32
	time           uint32
	blockSize      uint32
	fragments      uint32
	compression    uint16
	blockLog       uint16
	flags          superFlags
	ids            uint16
	rootInode      uint64 // see metaRef
	bytesUsed      int64
	idTable        int64
	xattrTable     int64
	inodeTable     int64
	directoryTable int64
	fragmentTable  int64
	exportTable    int64
}

func (s *superblock) encode(b *[sizeSuperblock]byte) {
	le := binary.LittleEndian
	copy(b[0x00:], "hsqs")
	le.PutUint32(b[0x04:], s.inodes)
	le.PutUint32(b[0x08:], s.time)
	le.PutUint32(b[0x0c:], s.blockSize)
	le.PutUint32(b[0x10:], s.fragments)
	le.PutUint16(b[0x14:], s.compression)
	le.PutUint16(b[0x16:], s.blockLog)
	le.PutUint16(b[0x18:], uint16(s.flags))
	le.PutUint16(b[0x1a:], s.ids)
	le.PutUint16(b[0x1c:], 4) // s_major
	le.PutUint16(b[0x1e:], 0) // s_minor
	le.PutUint64(b[0x20:], s.rootInode)
	le.PutUint64(b[0x28:], uint64(s.bytesUsed))
	le.PutUint64(b[0x30:], uint64(s.idTable))
	le.PutUint64(b[0x38:], uint64(s.xattrTable))
	le.PutUint64(b[0x40:], uint64(s.inodeTable))
	le.PutUint64(b[0x48:], uint64(s.directoryTable))
	le.PutUint64(b[0x50:], uint64(s.fragmentTable))
	le.PutUint64(b[0x58:], uint64(s.exportTable))
}

// metaRef is a place in metadata: where the block begins, from the start of its
// table, and the offset in what it decompresses to.
type metaRef struct {
	block  uint64
	offset uint16
}

// pack returns the form that 64-bit fields have.
func (r metaRef) pack() uint64 { return r.block<<16 | uint64(r.offset) }

// inodeType is the type of an inode. An extended one is the basic one and
// extended.
type inodeType uint16

const (
	typeDir inodeType = 1 + iota
	typeFile
	typeSymlink
	typeBlock
	typeChar
	typeFIFO
	typeSocket

	extended inodeType = 7
)

// inodeHeader is struct squashfs_base_inode_header, which every inode begins
// with.
type inodeHeader struct {
	kind     inodeType
	mode     uint16 // permissions only
	uid, gid uint16 // indices in the table of owners
	mtime    uint32
	number   uint32
}

func (h *inodeHeader) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint16(b, uint16(h.kind))
	b = le.AppendUint16(b, h.mode)
	b = le.AppendUint16(b, h.uid)
	b = le.AppendUint16(b, h.gid)
	b = le.AppendUint32(b, h.mtime)
	return le.AppendUint32(b, h.number)
}

// dirIndex is struct squashfs_dir_index: where in a listing the names from name
// on are.
type dirIndex struct {
	offset uint32 // in the listing
	start  uint32 // of the block of metadata, from the start of the table
	name   string
}

func (d *dirIndex) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, d.offset)
	b = le.AppendUint32(b, d.start)
	b = le.AppendUint32(b, uint32(len(d.name)-1))
	return append(b, d.name...)
}

// fragment is struct squashfs_fragment_entry: a block of ends of files.
type fragment struct {
	start uint64
	size  uint32 // with plainBlock
}

func (f *fragment) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, f.start)
	b = binary.LittleEndian.AppendUint32(b, f.size)
	return binary.LittleEndian.AppendUint32(b, 0)
}

// alignUp returns n, or the next multiple of align, a power of two.
func alignUp(n, align int64) int64 { return (n + align - 1) &^ (align - 1) }
