package xfs

import (
	"encoding/binary"

	"imgbuild/tree"
)

const (
	sizeCore = 176 // struct xfs_dinode
	literal  = inodeSize - sizeCore

	// The least room that either fork gets, so that its tree of extents has a
	// root: three pointers for data, two for attributes.
	minDataRoom = 56
	minAttrRoom = 40
	deviceRoom  = 8 // of the data fork of a device, a FIFO or a socket
)

// forkFormat is di_format, di_aformat.
type forkFormat uint8

const (
	formatDevice forkFormat = iota
	formatLocal
	formatExtents
	formatBtree
)

// Bits of di_flags and di_flags2.
const (
	flagNewRTBitmap = 0x0004
	flagImmutable   = 0x0008
	flag2Bigtime    = 0x08
	flag2NrExt64    = 0x10
)

// Range of time stamps in seconds.
const (
	minTime        = -1 << 31
	maxTime        = 1<<31 - 1
	maxBigtime     = (1<<64-1)/1_000_000_000 - 1<<31
	bigtimeSeconds = 1_000_000_000
)

// fork is one of the two forks of an inode.
type fork struct {
	format  forkFormat
	content []byte // of the literal area, but for formatExtents
	extents []extent
	count   uint64 // of extents
	blocks  uint64 // of the extents and their tree
}

func (f *fork) put(b []byte) {
	copy(b, f.content)
	if f.format == formatExtents {
		for i, e := range f.extents {
			binary.BigEndian.PutUint64(b[sizeExtent*i:], e.hi)
			binary.BigEndian.PutUint64(b[sizeExtent*i+8:], e.lo)
		}
	}
}

// diskInode is struct xfs_dinode, as far as it is not constant.
type diskInode struct {
	number   uint64
	uuid     [16]byte
	mode     uint32
	uid, gid uint32
	links    uint32
	time     int64 // seconds since 1970
	bigtime  bool
	nrext64  bool
	size     uint64
	blocks   uint64
	flags    uint16
	free     bool // not in use
	attrAt   int  // where the attribute fork begins in the literal area, or 0

	data, attr fork
}

// encode writes an inode to b, inodeSize bytes.
func (i *diskInode) encode(b []byte) {
	clear(b)
	be := binary.BigEndian
	copy(b, "IN")
	b[4] = 3
	be.PutUint32(b[96:], nullBlock) // di_next_unlinked
	be.PutUint64(b[152:], i.number)
	copy(b[160:176], i.uuid[:])
	if !i.free {
		i.encodeUsed(b)
	}
	putChecksum(b, 100)
}

func (i *diskInode) encodeUsed(b []byte) {
	be := binary.BigEndian
	be.PutUint16(b[2:], uint16(i.mode))
	b[5] = uint8(i.data.format)
	be.PutUint32(b[8:], i.uid)
	be.PutUint32(b[12:], i.gid)
	be.PutUint32(b[16:], i.links)
	for _, at := range [...]int{32, 40, 48, 144} { // atime, mtime, ctime, crtime
		if i.bigtime {
			be.PutUint64(b[at:], uint64(i.time-minTime)*bigtimeSeconds)
		} else {
			be.PutUint32(b[at:], uint32(i.time))
		}
	}
	be.PutUint64(b[56:], i.size)
	be.PutUint64(b[64:], i.blocks)
	be.PutUint16(b[90:], i.flags)
	be.PutUint64(b[104:], 1) // di_changecount
	flags2 := uint64(0)
	if i.bigtime {
		flags2 |= flag2Bigtime
	}
	if i.nrext64 {
		flags2 |= flag2NrExt64
		be.PutUint64(b[24:], i.data.count)
		be.PutUint32(b[76:], uint32(i.attr.count))
	} else {
		be.PutUint32(b[76:], uint32(i.data.count))
		be.PutUint16(b[80:], uint16(i.attr.count))
	}
	be.PutUint64(b[120:], flags2)
	i.data.put(b[sizeCore:])
	b[83] = uint8(formatExtents)
	if i.attrAt > 0 {
		b[82] = uint8(i.attrAt / 8)
		b[83] = uint8(i.attr.format)
		i.attr.put(b[sizeCore+i.attrAt:])
	}
}

// clampTime returns the time stamp nearest to t that can be stored.
func clampTime(t int64, bigtime bool) int64 {
	if bigtime {
		return min(max(t, minTime), maxBigtime)
	}
	return min(max(t, minTime), maxTime)
}

// isDevice tells whether the data fork of a file type has the device format.
func isDevice(mode uint32) bool {
	switch mode & tree.TypeMask {
	case tree.TypeChar, tree.TypeBlock, tree.TypeFIFO, tree.TypeSock:
		return true
	}
	return false
}

const (
	// The format has 14 bits for the major number of a device, Linux reads 9
	// (xfs_to_linux_dev_t): a larger one would become another device.
	maxMajor  = 1<<9 - 1
	minorBits = 18
	maxMinor  = 1<<minorBits - 1

	maxTarget = 1023 // XFS_SYMLINK_MAXLEN less one: what Linux makes at most
)

// deviceNumber returns the content of the data fork of a device.
func deviceNumber(i *tree.Inode) []byte {
	dev := uint32(0)
	if t := i.Type(); t == tree.TypeChar || t == tree.TypeBlock {
		dev = i.Major<<minorBits | i.Minor
	}
	return binary.BigEndian.AppendUint32(nil, dev)
}
