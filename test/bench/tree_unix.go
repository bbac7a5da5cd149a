//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"imgbuild/content"
	"imgbuild/tree"
)

// readTree returns the tree of a directory, with the metadata that the programs
// read: they ask for extended attributes as well. Content stays in the files.
func readTree(dir string) (*tree.Inode, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	r := &treeReader{links: map[uint64]*tree.Inode{}}
	return r.read(dir, info)
}

type treeReader struct {
	links map[uint64]*tree.Inode // by number, of files with several names
}

func (r *treeReader) read(path string, info fs.FileInfo) (*tree.Inode, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("%s: without an inode", path)
	}
	var i *tree.Inode
	switch {
	case info.IsDir():
		i = tree.NewDir(uint32(st.Mode))
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			below, err := e.Info()
			if err != nil {
				return nil, err
			}
			child, err := r.read(filepath.Join(path, e.Name()), below)
			if err != nil {
				return nil, err
			}
			i.Set(e.Name(), child)
		}
	case info.Mode().IsRegular():
		if i = r.links[uint64(st.Ino)]; i != nil {
			return i, nil
		}
		i = tree.NewFile(uint32(st.Mode), content.NewRef(fileContent(path), 0, st.Size))
		if st.Nlink > 1 {
			r.links[uint64(st.Ino)] = i
		}
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return nil, err
		}
		i = tree.NewLink(target)
	default:
		return nil, fmt.Errorf("%s: not a file, link or directory", path)
	}
	i.UID, i.GID, i.Mtime = st.Uid, st.Gid, info.ModTime().Unix()
	if n, err := unix.Llistxattr(path, nil); err != nil || n > 0 {
		return nil, fmt.Errorf("%s: extended attributes, or %v", path, err)
	}
	return i, nil
}

// ownTime returns the time of the processor that this process has used: the
// machine may be busy.
func ownTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fileContent is the content of the file at a path.
type fileContent string

// ReadAt implements content.Source.
func (name fileContent) ReadAt(p []byte, off int64) (int, error) {
	f, err := os.Open(string(name))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(p, off)
}
