// Package tar reads tar archives from a stream of byte slices, without copying
// content, and tells where in the stream the content of each entry lies.
//
// It reads POSIX.1-1988 ustar and POSIX.1-2001 pax ("pax Interchange Format"),
// the GNU format (long names 'L' and 'K', base-256 numbers, old sparse files
// 'S'), the GNU sparse files 0.0, 0.1 and 1.0 in pax, star's ustar variant, and
// V7 archives. Extended attributes come from SCHILY.xattr.* and
// LIBARCHIVE.xattr.* records. Where these leave a choice it does what the
// archive/tar package does, as container tools are built on that; the
// differences are:
//
//   - the content of an entry is only located and handed out in pieces;
//   - a regular file whose name ends in a slash is a directory in every format,
//     as in GNU tar and libarchive;
//   - a hard link whose size is not zero has content when no header follows
//     directly, as in libarchive;
//   - unknown entry types, sparse versions and damaged sparse maps are errors.
//
// Records of global pax headers ('g') are checked but, as in archive/tar,
// libarchive and Podman, do not apply to the entries that follow.
//
// Not supported: multi-volume archives ('M'), volume labels ('V'), incremental
// dumps ('D'), Solaris ACL entries ('A').
package tar

import "bytes"

// Type is the type flag of an entry.
type Type byte

// Types of entries that Next returns.
const (
	TypeFile    Type = '0'
	TypeHard    Type = '1'
	TypeSymlink Type = '2'
	TypeChar    Type = '3'
	TypeBlock   Type = '4'
	TypeDir     Type = '5'
	TypeFIFO    Type = '6'
)

// Type flags that are folded into the above or describe the next entry.
const (
	flagV7File   = 0
	flagContig   = '7'
	flagPax      = 'x'
	flagSunPax   = 'X'
	flagGlobal   = 'g'
	flagLongName = 'L'
	flagLongLink = 'K'
	flagSparse   = 'S'
)

// Header describes an entry.
type Header struct {
	Type     Type
	Name     string // as it is in the archive
	Linkname string // of hard and symbolic links
	Mode     int64
	UID, GID int64
	Major    int64 // of devices
	Minor    int64
	Mtime    int64   // seconds since 1970, rounded down
	Xattrs   []Xattr // in the order of the archive, unique

	// Size is the length of the file in bytes, holes included.
	Size int64
	// Offset is where in the stream the content starts, and Stored the number
	// of its bytes there. Without a sparse map Stored is Size.
	Offset, Stored int64
	// Sparse is true when the content is that of Data, one segment after the
	// other, and zero between them.
	Sparse bool
	Data   []Segment // ascending, not overlapping, none empty
}

// Xattr is an extended attribute.
type Xattr struct{ Name, Value string }

// Segment is Length bytes of a sparse file from Offset.
type Segment struct{ Offset, Length int64 }

// blockSize is the unit of the format in bytes.
const blockSize = 512

// The header block: POSIX.1-1988 ustar, with the GNU and star variants.
//
//	  0 name[100]      345 prefix[155] (ustar), prefix[131] (star)
//	100 mode[8]        345 atime[12] (GNU)
//	108 uid[8]         357 ctime[12] (GNU)
//	116 gid[8]         386 sparse[4] of offset[12] length[12] (GNU)
//	124 size[12]       482 isextended[1] (GNU)
//	136 mtime[12]      483 realsize[12] (GNU)
//	148 chksum[8]      508 "tar\0" (star)
//	156 typeflag[1]
//	157 linkname[100]
//	257 magic[6] version[2]
//	265 uname[32] gname[32]
//	329 devmajor[8] devminor[8]
type block []byte

func (b block) name() []byte     { return b[0:100] }
func (b block) mode() []byte     { return b[100:108] }
func (b block) uid() []byte      { return b[108:116] }
func (b block) gid() []byte      { return b[116:124] }
func (b block) size() []byte     { return b[124:136] }
func (b block) mtime() []byte    { return b[136:148] }
func (b block) checksum() []byte { return b[148:156] }
func (b block) flag() byte       { return b[156] }
func (b block) linkname() []byte { return b[157:257] }
func (b block) magic() string    { return string(b[257:265]) }
func (b block) major() []byte    { return b[329:337] }
func (b block) minor() []byte    { return b[337:345] }

// A sparse array is pairs of offset and length, and a flag whether another
// block of pairs follows: four in a GNU header, 21 in an extension block.
const (
	sparsePair      = 24
	headerPairs     = 4
	extensionPairs  = 21
	headerSparseOff = 386
)

func (b block) sparse() []byte   { return b[headerSparseOff : headerSparseOff+headerPairs*sparsePair+1] }
func (b block) realSize() []byte { return b[483:495] }

// format is a dialect of the header block.
type format int

const (
	formatV7 format = iota
	formatUstar
	formatStar
	formatGNU
)

func (b block) format() format {
	switch magic := b.magic(); {
	case magic == "ustar  \x00":
		return formatGNU
	case magic[:6] == "ustar\x00" && string(b[508:512]) == "tar\x00":
		return formatStar
	case magic[:6] == "ustar\x00":
		return formatUstar
	}
	return formatV7
}

// fullName returns the name with the prefix of the dialect.
func (b block) fullName() string {
	name := cstring(b.name())
	var prefix []byte
	switch b.format() {
	case formatUstar:
		prefix = cstring(b[345:500])
	case formatStar:
		prefix = cstring(b[345:476])
	case formatGNU:
		// archive/tar before Go 1.8 wrote a prefix where GNU has times.
		if !validTime(b[345:357]) || !validTime(b[357:369]) {
			if p := cstring(b[345:500]); isASCII(p) {
				prefix = p
			}
		}
	}
	if len(prefix) == 0 {
		return string(name)
	}
	return string(prefix) + "/" + string(name)
}

func validTime(field []byte) bool {
	if field[0] == 0 {
		return true
	}
	_, ok := numeric(field)
	return ok
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// valid tells whether the checksum is right. Old Sun tars summed signed bytes.
func (b block) valid() bool {
	want, ok := octal(b.checksum())
	if !ok {
		return false
	}
	var unsigned, signed int64
	for i, c := range b {
		if 148 <= i && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	return want == unsigned || want == signed
}

var zeroBlock [blockSize]byte

func (b block) zero() bool { return bytes.Equal(b, zeroBlock[:]) }

// cstring returns the bytes of field before the first NUL.
func cstring(field []byte) []byte {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		return field[:i]
	}
	return field
}

// numeric parses a number in octal, or in base 256 when the first bit is set:
// then the rest is a big-endian two's complement number.
func numeric(field []byte) (n int64, ok bool) {
	if field[0]&0x80 == 0 {
		return octal(field)
	}
	var invert byte
	if field[0]&0x40 != 0 {
		invert = 0xff
	}
	var x uint64
	for i, c := range field {
		if c ^= invert; i == 0 {
			c &= 0x7f
		}
		if x>>56 > 0 {
			return 0, false
		}
		x = x<<8 | uint64(c)
	}
	if x>>63 > 0 {
		return 0, false
	}
	if invert != 0 {
		return ^int64(x), true
	}
	return int64(x), true
}

// octal parses a number padded with spaces and NULs. An empty field is zero.
func octal(field []byte) (n int64, ok bool) {
	field = cstring(bytes.Trim(field, " \x00"))
	var x uint64
	for _, c := range field {
		if c < '0' || c > '7' || x>>61 > 0 {
			return 0, false
		}
		x = x<<3 | uint64(c-'0')
	}
	return int64(x), true
}
