package ext4

import (
	"encoding/binary"
	"hash/crc32"

	"imgbuild/filesystem"
)

// Sizes that the package writes; the format allows others.
const (
	blockShift     = 12
	blockSize      = 1 << blockShift
	inodeSize      = 256
	descSize       = 64 // with the 64bit feature
	blocksPerGroup = 8 * blockSize
	flexGroups     = 16 // s_log_groups_per_flex 4, as mke2fs
	logFlexGroups  = 4
	sectorsPerBlk  = blockSize / 512 // i_blocks counts sectors

	superOffset = 1024
	sizeSuper   = 1024

	// oldInodeSize is the part of an inode that ext2 knew, extraIsize what
	// struct ext4_inode has beyond it. The rest holds attributes.
	oldInodeSize = 128
	extraIsize   = 32

	inodesPerBlock = blockSize / inodeSize
	descsPerBlock  = blockSize / descSize
	addrsPerBlock  = blockSize / 4
)

// Limits of the format.
const (
	maxInodesPerGroup = 8 * blockSize // one bitmap block
	maxInodes         = 1<<32 - 1
	maxFileBlocks     = 1<<32 - 1              // ee_block is 32 bits, and the count has to fit as well
	maxFileSize       = maxFileBlocks << 12    // s_maxbytes of Linux
	maxLinks          = 65000                  // EXT4_LINK_MAX
	maxFastLink       = 60                     // i_block, the NUL included
	maxTarget         = 4095                   // PATH_MAX without the NUL
	maxDirBlocks      = 1 << (31 - blockShift) // 2 GiB without largedir
	maxLabel          = 16
	maxMajor          = 1<<12 - 1
	maxMinor          = 1<<20 - 1
	minTime           = -1 << 31
	maxTime           = 3<<32 - 1<<31 - 1 // 2310; e2fsck takes what is later for before 1970, mangled
)

// Inode numbers that the format fixes.
const (
	inoBadBlocks = 1
	inoRoot      = 2
	inoResize    = 7
	inoJournal   = 8
	inoFirst     = 11 // s_first_ino; lost+found by convention of mke2fs
)

type compatFeature uint32

const (
	compatHasJournal  compatFeature = 0x4
	compatExtAttr     compatFeature = 0x8
	compatResizeInode compatFeature = 0x10
	compatDirIndex    compatFeature = 0x20
)

type incompatFeature uint32

const (
	incompatFiletype incompatFeature = 0x2
	incompatExtents  incompatFeature = 0x40
	incompat64bit    incompatFeature = 0x80
	incompatFlexBG   incompatFeature = 0x200
)

type roCompatFeature uint32

const (
	roCompatSparseSuper  roCompatFeature = 0x1
	roCompatLargeFile    roCompatFeature = 0x2
	roCompatHugeFile     roCompatFeature = 0x8
	roCompatDirNlink     roCompatFeature = 0x20
	roCompatExtraIsize   roCompatFeature = 0x40
	roCompatMetadataCsum roCompatFeature = 0x400
	roCompatVerity       roCompatFeature = 0x8000
)

type groupFlag uint16

const (
	groupInodeUninit groupFlag = 0x1
	groupBlockUninit groupFlag = 0x2
	groupInodeZeroed groupFlag = 0x4
)

type inodeFlag uint32

const (
	flagImmutable inodeFlag = 0x10
	flagIndex     inodeFlag = 0x1000
	flagExtents   inodeFlag = 0x80000
	flagVerity    inodeFlag = 0x100000
)

// typeChecksum is EXT4_FT_DIR_CSUM, the file type of the tail of a block.
const typeChecksum filesystem.FileType = 0xde

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c continues crc over b as the kernel's ext4_chksum does: without the
// inversions before and after that the standard library makes.
func crc32c(crc uint32, b []byte) uint32 {
	return ^crc32.Update(^crc, castagnoli, b)
}

// crc32cUint32 continues crc over the 4 bytes of v, little-endian.
func crc32cUint32(crc, v uint32) uint32 {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	return crc32c(crc, b[:])
}

// inodeSeed returns the checksum seed of what belongs to an inode: its extent
// and directory blocks and itself. Generations are all 0.
func inodeSeed(fsSeed, ino uint32) uint32 {
	return crc32cUint32(crc32cUint32(fsSeed, ino), 0)
}

// superblock is struct ext4_super_block, without what is constant here.
type superblock struct {
	blocks, reservedBlocks, freeBlocks uint64
	inodes, freeInodes                 uint32
	inodesPerGroup                     uint32
	group                              uint32 // of this copy
	backup                             bool
	reservedGDT                        uint32
	overhead                           uint64 // blocks of static metadata and the journal
	compat                             compatFeature
	incompat                           incompatFeature
	roCompat                           roCompatFeature
	uuid, hashSeed                     [16]byte
	label                              string
	time                               int64      // seconds since 1970
	journal                            [17]uint32 // i_block, i_size_high and i_size of the journal, or zero
}

// encode writes the superblock and its checksum to b, sizeSuper zero bytes.
func (s *superblock) encode(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0x00:], s.inodes)
	le.PutUint32(b[0x04:], uint32(s.blocks))
	le.PutUint32(b[0x08:], uint32(s.reservedBlocks))
	le.PutUint32(b[0x0c:], uint32(s.freeBlocks))
	le.PutUint32(b[0x10:], s.freeInodes)
	le.PutUint32(b[0x18:], blockShift-10) // s_log_block_size, in KiB
	le.PutUint32(b[0x1c:], blockShift-10) // s_log_cluster_size
	le.PutUint32(b[0x20:], blocksPerGroup)
	le.PutUint32(b[0x24:], blocksPerGroup) // s_clusters_per_group
	le.PutUint32(b[0x28:], s.inodesPerGroup)
	le.PutUint32(b[0x30:], uint32(s.time)) // s_wtime
	le.PutUint16(b[0x36:], 0xffff)         // s_max_mnt_count: never
	le.PutUint16(b[0x38:], 0xef53)         // s_magic
	if !s.backup {
		// libext2fs leaves EXT4_VALID_FS out of the backups, so that a file
		// system restored from one gets checked.
		le.PutUint16(b[0x3a:], 1) // s_state
	}
	le.PutUint16(b[0x3c:], 1)              // s_errors: continue
	le.PutUint32(b[0x40:], uint32(s.time)) // s_lastcheck
	le.PutUint32(b[0x4c:], 1)              // s_rev_level: dynamic
	le.PutUint32(b[0x54:], inoFirst)
	le.PutUint16(b[0x58:], inodeSize)
	le.PutUint16(b[0x5a:], uint16(s.group)) // s_block_group_nr, cut off as libext2fs does
	le.PutUint32(b[0x5c:], uint32(s.compat))
	le.PutUint32(b[0x60:], uint32(s.incompat))
	le.PutUint32(b[0x64:], uint32(s.roCompat))
	copy(b[0x68:0x78], s.uuid[:])
	copy(b[0x78:0x88], s.label)
	le.PutUint16(b[0xce:], uint16(s.reservedGDT))
	if s.compat&compatHasJournal != 0 {
		le.PutUint32(b[0xe0:], inoJournal)
		b[0xfd] = 1 // s_jnl_backup_type: s_jnl_blocks is valid
	}
	copy(b[0xec:0xfc], s.hashSeed[:])
	b[0xfc] = hashHalfMD4
	le.PutUint16(b[0xfe:], descSize)
	le.PutUint32(b[0x100:], 0x0c)           // s_default_mount_opts: user_xattr, acl
	le.PutUint32(b[0x108:], uint32(s.time)) // s_mkfs_time
	for i, v := range s.journal {
		le.PutUint32(b[0x10c+4*i:], v)
	}
	le.PutUint32(b[0x150:], uint32(s.blocks>>32))
	le.PutUint32(b[0x154:], uint32(s.reservedBlocks>>32))
	le.PutUint32(b[0x158:], uint32(s.freeBlocks>>32))
	le.PutUint16(b[0x15c:], extraIsize) // s_min_extra_isize
	le.PutUint16(b[0x15e:], extraIsize) // s_want_extra_isize
	le.PutUint32(b[0x160:], 1)          // s_flags: names hash as signed chars, as on x86
	b[0x174] = logFlexGroups
	b[0x175] = 1               // s_checksum_type: crc32c
	le.PutUint64(b[0x178:], 1) // s_kbytes_written: mke2fs starts at 1
	le.PutUint32(b[0x248:], uint32(s.overhead))
	hi := byte(s.time >> 32)
	b[0x274], b[0x276], b[0x277] = hi, hi, hi // s_wtime_hi, s_mkfs_time_hi, s_lastcheck_hi
	le.PutUint32(b[0x3fc:], crc32c(^uint32(0), b[:0x3fc]))
}

// groupDesc is struct ext4_group_desc.
type groupDesc struct {
	blockBitmap, inodeBitmap, inodeTable uint64 // block numbers
	freeBlocks, freeInodes               uint32
	usedDirs, unusedInodes               uint32
	blockBitmapCsum, inodeBitmapCsum     uint32
	flags                                groupFlag
}

// encode writes the descriptor of a group and its checksum to b, descSize
// zero bytes.
func (d *groupDesc) encode(b []byte, seed, group uint32) {
	le := binary.LittleEndian
	le.PutUint32(b[0x00:], uint32(d.blockBitmap))
	le.PutUint32(b[0x04:], uint32(d.inodeBitmap))
	le.PutUint32(b[0x08:], uint32(d.inodeTable))
	le.PutUint16(b[0x0c:], uint16(d.freeBlocks))
	le.PutUint16(b[0x0e:], uint16(d.freeInodes))
	le.PutUint16(b[0x10:], uint16(d.usedDirs))
	le.PutUint16(b[0x12:], uint16(d.flags))
	le.PutUint16(b[0x18:], uint16(d.blockBitmapCsum))
	le.PutUint16(b[0x1a:], uint16(d.inodeBitmapCsum))
	le.PutUint16(b[0x1c:], uint16(d.unusedInodes))
	le.PutUint32(b[0x20:], uint32(d.blockBitmap>>32))
	le.PutUint32(b[0x24:], uint32(d.inodeBitmap>>32))
	le.PutUint32(b[0x28:], uint32(d.inodeTable>>32))
	le.PutUint16(b[0x2c:], uint16(d.freeBlocks>>16))
	le.PutUint16(b[0x2e:], uint16(d.freeInodes>>16))
	le.PutUint16(b[0x30:], uint16(d.usedDirs>>16))
	le.PutUint16(b[0x32:], uint16(d.unusedInodes>>16))
	le.PutUint16(b[0x38:], uint16(d.blockBitmapCsum>>16))
	le.PutUint16(b[0x3a:], uint16(d.inodeBitmapCsum>>16))
	le.PutUint16(b[0x1e:], uint16(crc32c(crc32cUint32(seed, group), b[:descSize])))
}

// diskInode is struct ext4_inode with the attributes behind it.
type diskInode struct {
	mode     uint32
	uid, gid uint32
	size     uint64 // bytes
	time     int64  // of all four time stamps, within minTime and maxTime
	links    uint32
	sectors  uint64 // i_blocks, 512 bytes each
	flags    inodeFlag
	block    [60]byte // i_block
	fileACL  uint64   // block of the attributes, or 0
	old      bool     // without what ext4 added, as libext2fs leaves most reserved inodes
	xattrs   []byte   // from the end of the fixed fields on, at most xattrInline bytes
}

// encode writes the inode and its checksum to b, inodeSize zero bytes.
func (n *diskInode) encode(b []byte, seed, ino uint32) {
	le := binary.LittleEndian
	epoch := uint32((n.time-int64(int32(n.time)))>>32) & 3 // above nanoseconds, which are 0
	le.PutUint16(b[0x00:], uint16(n.mode))
	le.PutUint16(b[0x02:], uint16(n.uid))
	le.PutUint32(b[0x04:], uint32(n.size))
	le.PutUint32(b[0x08:], uint32(n.time)) // i_atime
	le.PutUint32(b[0x0c:], uint32(n.time)) // i_ctime
	le.PutUint32(b[0x10:], uint32(n.time)) // i_mtime
	le.PutUint16(b[0x18:], uint16(n.gid))
	le.PutUint16(b[0x1a:], uint16(n.links))
	le.PutUint32(b[0x1c:], uint32(n.sectors))
	le.PutUint32(b[0x20:], uint32(n.flags))
	copy(b[0x28:], n.block[:])
	le.PutUint32(b[0x68:], uint32(n.fileACL))
	le.PutUint32(b[0x6c:], uint32(n.size>>32))
	le.PutUint16(b[0x74:], uint16(n.sectors>>32))
	le.PutUint16(b[0x76:], uint16(n.fileACL>>32))
	le.PutUint16(b[0x78:], uint16(n.uid>>16))
	le.PutUint16(b[0x7a:], uint16(n.gid>>16))
	if !n.old {
		le.PutUint16(b[0x80:], extraIsize)
		le.PutUint32(b[0x84:], epoch)          // i_ctime_extra
		le.PutUint32(b[0x88:], epoch)          // i_mtime_extra
		le.PutUint32(b[0x8c:], epoch)          // i_atime_extra
		le.PutUint32(b[0x90:], uint32(n.time)) // i_crtime
		le.PutUint32(b[0x94:], epoch)          // i_crtime_extra
	}
	copy(b[oldInodeSize+extraIsize:inodeSize], n.xattrs)
	crc := crc32c(inodeSeed(seed, ino), b[:inodeSize])
	le.PutUint16(b[0x7c:], uint16(crc))
	if !n.old {
		le.PutUint16(b[0x82:], uint16(crc>>16))
	}
}
