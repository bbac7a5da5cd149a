package ostree

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"

	"imgbuild/tree"
)

// Sizes of what objects are made of, in bytes.
const (
	sizeSum        = sha256.Size
	sizeFileHeader = 8 // big-endian length of the header variant, then zeros
)

// maxMetadata is OSTREE_MAX_METADATA_SIZE, what libostree accepts of a dirtree,
// dirmeta or commit.
const maxMetadata = 128 << 20

// objectType is a type of object; its value is the suffix of the file name.
type objectType string

const (
	typeFile    objectType = ".file"
	typeDirTree objectType = ".dirtree"
	typeDirMeta objectType = ".dirmeta"
	typeCommit  objectType = ".commit"
	// typeCommitMeta is the detached metadata of the commit of that checksum.
	typeCommitMeta objectType = ".commitmeta"
)

// Hex returns a checksum in the 64 digits that ostree writes.
func Hex(s tree.Sum) string { return hex.EncodeToString(s[:]) }

// FileHash returns the SHA-256 of the file object of the regular file i, with
// the header already written: the caller writes the content. The metadata of i
// must be final.
func FileHash(i *tree.Inode) hash.Hash {
	h := sha256.New()
	h.Write(fileHeader(i)) // never fails
	return h
}

// LinkSum returns the checksum of the file object of the symbolic link i.
func LinkSum(i *tree.Inode) tree.Sum { return sha256.Sum256(fileHeader(i)) }

// fileHeader returns what stands before the content of a file object: a length
// and a variant (uuuusa(ayay)) of uid, gid, mode, rdev, link target and xattrs.
func fileHeader(i *tree.Inode) []byte {
	n := 64 + len(i.Target)
	for _, x := range i.Xattrs {
		n += len(x.Name) + len(x.Value) + 8
	}
	// The variant is aligned to 4 bytes, so that the 8 before it change nothing.
	e := encoder{buf: make([]byte, sizeFileHeader, n)}
	c := e.open(alignUint32)
	e.uint32BE(i.UID)
	e.uint32BE(i.GID)
	e.uint32BE(i.Mode)
	e.uint32BE(0)
	e.string(i.Target)
	e.mark()
	e.xattrs(i.Xattrs)
	e.closeTuple(c)
	binary.BigEndian.PutUint32(e.buf, uint32(len(e.buf)-sizeFileHeader))
	return e.buf
}

// xattrs writes the last member a(ayay) of a file header or dirmeta. Names
// carry a NUL, values do not.
func (e *encoder) xattrs(xattrs []tree.Xattr) {
	array := e.open(alignByte)
	for _, x := range xattrs {
		c := e.open(alignByte)
		e.string(x.Name)
		e.mark()
		e.buf = append(e.buf, x.Value...)
		e.closeTuple(c)
		e.mark()
	}
	e.closeArray(array)
}

// DirMeta is the metadata of a directory.
type DirMeta struct {
	UID, GID uint32
	Mode     uint32       // type and permissions
	Xattrs   []tree.Xattr // ascending by name
}

// Encode returns the dirmeta object: (uuua(ayay)).
func (d *DirMeta) Encode() []byte {
	var e encoder
	c := e.open(alignUint32)
	e.uint32BE(d.UID)
	e.uint32BE(d.GID)
	e.uint32BE(d.Mode)
	e.xattrs(d.Xattrs)
	e.closeTuple(c)
	return e.buf
}

var dirMetaShape = []member{{alignUint32, 4}, {alignUint32, 4}, {alignUint32, 4}, {alignByte, 0}}

// ParseDirMeta reads a dirmeta object, which must be in normal form.
func ParseDirMeta(b []byte) (*DirMeta, error) {
	var m [4][]byte
	if err := splitTuple(b, dirMetaShape, m[:]); err != nil {
		return nil, fmt.Errorf("dirmeta: %w", err)
	}
	d := &DirMeta{
		UID:  binary.BigEndian.Uint32(m[0]),
		GID:  binary.BigEndian.Uint32(m[1]),
		Mode: binary.BigEndian.Uint32(m[2]),
	}
	if d.Mode&tree.TypeMask != tree.TypeDir || d.Mode&^(tree.TypeMask|tree.PermMask) != 0 {
		return nil, fmt.Errorf("dirmeta: mode %#o is not of a directory", d.Mode)
	}
	var err error
	if d.Xattrs, err = parseXattrs(m[3]); err != nil {
		return nil, fmt.Errorf("dirmeta: %w", err)
	}
	return d, normal("dirmeta", b, d.Encode())
}

// parseXattrs reads xattrs a(ayay), which must be in ascending order.
func parseXattrs(b []byte) ([]tree.Xattr, error) {
	elements, err := splitArray(b, alignByte)
	if err != nil {
		return nil, fmt.Errorf("xattrs: %w", err)
	}
	var xattrs []tree.Xattr
	for _, element := range elements {
		var x [2][]byte
		if err := splitTuple(element, []member{{alignByte, 0}, {alignByte, 0}}, x[:]); err != nil {
			return nil, fmt.Errorf("xattr: %w", err)
		}
		name, err := parseString(x[0])
		if err != nil {
			return nil, fmt.Errorf("xattr name: %w", err)
		}
		if k := len(xattrs); name == "" || k > 0 && xattrs[k-1].Name >= name {
			return nil, fmt.Errorf("xattr %q is empty or out of order", name)
		}
		xattrs = append(xattrs, tree.Xattr{Name: name, Value: string(x[1])})
	}
	return xattrs, nil
}

// DirTree is the content of a directory, both lists ascending by the bytes of
// the names.
type DirTree struct {
	Files []DirFile
	Dirs  []DirDir
}

// DirFile is a regular file or symbolic link in a [DirTree].
type DirFile struct {
	Name string
	File tree.Sum
}

// DirDir is a directory in a [DirTree].
type DirDir struct {
	Name           string
	Contents, Meta tree.Sum // dirtree and dirmeta
}

// Encode returns the dirtree object: (a(say)a(sayay)).
func (d *DirTree) Encode() []byte {
	n := 16
	for _, f := range d.Files {
		n += len(f.Name) + sizeSum + 8
	}
	for _, s := range d.Dirs {
		n += len(s.Name) + 2*sizeSum + 16
	}
	e := encoder{buf: make([]byte, 0, n)}
	c := e.open(alignByte)
	files := e.open(alignByte)
	for i := range d.Files {
		f := &d.Files[i]
		c := e.open(alignByte)
		e.string(f.Name)
		e.mark()
		e.buf = append(e.buf, f.File[:]...)
		e.closeTuple(c)
		e.mark()
	}
	e.closeArray(files)
	e.mark()
	dirs := e.open(alignByte)
	for i := range d.Dirs {
		s := &d.Dirs[i]
		c := e.open(alignByte)
		e.string(s.Name)
		e.mark()
		e.buf = append(e.buf, s.Contents[:]...)
		e.mark()
		e.buf = append(e.buf, s.Meta[:]...)
		e.closeTuple(c)
		e.mark()
	}
	e.closeArray(dirs)
	e.closeTuple(c)
	return e.buf
}

// ParseDirTree reads a dirtree object, which must be in normal form, with valid
// names in ascending order.
func ParseDirTree(b []byte) (*DirTree, error) {
	d := &DirTree{}
	var m [2][]byte
	if err := splitTuple(b, []member{{alignByte, 0}, {alignByte, 0}}, m[:]); err != nil {
		return nil, fmt.Errorf("dirtree: %w", err)
	}
	files, err := splitArray(m[0], alignByte)
	if err != nil {
		return nil, fmt.Errorf("dirtree: files: %w", err)
	}
	for k, element := range files {
		name, sums, err := parseDirEntry(element, 1)
		if err != nil {
			return nil, fmt.Errorf("dirtree: file %d: %w", k, err)
		}
		if k > 0 && d.Files[k-1].Name >= name {
			return nil, fmt.Errorf("dirtree: file %q is out of order", name)
		}
		d.Files = append(d.Files, DirFile{name, sums[0]})
	}
	dirs, err := splitArray(m[1], alignByte)
	if err != nil {
		return nil, fmt.Errorf("dirtree: directories: %w", err)
	}
	for k, element := range dirs {
		name, sums, err := parseDirEntry(element, 2)
		if err != nil {
			return nil, fmt.Errorf("dirtree: directory %d: %w", k, err)
		}
		if k > 0 && d.Dirs[k-1].Name >= name {
			return nil, fmt.Errorf("dirtree: directory %q is out of order", name)
		}
		d.Dirs = append(d.Dirs, DirDir{name, sums[0], sums[1]})
	}
	return d, normal("dirtree", b, d.Encode())
}

// parseDirEntry reads a name and n checksums.
func parseDirEntry(b []byte, n int) (name string, sums [2]tree.Sum, err error) {
	var m [3][]byte
	shape := [3]member{{alignByte, 0}, {alignByte, 0}, {alignByte, 0}}
	if err := splitTuple(b, shape[:n+1], m[:n+1]); err != nil {
		return "", sums, err
	}
	if name, err = parseString(m[0]); err != nil {
		return "", sums, err
	}
	if !tree.ValidName(name) {
		return "", sums, fmt.Errorf("invalid name %q", name)
	}
	for k := range n {
		if sums[k], err = parseSum(m[k+1]); err != nil {
			return "", sums, fmt.Errorf("%s: %w", name, err)
		}
	}
	return name, sums, nil
}

func parseSum(b []byte) (tree.Sum, error) {
	if len(b) != sizeSum {
		return tree.Sum{}, fmt.Errorf("checksum of %d bytes", len(b))
	}
	return tree.Sum(b), nil
}

// errNotNormal says that a variant could be written in another way than it is;
// its checksum would not be that of the same value written by libostree.
var errNotNormal = errors.New("not in normal form")

func normal(what string, have, want []byte) error {
	if !bytes.Equal(have, want) {
		return fmt.Errorf("%s: %w", what, errNotNormal)
	}
	return nil
}

// checkXattrs tells what stands against the xattrs in an object.
func checkXattrs(xattrs []tree.Xattr) error {
	for k, x := range xattrs {
		switch {
		case x.Name == "" || strings.IndexByte(x.Name, 0) >= 0:
			return fmt.Errorf("invalid xattr name %q", x.Name)
		case k > 0 && xattrs[k-1].Name >= x.Name:
			return fmt.Errorf("xattr %q is out of order", x.Name)
		}
	}
	return nil
}
