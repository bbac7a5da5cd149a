package composefs

import (
	"slices"
	"strings"

	"imgbuild/tree"
)

// xattrIndex is EROFS_XATTR_INDEX_*: a prefix that the name is stored without.
type xattrIndex uint8

const (
	indexNone       xattrIndex = 0
	indexUser       xattrIndex = 1
	indexACLAccess  xattrIndex = 2
	indexACLDefault xattrIndex = 3
	indexTrusted    xattrIndex = 4
	indexSecurity   xattrIndex = 6
)

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// xattrPrefixes are tried in this order. The ACL names are prefixes too, as
// libcomposefs has it.
var xattrPrefixes = [...]struct {
	prefix string
	index  xattrIndex
}{
	{"user.", indexUser},
	{aclAccess, indexACLAccess},
	{aclDefault, indexACLDefault},
	{"trusted.", indexTrusted},
	{"security.", indexSecurity},
}

// splitXattr returns the index of the name's prefix and the rest of it.
func splitXattr(name string) (xattrIndex, string) {
	for _, p := range &xattrPrefixes {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok {
			return p.index, rest
		}
	}
	return indexNone, name
}

const (
	// maxShared is the number of shared xattrs of one inode: libcomposefs
	// stores what is beyond inline.
	maxShared = 128

	filterSeed = 0x25bbe08f // EROFS_XATTR_FILTER_SEED
	filterBits = 32
)

// xattr is a name and value that some inode has.
type xattr struct {
	tree.Xattr
	index  xattrIndex
	suffix string // of Name
	filter uint32 // its bit of the filter
	uses   uint32
	// offset is that of the entry among the shared ones, in bytes.
	offset uint32
}

// size returns the length of the entry in bytes, padding included.
func (x *xattr) size() uint32 {
	return uint32(roundUp(uint64(sizeXattrEntry+len(x.suffix)+len(x.Value)), xattrAlign))
}

// shared tells whether the entry is stored once for all inodes.
func (x *xattr) shared() bool { return x.uses > 1 }

// put encodes the entry and returns its padded length.
func (x *xattr) put(b []byte) int {
	e := xattrEntry{nameLen: uint8(len(x.suffix)), index: x.index, valueLen: uint16(len(x.Value))}
	e.encode(b)
	n := copy(b[sizeXattrEntry:], x.suffix)
	copy(b[sizeXattrEntry+n:], x.Value)
	return int(x.size())
}

// xattrTable holds every different xattr once.
type xattrTable struct {
	all    []xattr
	byKey  map[tree.Xattr]uint32 // index in all
	shared []uint32              // indices in all, in the order they are stored
	size   uint64                // of the shared entries, in bytes
	acl    bool                  // some inode has a POSIX ACL
}

// add counts one more use of the xattr and returns its index.
func (t *xattrTable) add(x tree.Xattr) uint32 {
	if i, ok := t.byKey[x]; ok {
		t.all[i].uses++
		return i
	}
	if t.byKey == nil {
		t.byKey = make(map[tree.Xattr]uint32)
	}
	index, suffix := splitXattr(x.Name)
	i := uint32(len(t.all))
	t.byKey[x] = i
	t.all = append(t.all, xattr{
		Xattr:  x,
		index:  index,
		suffix: suffix,
		filter: 1 << (xxh32(suffix, filterSeed+uint32(index)) % filterBits),
		uses:   1,
	})
	t.acl = t.acl || x.Name == aclAccess || x.Name == aclDefault
	return i
}

// share orders the xattrs that several inodes have: descending by name, then by
// length of the value, then by its bytes.
func (t *xattrTable) share() {
	for i := range t.all {
		if t.all[i].shared() {
			t.shared = append(t.shared, uint32(i))
		}
	}
	slices.SortFunc(t.shared, func(i, j uint32) int {
		a, b := &t.all[i], &t.all[j]
		if c := strings.Compare(b.Name, a.Name); c != 0 {
			return c
		}
		if c := len(b.Value) - len(a.Value); c != 0 {
			return c
		}
		return strings.Compare(b.Value, a.Value)
	})
	for _, i := range t.shared {
		t.all[i].offset = uint32(t.size)
		t.size += uint64(t.all[i].size())
	}
}

// bodySize returns the length in bytes of what an inode with these xattrs, in
// their order, has behind it.
func (t *xattrTable) bodySize(ids []uint32) uint32 {
	if len(ids) == 0 {
		return 0
	}
	size, shared := uint32(sizeXattrHeader), 0
	for _, id := range ids {
		if x := &t.all[id]; x.shared() && shared < maxShared {
			size += sizeSharedID
			shared++
		} else {
			size += x.size()
		}
	}
	return size
}
