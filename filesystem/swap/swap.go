// Package swap writes swap space for Linux.
//
// The format is that of Linux' include/linux/swap.h (union swap_header, version 1,
// "SWAPSPACE2"), as mkswap of util-linux 2.38 writes it for pages of 4 KiB: one
// page with the header, no bad pages. Other page sizes, which some kernels for
// arm64 and ppc64le use, are not written; such kernels refuse the space.
package swap

import (
	"encoding/binary"
	"errors"
	"fmt"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem"
)

// Options are the parameters of swap space.
type Options struct {
	UUID  [16]byte // not zeros
	Label string   // at most 15 bytes
}

// The header is at 1024 of the first page, little-endian on the machines that
// use 4 KiB pages with it:
//
//	0x400   4  version, 1
//	0x404   4  last page
//	0x408   4  number of bad pages, 0
//	0x40C  16  UUID
//	0x41C  16  label
//	0xFF6  10  "SWAPSPACE2"
const (
	pageSize  = 4096
	headerOff = 0x400
	version   = 1
	magic     = "SWAPSPACE2"
	// maxLabel leaves room for the NUL that mkswap ends a label with.
	maxLabel = 15
	// minPages is what mkswap asks for.
	minPages = 10
	// maxPages is what the field of the last page can hold.
	maxPages = 1 << 32
)

// MinSize is the smallest swap space, in bytes.
const MinSize = minPages * pageSize

// Write returns the extents of swap space of size bytes. What is after the last
// whole page stays unused. A size below [MinSize] is a
// *[filesystem.TooSmallError].
func Write(size int64, opt Options) ([]disk.Extent, error) {
	switch {
	case opt.UUID == [16]byte{}:
		return nil, fault.New(fault.Usage, errors.New("swap: a UUID of zeros"), "")
	case len(opt.Label) > maxLabel:
		return nil, fault.New(fault.Usage, fmt.Errorf("swap: label %q is longer than %d bytes", opt.Label, maxLabel), "")
	case size < MinSize:
		return nil, fault.New(fault.NoSpace, fmt.Errorf("swap: %w", &filesystem.TooSmallError{Size: size, Need: MinSize}), "")
	case size/pageSize > maxPages:
		return nil, fault.New(fault.Unsupported, fmt.Errorf("swap: %d bytes, more than %d", size, int64(maxPages*pageSize)), "")
	}
	b := make([]byte, pageSize)
	h := b[headerOff:]
	le := binary.LittleEndian
	le.PutUint32(h[0x0:], version)
	le.PutUint32(h[0x4:], uint32(size/pageSize-1))
	copy(h[0xC:], opt.UUID[:])
	copy(h[0x1C:], opt.Label)
	copy(b[pageSize-len(magic):], magic)
	return []disk.Extent{{Data: content.Bytes(b)}}, nil
}
