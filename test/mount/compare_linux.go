package mount

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"imgbuild/tree"
)

// maxDifferences is how many differences Compare looks for: one mistake of a
// writer shows in every file.
const maxDifferences = 50

// immutable is FS_IMMUTABLE_FL of <linux/fs.h>.
const immutable = 0x10

// Compare compares the tree with the directory dir, where a file system made of
// it is mounted, and returns the differences, one in a line, or "". Compared are
// names, type, permissions, owner, size, time of modification, device number,
// extended attributes, the immutable flag, content, target, and which names are
// links of one file. Entries of dir itself that are in extra, and not in the
// tree, may be there.
func Compare(root *tree.Inode, dir string, extra ...string) string {
	c := comparer{
		dir: dir, extra: extra,
		names: map[*tree.Inode]int{}, inos: map[*tree.Inode]inode{}, byIno: map[inode]string{},
	}
	tree.Walk(root, func(_ string, i *tree.Inode) error { c.names[i]++; return nil })
	tree.Walk(root, func(p string, i *tree.Inode) error {
		if len(c.found) >= maxDifferences {
			return fs.SkipAll
		}
		if err := c.compare(p, i); err != nil {
			c.differs(p, "%v", err)
		}
		return nil
	})
	return strings.Join(c.found, "\n")
}

// inode identifies a file. Subvolumes of btrfs have device numbers of their own.
type inode struct{ dev, ino uint64 }

type comparer struct {
	dir   string
	extra []string
	names map[*tree.Inode]int   // of the whole tree
	inos  map[*tree.Inode]inode // met so far
	byIno map[inode]string      // path
	found []string

	got, want [1 << 20]byte // buffers
}

func (c *comparer) differs(path, format string, args ...any) {
	c.found = append(c.found, path+": "+fmt.Sprintf(format, args...))
}

// compare compares one name.
func (c *comparer) compare(path string, i *tree.Inode) error {
	name := filepath.Join(c.dir, path)
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return err
	}
	c.value(path, "mode", uint64(st.Mode), uint64(i.Mode))
	c.value(path, "uid", uint64(st.Uid), uint64(i.UID))
	c.value(path, "gid", uint64(st.Gid), uint64(i.GID))
	if st.Mtim.Sec != i.Mtime || st.Mtim.Nsec != 0 {
		c.differs(path, "mtime %d.%09d, want %d", st.Mtim.Sec, st.Mtim.Nsec, i.Mtime)
	}
	if st.Mode&unix.S_IFMT != i.Type() {
		return nil
	}
	if !c.links(path, i, &st) {
		return nil // compared already
	}
	if err := c.xattrs(path, name, i); err != nil {
		return err
	}
	switch i.Type() {
	case tree.TypeDir:
		return c.entries(path, name, i, &st)
	case tree.TypeFile:
		c.value(path, "size", uint64(st.Size), uint64(i.Content.Size()))
		return c.content(path, name, i)
	case tree.TypeLink:
		target, err := os.Readlink(name)
		if target != i.Target {
			c.differs(path, "target %q, want %q", target, i.Target)
		}
		return err
	case tree.TypeChar, tree.TypeBlock:
		c.value(path, "major", uint64(unix.Major(st.Rdev)), uint64(i.Major))
		c.value(path, "minor", uint64(unix.Minor(st.Rdev)), uint64(i.Minor))
	}
	return nil
}

func (c *comparer) value(path, what string, got, want uint64) {
	if got != want {
		c.differs(path, "%s %#o (%d), want %#o (%d)", what, got, got, want, want)
	}
}

// links compares the number of names of a file, and that they are one file. It
// tells whether this is the first name.
func (c *comparer) links(path string, i *tree.Inode, st *unix.Stat_t) bool {
	if !i.IsDir() {
		c.value(path, "links", uint64(st.Nlink), uint64(c.names[i]))
	}
	id := inode{st.Dev, st.Ino}
	if other, ok := c.inos[i]; ok {
		c.value(path, "device of another name", id.dev, other.dev)
		c.value(path, "inode of another name", id.ino, other.ino)
		return false
	}
	if other, ok := c.byIno[id]; ok {
		c.differs(path, "same file as %s", other)
	}
	c.inos[i], c.byIno[id] = id, path
	return true
}

// entries compares the names in a directory, and the count of subdirectories.
func (c *comparer) entries(path, name string, i *tree.Inode, st *unix.Stat_t) error {
	list, err := os.ReadDir(name)
	if err != nil {
		return err
	}
	dirs := uint64(2)
	names := map[string]bool{}
	for _, e := range list {
		names[e.Name()] = true
		if e.IsDir() {
			dirs++
		}
		if i.Child(e.Name()) == nil && (path != "/" || !slices.Contains(c.extra, e.Name())) {
			c.differs(path, "unknown entry %q", e.Name())
		}
	}
	for _, e := range i.Entries() {
		if !names[e.Name] {
			c.differs(path, "without entry %q", e.Name)
		}
	}
	if st.Nlink != 1 { // where directories are not counted
		c.value(path, "links", uint64(st.Nlink), dirs)
	}
	return nil
}

// xattrs compares extended attributes and flags.
func (c *comparer) xattrs(path, name string, i *tree.Inode) error {
	n, err := unix.Llistxattr(name, c.want[:])
	if err != nil {
		return fmt.Errorf("list attributes: %w", err)
	}
	got := map[string]string{}
	for _, attr := range strings.Split(strings.TrimSuffix(string(c.want[:n]), "\x00"), "\x00") {
		if attr == "" {
			continue
		}
		n, err := unix.Lgetxattr(name, attr, c.got[:])
		if err != nil {
			c.differs(path, "attribute %s: %v", attr, err)
			continue
		}
		got[attr] = string(c.got[:n])
	}
	for _, x := range i.Xattrs {
		value, ok := got[x.Name]
		delete(got, x.Name)
		if !ok || value != x.Value {
			c.differs(path, "attribute %s: %q, want %q", x.Name, value, x.Value)
		}
	}
	for attr, value := range got {
		c.differs(path, "unknown attribute %s: %q", attr, value)
	}
	if !i.IsFile() && !i.IsDir() {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) {
		flags, err = 0, nil // the file system has none
	}
	if err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	if got, want := flags&immutable != 0, i.Flags&tree.Immutable != 0; got != want {
		c.differs(path, "immutable %v, want %v", got, want)
	}
	return nil
}

// content compares the content of a regular file.
func (c *comparer) content(path, name string, i *tree.Inode) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	got, want := c.got[:], c.want[:]
	const large = 1 << 30
	for off := int64(0); off < i.Content.Size(); off += int64(len(want)) {
		if i.Content.Size() > large {
			// Only what is near data: reading the rest would take years.
			next, ok := nextData(i, off)
			if !ok {
				break
			}
			off = max(off, next&^int64(len(want)-1)-int64(len(want)))
		}
		n := min(int64(len(want)), i.Content.Size()-off)
		if _, err := i.Content.ReadAt(want[:n], off); err != nil && err != io.EOF {
			return err
		}
		if _, err := f.ReadAt(got[:n], off); err != nil && err != io.EOF {
			return err
		}
		if !bytes.Equal(got[:n], want[:n]) {
			c.differs(path, "content differs within [%d:+%d]", off, n)
			return nil
		}
	}
	return nil
}

// nextData returns where the first data of a file that ends behind off begins.
func nextData(i *tree.Inode, off int64) (int64, bool) {
	for start, n := range i.Content.Data() {
		if start+n > off {
			return start, true
		}
	}
	return 0, false
}
