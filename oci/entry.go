package oci

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"imgbuild/content"
	"imgbuild/oci/internal/tar"
	"imgbuild/tree"
)

// Limits of Linux: PATH_MAX with its NUL, XATTR_NAME_MAX, XATTR_SIZE_MAX.
const (
	maxPath       = 4096
	maxTarget     = 4095
	maxXattrName  = 255
	maxXattrValue = 64 << 10
)

// entry is a checked tar entry of a layer, in the order of the stream.
type entry struct {
	path  string      // relative, clean; "" is the root
	inode *tree.Inode // nil for a hard link
	off   int64       // of the content of a regular file in the spool, in bytes
	extra *extra      // of hard links and sparse files, or nil
}

type extra struct {
	target string // path of the target of a hard link
	sparse bool
	data   []tar.Segment
}

// pending stands for the spool of a layer while that is written: the content of
// an inode has a size already.
type pending struct{}

func (pending) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("content of a layer that is still unpacked")
}

// slab allocates inodes many at a time.
type slab struct{ free []tree.Inode }

const slabSize = 512

func (s *slab) new(mode uint32) *tree.Inode {
	if mode&tree.TypeMask == tree.TypeDir {
		return tree.NewDir(mode)
	}
	if len(s.free) == 0 {
		s.free = make([]tree.Inode, slabSize)
	}
	i := &s.free[0]
	s.free = s.free[1:]
	i.Mode = mode
	return i
}

var modes = map[tar.Type]uint32{
	tar.TypeFile: tree.TypeFile, tar.TypeSymlink: tree.TypeLink, tar.TypeDir: tree.TypeDir,
	tar.TypeChar: tree.TypeChar, tar.TypeBlock: tree.TypeBlock, tar.TypeFIFO: tree.TypeFIFO,
}

// cost is what the entry counts against the limit of metadata, in bytes.
func (e *entry) cost() int64 {
	n := len(e.path)
	if e.extra != nil {
		n += len(e.extra.target) + len(e.extra.data)*48
	}
	if e.inode != nil {
		n += len(e.inode.Target)
		for _, x := range e.inode.Xattrs {
			n += len(x.Name) + len(x.Value)
		}
	}
	return int64(n)
}

// newEntry checks a header and makes the entry of it. Content has its size but
// cannot be read before [bind].
func newEntry(h *tar.Header, s *slab) (e entry, err error) {
	if e.path, err = cleanPath(h.Name); err != nil {
		return e, fmt.Errorf("entry %s: %w", clip(h.Name), err)
	}
	wrap := func(err error) (entry, error) {
		return entry{}, fmt.Errorf("entry %s: %w", clip("/"+e.path), err)
	}
	if h.Type == tar.TypeHard {
		target, err := cleanPath(h.Linkname)
		if err != nil {
			return wrap(fmt.Errorf("hard link to %s: %w", clip(h.Linkname), err))
		}
		if e.path == "" || target == "" {
			return wrap(fmt.Errorf("hard link to %s: the root is a directory", clip("/"+target)))
		}
		e.extra = &extra{target: target}
		return e, nil
	}
	if e.path == "" && h.Type != tar.TypeDir {
		return wrap(errors.New("the root is not a directory"))
	}
	i := s.new(modes[h.Type] | uint32(h.Mode)&tree.PermMask)
	if err := setOwner(i, h); err != nil {
		return wrap(err)
	}
	i.Mtime = h.Mtime
	switch h.Type {
	case tar.TypeSymlink:
		if err := checkTarget(h.Linkname); err != nil {
			return wrap(err)
		}
		i.Mode, i.Target = tree.TypeLink|0o777, h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		if h.Major < 0 || h.Major > math.MaxUint32 || h.Minor < 0 || h.Minor > math.MaxUint32 {
			return wrap(fmt.Errorf("invalid device number %d:%d", h.Major, h.Minor))
		}
		i.Major, i.Minor = uint32(h.Major), uint32(h.Minor)
	case tar.TypeFile:
		e.off = h.Offset
		i.Content = content.NewRef(pending{}, h.Offset, h.Size)
		if h.Sparse {
			e.extra = &extra{sparse: true, data: slices.Clone(h.Data)}
		}
	}
	if err := setXattrs(i, h.Xattrs); err != nil {
		return wrap(err)
	}
	e.inode = i
	return e, nil
}

func setOwner(i *tree.Inode, h *tar.Header) error {
	// The highest id means "none" to the kernel.
	if h.UID < 0 || h.UID >= math.MaxUint32 {
		return fmt.Errorf("invalid user id %d", h.UID)
	}
	if h.GID < 0 || h.GID >= math.MaxUint32 {
		return fmt.Errorf("invalid group id %d", h.GID)
	}
	i.UID, i.GID = uint32(h.UID), uint32(h.GID)
	return nil
}

func setXattrs(i *tree.Inode, list []tar.Xattr) error {
	if len(list) == 0 {
		return nil
	}
	i.Xattrs = make([]tree.Xattr, len(list))
	for k, x := range list {
		if len(x.Name) > maxXattrName || strings.ContainsRune(x.Name, 0) {
			return fmt.Errorf("invalid extended attribute %s", clip(x.Name))
		}
		if len(x.Value) > maxXattrValue {
			return fmt.Errorf("extended attribute %s has %d bytes, more than %d", clip(x.Name), len(x.Value), maxXattrValue)
		}
		i.Xattrs[k] = tree.Xattr{Name: x.Name, Value: x.Value}
	}
	slices.SortFunc(i.Xattrs, func(a, b tree.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func checkTarget(target string) error {
	switch {
	case target == "":
		return errors.New("symbolic link without a target")
	case len(target) > maxTarget:
		return fmt.Errorf("symbolic link to a target of %d bytes, more than %d", len(target), maxTarget)
	case !utf8.ValidString(target):
		return fmt.Errorf("symbolic link to %s, which is not UTF-8", clip(target))
	case strings.ContainsRune(target, 0):
		return fmt.Errorf("symbolic link to %s, which has a NUL", clip(target))
	}
	return nil
}

// cleanPath makes the path of an entry relative to the root and takes out empty
// and "." components. What ".." means depends on symbolic links, so it is an
// error.
func cleanPath(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("empty name")
	case len(name) > maxPath:
		return "", fmt.Errorf("name of %d bytes, more than %d", len(name), maxPath)
	case !utf8.ValidString(name):
		return "", errors.New("name is not UTF-8")
	}
	name = strings.TrimRight(strings.TrimLeft(strings.TrimPrefix(name, "./"), "/"), "/")
	clean := true
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
			clean = false
		case part == "..":
			return "", errors.New(`name with a ".." component`)
		case !tree.ValidName(part):
			return "", fmt.Errorf("invalid name %s", clip(part))
		}
	}
	if clean {
		return name, nil
	}
	parts := strings.Split(name, "/")
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" || p == "." })
	return strings.Join(parts, "/"), nil
}

// bind points the content of the entries at the spool they were read from.
func bind(entries []entry, spool *content.Spool) error {
	for k := range entries {
		e := &entries[k]
		if e.inode == nil || !e.inode.IsFile() {
			continue
		}
		size := e.inode.Content.Size()
		if e.extra == nil {
			if e.off < 0 || e.off > spool.Size()-size {
				return io.ErrUnexpectedEOF
			}
			e.inode.Content = spool.Ref(e.off, size)
			continue
		}
		pieces := make([]content.Piece, len(e.extra.data))
		off := e.off
		for n, s := range e.extra.data {
			if off < 0 || s.Length < 0 || off > spool.Size()-s.Length {
				return io.ErrUnexpectedEOF
			}
			pieces[n] = content.Piece{Off: s.Offset, Ref: spool.Ref(off, s.Length)}
			off += s.Length
		}
		ref, err := content.Sparse(size, pieces)
		if err != nil {
			return fmt.Errorf("/%s: %w", e.path, err)
		}
		e.inode.Content = ref
	}
	return nil
}
