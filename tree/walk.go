package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Walk calls fn for root (path "/") and everything below it, directories before
// their entries, entries in ascending order of their names. A directory that fn
// answers with fs.SkipDir is not entered. A hard link is met once a name.
func Walk(root *Inode, fn func(path string, i *Inode) error) error {
	err := walk("/", root, fn)
	if errors.Is(err, fs.SkipDir) {
		return nil
	}
	return err
}

func walk(p string, i *Inode, fn func(string, *Inode) error) error {
	if err := fn(p, i); err != nil || !i.IsDir() {
		return err
	}
	if p != "/" {
		p += "/"
	}
	for _, e := range i.Entries() {
		if err := walk(p+e.Name, e.Inode, fn); err != nil && (!errors.Is(err, fs.SkipDir) || !e.Inode.IsDir()) {
			return err
		}
	}
	return nil
}

// Lookup returns what is at the path below root, without following symbolic
// links, or nil. Leading slashes are ignored; "" and "/" are root itself.
func Lookup(root *Inode, p string) *Inode {
	i := root
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." {
			continue
		}
		if i = i.Child(name); i == nil {
			return nil
		}
	}
	return i
}

// maxLinks is the number of symbolic links followed in one path, as Linux has it.
const maxLinks = 40

// Resolve returns what is at the path below root, following symbolic links as a
// process in a chroot of root would, the last component included. The error
// wraps fs.ErrNotExist where a component is missing.
func Resolve(root *Inode, p string) (*Inode, error) {
	stack := []*Inode{root}
	todo := strings.Split(p, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		// "file/", "file/." and "file/.." are no paths either.
		if !stack[len(stack)-1].IsDir() {
			return nil, &fs.PathError{Op: "resolve", Path: p, Err: fs.ErrNotExist}
		}
		switch name {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		i := stack[len(stack)-1].Child(name)
		if i == nil {
			return nil, &fs.PathError{Op: "resolve", Path: p, Err: fs.ErrNotExist}
		}
		if !i.IsLink() {
			stack = append(stack, i)
			continue
		}
		if links++; links > maxLinks {
			return nil, &fs.PathError{Op: "resolve", Path: p, Err: errors.New("too many symbolic links")}
		}
		if strings.HasPrefix(i.Target, "/") {
			stack = stack[:1]
		}
		todo = append(strings.Split(i.Target, "/"), todo...)
	}
	return stack[len(stack)-1], nil
}

// ReadFile returns the content of the regular file at path, following symbolic
// links. A file larger than limit is an error. The error wraps fs.ErrNotExist
// where there is no such file.
func ReadFile(root *Inode, p string, limit int64) ([]byte, error) {
	i, err := Resolve(root, p)
	if err != nil {
		return nil, err
	}
	if !i.IsFile() {
		return nil, &fs.PathError{Op: "read", Path: p, Err: errors.New("not a regular file")}
	}
	b, err := i.Content.ReadAll(limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p, err)
	}
	return b, nil
}

// MkdirAll returns the directory at the path below root, which it makes, with
// its parents, as 0755 directories owned by root where they are missing. It is
// an error when something else is in the way. Symbolic links are not followed.
func MkdirAll(root *Inode, p string) (*Inode, error) {
	i := root
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." {
			continue
		}
		next := i.Child(name)
		if next == nil {
			if !ValidName(name) {
				return nil, &fs.PathError{Op: "mkdir", Path: p, Err: fs.ErrInvalid}
			}
			next = NewDir(0o755)
			next.Mtime = i.Mtime
			i.Set(name, next)
		}
		if !next.IsDir() {
			return nil, &fs.PathError{Op: "mkdir", Path: p, Err: fmt.Errorf("%s is not a directory", name)}
		}
		i = next
	}
	return i, nil
}

// Put puts the inode at the path below root, in place of what is there, and
// makes missing parents as [MkdirAll] does.
func Put(root *Inode, p string, i *Inode) error {
	p = strings.TrimRight(p, "/")
	dir, err := MkdirAll(root, path.Dir(p))
	if err != nil {
		return err
	}
	name := path.Base(p)
	if !ValidName(name) {
		return &fs.PathError{Op: "put", Path: p, Err: fs.ErrInvalid}
	}
	dir.Set(name, i)
	return nil
}
