package bootc

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"imgbuild/tree"
)

// maxConfig is the size in bytes above which a configuration file is refused.
// Real ones have a few hundred.
const maxConfig = 256 << 10

// file returns the regular file at a path, following symbolic links, or nil
// where there is none.
func (r *reader) file(p string) (*tree.Inode, error) {
	i, err := tree.Resolve(r.root, p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, bad(err, "")
	case !i.IsFile():
		return nil, bad(fmt.Errorf("%s is not a regular file", p), "")
	}
	return i, nil
}

// text returns the content of a configuration file, which must be UTF-8.
func text(i *tree.Inode, p string) (string, error) {
	if n := i.Content.Size(); n > maxConfig {
		return "", bad(fmt.Errorf("%s has %d bytes, more than the %d allowed", p, n, maxConfig), "")
	}
	b, err := i.Content.ReadAll(maxConfig)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", p, err)
	}
	if !utf8.Valid(b) {
		return "", bad(fmt.Errorf("%s is not UTF-8", p), "")
	}
	return string(b), nil
}

// firstText returns the content and the path of the first of the files that
// exists; the path is "" where none does.
func (r *reader) firstText(paths ...string) (content, p string, err error) {
	for _, p := range paths {
		i, err := r.file(p)
		if err != nil {
			return "", "", err
		}
		if i != nil {
			content, err = text(i, p)
			return content, p, err
		}
	}
	return "", "", nil
}

// entries returns the entries of the directory at a path, following symbolic
// links, or none where there is no such directory.
func (r *reader) entries(p string) ([]tree.Entry, error) {
	i, err := tree.Resolve(r.root, p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, bad(err, "")
	case !i.IsDir():
		return nil, bad(fmt.Errorf("%s is not a directory", p), "")
	}
	return i.Entries(), nil
}

// extension returns what follows the last dot of a name. As in Rust, a name
// that only begins with a dot has none.
func extension(name string) string {
	if strings.LastIndexByte(name, '.') <= 0 {
		return ""
	}
	return path.Ext(name)[1:]
}
