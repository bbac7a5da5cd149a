package btrfs

import (
	"encoding/binary"
	"hash/crc32"
)

// Sizes and limits of the format, in bytes. mkfs.btrfs chooses the same sectors
// and nodes.
const (
	sectorShift = 12
	sectorSize  = 1 << sectorShift
	nodeSize    = 16 << 10

	sizeHeader = 101 // struct btrfs_header
	sizeItem   = 25  // struct btrfs_item
	sizeKeyPtr = 33  // struct btrfs_key_ptr
	leafRoom   = nodeSize - sizeHeader
	nodeFanout = leafRoom / sizeKeyPtr
	maxItem    = leafRoom - sizeItem

	sizeSuper      = 4096
	sizeInodeItem  = 160
	sizeRootItem   = 439
	sizeDirItem    = 30 // struct btrfs_dir_item, without name and data
	sizeInodeRef   = 10 // struct btrfs_inode_ref, without the name
	sizeInodeExt   = 18 // struct btrfs_inode_extref, without the name
	sizeRootRef    = 18 // struct btrfs_root_ref, without the name
	sizeFileExtent = 53
	sizeInlineHead = 21  // struct btrfs_file_extent_item up to disk_bytenr
	sizeExtentItem = 24  // struct btrfs_extent_item
	sizeMetaItem   = 33  // with the one inline reference of a tree block
	sizeDataItem   = 53  // with the one inline reference of a file
	sizeDevItem    = 98  // struct btrfs_dev_item
	sizeStripe     = 32  // struct btrfs_stripe
	sizeChunkHead  = 48  // struct btrfs_chunk, without stripes
	sizeDevExtent  = 48  // struct btrfs_dev_extent
	sizeBlockGroup = 24  // struct btrfs_block_group_item
	sizeStats      = 40  // struct btrfs_dev_stats_item
	sizeVerity     = 25  // struct btrfs_verity_descriptor_item
	superArray     = 811 // sys_chunk_array of the superblock
	superBackups   = 2859

	// stripeLen is BTRFS_STRIPE_LEN: chunks are aligned to it, so that no node
	// crosses a multiple of it.
	stripeLen = 64 << 10

	maxExtent     = 128 << 20             // BTRFS_MAX_EXTENT_SIZE
	maxCompressed = 128 << 10             // BTRFS_MAX_UNCOMPRESSED
	maxInline     = 2048                  // BTRFS_DEFAULT_MAX_INLINE
	maxLinks      = 65535                 // BTRFS_LINK_MAX
	maxTarget     = sectorSize - 1        // of a symbolic link, which is inline
	maxXattr      = maxItem - sizeDirItem // name and value; BTRFS_MAX_XATTR_SIZE
	maxName       = 255
	maxLabel      = 255
	merkleItem    = 2048 // of a Merkle tree in an item, as Linux cuts it (fs/btrfs/verity.c)
	maxMajor      = 1<<12 - 1
	maxMinor      = 1<<20 - 1
)

// generation is the transaction that wrote everything.
const generation = 1

// Object identifiers.
const (
	rootTree      = 1
	extentTree    = 2
	chunkTree     = 3
	devTree       = 4
	fsTree        = 5
	rootDir       = 6 // BTRFS_ROOT_TREE_DIR_OBJECTID
	csumTree      = 7
	uuidTree      = 9
	freeSpaceTree = 10
	groupTree     = 11
	dataReloc     = ^uint64(0) - 8 // -9
	csumObject    = ^uint64(0) - 9 // -10, BTRFS_EXTENT_CSUM_OBJECTID
	firstFree     = 256
	devItems      = 1
)

// Types of keys.
const (
	keyInode      = 1
	keyInodeRef   = 12
	keyInodeExt   = 13
	keyXattr      = 24
	keyVerity     = 36
	keyMerkle     = 37
	keyDirItem    = 84
	keyDirIndex   = 96
	keyExtentData = 108
	keyCsum       = 128
	keyRoot       = 132
	keyRootBack   = 144
	keyRootRef    = 156
	keyExtent     = 168
	keyMetadata   = 169
	keyTreeRef    = 176
	keyDataRef    = 178
	keyBlockGroup = 192
	keyFreeInfo   = 198
	keyFreeExtent = 199
	keyDevExtent  = 204
	keyDev        = 216
	keyChunk      = 228
	keyDevStats   = 249
	keyUUID       = 251
)

// Types of chunks.
type profile uint64

const (
	profileData     profile = 1
	profileSystem   profile = 2
	profileMetadata profile = 4
	profileDUP      profile = 0x20
)

type compatRO uint64

const (
	roFreeSpaceTree  compatRO = 1
	roFreeSpaceValid compatRO = 2
	roVerity         compatRO = 4
	roBlockGroupTree compatRO = 8
)

type incompat uint64

const (
	incompatMixedBackref incompat = 0x1
	incompatDefault      incompat = 0x2
	incompatZstd         incompat = 0x10
	incompatBigMetadata  incompat = 0x20 // nodes larger than a page
	incompatExtendedIref incompat = 0x40
	incompatSkinny       incompat = 0x100
	incompatNoHoles      incompat = 0x200
)

type inodeFlag uint64

const (
	flagNoDataSum inodeFlag = 0x1
	flagNoDataCow inodeFlag = 0x2
	flagImmutable inodeFlag = 0x40
	flagVerity    inodeFlag = 1 << 32 // BTRFS_INODE_RO_VERITY
)

// Flags of a root.
const (
	rootReadOnly = 1
	// rootItemInit, in the inode within a root item, tells Linux that the flags
	// of the root are valid.
	rootItemInit = 1 << 31
)

const typeXattr = 8 // BTRFS_FT_XATTR, the type in entries of attributes

// Types of extents.
const (
	extentInline  = 0
	extentRegular = 1
)

var le = binary.LittleEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c continues crc over a name as Linux does: without the inversions before
// and after that the standard library makes.
func crc32c(crc uint32, name string) uint32 {
	for i := range len(name) {
		crc = castagnoli[byte(crc)^name[i]] ^ crc>>8
	}
	return crc
}

// nameHash is btrfs_name_hash.
func nameHash(name string) uint32 { return crc32c(^uint32(1), name) }

// extrefHash is btrfs_extref_hash: of a name in the directory with the number
// parent.
func extrefHash(parent uint64, name string) uint32 { return crc32c(uint32(parent), name) }

// key is struct btrfs_key. Keys are ordered by its fields.
type key struct {
	object uint64
	typ    uint8
	offset uint64
}

const sizeKey = 17

func (k key) encode(b []byte) {
	le.PutUint64(b, k.object)
	b[8] = k.typ
	le.PutUint64(b[9:], k.offset)
}

// appendKey appends a key.
func appendKey(b []byte, k key) []byte {
	b = le.AppendUint64(b, k.object)
	return le.AppendUint64(append(b, k.typ), k.offset)
}

// appendDirItem appends struct btrfs_dir_item with the name and data behind it.
func appendDirItem(b []byte, location key, typ uint8, name, data string) []byte {
	b = appendKey(b, location)
	b = le.AppendUint64(b, generation)
	b = le.AppendUint16(b, uint16(len(data)))
	b = le.AppendUint16(b, uint16(len(name)))
	b = append(b, typ)
	return append(append(b, name...), data...)
}

// inodeItem is struct btrfs_inode_item. All times are one.
type inodeItem struct {
	size, nbytes uint64
	links        uint32
	uid, gid     uint32
	mode         uint32
	rdev         uint64
	flags        inodeFlag
	time         int64
}

func (i *inodeItem) encode(b []byte) {
	le.PutUint64(b[0:], generation)
	le.PutUint64(b[8:], generation) // transid
	le.PutUint64(b[16:], i.size)
	le.PutUint64(b[24:], i.nbytes)
	// 32: block_group
	le.PutUint32(b[40:], i.links)
	le.PutUint32(b[44:], i.uid)
	le.PutUint32(b[48:], i.gid)
	le.PutUint32(b[52:], i.mode)
	le.PutUint64(b[56:], i.rdev)
	le.PutUint64(b[64:], uint64(i.flags))
	// 72: sequence, reserved; times of 12 bytes, of which nanoseconds are 0
	for at := 112; at < sizeInodeItem; at += 12 {
		le.PutUint64(b[at:], uint64(i.time))
	}
}

// rootItem is struct btrfs_root_item.
type rootItem struct {
	dir    uint64 // root_dirid
	bytenr uint64
	blocks uint64
	level  uint8
	flags  uint64
	uuid   [16]byte
	time   int64 // ctime and otime
}

func (r *rootItem) encode() []byte {
	b := make([]byte, sizeRootItem)
	inode := inodeItem{size: 3, nbytes: nodeSize, links: 1, mode: 0o40755, flags: rootItemInit}
	inode.encode(b)
	le.PutUint64(b[8:], 0) // transid, as mkfs.btrfs has it
	le.PutUint64(b[160:], generation)
	le.PutUint64(b[168:], r.dir)
	le.PutUint64(b[176:], r.bytenr)
	le.PutUint64(b[192:], r.blocks*nodeSize) // bytes_used
	le.PutUint64(b[208:], r.flags)
	le.PutUint32(b[216:], 1) // refs
	b[238] = r.level
	le.PutUint64(b[239:], generation) // generation_v2
	if r.uuid != [16]byte{} {
		copy(b[247:], r.uuid[:])
		le.PutUint64(b[295:], generation) // ctransid
		le.PutUint64(b[303:], generation) // otransid
		le.PutUint64(b[327:], uint64(r.time))
		le.PutUint64(b[339:], uint64(r.time))
	}
	return b
}

// devItem is struct btrfs_dev_item.
type devItem struct {
	total, used uint64
	uuid, fsid  [16]byte
}

func (d *devItem) encode(b []byte) {
	le.PutUint64(b[0:], 1) // devid
	le.PutUint64(b[8:], d.total)
	le.PutUint64(b[16:], d.used)
	le.PutUint32(b[24:], sectorSize) // io_align
	le.PutUint32(b[28:], sectorSize) // io_width
	le.PutUint32(b[32:], sectorSize)
	copy(b[66:], d.uuid[:])
	copy(b[82:], d.fsid[:])
}

// superblock is struct btrfs_super_block.
type superblock struct {
	fsid, device   [16]byte
	label          string
	root, chunks   treeRoot
	backups        [6]treeRoot // root, chunk, extent, fs, device, checksums
	total, used    uint64
	compatRO       compatRO
	incompat       incompat
	csum           *checksum
	dev            devItem
	systemChunks   []byte
	at             uint64 // of this copy
	uuidGeneration uint64
}

// treeRoot is where the root of a tree is.
type treeRoot struct {
	bytenr uint64
	level  uint8
}

func (s *superblock) encode() []byte {
	b := make([]byte, sizeSuper)
	copy(b[32:], s.fsid[:])
	le.PutUint64(b[48:], s.at)
	le.PutUint64(b[56:], 1) // flags: WRITTEN
	copy(b[64:], "_BHRfS_M")
	le.PutUint64(b[72:], generation)
	le.PutUint64(b[80:], s.root.bytenr)
	le.PutUint64(b[88:], s.chunks.bytenr)
	// 96: no log
	le.PutUint64(b[112:], s.total)
	le.PutUint64(b[120:], s.used)
	le.PutUint64(b[128:], rootDir)
	le.PutUint64(b[136:], 1) // num_devices
	le.PutUint32(b[144:], sectorSize)
	le.PutUint32(b[148:], nodeSize)
	le.PutUint32(b[152:], nodeSize) // leafsize
	le.PutUint32(b[156:], sectorSize)
	le.PutUint32(b[160:], uint32(len(s.systemChunks)))
	le.PutUint64(b[164:], generation) // of the chunk tree
	le.PutUint64(b[180:], uint64(s.compatRO))
	le.PutUint64(b[188:], uint64(s.incompat))
	le.PutUint16(b[196:], s.csum.id)
	b[198], b[199] = s.root.level, s.chunks.level
	s.dev.encode(b[201:])
	copy(b[299:299+maxLabel], s.label)
	// 555: no cache; 571: the metadata UUID is the fsid
	le.PutUint64(b[563:], s.uuidGeneration)
	copy(b[superArray:superBackups], s.systemChunks)
	s.backup(b[superBackups+generation%4*168:])
	s.csum.sum(b[:0], b[32:])
	return b
}

// backup encodes struct btrfs_root_backup.
func (s *superblock) backup(b []byte) {
	for i, r := range s.backups {
		le.PutUint64(b[16*i:], r.bytenr)
		le.PutUint64(b[16*i+8:], generation)
		b[152+i] = r.level
	}
	le.PutUint64(b[96:], s.total)
	le.PutUint64(b[104:], s.used)
	le.PutUint64(b[112:], 1) // num_devices
}
