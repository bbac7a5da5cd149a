package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Offsets of the header of a write-ahead log and of its frames, big-endian
// (section 4.1).
const (
	logHeaderSize   = 32
	logMagicLittle  = 0x377f0682 // its checksums are of little-endian words
	logMagicBig     = 0x377f0683
	logVersion      = 3007000
	frameHeaderSize = 24
)

// log is the write-ahead log of a database: pages that are newer than those of the
// file.
type log struct {
	r        io.ReaderAt
	pageSize int
	pages    uint32           // of the database
	frames   map[uint32]int64 // offset of the last page of each number
}

// maxLogPages bounds the memory of a log: RPM checkpoints after 1000 pages.
const maxLogPages = 1 << 22

// readLog reads a log up to its last transaction that is complete. It returns nil
// where there is none, as after a checkpoint.
func readLog(r io.ReaderAt, size int64) (*log, error) {
	header := make([]byte, logHeaderSize)
	if size < logHeaderSize {
		return nil, nil // SQLite takes it for empty, too
	}
	if _, err := r.ReadAt(header, 0); err != nil {
		return nil, err
	}
	var order binary.ByteOrder
	switch binary.BigEndian.Uint32(header) {
	case logMagicLittle:
		order = binary.LittleEndian
	case logMagicBig:
		order = binary.BigEndian
	default:
		return nil, nil // so it is no valid log, and not read
	}
	if v := binary.BigEndian.Uint32(header[4:]); v != logVersion {
		return nil, fmt.Errorf("version %d", v)
	}
	l := &log{r: r, pageSize: int(binary.BigEndian.Uint32(header[8:]))}
	if l.pageSize < 512 || l.pageSize > 65536 || l.pageSize&(l.pageSize-1) != 0 {
		return nil, fmt.Errorf("pages of %d bytes", l.pageSize)
	}
	sum := checksum{order: order}
	sum.add(header[:24])
	if !sum.is(header[24:]) {
		return nil, nil // an interrupted write of the header
	}
	l.frames = map[uint32]int64{}
	pending := map[uint32]int64{} // of a transaction that is not complete yet
	frame := make([]byte, frameHeaderSize+l.pageSize)
	for off := int64(logHeaderSize); off+int64(len(frame)) <= size; off += int64(len(frame)) {
		if _, err := r.ReadAt(frame, off); err != nil {
			return nil, err
		}
		number := binary.BigEndian.Uint32(frame)
		if number == 0 || string(frame[8:16]) != string(header[16:24]) {
			break // of an earlier run of the log
		}
		sum.add(frame[:8])
		sum.add(frame[frameHeaderSize:])
		if !sum.is(frame[16:]) {
			break
		}
		if pending[number] = off + frameHeaderSize; len(pending)+len(l.frames) > maxLogPages {
			return nil, errors.New("more pages than there can be")
		}
		if pages := binary.BigEndian.Uint32(frame[4:]); pages != 0 {
			l.pages = pages
			for n, at := range pending {
				l.frames[n] = at
			}
			clear(pending)
		}
	}
	if l.pages == 0 {
		return nil, nil
	}
	return l, nil
}

// checksum is that of logs (section 4.2).
type checksum struct {
	order  binary.ByteOrder
	s0, s1 uint32
}

// add takes a multiple of 8 bytes.
func (c *checksum) add(b []byte) {
	for ; len(b) >= 8; b = b[8:] {
		c.s0 += c.order.Uint32(b) + c.s1
		c.s1 += c.order.Uint32(b[4:]) + c.s0
	}
}

func (c *checksum) is(b []byte) bool {
	return binary.BigEndian.Uint32(b) == c.s0 && binary.BigEndian.Uint32(b[4:]) == c.s1
}
