package xfs

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/filesystem"
	"imgbuild/tree"
)

// Flags of attributes. The name space is in them; the name is stored without
// its prefix.
const (
	attrLocal  = 0x01
	attrRoot   = 0x02 // trusted.
	attrSecure = 0x04 // security.
)

const (
	maxAttrName  = 255
	maxAttrValue = 64 << 10 // XATTR_SIZE_MAX
	maxShortAttr = 255      // value, in the short form

	// Names under which access control lists are stored.
	aclAccess  = "SGI_ACL_FILE"
	aclDefault = "SGI_ACL_DEFAULT"
)

// attr is an attribute as it is stored.
type attr struct {
	hash   uint32
	flags  uint8
	remote bool   // the value is in blocks of its own
	block  uint32 // number of the first of them
	name   string
	value  string
}

// newAttrs returns the attributes of an inode as they are stored, ascending by
// their hashes.
func newAttrs(list []tree.Xattr) ([]attr, error) {
	out := make([]attr, 0, len(list))
	for _, x := range list {
		a, err := newAttr(x)
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", x.Name, err)
		}
		if a.name == "" {
			continue
		}
		a.hash = nameHash(a.name)
		out = append(out, a)
	}
	slices.SortStableFunc(out, func(a, b attr) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.flags, b.flags), strings.Compare(a.name, b.name))
	})
	// A list under both of its names: they were converted, the first is Linux's.
	return slices.CompactFunc(out, func(a, b attr) bool { return a.flags == b.flags && a.name == b.name }), nil
}

// newAttr returns the stored form of an attribute, without a name when there is
// nothing to store.
func newAttr(x tree.Xattr) (attr, error) {
	switch x.Name {
	case "system.posix_acl_access":
		return newACL(aclAccess, x.Value)
	case "system.posix_acl_default":
		return newACL(aclDefault, x.Value)
	case "trusted." + aclAccess, "trusted." + aclDefault:
		return attr{flags: attrRoot, name: strings.TrimPrefix(x.Name, "trusted."), value: x.Value}, validateACL(x.Value)
	}
	var a attr
	prefix, name, _ := strings.Cut(x.Name, ".")
	switch prefix {
	case "user":
	case "trusted":
		a.flags = attrRoot
	case "security":
		a.flags = attrSecure
	default:
		return a, errors.New("XFS does not have this name space")
	}
	if name == "" || len(name) > maxAttrName || strings.Contains(name, "\x00") {
		return a, errors.New("invalid name")
	}
	if len(x.Value) > maxAttrValue {
		return a, fmt.Errorf("value of %d bytes, more than %d", len(x.Value), maxAttrValue)
	}
	a.name, a.value = name, x.Value
	return a, nil
}

const (
	sizeACLHead  = 4  // struct xfs_acl
	sizeACLEntry = 12 // struct xfs_acl_entry: tag u32, identity u32, permissions u16, padding
)

// newACL converts an access control list from the form that Linux gives to
// programs, struct posix_acl_xattr_header.
func newACL(name, value string) (attr, error) {
	const maxEntries = (maxAttrValue - sizeACLHead) / sizeACLEntry
	list, err := filesystem.ParseACL(value)
	if err != nil || len(list) == 0 {
		return attr{}, err
	}
	if len(list) > maxEntries {
		return attr{}, fmt.Errorf("invalid access control list of %d bytes", len(value))
	}
	be := binary.BigEndian
	out := be.AppendUint32(make([]byte, 0, sizeACLHead+len(list)*sizeACLEntry), uint32(len(list)))
	for _, e := range list {
		out = be.AppendUint32(be.AppendUint32(out, uint32(e.Tag)), e.ID)
		out = be.AppendUint16(be.AppendUint16(out, e.Perm), 0)
	}
	return attr{flags: attrRoot, name: name, value: string(out)}, nil
}

// validateACL checks an access control list in the form that XFS has.
func validateACL(value string) error {
	if len(value) < sizeACLHead || (len(value)-sizeACLHead)%sizeACLEntry != 0 || len(value) > maxAttrValue ||
		uint64(binary.BigEndian.Uint32([]byte(value[:sizeACLHead])))*sizeACLEntry != uint64(len(value)-sizeACLHead) {
		return fmt.Errorf("invalid access control list of %d bytes", len(value))
	}
	return nil
}

// attrSet is the stored form of the attributes of an inode, which is the same
// for all inodes with these attributes.
type attrSet struct {
	local  []byte     // short form, within the inode
	blocks []rowBlock // or blocks, from 0 of the fork on
}

// room returns the bytes that the fork of the attributes needs at least.
func (s *attrSet) room() int {
	if s.local != nil {
		return len(s.local)
	}
	return minAttrRoom
}

const (
	sizeShortAttrs = 4 // struct xfs_attr_sf_hdr
	sizeShortAttr  = 3 // struct xfs_attr_sf_entry, without name and value
)

// newAttrSet stores attributes, which are sorted, in a fork of room bytes or in
// blocks, whose bytes are kept in the row.
func newAttrSet(row *blockRow, list []attr, room int) (*attrSet, error) {
	if b := shortAttrs(list, room); b != nil {
		return &attrSet{local: b}, nil
	}
	return newAttrBlocks(row, list)
}

// shortAttrs returns attributes in the short form, or nil when they do not fit
// room bytes that way.
func shortAttrs(list []attr, room int) []byte {
	size := sizeShortAttrs
	short := len(list) <= 255
	for _, a := range list {
		size += sizeShortAttr + len(a.name) + len(a.value)
		short = short && len(a.value) <= maxShortAttr
	}
	if !short || (size+7)&^7 > room {
		return nil
	}
	b := binary.BigEndian.AppendUint16(make([]byte, 0, size), uint16(size))
	b = append(b, uint8(len(list)), 0)
	for _, a := range list {
		b = append(b, uint8(len(a.name)), uint8(len(a.value)), a.flags)
		b = append(b, a.name...)
		b = append(b, a.value...)
	}
	return b
}
