package main

import (
	"archive/tar"
	"context"
	"fmt"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"imgbuild/test/debian"
)

// node is a file of any type; typ is one of the types of archive/tar.
type node struct {
	typ      byte
	mode     uint32 // permissions
	uid, gid int
	mtime    int64             // seconds since 1970
	link     string            // target; of a hard link the path of the other name
	data     []byte            // of a regular file
	xattrs   map[string]string // full name to value
}

// rootfs is a file tree: nodes by their path, without a leading slash.
type rootfs map[string]*node

// readPackages unpacks .deb files into one tree. Later ones win.
func readPackages(ctx context.Context, debs []string, keep func(string) bool) (rootfs, error) {
	parts := make([][]debian.Entry, len(debs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range debs {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return debian.ReadFile(name, keep, func(e debian.Entry) error {
				if e.Type == tar.TypeDir || keep(e.Path) {
					parts[i] = append(parts[i], e)
				}
				return nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	root := make(rootfs)
	for _, entries := range parts {
		for _, e := range entries {
			if old := root[e.Path]; old != nil && old.typ != e.Type {
				return nil, fmt.Errorf("%s is of two types in different packages", e.Path)
			}
			root[e.Path] = &node{typ: e.Type, mode: e.Mode, uid: e.UID, gid: e.GID, mtime: e.Mtime, link: e.Link, data: e.Content}
		}
	}
	return root, nil
}

// newest returns the latest modification time in the tree.
func (r rootfs) newest() int64 {
	t := int64(0)
	for _, n := range r {
		t = max(t, n.mtime)
	}
	return t
}

// paths returns all paths, ascending, so that directories come before what is
// in them.
func (r rootfs) paths() []string { return slices.Sorted(maps.Keys(r)) }

// put adds a node, with the directories above it that are missing.
func (r rootfs) put(name string, n *node) *node {
	for dir := path.Dir(name); dir != "." && r[dir] == nil; dir = path.Dir(dir) {
		r[dir] = &node{typ: tar.TypeDir, mode: 0o755}
	}
	r[name] = n
	return n
}

func (r rootfs) file(name string, mode uint32, data []byte) *node {
	return r.put(name, &node{typ: tar.TypeReg, mode: mode, data: data})
}

func (r rootfs) text(name, data string) *node { return r.file(name, 0o644, []byte(data)) }

func (r rootfs) dir(name string, mode uint32) *node {
	return r.put(name, &node{typ: tar.TypeDir, mode: mode})
}

func (r rootfs) symlink(name, target string) *node {
	return r.put(name, &node{typ: tar.TypeSymlink, mode: 0o777, link: target})
}

// remove deletes the path and everything below it.
func (r rootfs) remove(name string) {
	for p := range r {
		if under(p, name) {
			delete(r, p)
		}
	}
}

// removeIf deletes what is not a directory and fits.
func (r rootfs) removeIf(match func(p string, n *node) bool) {
	for p, n := range r {
		if n.typ != tar.TypeDir && match(p, n) {
			delete(r, p)
		}
	}
}

// prune deletes the directories below dir that hold nothing.
func (r rootfs) prune(dir string) {
	used := make(map[string]bool)
	for p, n := range r {
		if n.typ != tar.TypeDir {
			for d := path.Dir(p); d != "."; d = path.Dir(d) {
				used[d] = true
			}
		}
	}
	for p, n := range r {
		if n.typ == tar.TypeDir && p != dir && under(p, dir) && !used[p] {
			delete(r, p)
		}
	}
}

// regular returns the content of a file, through symbolic links.
func (r rootfs) regular(name string) ([]byte, error) {
	real, ok := r.resolve(name)
	if n := r[real]; ok && n.typ == tar.TypeReg {
		return n.data, nil
	}
	return nil, fmt.Errorf("no file %s", name)
}

// maxLinks is the number of symbolic links that Linux follows in one path.
const maxLinks = 40

// resolve follows the symbolic links of a path within the tree.
func (r rootfs) resolve(name string) (real string, ok bool) {
	rest := strings.Split(path.Clean("/" + name)[1:], "/")
	done, links := "", 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		p := path.Join(done, part)
		n := r[p]
		if n == nil {
			return "", false
		}
		if n.typ != tar.TypeSymlink {
			done = p
			continue
		}
		if links++; links > maxLinks {
			return "", false
		}
		target := n.link
		if !path.IsAbs(target) {
			target = path.Join("/", done, target)
		}
		rest = append(strings.Split(path.Clean(target)[1:], "/"), rest...)
		done = ""
	}
	return done, done != ""
}

// under tells whether p is dir or below it.
func under(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}

// underAny tells whether p is one of dirs or below one.
func underAny(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return under(p, d) })
}
