package squashfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"imgbuild/tree"
)

// xattrOut is the bit of an attribute's type that says that its value is a
// reference to where it is stored (SQUASHFS_XATTR_VALUE_OOL).
const xattrOut = 1 << 8

// xattrInline is the length in bytes up to which a value stands with its name, as
// with mksquashfs. What is longer is stored once.
const xattrInline = 128

// xattrSpaces are the name spaces, in the order of their numbers.
func xattrSpaces() [3]string { return [...]string{"user", "trusted", "security"} }

// xattrWriter makes the tables of extended attributes.
type xattrWriter struct {
	meta   metaWriter
	ids    []byte            // struct squashfs_xattr_id of each set
	sets   map[string]uint32 // index, by the stored form
	values map[string]uint64 // place, of long values
	scratch,
	entry []byte
}

func newXattrWriter(c compressor) xattrWriter {
	return xattrWriter{meta: metaWriter{compress: c}, sets: map[string]uint32{}, values: map[string]uint64{}}
}

// count returns the number of sets.
func (x *xattrWriter) count() int { return len(x.ids) / sizeXattrID }

// add returns the index of a set of attributes, or none of an empty one.
func (x *xattrWriter) add(list []tree.Xattr) (uint32, error) {
	if len(list) == 0 {
		return none, nil
	}
	le := binary.LittleEndian
	b := x.scratch[:0]
	size := 0
	for _, a := range list {
		space, name, err := xattrName(a)
		if err != nil {
			return 0, fmt.Errorf("attribute %q: %w", a.Name, err)
		}
		size += len(a.Name) + 1 + len(a.Value)
		kind, value := uint16(space), a.Value
		if len(value) > xattrInline {
			place, err := x.value(value)
			if err != nil {
				return 0, err
			}
			kind |= xattrOut
			x.entry = le.AppendUint64(x.entry[:0], place)
			value = string(x.entry)
		}
		b = le.AppendUint16(b, kind)
		b = le.AppendUint16(b, uint16(len(name)))
		b = append(b, name...)
		b = le.AppendUint32(b, uint32(len(value)))
		b = append(b, value...)
	}
	x.scratch = b
	if index, ok := x.sets[string(b)]; ok {
		return index, nil
	}
	place := x.meta.pos()
	if err := x.meta.write(b); err != nil {
		return 0, err
	}
	index := uint32(x.count())
	x.sets[string(b)] = index
	x.ids = le.AppendUint64(x.ids, place.pack())
	x.ids = le.AppendUint32(x.ids, uint32(len(list)))
	x.ids = le.AppendUint32(x.ids, uint32(size))
	return index, nil
}

// value stores a long value and returns its place.
func (x *xattrWriter) value(v string) (uint64, error) {
	if place, ok := x.values[v]; ok {
		return place, nil
	}
	place := x.meta.pos().pack()
	x.values[v] = place
	if err := x.meta.write(binary.LittleEndian.AppendUint32(nil, uint32(len(v)))); err != nil {
		return 0, err
	}
	return place, x.meta.write([]byte(v))
}

// xattrName splits the name of an attribute into the number of its name space and
// the rest.
func xattrName(a tree.Xattr) (space int, name string, err error) {
	prefix, name, _ := strings.Cut(a.Name, ".")
	for i, s := range xattrSpaces() {
		if s != prefix {
			continue
		}
		switch {
		case name == "" || len(a.Name) > 255 || strings.Contains(name, "\x00"):
			return 0, "", errors.New("invalid name")
		case len(a.Value) > maxXattr:
			return 0, "", fmt.Errorf("value of %d bytes, more than the %d that Linux allows", len(a.Value), maxXattr)
		}
		return i, name, nil
	}
	return 0, "", errors.New("squashfs does not have this name space")
}

// CanHold tells whether squashfs has a place for the extended attribute of that
// name. It has none for access control lists.
func CanHold(name string) bool {
	_, _, err := xattrName(tree.Xattr{Name: name})
	return err == nil
}
