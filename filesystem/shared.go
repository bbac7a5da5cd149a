package filesystem

import (
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/tree"
)

// DataBlocks yields the runs of blocks of a file that hold data, ascending and
// not touching, as the number of the first block within the file and the count
// of blocks. What is between them are holes. A block has 1<<shift bytes.
func DataBlocks(c content.Ref, shift uint) iter.Seq2[uint64, uint64] {
	return func(yield func(first, n uint64) bool) {
		start, end := uint64(0), uint64(0)
		for off, n := range c.Data() {
			from, to := uint64(off)>>shift, uint64(off+n-1)>>shift+1
			if from <= end && end > 0 {
				end = max(to, end)
				continue
			}
			if end > 0 && !yield(start, end-start) {
				return
			}
			start, end = from, to
		}
		if end > 0 {
			yield(start, end-start)
		}
	}
}

// FileType is the type of a file as directory entries of ext4, XFS and btrfs
// have it.
type FileType uint8

// The types.
const (
	TypeRegular FileType = 1 + iota
	TypeDir
	TypeChar
	TypeBlock
	TypeFIFO
	TypeSocket
	TypeSymlink
)

// TypeOf returns the type for the type bits of a mode.
func TypeOf(mode uint32) FileType {
	switch mode & tree.TypeMask {
	case tree.TypeDir:
		return TypeDir
	case tree.TypeChar:
		return TypeChar
	case tree.TypeBlock:
		return TypeBlock
	case tree.TypeFIFO:
		return TypeFIFO
	case tree.TypeSock:
		return TypeSocket
	case tree.TypeLink:
		return TypeSymlink
	}
	return TypeRegular
}

// XattrKey appends what tells sets of extended attributes apart: equal sets have
// equal bytes, and no others.
func XattrKey(key []byte, attrs []tree.Xattr) []byte {
	for _, a := range attrs {
		key = binary.AppendUvarint(key, uint64(len(a.Name)))
		key = append(key, a.Name...)
		key = binary.AppendUvarint(key, uint64(len(a.Value)))
		key = append(key, a.Value...)
	}
	return key
}

// Path returns the path of a node, for errors. up returns the name and the
// parent of a node that is not root.
func Path(node, root uint32, up func(node uint32) (name string, parent uint32)) string {
	var names []string
	for node != root {
		var name string
		name, node = up(node)
		names = append(names, name)
	}
	slices.Reverse(names)
	return "/" + strings.Join(names, "/")
}

// JoinPath returns the path of a name in the directory at the path dir.
func JoinPath(dir, name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }

// Refuse returns the error of a path that the file system fs cannot hold.
func Refuse(fs, path string, err error) error {
	return fault.New(fault.BadImage, fmt.Errorf("%s: %s: %w", fs, path, err),
		"change the file in the image, or choose another type of file system")
}

// Merge appends the extents of both lists, ascending as they are.
func Merge(out, a, b []disk.Extent) []disk.Extent {
	out = slices.Grow(out, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].Off < b[0].Off {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// ReadUnits reads out at the offset off of a row of n units of size bytes, each
// of which expand writes to a slice of that size. An error of expand ends it.
func ReadUnits(out []byte, off int64, size, n int, expand func(i int, unit []byte) error) (int, error) {
	var buffer []byte
	done := 0
	for done < len(out) && off < int64(n)*int64(size) {
		i, within := int(off/int64(size)), int(off%int64(size))
		k := size
		if within == 0 && len(out)-done >= size {
			if err := expand(i, out[done:done+size]); err != nil {
				return done, err
			}
		} else {
			if buffer == nil {
				buffer = make([]byte, size)
			}
			if err := expand(i, buffer); err != nil {
				return done, err
			}
			k = copy(out[done:], buffer[within:])
		}
		done += k
		off += int64(k)
	}
	if done < len(out) {
		return done, io.EOF
	}
	return done, nil
}
