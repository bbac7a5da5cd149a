package initramfs

import (
	"errors"
	"fmt"
)

// sizeHeader is the size of a header: the magic and 13 numbers of eight
// hexadecimal digits.
const (
	sizeHeader = 6 + 13*8
	align      = 4 // of what follows a name or content
	trailer    = "TRAILER!!!"
	maxName    = 4096    // PATH_MAX, with the NUL
	maxLink    = 4096    // of the target of a symbolic link
	maxEntries = 1 << 20 // more than any real one has by a factor of 50
)

// header is the header of an entry, in the order of the format.
type header struct {
	ino                uint32
	mode               uint32 // as st_mode
	uid, gid           uint32
	nlink              uint32
	mtime              uint32 // seconds since 1970
	size               uint32 // of the content, bytes
	devMajor, devMinor uint32 // of the file system; with ino it makes hard links
	major, minor       uint32 // of a device node
	nameSize           uint32 // with the NUL
	check              uint32 // sum of the content's bytes, magic 070702 only
}

func (h *header) fields() []*uint32 {
	return []*uint32{&h.ino, &h.mode, &h.uid, &h.gid, &h.nlink, &h.mtime, &h.size,
		&h.devMajor, &h.devMinor, &h.major, &h.minor, &h.nameSize, &h.check}
}

// encode returns the header with magic 070701.
func (h *header) encode() []byte {
	b := []byte("070701")
	for _, f := range h.fields() {
		b = fmt.Appendf(b, "%08X", *f)
	}
	return b
}

var errMagic = errors.New("no cpio archive of the format newc")

// decode reads a header.
func (h *header) decode(b []byte) error {
	if magic := string(b[:6]); magic != "070701" && magic != "070702" {
		return errMagic
	}
	for i, f := range h.fields() {
		*f = 0
		for _, c := range b[6+8*i:][:8] {
			var d byte
			switch {
			case c >= '0' && c <= '9':
				d = c - '0'
			case c >= 'a' && c <= 'f':
				d = c - 'a' + 10
			case c >= 'A' && c <= 'F':
				d = c - 'A' + 10
			default:
				return fmt.Errorf("header field %d: %q is no hexadecimal number", i, b[6+8*i:][:8])
			}
			*f = *f<<4 | uint32(d)
		}
	}
	return nil
}

// padding returns how many bytes there are from n to the next multiple of align.
func padding(n int64) int64 { return -n & (align - 1) }
