// Package tree holds a file system tree in memory: names, metadata and
// references to content, never content itself.
//
// It is the model that every stage works on. A layer, the merged OS, an ostree
// deployment and the root of a disk are all trees of [Inode]s; hard links are
// two names of one *Inode.
package tree

import (
	"fmt"
	"slices"
	"strings"

	"imgbuild/content"
	"imgbuild/fsverity"
)

// File types and permission bits of Inode.Mode, as in <sys/stat.h>.
const (
	TypeMask  = 0o170000
	TypeFIFO  = 0o010000
	TypeChar  = 0o020000
	TypeDir   = 0o040000
	TypeBlock = 0o060000
	TypeFile  = 0o100000
	TypeLink  = 0o120000
	TypeSock  = 0o140000
	PermMask  = 0o007777
)

// Flags are inode flags that a file system keeps beside the mode.
type Flags uint8

const (
	// Immutable is FS_IMMUTABLE_FL, chattr +i.
	Immutable Flags = 1 << iota
)

// Xattr is one extended attribute. Name is the full name ("user.x",
// "security.selinux"), Value the raw bytes.
type Xattr struct{ Name, Value string }

// Sum is a SHA-256.
type Sum [32]byte

// Inode is a file of any type. Trees share inodes: whoever changes one that may
// be shared replaces it by a [Inode.Copy] first.
type Inode struct {
	Mode         uint32 // type and permissions, as st_mode
	UID, GID     uint32
	Major, Minor uint32 // of a device node
	Mtime        int64  // seconds since 1970
	Flags        Flags
	Xattrs       []Xattr     // ascending by name, unique
	Target       string      // of a symbolic link
	Content      content.Ref // of a regular file
	// Object is the checksum of the inode as an ostree file object (regular
	// files and symbolic links), or zero where it is not known. It covers
	// mode, owner, xattrs and content.
	Object Sum
	// Verity is what fs-verity keeps of a regular file, or nil where the file is
	// not protected. It is of the inode, not of the content: a file system that
	// cannot hold it refuses the inode.
	Verity *fsverity.Metadata

	dir *directory
}

// NewDir returns an empty directory with the permissions perm, owned by root.
func NewDir(perm uint32) *Inode {
	return &Inode{Mode: TypeDir | perm&PermMask, dir: &directory{}}
}

// NewFile returns a regular file owned by root.
func NewFile(perm uint32, c content.Ref) *Inode {
	return &Inode{Mode: TypeFile | perm&PermMask, Content: c}
}

// NewLink returns a symbolic link owned by root.
func NewLink(target string) *Inode {
	return &Inode{Mode: TypeLink | 0o777, Target: target}
}

// Type returns the type bits of the mode.
func (i *Inode) Type() uint32 { return i.Mode & TypeMask }

// Perm returns the permission bits, with setuid, setgid and sticky.
func (i *Inode) Perm() uint32 { return i.Mode & PermMask }

// IsDir tells whether i is a directory.
func (i *Inode) IsDir() bool { return i.Type() == TypeDir }

// IsFile tells whether i is a regular file.
func (i *Inode) IsFile() bool { return i.Type() == TypeFile }

// IsLink tells whether i is a symbolic link.
func (i *Inode) IsLink() bool { return i.Type() == TypeLink }

// Copy returns a new inode with the metadata and content of i. A copied
// directory is empty, and as on any file system a copy is not protected by
// fs-verity.
func (i *Inode) Copy() *Inode {
	c := *i
	c.Verity = nil
	c.Xattrs = slices.Clone(i.Xattrs)
	if i.IsDir() {
		c.dir = &directory{}
	}
	return &c
}

// Xattr returns the value of an extended attribute.
func (i *Inode) Xattr(name string) (value string, ok bool) {
	k, ok := slices.BinarySearchFunc(i.Xattrs, name, compareName)
	if !ok {
		return "", false
	}
	return i.Xattrs[k].Value, true
}

// SetXattr sets an extended attribute and forgets the object checksum.
func (i *Inode) SetXattr(name, value string) {
	k, ok := slices.BinarySearchFunc(i.Xattrs, name, compareName)
	if ok {
		i.Xattrs[k].Value = value
	} else {
		i.Xattrs = slices.Insert(i.Xattrs, k, Xattr{name, value})
	}
	i.Object = Sum{}
}

// RemoveXattr removes an extended attribute, if it is there, and forgets the
// object checksum.
func (i *Inode) RemoveXattr(name string) {
	if k, ok := slices.BinarySearchFunc(i.Xattrs, name, compareName); ok {
		i.Xattrs = slices.Delete(i.Xattrs, k, k+1)
		i.Object = Sum{}
	}
}

func compareName(x Xattr, name string) int { return strings.Compare(x.Name, name) }

// Entry is a name in a directory.
type Entry struct {
	Name  string
	Inode *Inode
}

// directory holds the entries of a directory by name. The sorted list is made
// when it is asked for.
type directory struct {
	byName map[string]*Inode
	sorted []Entry // nil after a change
}

// Len returns the number of entries of a directory, 0 for any other inode.
func (i *Inode) Len() int {
	if i.dir == nil {
		return 0
	}
	return len(i.dir.byName)
}

// Child returns the entry called name, or nil.
func (i *Inode) Child(name string) *Inode {
	if i.dir == nil {
		return nil
	}
	return i.dir.byName[name]
}

// Set gives child the name in the directory i, in place of what had it. It
// panics on a name that no file system allows: names from outside are checked
// with [ValidName] first.
func (i *Inode) Set(name string, child *Inode) {
	if !ValidName(name) {
		panic(fmt.Sprintf("tree: invalid name %q", name))
	}
	if i.dir.byName == nil {
		i.dir.byName = make(map[string]*Inode)
	}
	i.dir.byName[name] = child
	i.dir.sorted = nil
}

// Remove takes the name out of the directory, if it is there.
func (i *Inode) Remove(name string) {
	delete(i.dir.byName, name)
	i.dir.sorted = nil
}

// Clear takes all names out of the directory.
func (i *Inode) Clear() { *i.dir = directory{} }

// Entries returns the entries of a directory, ascending by the bytes of their
// names. The slice is shared and must not be modified; a later change of the
// directory leaves it as it is.
//
// The first call after a change sorts; concurrent first calls are not safe.
func (i *Inode) Entries() []Entry {
	d := i.dir
	if d == nil || len(d.byName) == 0 {
		return nil
	}
	if d.sorted == nil {
		d.sorted = make([]Entry, 0, len(d.byName))
		for name, inode := range d.byName {
			d.sorted = append(d.sorted, Entry{name, inode})
		}
		slices.SortFunc(d.sorted, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	}
	return d.sorted
}

// ValidName tells whether name can be a directory entry: not empty, at most 255
// bytes, no slash, no NUL, neither "." nor "..".
func ValidName(name string) bool {
	return name != "" && len(name) <= 255 && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}
