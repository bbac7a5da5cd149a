package bmap

import (
	"encoding/binary"
	"io"

	"imgbuild/formats/output"
)

// xfs is what of an XFS file system, version 5, says where its blocks are. See
// "XFS Algorithms & Data Structures", 3rd edition.
type xfs struct {
	blockSize int64
	blocks    int64
	groups    int64
	perGroup  int64 // blocks of a group; the last one may have fewer
	groupLog  uint  // bits of a block number within a group
	sector    int64
	log       int64 // first block of the log
	logBlocks int64
}

// xfsHeader is the length of the header of a block of a free space tree.
const xfsHeader = 56

// xfsFree returns the free blocks of an XFS file system whose log is as mkfs
// leaves it. Any other log could have changes of the free space that are not yet
// in its trees.
func xfsFree(r io.ReaderAt, size int64) spans {
	b := read(r, 0, 512)
	if b == nil || string(b[:4]) != "XFSB" {
		return nil
	}
	fs, ok := parseXFS(b, size)
	if !ok || !fs.newLog(r) {
		return nil
	}
	var free spans
	for g := range fs.groups {
		list, ok := fs.groupFree(r, g)
		if !ok {
			return nil
		}
		free = append(free, list...)
	}
	return free
}

// parseXFS reads a superblock.
func parseXFS(b []byte, size int64) (fs xfs, ok bool) {
	be := binary.BigEndian
	fs = xfs{
		blockSize: int64(be.Uint32(b[4:])),
		blocks:    int64(be.Uint64(b[8:])),
		perGroup:  int64(be.Uint32(b[84:])),
		groups:    int64(be.Uint32(b[88:])),
		logBlocks: int64(be.Uint32(b[96:])),
		sector:    int64(be.Uint16(b[102:])),
		groupLog:  uint(b[124]),
	}
	const realtimeBlocks, inProgress = 16, 126
	version := be.Uint16(b[100:]) & 15
	if version != 5 || be.Uint64(b[realtimeBlocks:]) != 0 || b[inProgress] != 0 ||
		fs.blockSize < 1024 || fs.blockSize > 64<<10 || fs.sector < 512 || fs.sector > fs.blockSize ||
		fs.blocks <= 0 || fs.blocks > size/fs.blockSize || fs.perGroup < 16 || fs.groups < 1 || fs.groups != divUp(fs.blocks, fs.perGroup) ||
		fs.groupLog > 32 || fs.perGroup > 1<<fs.groupLog {
		return fs, false
	}
	log := int64(be.Uint64(b[48:]))
	group, block := log>>fs.groupLog, log&(1<<fs.groupLog-1)
	fs.log = group*fs.perGroup + block
	return fs, log > 0 && group < fs.groups && fs.logBlocks > 0 && fs.log <= fs.blocks-fs.logBlocks
}

// newLog tells whether the log holds one record, that of an unmount, at its
// beginning, and zeros.
func (fs *xfs) newLog(r io.ReaderAt) bool {
	const chunk = 1 << 20
	total := fs.logBlocks * fs.blockSize
	for pos := int64(0); pos < total; pos += chunk {
		b := read(r, fs.log*fs.blockSize+pos, min(chunk, total-pos))
		if b == nil {
			return false
		}
		if pos == 0 {
			n := unmountRecord(b)
			if n == 0 {
				return false
			}
			b = b[n:]
		}
		if !output.IsZero(b) {
			return false
		}
	}
	return true
}

// unmountRecord returns the length of the record that b begins with, when it is
// that of an unmount and the first of the log; otherwise 0.
func unmountRecord(b []byte) int {
	const (
		sizeBasic = 512 // of a basic block, the unit of a log
		// Of the record header.
		magic   = 0xfeedbabe
		offLSN  = 16 // of the record
		offTail = 24 // where recovery would begin
		offOps  = 40 // number of operations
		offSize = 320
		// A header stands for so many bytes of the record; larger ones have several.
		perHeader, maxSize = 32 << 10, 256 << 10
		// Of the operation behind the headers.
		offClient   = 8
		clientLog   = 0xaa
		offFlags    = 9
		flagUnmount = 0x20
	)
	be := binary.BigEndian
	if len(b) < maxSize+16*sizeBasic {
		return 0
	}
	size := int(be.Uint32(b[offSize:]))
	if be.Uint32(b) != magic || be.Uint32(b[4:]) != 1 || be.Uint32(b[offOps:]) != 1 || be.Uint64(b[offLSN:]) != be.Uint64(b[offTail:]) || size > maxSize {
		return 0
	}
	at := max((size+perHeader-1)/perHeader, 1) * sizeBasic
	if op := b[at:]; op[offClient] != clientLog || op[offFlags]&flagUnmount == 0 {
		return 0
	}
	// Every basic block begins with the cycle, which is 1, and has nothing more.
	end := sizeBasic
	for ; end <= maxSize; end += sizeBasic {
		block := b[end : end+sizeBasic]
		if be.Uint32(block) != 1 {
			break
		}
		if end != at && !output.IsZero(block[4:]) {
			return 0
		}
	}
	return end
}

// groupFree returns the records of the tree of a group's free space by block.
func (fs *xfs) groupFree(r io.ReaderAt, group int64) (free spans, ok bool) {
	be := binary.BigEndian
	start := group * fs.perGroup
	blocks := min(fs.perGroup, fs.blocks-start)
	agf := read(r, start*fs.blockSize+fs.sector, fs.sector)
	if agf == nil || string(agf[:4]) != "XAGF" || int64(be.Uint32(agf[8:])) != group || int64(be.Uint32(agf[12:])) != blocks {
		return nil, false
	}
	block, levels := int64(be.Uint32(agf[16:])), be.Uint32(agf[28:])
	if levels < 1 || levels > 9 {
		return nil, false
	}
	node := func(level uint32) []byte {
		if block < 1 || block >= blocks {
			return nil
		}
		b := read(r, (start+block)*fs.blockSize, fs.blockSize)
		if b == nil || string(b[:4]) != "AB3B" || uint32(be.Uint16(b[4:])) != level {
			return nil
		}
		return b
	}
	// Down to the first leaf: behind the header is room for keys of 8 bytes, then
	// for pointers of 4.
	for level := levels - 1; level > 0; level-- {
		b := node(level)
		if b == nil {
			return nil, false
		}
		keys := (fs.blockSize - xfsHeader) / 12
		block = int64(be.Uint32(b[xfsHeader+8*keys:]))
	}
	const none = 0xffffffff
	end := int64(0) // of the record before
	for range blocks {
		b := node(0)
		if b == nil {
			return nil, false
		}
		records := int64(be.Uint16(b[6:]))
		if records > (fs.blockSize-xfsHeader)/8 {
			return nil, false
		}
		for i := range records {
			from, n := int64(be.Uint32(b[xfsHeader+8*i:])), int64(be.Uint32(b[xfsHeader+8*i+4:]))
			if from < end || n < 1 || n > blocks-from {
				return nil, false
			}
			end = from + n
			free = append(free, span{(start + from) * fs.blockSize, (start + end) * fs.blockSize})
		}
		if block = int64(be.Uint32(b[12:])); block == none {
			return free, true
		}
	}
	return nil, false
}
