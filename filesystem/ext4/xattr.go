package ext4

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"imgbuild/filesystem"
	"imgbuild/tree"
)

const (
	xattrMagic = 0xea020000

	// xattrInline is the room in an inode: magic, entries, 4 zero bytes,
	// values.
	xattrInline     = inodeSize - oldInodeSize - extraIsize
	xattrInlineRoom = xattrInline - 4 - 4

	sizeXattrHeader = 32 // struct ext4_xattr_header, of a block
	sizeXattrEntry  = 16 // struct ext4_xattr_entry, without the name
	xattrBlockRoom  = blockSize - sizeXattrHeader - 4

	// maxXattrRefs is how many inodes may share a block of attributes
	// (EXT4_XATTR_REFCOUNT_MAX).
	maxXattrRefs = 1024
)

// xattrPrefixes are the name spaces of attributes as e_name_index has them. An
// access control list has an index to itself and no name.
var xattrPrefixes = []struct {
	prefix string
	index  uint8
	acl    bool
}{
	{"system.posix_acl_access", 2, true},
	{"system.posix_acl_default", 3, true},
	{"user.", 1, false},
	{"trusted.", 4, false},
	{"security.", 6, false},
}

// xattr is an attribute as it is stored.
type xattr struct {
	index uint8
	name  string // without the prefix
	value string
}

// size returns the bytes that entry and value take.
func (x *xattr) size() int {
	return sizeXattrEntry + align4(len(x.name)) + align4(len(x.value))
}

// hash returns e_hash.
func (x *xattr) hash() uint32 {
	h := uint32(0)
	for i := range len(x.name) {
		h = h<<5 ^ h>>27 ^ uint32(x.name[i])
	}
	var word [4]byte
	for v := x.value; len(v) > 0; v = v[min(len(v), 4):] {
		word = [4]byte{}
		copy(word[:], v)
		h = h<<16 ^ h>>16 ^ binary.LittleEndian.Uint32(word[:])
	}
	return h
}

func align4(n int) int { return (n + 3) &^ 3 }

// xattrSet is the stored form of the attributes of an inode.
type xattrSet struct {
	inline     []byte // what follows the fixed part of the inode, or nil
	head, tail []byte // start and end of a block of attributes, or nil
}

// newXattrSet returns the stored form of attributes.
func newXattrSet(attrs []tree.Xattr) (xattrSet, error) {
	var set xattrSet
	list := make([]xattr, 0, min(len(attrs), blockSize/sizeXattrEntry))
	total := 0
	for _, a := range attrs {
		x, err := newXattr(a)
		if err != nil {
			return set, err
		}
		if x.index == 0 {
			continue
		}
		if total += x.size(); total > xattrInlineRoom+xattrBlockRoom {
			return set, errXattrRoom
		}
		list = append(list, x)
	}
	// The order that Linux keeps in a block, to search it.
	slices.SortFunc(list, func(a, b xattr) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
	})
	inline, block := splitXattrs(list, total)
	if len(inline) > 0 {
		set.inline = make([]byte, xattrInline)
		binary.LittleEndian.PutUint32(set.inline, xattrMagic)
		putXattrs(set.inline[4:], 0, inline)
	}
	if len(block) > 0 {
		size := 0
		for i := range block {
			size += block[i].size()
		}
		if size > xattrBlockRoom {
			return set, errXattrRoom
		}
		var b [blockSize]byte
		head, tail := putXattrBlock(b[:], block)
		set.head, set.tail = slices.Clone(b[:head]), slices.Clone(b[tail:])
	}
	return set, nil
}

var errXattrRoom = fmt.Errorf("extended attributes larger than an inode and a block of %d bytes hold", blockSize)

// newXattr returns the stored form of an attribute; its index is 0 when there
// is nothing to store.
func newXattr(a tree.Xattr) (xattr, error) {
	for _, p := range xattrPrefixes {
		if p.acl && a.Name == p.prefix {
			value, err := diskACL(a.Value)
			if err != nil {
				return xattr{}, fmt.Errorf("attribute %s: %w", a.Name, err)
			}
			if value == "" {
				return xattr{}, nil
			}
			return xattr{p.index, "", value}, nil
		}
		name, ok := strings.CutPrefix(a.Name, p.prefix)
		if p.acl || !ok {
			continue
		}
		if name == "" || len(name) > 255 || strings.Contains(name, "\x00") {
			return xattr{}, fmt.Errorf("invalid attribute name %q", a.Name)
		}
		return xattr{p.index, name, a.Value}, nil
	}
	return xattr{}, fmt.Errorf("attribute %q is of a name space that ext4 does not have", a.Name)
}

// splitXattrs chooses what goes into the inode. The rest goes to a block.
func splitXattrs(list []xattr, total int) (inline, block []xattr) {
	if total <= xattrInlineRoom {
		return list, nil
	}
	var in []bool
	if total-fill(list, &in) > xattrBlockRoom {
		fillBest(list, &in)
	}
	for i, x := range list {
		if in[i] {
			inline = append(inline, x)
		} else {
			block = append(block, x)
		}
	}
	return inline, block
}

// fill chooses for the inode what fits, in order but security attributes
// first: labels are read at every access. It returns the bytes chosen.
func fill(list []xattr, in *[]bool) int {
	*in = make([]bool, len(list))
	used := 0
	for _, security := range [...]bool{true, false} {
		for i := range list {
			if n := list[i].size(); (list[i].index == 6) == security && used+n <= xattrInlineRoom {
				(*in)[i] = true
				used += n
			}
		}
	}
	return used
}

// fillBest chooses for the inode what uses its room best, so that nothing is
// refused that could be stored.
func fillBest(list []xattr, in *[]bool) {
	// last[u] is one more than the index of the attribute that completes a
	// choice of exactly u units of 4 bytes, the first found; 0 where there is
	// none.
	const units = xattrInlineRoom / 4
	var last, from [units + 1]int
	for i := range list {
		n := list[i].size() / 4
		for u := units; u >= n; u-- {
			if last[u] == 0 && (u == n || last[u-n] != 0) {
				last[u], from[u] = i+1, u-n
			}
		}
	}
	*in = make([]bool, len(list))
	u := units
	for u > 0 && last[u] == 0 {
		u--
	}
	for ; u > 0; u = from[u] {
		(*in)[last[u]-1] = true
	}
}

// putXattrs writes entries from the start of b on, and their values from its
// end on downwards. Offsets count from base bytes before b. It returns the ends
// of the two parts in b.
func putXattrs(b []byte, base int, list []xattr) (entries, values int) {
	le := binary.LittleEndian
	at, end := 0, len(b)
	for i := range list {
		x := &list[i]
		e := b[at:]
		e[0] = uint8(len(x.name))
		e[1] = x.index
		if len(x.value) > 0 {
			end -= align4(len(x.value))
			copy(b[end:], x.value)
			le.PutUint16(e[2:], uint16(base+end))
		}
		le.PutUint32(e[8:], uint32(len(x.value)))
		le.PutUint32(e[12:], x.hash())
		copy(e[sizeXattrEntry:], x.name)
		at += sizeXattrEntry + align4(len(x.name))
	}
	return at, end
}

// putXattrBlock writes a block of attributes but for the count of references
// and the checksum, which depends on its place. It is zero from head to tail.
func putXattrBlock(b []byte, list []xattr) (head, tail int) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], xattrMagic)
	le.PutUint32(b[8:], 1) // h_blocks
	hash := uint32(0)
	for i := range list {
		h := list[i].hash()
		if h == 0 { // as Linux: such a block is never shared
			hash = 0
			break
		}
		hash = hash<<16 ^ hash>>16 ^ h
	}
	le.PutUint32(b[12:], hash)
	head, tail = putXattrs(b[sizeXattrHeader:], sizeXattrHeader, list)
	return sizeXattrHeader + head, sizeXattrHeader + tail
}

// sealXattrBlock writes the checksum of a block of attributes at block number
// at. The references in its header count already.
func sealXattrBlock(row *packedBlocks, index, at uint64, seed uint32) {
	le := binary.LittleEndian
	var number [8]byte
	le.PutUint64(number[:], at)
	var block [blockSize]byte
	row.expand(index, block[:])
	le.PutUint32(row.head(index)[16:], crc32c(crc32c(seed, number[:]), block[:]))
}

// diskACL returns an access control list, given as the value of its attribute,
// as ext4 stores it: entries without an identity are half as long. An empty
// list is "", and not stored.
func diskACL(value string) (string, error) {
	const diskVersion = 1 // EXT4_ACL_VERSION
	list, err := filesystem.ParseACL(value)
	if err != nil || len(list) == 0 {
		return "", err
	}
	le := binary.LittleEndian
	out := le.AppendUint32(nil, diskVersion)
	for _, e := range list {
		out = le.AppendUint16(le.AppendUint16(out, e.Tag), e.Perm)
		if e.Tag == filesystem.ACLUser || e.Tag == filesystem.ACLGroup {
			out = le.AppendUint32(out, e.ID)
		}
	}
	return string(out), nil
}
