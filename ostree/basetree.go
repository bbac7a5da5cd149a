package ostree

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"imgbuild/tree"
)

// maxBasePaths bounds the paths of a commit. Directories with equal content are
// one object, so that a handful of objects can stand for any number of paths.
const maxBasePaths = 4 << 20

// baseDir is a dirtree object of a base, and what is below it.
type baseDir struct {
	DirTree
	paths  int // of everything below, counted as often as it is there
	height int // of the directories below
}

// metadata reads and verifies the dirtree and dirmeta objects that the commit
// refers to, and notes which files it needs.
func (im *baseImporter) metadata() error {
	im.trees = make(map[tree.Sum]*baseDir)
	im.metas = make(map[tree.Sum]*DirMeta)
	im.needed = make(map[tree.Sum]string)
	c := im.parsed
	if err := im.loadMeta(c.Meta, "/"); err != nil {
		return err
	}
	if _, err := im.loadTree(c.Contents, "/", 0); err != nil {
		return err
	}
	for name := range im.layers[0].objects {
		if _, ok := im.objects[name]; !ok {
			return im.extra()
		}
	}
	return nil
}

// extra names the first of the metadata objects that belong to nothing.
func (im *baseImporter) extra() error {
	var least objectName
	for name := range im.layers[0].objects {
		if _, ok := im.objects[name]; !ok && (least.typ == "" || name.String() < least.String()) {
			least = name
		}
	}
	return objectError(least, errors.New("is not part of the commit"))
}

// loadMeta reads the dirmeta object of the directory at path.
func (im *baseImporter) loadMeta(sum tree.Sum, path string) error {
	if im.metas[sum] != nil {
		return nil
	}
	name := objectName{sum, typeDirMeta}
	b, err := im.load(name)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	m, err := ParseDirMeta(b)
	if err != nil {
		return fmt.Errorf("%s: %w", path, objectError(name, err))
	}
	im.metas[sum] = m
	return nil
}

// loadTree reads the dirtree object of the directory at path, and all below it.
func (im *baseImporter) loadTree(sum tree.Sum, path string, depth int) (*baseDir, error) {
	if d := im.trees[sum]; d != nil {
		return d, nil
	}
	if depth > maxDepth {
		return nil, badImage("%s: %w", clip(path), errDepth)
	}
	name := objectName{sum, typeDirTree}
	b, err := im.load(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", clip(path), err)
	}
	parsed, err := ParseDirTree(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", clip(path), objectError(name, err))
	}
	d := &baseDir{DirTree: *parsed, paths: len(parsed.Files)}
	if err := d.checkNames(); err != nil {
		return nil, fmt.Errorf("%s: %w", clip(path), objectError(name, err))
	}
	for k := range d.Files {
		f := &d.Files[k]
		if _, ok := im.needed[f.File]; !ok {
			im.needed[f.File] = join(path, f.Name)
		}
	}
	for k := range d.Dirs {
		s := &d.Dirs[k]
		below := join(path, s.Name)
		if err := im.loadMeta(s.Meta, below); err != nil {
			return nil, err
		}
		sub, err := im.loadTree(s.Contents, below, depth+1)
		if err != nil {
			return nil, err
		}
		d.height = max(d.height, sub.height+1)
		// Neither can overflow: both are bounded here, for each directory.
		if d.paths += 1 + sub.paths; d.paths > maxBasePaths || d.height > maxDepth {
			return nil, badImage("%s: more than %d paths below, or directories nested too deeply", clip(path), maxBasePaths)
		}
	}
	im.trees[sum] = d
	return d, nil
}

// checkNames refuses what no directory on disk can have.
func (d *DirTree) checkNames() error {
	files := make(map[string]struct{}, len(d.Files))
	for _, f := range d.Files {
		if !utf8.ValidString(f.Name) {
			return fmt.Errorf("the name %q is not UTF-8", f.Name)
		}
		files[f.Name] = struct{}{}
	}
	for _, s := range d.Dirs {
		if !utf8.ValidString(s.Name) {
			return fmt.Errorf("the name %q is not UTF-8", s.Name)
		}
		if _, ok := files[s.Name]; ok {
			return fmt.Errorf("%q is both a file and a directory", s.Name)
		}
	}
	return nil
}

// tree returns the tree of the commit, all of which was verified.
func (im *baseImporter) tree() *tree.Inode {
	return im.dir(im.parsed.Contents, im.parsed.Meta)
}

func (im *baseImporter) dir(contents, meta tree.Sum) *tree.Inode {
	m := im.metas[meta]
	dir := tree.NewDir(m.Mode)
	dir.UID, dir.GID, dir.Xattrs = m.UID, m.GID, m.Xattrs
	d := im.trees[contents]
	for _, f := range d.Files {
		dir.Set(f.Name, im.files[f.File])
	}
	for _, s := range d.Dirs {
		dir.Set(s.Name, im.dir(s.Contents, s.Meta))
	}
	return dir
}

// checkDetached tells what is wrong with detached metadata, a variant a{sv}.
func checkDetached(b []byte) error {
	metadata, err := parseMetadata(b)
	if err != nil {
		return err
	}
	var e encoder
	e.metadata(metadata)
	return normal("metadata", b, e.buf)
}
