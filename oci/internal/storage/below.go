package storage

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// maxHops is how many symbolic links are followed, that of Linux.
const maxHops = 40

// openBelow opens a regular file by its name in a tar. Symbolic links on the way
// mean what they mean to a process that has the layer as its root, which is how
// the layer was unpacked; nothing outside of it is ever opened.
func openBelow(root *os.Root, name string) (*os.File, error) {
	name = cleanName(name)
	f, err := openFile(root, name)
	if err == nil || errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	resolved, rerr := resolve(root, name)
	if rerr != nil || resolved == name {
		return nil, err
	}
	return openFile(root, resolved)
}

// openFile opens a regular file. Links that leave the root are an error.
func openFile(root *os.Root, name string) (*os.File, error) {
	fi, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	// Anything but a file, a FIFO above all, would block or never end.
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return root.Open(name)
}

// cleanName is a name of a tar, relative to its root.
func cleanName(name string) string {
	return filepath.FromSlash(strings.TrimPrefix(path.Clean("/"+name), "/"))
}

// resolve follows the symbolic links among the directories of a path, each link
// being read from the root that it was unpacked below.
func resolve(root *os.Root, name string) (string, error) {
	done := ""
	rest := strings.Split(filepath.ToSlash(name), "/")
	for hops := 0; len(rest) > 1; { // the last part is the file
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir("/" + done)[1:]
			continue
		}
		at := path.Join(done, part)
		fi, err := root.Lstat(filepath.FromSlash(at))
		if err != nil {
			return "", err
		}
		if fi.Mode().Type() != fs.ModeSymlink {
			done = at
			continue
		}
		if hops++; hops > maxHops {
			return "", errors.New("too many symbolic links")
		}
		to, err := root.Readlink(filepath.FromSlash(at))
		if err != nil {
			return "", err
		}
		to = filepath.ToSlash(to)
		if strings.HasPrefix(to, "/") {
			done = ""
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return filepath.FromSlash(path.Join(done, rest[0])), nil
}
