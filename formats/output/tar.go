package output

import (
	"encoding/binary"
	"fmt"
)

const (
	// TarBlock is the length in bytes of a tar header, and the alignment of
	// members.
	TarBlock = 512
	// TarRecord is what GNU tar rounds an archive up to.
	TarRecord = 20 * TarBlock
	// maxOctal is the first number that does not fit the octal digits of a header.
	maxOctal = 8 << 30
)

// TarHeader is a header as GNU tar writes it, of a regular file that belongs to
// root and is readable by all unless it says otherwise.
type TarHeader struct {
	Name      string // 100 bytes at most
	Size      int64  // in bytes
	Modified  int64  // in seconds since 1970; what is out of range becomes the limit
	Mode      int64  // permissions, or 0 for 0644
	Owner     int64  // user and group; other ones than root have no name
	Directory bool
	OldGNU    bool // the old GNU format, instead of ustar of POSIX
}

// TarEnd returns the length of an archive whose members end at the offset end:
// behind them are two blocks of zeros at least.
func TarEnd(end int64) int64 {
	return (end + 2*TarBlock + TarRecord - 1) / TarRecord * TarRecord
}

// Encode returns the header. A size of 8 GiB or more is written in base 256: of
// GNU tar, but common in ustar, too.
func (h *TarHeader) Encode() []byte {
	b := make([]byte, TarBlock)
	copy(b[0:100], h.Name)
	mode := h.Mode
	if mode == 0 {
		mode = 0o644
	}
	copy(b[100:], fmt.Sprintf("%07o", mode))
	copy(b[108:], fmt.Sprintf("%07o", h.Owner))
	copy(b[116:], fmt.Sprintf("%07o", h.Owner)) // group
	if h.Size < maxOctal {
		copy(b[124:], fmt.Sprintf("%011o", h.Size))
	} else {
		b[124] = 0x80
		binary.BigEndian.PutUint64(b[128:], uint64(h.Size))
	}
	copy(b[136:], fmt.Sprintf("%011o", min(max(h.Modified, 0), maxOctal-1)))
	b[156] = '0' // a regular file
	if h.Directory {
		b[156] = '5'
	}
	if h.Owner == 0 {
		copy(b[265:], "root")
		copy(b[297:], "root")
	}
	if h.OldGNU {
		copy(b[257:], "ustar  ")
	} else {
		copy(b[257:], "ustar\x0000")
		copy(b[329:], "0000000") // device numbers
		copy(b[337:], "0000000")
	}

	// The checksum is the sum of all bytes, with blanks in its place.
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00", sum))
	return b
}
