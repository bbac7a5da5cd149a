package btrfs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/filesystem"
	"imgbuild/tree"
)

// newAttrs returns the stored form of extended attributes: an item for every
// hash of a name.
func newAttrs(list []tree.Xattr) (attrSet, error) {
	var set attrSet
	for _, x := range list {
		store, err := checkAttr(x)
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", x.Name, err)
		}
		if store {
			set = append(set, attr{nameHash(x.Name), appendDirItem(nil, key{}, typeXattr, x.Name, x.Value)})
		}
	}
	slices.SortStableFunc(set, func(a, b attr) int { return cmp.Compare(a.hash, b.hash) })
	out := set[:0]
	for _, a := range set {
		if k := len(out); k == 0 || out[k-1].hash != a.hash {
			out = append(out, a)
			continue
		} else if out[k-1].data = append(out[k-1].data, a.data...); len(out[k-1].data) > maxItem {
			return nil, errors.New("extended attributes: too many names with the same hash")
		}
	}
	return out, nil
}

// checkAttr tells whether an attribute can be stored, and whether there is
// anything to store.
func checkAttr(x tree.Xattr) (store bool, err error) {
	switch x.Name {
	case "system.posix_acl_access", "system.posix_acl_default":
		list, err := filesystem.ParseACL(x.Value)
		if err != nil || len(list) == 0 {
			return false, err
		}
	default:
		space, name, _ := strings.Cut(x.Name, ".")
		if space != "user" && space != "trusted" && space != "security" {
			return false, errors.New("btrfs does not have this name space")
		}
		if name == "" || len(x.Name) > maxName || strings.Contains(name, "\x00") {
			return false, errors.New("invalid name")
		}
	}
	if len(x.Name)+len(x.Value) > maxXattr {
		return false, fmt.Errorf("value of %d bytes, more than the %d that btrfs allows", len(x.Value), maxXattr-len(x.Name))
	}
	return true, nil
}

// setAttrs stores the extended attributes of a node.
func (c *collector) setAttrs(n *node) error {
	list := n.inode.Xattrs
	if len(list) == 0 {
		return nil
	}
	c.key = filesystem.XattrKey(c.key[:0], list)
	set, ok := c.setsByID[string(c.key)]
	if !ok {
		attrs, err := newAttrs(list)
		if err != nil {
			return err
		}
		if len(attrs) > 0 {
			c.sets = append(c.sets, attrs)
			set = uint32(len(c.sets))
		}
		c.setsByID[string(c.key)] = set
	}
	n.set = set
	if set > 0 {
		for _, a := range c.sets[set-1] {
			c.metadata += uint64(sizeItem + len(a.data))
		}
	}
	return nil
}
