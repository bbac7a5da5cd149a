// Package efivars makes the firmware of the running machine start a disk first:
// the boot entry that bootupd leaves to efibootmgr, and that shim's fallback
// writes when a disk is first started.
//
// Specification: UEFI 2.10, 3.1.3 (load options), 3.3 (Boot#### and BootOrder),
// 10.3 (device paths: hard drive, file path, end), and
// Documentation/filesystems/efivarfs.rst of Linux. Written are entries of files on
// partitions of a GPT; read are all, as far as it takes to know them again.
package efivars

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"imgbuild/partition"
)

// Entry is a boot entry: a file on a partition.
type Entry struct {
	Label  string
	Loader string // as in \EFI\fedora\shimx64.efi

	// The partition.
	Number      int
	ID          partition.GUID
	Start, Size int64 // in logical sectors
	// Arguments are handed to the loader as they are.
	Arguments []byte
}

// active is LOAD_OPTION_ACTIVE.
const active = 1

// Types and subtypes of device path nodes.
const (
	typeMedia    = 0x04
	hardDrive    = 0x01
	sizeDrive    = 42
	filePath     = 0x04
	typeEnd      = 0x7f
	endAll       = 0xff
	formatGPT    = 0x02
	signatureGPT = 0x02
)

// encode returns the load option. Little-endian:
//
//	0  4  attributes
//	4  2  length of the device path in bytes
//	6  n  label, UTF-16 with NUL
//	   m  device path
//	      arguments
func (e *Entry) encode() []byte {
	le := binary.LittleEndian
	path := make([]byte, sizeDrive)
	path[0], path[1] = typeMedia, hardDrive
	le.PutUint16(path[2:], sizeDrive)
	le.PutUint32(path[4:], uint32(e.Number))
	le.PutUint64(path[8:], uint64(e.Start))
	le.PutUint64(path[16:], uint64(e.Size))
	e.ID.Encode(path[24:40])
	path[40], path[41] = formatGPT, signatureGPT
	name := wide(e.Loader)
	node := []byte{typeMedia, filePath, 0, 0}
	le.PutUint16(node[2:], uint16(len(node)+len(name)))
	path = append(append(path, node...), name...)
	path = append(path, typeEnd, endAll, 4, 0)

	b := make([]byte, 6)
	le.PutUint32(b, active)
	le.PutUint16(b[4:], uint16(len(path)))
	b = append(b, wide(e.Label)...)
	return append(append(b, path...), e.Arguments...)
}

var errShort = errors.New("a load option that ends early")

// decode reads a load option. Of a device path it takes the hard drive and the
// file; without them these are empty, which is no error.
func decode(b []byte) (e Entry, err error) {
	le := binary.LittleEndian
	if len(b) < 6 {
		return e, errShort
	}
	n := int(le.Uint16(b[4:]))
	b = b[6:]
	label, b, ok := cutWide(b)
	if !ok || len(b) < n {
		return e, errShort
	}
	e.Label, e.Arguments = label, b[n:]
	for path := b[:n]; len(path) >= 4; {
		size := int(le.Uint16(path[2:]))
		if size < 4 || size > len(path) {
			return e, fmt.Errorf("a device path node of %d bytes", size)
		}
		node := path[:size]
		path = path[size:]
		switch {
		case node[0] == typeEnd:
			return e, nil
		case node[0] == typeMedia && node[1] == hardDrive && size >= sizeDrive:
			e.Number = int(le.Uint32(node[4:]))
			e.Start, e.Size = int64(le.Uint64(node[8:])), int64(le.Uint64(node[16:]))
			if node[40] == formatGPT && node[41] == signatureGPT {
				e.ID = partition.DecodeGUID(node[24:40])
			}
		case node[0] == typeMedia && node[1] == filePath:
			text, _, _ := cutWide(node[4:])
			e.Loader += text
		}
	}
	return e, nil
}

// wide returns UTF-16 with a NUL.
func wide(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// cutWide cuts a string of UTF-16 with a NUL off b.
func cutWide(b []byte) (s string, rest []byte, ok bool) {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			return string(utf16.Decode(units)), b[2:], true
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), nil, false
}
