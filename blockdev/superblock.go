package blockdev

import (
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf16"
)

// signature is how a kind of content is known, by libblkid's table: a magic at an
// offset, and a label.
type signature struct {
	kind        string
	off         int64
	magic       string
	label, size int64 // where the label is, 0 bytes without one
}

// signatures are in an order in which the first that matches is right: what is
// wrapped around others comes first.
var signatures = [...]signature{
	{kind: "LUKS", magic: "LUKS\xba\xbe", label: 24, size: 48},
	{kind: "bitlocker", off: 3, magic: "-FVE-FS-"},
	{kind: "lvm2", off: 512 + 24, magic: "LVM2 001"},
	{kind: "lvm2", off: 24, magic: "LVM2 001"},
	{kind: "raid", off: 4096, magic: "\xfc\x4e\x2b\xa9", label: 4096 + 32, size: 32},
	{kind: "raid", off: 0, magic: "\xfc\x4e\x2b\xa9", label: 32, size: 32},
	{kind: "bcache", off: 4096 + 24, magic: "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
	{kind: "bcachefs", off: 4096 + 24, magic: "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"},
	{kind: "ceph", magic: "bluestore block device"},
	{kind: "xfs", magic: "XFSB", label: 108, size: 12},
	{kind: "btrfs", off: 0x10040, magic: "_BHRfS_M", label: 0x1012b, size: 256},
	{kind: "swap", off: 4086, magic: "SWAPSPACE2", label: 1052, size: 16},
	{kind: "swap", off: 65526, magic: "SWAPSPACE2", label: 1052, size: 16},
	{kind: "f2fs", off: 1024, magic: "\x10\x20\xf5\xf2"},
	{kind: "erofs", off: 1024, magic: "\xe2\xe1\xf5\xe0", label: 1024 + 64, size: 16},
	{kind: "squashfs", magic: "hsqs"},
	{kind: "apfs", off: 32, magic: "NXSB"},
	{kind: "hfs+", off: 1024, magic: "H+"},
	{kind: "hfs+", off: 1024, magic: "HX"},
	{kind: "iso9660", off: 32769, magic: "CD001", label: 32808, size: 32},
	{kind: "udf", off: 32769, magic: "BEA01"},
	{kind: "vmfs", off: 0x200000, magic: "\x5e\xf1\xab\x2f"},
	{kind: "ntfs", off: 3, magic: "NTFS    "},
	{kind: "exfat", off: 3, magic: "EXFAT   "},
	{kind: "vfat", off: 82, magic: "FAT32   ", label: 71, size: 11},
	{kind: "vfat", off: 54, magic: "FAT16   ", label: 43, size: 11},
	{kind: "vfat", off: 54, magic: "FAT12   ", label: 43, size: 11},
}

const (
	ext4Super      = 1024
	ext4Magic      = 0xef53
	ext4Journal    = 0x4  // of the compatible features
	ext4Extents    = 0x40 // of the incompatible ones
	jbdDevice      = 0x8  // an external journal
	mdMagic        = "\xfc\x4e\x2b\xa9"
	zfsUberMagic   = "\x0c\xb1\xba\x00\x00\x00\x00\x00"
	zfsUberblocks  = 128 << 10 // in a label of 256 KiB
	zfsUberSize    = 1 << 10
	zfsUbersToTry  = 128
	mdReserved     = 64 << 10
	mdReserved1    = 8 << 10
	mdReserved1Pad = 4 << 10
)

// superblock returns the kind of what is in size bytes, and its label; "" where it
// is nothing known.
func superblock(r io.ReaderAt, size int64) (kind, label string) {
	for _, s := range signatures {
		if !at(r, size, s.off, s.magic) {
			continue
		}
		if s.size > 0 {
			label = text(r, s.label, s.size)
		}
		if label == "NO NAME" && s.kind == "vfat" {
			label = ""
		}
		return s.kind, label
	}
	if kind, label = ext(r, size); kind != "" {
		return kind, label
	}
	// RAID of Linux with its superblock at the end: 0.90 and 1.0.
	if at(r, size, size&^(mdReserved-1)-mdReserved, mdMagic) || at(r, size, (size-mdReserved1)&^(mdReserved1Pad-1), mdMagic) {
		return "raid", ""
	}
	for i := range int64(zfsUbersToTry) {
		if at(r, size, zfsUberblocks+i*zfsUberSize, zfsUberMagic) {
			return "zfs", ""
		}
	}
	return "", ""
}

// at tells whether the bytes at off are those of magic.
func at(r io.ReaderAt, size, off int64, magic string) bool {
	if off < 0 || off > size-int64(len(magic)) {
		return false
	}
	b := make([]byte, len(magic))
	n, _ := r.ReadAt(b, off)
	return n == len(b) && string(b) == magic
}

// text reads a label, padded with NUL or spaces.
func text(r io.ReaderAt, off, n int64) string {
	b := make([]byte, n)
	if k, _ := r.ReadAt(b, off); int64(k) < n {
		return ""
	}
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.TrimRight(strings.ToValidUTF8(s, "?"), " ")
}

// ext tells ext2, ext3 and ext4 apart as libblkid does.
func ext(r io.ReaderAt, size int64) (kind, label string) {
	b := make([]byte, 1024)
	if size < ext4Super+int64(len(b)) {
		return "", ""
	}
	if n, _ := r.ReadAt(b, ext4Super); n < len(b) {
		return "", ""
	}
	le := binary.LittleEndian
	if le.Uint16(b[0x38:]) != ext4Magic {
		return "", ""
	}
	label = text(r, ext4Super+0x78, 16)
	switch compat, incompat := le.Uint32(b[0x5c:]), le.Uint32(b[0x60:]); {
	case incompat&jbdDevice != 0:
		return "jbd", label
	case incompat&ext4Extents != 0:
		return "ext4", label
	case compat&ext4Journal != 0:
		return "ext3", label
	}
	return "ext2", label
}

// utf16Text decodes a name of little-endian UTF-16, up to its NUL.
func utf16Text(b []byte) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
