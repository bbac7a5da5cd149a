// Package customize is what the customizations of an installed system see and
// may change: the deployment's /etc and the stateroot's /var. Everything else
// belongs to the image and is read-only when the system runs, so a change of it
// would have no effect there, or would not survive the next upgrade.
//
// The packages below this one each know one kind of customization. They work on
// paths of the running system, and this package follows its symbolic links
// (/home is var/home, /root is var/roothome).
package customize

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"imgbuild/content"
	"imgbuild/tree"
)

// ErrReadOnly says that a path is part of the image, which nothing may change.
var ErrReadOnly = errors.New("read-only in the running system: only /etc and /var can be written")

// System is a system that is about to be deployed, as it will see itself when it
// runs. It is not safe for concurrent use.
type System struct {
	root *tree.Inode // the image's root directory, with etc and var put over it
	time int64
	seed func(purpose string) []byte
}

// New returns the system with the image's tree os, which is never written, the
// deployment's etc and the stateroot's vars, whose inodes are private to it. What
// is written gets the modification time time, in seconds since 1970. seed gives
// the bytes that stand for random ones, at least 32, always the same for a
// purpose.
func New(os, etc, vars *tree.Inode, time int64, seed func(purpose string) []byte) *System {
	root := os.Copy()
	for _, e := range os.Entries() {
		root.Set(e.Name, e.Inode)
	}
	root.Set("etc", etc)
	root.Set("var", vars)
	return &System{root: root, time: time, seed: seed}
}

// Root returns the root directory of the running system, for reading. /usr/etc
// is in it, as the defaults of the image.
func (s *System) Root() *tree.Inode { return s.root }

// Time returns the modification time of what is written, in seconds since 1970.
func (s *System) Time() int64 { return s.time }

// Seed returns bytes that stand for random ones.
func (s *System) Seed(purpose string) []byte { return s.seed(purpose) }

// Lookup returns what is at path, following symbolic links, or nil.
func (s *System) Lookup(p string) *tree.Inode {
	i, err := tree.Resolve(s.root, p)
	if err != nil {
		return nil
	}
	return i
}

// ReadFile returns the content of the regular file at path, following symbolic
// links. A file larger than limit bytes is an error. The error wraps
// fs.ErrNotExist where there is no such file.
func (s *System) ReadFile(p string, limit int64) ([]byte, error) {
	return tree.ReadFile(s.root, p, limit)
}

// WriteFile gives the file at path a content. A new file gets the mode
// (permission bits) and belongs to root; one that is there keeps its mode, owner
// and extended attributes. Symbolic links are followed, the last component
// included, and missing directories are made as 0755. The error wraps
// ErrReadOnly where the path does not end up in /etc or /var.
func (s *System) WriteFile(p string, mode uint32, text []byte) error {
	_, err := s.Put(p, func(old *tree.Inode) (*tree.Inode, error) {
		f := tree.NewFile(mode, content.Bytes(text))
		if old != nil {
			if !old.IsFile() {
				return nil, errors.New("not a regular file")
			}
			f = old.Copy()
			f.Content, f.Object = content.Bytes(text), tree.Sum{}
		}
		return f, nil
	})
	return err
}

// Put replaces what is at path, or nil, by what make returns for it, following
// symbolic links. Missing directories are made as 0755. The inode gets the
// system's time; it is what Put returns.
func (s *System) Put(p string, make func(old *tree.Inode) (*tree.Inode, error)) (*tree.Inode, error) {
	real, err := s.RealPath(p)
	if err != nil {
		return nil, err
	}
	dir, name, err := s.parent(real)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	i, err := make(dir.Child(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	i.Mtime = s.time
	dir.Set(name, i)
	return i, nil
}

// Link puts a symbolic link at path, whose directory's symbolic links are
// followed. What is there is replaced unless it is a directory.
func (s *System) Link(p, target string) error {
	return s.replace(p, func(dir *tree.Inode, name string) error {
		if old := dir.Child(name); old != nil && old.IsDir() {
			return errors.New("is a directory")
		}
		l := tree.NewLink(target)
		l.Mtime = s.time
		dir.Set(name, l)
		return nil
	})
}

// Remove removes the file or symbolic link at path, which is not followed. It
// reports whether there was one.
func (s *System) Remove(p string) (removed bool, err error) {
	err = s.replace(p, func(dir *tree.Inode, name string) error {
		old := dir.Child(name)
		if old != nil && old.IsDir() {
			return errors.New("is a directory")
		}
		removed = old != nil
		dir.Remove(name)
		return nil
	})
	return removed, err
}

// replace calls change with the directory of path and the last component.
func (s *System) replace(p string, change func(dir *tree.Inode, name string) error) error {
	p = path.Join("/", p)
	real, err := s.RealPath(path.Dir(p))
	if err != nil {
		return err
	}
	dir, name, err := s.parent(path.Join(real, path.Base(p)))
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	if err := change(dir, name); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

// parent returns the directory of a path without symbolic links, which it makes
// where it is missing.
func (s *System) parent(real string) (dir *tree.Inode, name string, err error) {
	if !strings.HasPrefix(real, "/etc/") && !strings.HasPrefix(real, "/var/") {
		return nil, "", ErrReadOnly
	}
	dir = s.root
	names := strings.Split(real[1:], "/")
	for k, n := range names {
		if !tree.ValidName(n) { // from a setting of the image
			return nil, "", fmt.Errorf("%q: no file can have this name", "/"+path.Join(names[:k+1]...))
		}
	}
	for k, n := range names[:len(names)-1] {
		next := dir.Child(n)
		if next == nil {
			next = tree.NewDir(0o755)
			next.Mtime = s.time
			dir.Set(n, next)
		}
		if !next.IsDir() {
			return nil, "", fmt.Errorf("/%s: not a directory", path.Join(names[:k+1]...))
		}
		dir = next
	}
	return dir, names[len(names)-1], nil
}

// maxLinks is the number of symbolic links followed in one path, as Linux has it.
const maxLinks = 40

// RealPath returns the path without symbolic links, the last component's
// included, that path stands for. Components that do not exist are kept as they
// are.
func (s *System) RealPath(p string) (string, error) {
	type step struct {
		inode *tree.Inode // nil: does not exist
		name  string
	}
	at := []step{{inode: s.root}}
	todo := strings.Split(p, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		dir := at[len(at)-1].inode
		if dir == nil {
			at = append(at, step{nil, name})
			continue
		}
		if !dir.IsDir() {
			return "", &fs.PathError{Op: "resolve", Path: p, Err: fmt.Errorf("%s: not a directory", at[len(at)-1].name)}
		}
		i := dir.Child(name)
		if i == nil || !i.IsLink() {
			at = append(at, step{i, name})
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: p, Err: errors.New("too many symbolic links")}
		}
		if strings.HasPrefix(i.Target, "/") {
			at = at[:1]
		}
		todo = append(strings.Split(i.Target, "/"), todo...)
	}
	real := "/"
	for _, a := range at[1:] {
		real = path.Join(real, a.name)
	}
	return real, nil
}
