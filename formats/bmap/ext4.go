package bmap

import (
	"encoding/binary"
	"io"
)

// Of the superblock and group descriptors of ext4, see
// Documentation/filesystems/ext4 of Linux.
const (
	ext4Magic = 0xef53
	ext4Clean = 1

	ext4CompatSparseSuper2 = 0x200

	// ext4Incompat are the incompatible features that change nothing here: names
	// of the file type, extents, 64bit, flex_bg, inodes of attributes, checksum
	// seed, large directories, inline data, encryption, case folding. A journal
	// that is to be replayed is none of them, nor are meta_bg and what is unknown.
	ext4Incompat = 0x2 | 0x40 | ext4Incompat64bit | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000

	ext4Incompat64bit = 0x80

	ext4ROSparseSuper = 0x1
	ext4ROBigalloc    = 0x200

	ext4BlockUninit = 0x2
)

// maxDescriptors bounds the group descriptors that are read, in bytes: those of
// 128 TiB.
const maxDescriptors = 64 << 20

// ext4 is what of an ext4 file system says where its blocks are.
type ext4 struct {
	blockSize  int64
	blocks     int64
	first      int64 // block of the first group
	perGroup   int64
	groups     int64
	tableSize  int64 // blocks of an inode table
	descSize   int64
	descBlocks int64 // of the descriptors
	reserved   int64 // blocks behind them, for more
	sparse     bool  // superblocks are in some groups only
}

// ext4Free returns the free blocks of an ext4 file system.
func ext4Free(r io.ReaderAt, size int64) spans {
	b := read(r, 1024, 1024)
	if b == nil {
		return nil
	}
	fs, ok := parseExt4(b, size)
	if !ok {
		return nil
	}
	if fs.groups*fs.descSize > maxDescriptors {
		return nil
	}
	descs := read(r, (fs.first+1)*fs.blockSize, fs.groups*fs.descSize)
	if descs == nil {
		return nil
	}
	var free, metadata spans
	for g := range fs.groups {
		d := descs[g*fs.descSize:][:fs.descSize]
		start := fs.first + g*fs.perGroup
		end := min(start+fs.perGroup, fs.blocks)
		if fs.hasSuper(g) {
			metadata = append(metadata, fs.span(start, 1+fs.descBlocks+fs.reserved))
		}
		blockBitmap := fs.pointer(d, 0x00)
		for _, s := range []struct{ block, n int64 }{{blockBitmap, 1}, {fs.pointer(d, 0x04), 1}, {fs.pointer(d, 0x08), fs.tableSize}} {
			if s.block < fs.first || s.block > fs.blocks-s.n {
				return nil
			}
			metadata = append(metadata, fs.span(s.block, s.n))
		}
		if binary.LittleEndian.Uint16(d[0x12:])&ext4BlockUninit != 0 {
			free = append(free, fs.span(start, end-start))
			continue
		}
		bitmap := read(r, blockBitmap*fs.blockSize, fs.blockSize)
		if bitmap == nil {
			return nil
		}
		for i := int64(0); i < end-start; {
			if bitmap[i/8] == 0xff && i%8 == 0 {
				i += 8
				continue
			}
			k := i
			for k < end-start && bitmap[k/8]>>(k%8)&1 == 0 {
				k++
			}
			if k > i {
				free = append(free, fs.span(start+i, k-i))
			}
			i = k + 1
		}
	}
	return free.normal().subtract(metadata.normal())
}

// parseExt4 reads a superblock. It fails where free blocks are counted in another
// way, or may not be what the bitmaps say.
func parseExt4(b []byte, size int64) (fs ext4, ok bool) {
	le := binary.LittleEndian
	if le.Uint16(b[0x38:]) != ext4Magic || le.Uint16(b[0x3a:])&ext4Clean == 0 {
		return fs, false
	}
	compat, incompat, ro := le.Uint32(b[0x5c:]), le.Uint32(b[0x60:]), le.Uint32(b[0x64:])
	if compat&ext4CompatSparseSuper2 != 0 || incompat&^uint32(ext4Incompat) != 0 || ro&ext4ROBigalloc != 0 {
		return fs, false
	}
	logBlock, inodeSize := le.Uint32(b[0x18:]), int64(le.Uint16(b[0x58:]))
	if logBlock > 6 {
		return fs, false
	}
	fs = ext4{
		blockSize: 1024 << logBlock,
		blocks:    int64(le.Uint32(b[0x04:])),
		first:     int64(le.Uint32(b[0x14:])),
		perGroup:  int64(le.Uint32(b[0x20:])),
		descSize:  32,
		reserved:  int64(le.Uint16(b[0xce:])),
		sparse:    ro&ext4ROSparseSuper != 0,
	}
	if incompat&ext4Incompat64bit != 0 {
		if le.Uint32(b[0x150:]) != 0 {
			return fs, false // 16 TiB and more: none that would be flashed
		}
		fs.descSize = int64(le.Uint16(b[0xfe:]))
	}
	inodes := int64(le.Uint32(b[0x28:]))
	if fs.blocks > size/fs.blockSize || fs.first > 1 || fs.blocks <= fs.first || fs.perGroup < 8 || fs.perGroup > 8*fs.blockSize ||
		fs.descSize < 32 || fs.descSize > 1024 || inodeSize < 128 || inodeSize > fs.blockSize || inodes < 1 || inodes > 8*fs.blockSize {
		return fs, false
	}
	fs.groups = divUp(fs.blocks-fs.first, fs.perGroup)
	fs.tableSize = divUp(inodes*inodeSize, fs.blockSize)
	fs.descBlocks = divUp(fs.groups*fs.descSize, fs.blockSize)
	return fs, true
}

// hasSuper tells whether a group begins with a copy of superblock and
// descriptors.
func (fs *ext4) hasSuper(group int64) bool {
	if !fs.sparse || group <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		n := group
		for n%base == 0 {
			n /= base
		}
		if n == 1 {
			return true
		}
	}
	return false
}

// pointer returns the block number at off of a descriptor. Its upper half, at off
// + 0x20, is zero as there are fewer than 2^32 blocks.
func (fs *ext4) pointer(desc []byte, off int) int64 {
	return int64(binary.LittleEndian.Uint32(desc[off:]))
}

// span returns the bytes of n blocks.
func (fs *ext4) span(block, n int64) span {
	return span{block * fs.blockSize, (block + n) * fs.blockSize}
}
