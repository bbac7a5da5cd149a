package ostree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// Repo is a repository in memory: a set of objects and the refs to them. Equal
// objects are held once.
type Repo struct {
	files   map[tree.Sum]*tree.Inode
	objects map[objectName][]byte // dirtree, dirmeta and commit
	refs    map[string]tree.Sum
}

type objectName struct {
	sum tree.Sum
	typ objectType
}

// NewRepo returns an empty repository.
func NewRepo() *Repo {
	return &Repo{
		files:   make(map[tree.Sum]*tree.Inode),
		objects: make(map[objectName][]byte),
		refs:    make(map[string]tree.Sum),
	}
}

// File returns the inode of a file object, with the mtime 0, or nil. Everything
// checked out of the repository is a hard link to it; it must not be modified.
func (r *Repo) File(sum tree.Sum) *tree.Inode { return r.files[sum] }

// DirTree returns the serialized dirtree object, or nil.
func (r *Repo) DirTree(sum tree.Sum) []byte { return r.objects[objectName{sum, typeDirTree}] }

// DirMeta returns the serialized dirmeta object, or nil.
func (r *Repo) DirMeta(sum tree.Sum) []byte { return r.objects[objectName{sum, typeDirMeta}] }

// Commit returns the serialized commit object, or nil.
func (r *Repo) Commit(sum tree.Sum) []byte { return r.objects[objectName{sum, typeCommit}] }

// CommitMeta returns the detached metadata of a commit, a serialized a{sv}, or
// nil.
func (r *Repo) CommitMeta(sum tree.Sum) []byte { return r.objects[objectName{sum, typeCommitMeta}] }

// Files returns the number of file objects.
func (r *Repo) Files() int { return len(r.files) }

// RegularFiles returns the file objects that are regular files, ascending by
// checksum. They must not be modified.
func (r *Repo) RegularFiles() []*tree.Inode {
	list := make([]*tree.Inode, 0, len(r.files))
	for _, i := range r.files {
		if i.IsFile() {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b *tree.Inode) int { return bytes.Compare(a.Object[:], b.Object[:]) })
	return list
}

// maxDepth bounds the nesting of directories: a path of PATH_MAX bytes cannot
// have more components.
const maxDepth = 2048

var errDepth = errors.New("directories are nested too deeply")

// AddTree adds the file, dirtree and dirmeta objects of a directory and returns
// the checksums of its dirtree and dirmeta. Every regular file and symbolic
// link must have its Object (see [Checksum]), and nothing else is allowed
// beside directories. The inode of the first file with a checksum becomes, with
// its mtime set to zero, the object.
func (r *Repo) AddTree(root *tree.Inode) (contents, meta tree.Sum, err error) {
	if !root.IsDir() {
		return contents, meta, errors.New("add tree: the root is not a directory")
	}
	return r.addDir("/", root, 0)
}

func (r *Repo) addDir(path string, dir *tree.Inode, depth int) (contents, meta tree.Sum, err error) {
	if depth > maxDepth {
		return contents, meta, badImage("%s: %w", path, errDepth)
	}
	entries := dir.Entries()
	dirs := 0
	for _, e := range entries {
		if e.Inode.IsDir() {
			dirs++
		}
	}
	d := DirTree{Files: make([]DirFile, 0, len(entries)-dirs), Dirs: make([]DirDir, 0, dirs)}
	for _, e := range entries {
		if !utf8.ValidString(e.Name) {
			return contents, meta, badImage("%s: %q is not UTF-8", path, e.Name)
		}
		if !e.Inode.IsDir() {
			if err := r.addFile(e.Inode); err != nil {
				return contents, meta, fmt.Errorf("%s: %w", join(path, e.Name), err)
			}
			d.Files = append(d.Files, DirFile{e.Name, e.Inode.Object})
			continue
		}
		sub := DirDir{Name: e.Name}
		if sub.Contents, sub.Meta, err = r.addDir(join(path, e.Name), e.Inode, depth+1); err != nil {
			return contents, meta, err
		}
		d.Dirs = append(d.Dirs, sub)
	}
	if err := checkXattrs(dir.Xattrs); err != nil {
		return contents, meta, badImage("%s: %w", path, err)
	}
	m := DirMeta{dir.UID, dir.GID, dir.Mode, dir.Xattrs}
	if contents, err = r.addObject(typeDirTree, d.Encode()); err == nil {
		meta, err = r.addObject(typeDirMeta, m.Encode())
	}
	if err != nil {
		return contents, meta, fmt.Errorf("%s: %w", path, err)
	}
	return contents, meta, nil
}

func (r *Repo) addFile(i *tree.Inode) error {
	if !i.IsFile() && !i.IsLink() {
		return badImage("%w", unsupportedType(i))
	}
	if i.Object == (tree.Sum{}) {
		return errors.New("object checksum is not known")
	}
	if _, ok := r.files[i.Object]; ok {
		return nil
	}
	if err := checkXattrs(i.Xattrs); err != nil {
		return badImage("%w", err)
	}
	object := i.Copy()
	object.Mtime = 0
	object.Flags = 0
	r.files[i.Object] = object
	return nil
}

func (r *Repo) addObject(typ objectType, b []byte) (tree.Sum, error) {
	if len(b) > maxMetadata {
		return tree.Sum{}, badImage("%s object of %d bytes, and libostree reads no more than %d", typ[1:], len(b), maxMetadata)
	}
	sum := tree.Sum(sha256.Sum256(b))
	name := objectName{sum, typ}
	if _, ok := r.objects[name]; !ok {
		r.objects[name] = b
	}
	return sum, nil
}

// AddCommit adds a commit, whose tree and parent must be there, and returns its
// checksum.
func (r *Repo) AddCommit(c *Commit) (tree.Sum, error) {
	switch {
	case r.DirTree(c.Contents) == nil:
		return tree.Sum{}, fmt.Errorf("add commit: dirtree %s is missing", Hex(c.Contents))
	case r.DirMeta(c.Meta) == nil:
		return tree.Sum{}, fmt.Errorf("add commit: dirmeta %s is missing", Hex(c.Meta))
	case c.Parent != tree.Sum{} && r.Commit(c.Parent) == nil:
		return tree.Sum{}, fmt.Errorf("add commit: parent %s is missing", Hex(c.Parent))
	}
	b := c.Encode()
	// Reading it back finds what cannot be expressed: a NUL in a string, an
	// empty key.
	if _, err := ParseCommit(b); err != nil {
		return tree.Sum{}, fmt.Errorf("add commit: %w", err)
	}
	sum, err := r.addObject(typeCommit, b)
	if err != nil {
		return tree.Sum{}, fmt.Errorf("add commit: %w", err)
	}
	return sum, nil
}

// Config is what varies in the config of a repository. The zero value is that
// of `bootc install`.
type Config struct {
	// Bootloader is none, grub2, zipl or aboot: who writes the boot loader's
	// configuration on upgrades. Empty is none, where BLS entries do.
	Bootloader string
	// BLSAppendExceptDefault is sysroot.bls-append-except-default, or empty.
	BLSAppendExceptDefault string
	// FSVerity says that the objects have fs-verity enabled.
	FSVerity bool
}

// String returns the file, with the groups and keys in the order in which bootc
// sets them.
func (c Config) String() string {
	bootloader := c.Bootloader
	if bootloader == "" {
		bootloader = "none"
	}
	s := "[core]\nrepo_version=1\nmode=bare\n\n[sysroot]\n" +
		"bootloader=" + bootloader + "\nbootprefix=true\nreadonly=true\n"
	if c.BLSAppendExceptDefault != "" {
		s += "bls-append-except-default=" + keyfileValue(c.BLSAppendExceptDefault) + "\n"
	}
	if c.FSVerity {
		s += "\n[ex-integrity]\nfsverity=true\n"
	}
	return s
}

func (c Config) check() error {
	switch c.Bootloader {
	case "", "none", "grub2", "zipl", "aboot":
	default:
		return fault.New(fault.Usage, fmt.Errorf("unknown boot loader %q in the repository config", c.Bootloader), "use none, grub2, zipl or aboot")
	}
	if !utf8.ValidString(c.BLSAppendExceptDefault) {
		return fault.New(fault.Usage, errors.New("bls-append-except-default is not UTF-8"), "")
	}
	return nil
}

// Tree returns the directory ostree/repo. What is not a file object has the
// given mtime, in seconds since 1970.
func (r *Repo) Tree(config Config, time int64) (*tree.Inode, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	root := newDir(0o755, time)
	root.Set("config", newFile(0o644, config.String(), time))
	root.Set(".lock", newFile(0o640, "", time)) // as made under umask 022
	root.Set("objects", r.objectDir(time))
	root.Set("extensions", newDir(0o755, time))
	root.Set("state", newDir(0o755, time))
	tmp := newDir(0o755, time)
	tmp.Set("cache", newDir(0o755, time))
	root.Set("tmp", tmp)
	refs, err := r.refDir(time)
	if err != nil {
		return nil, err
	}
	root.Set("refs", refs)
	return root, nil
}

// objectDir returns the directory objects: two digits of the checksum, then the
// other 62.
func (r *Repo) objectDir(time int64) *tree.Inode {
	objects := newDir(0o755, time)
	var fan [256]*tree.Inode
	set := func(sum tree.Sum, typ objectType, i *tree.Inode) {
		name := Hex(sum) + string(typ)
		dir := fan[sum[0]]
		if dir == nil {
			dir = newDir(0o755, time)
			fan[sum[0]] = dir
			objects.Set(name[:2], dir)
		}
		dir.Set(name[2:], i)
	}
	for sum, i := range r.files {
		set(sum, typeFile, i)
	}
	for name, b := range r.objects {
		i := tree.NewFile(0o644, content.Bytes(b))
		i.Mtime = time
		set(name.sum, name.typ, i)
	}
	return objects
}

func newDir(perm uint32, time int64) *tree.Inode {
	i := tree.NewDir(perm)
	i.Mtime = time
	return i
}

func newFile(perm uint32, text string, time int64) *tree.Inode {
	i := tree.NewFile(perm, content.String(text))
	i.Mtime = time
	return i
}

func newLink(target string, time int64) *tree.Inode {
	i := tree.NewLink(target)
	i.Mtime = time
	return i
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}

// badImage returns an error of the class fault.BadImage.
func badImage(format string, args ...any) error {
	return fault.New(fault.BadImage, fmt.Errorf(format, args...), "")
}

func unsupportedType(i *tree.Inode) error {
	what := "unknown file type"
	switch i.Type() {
	case tree.TypeChar:
		what = "character device"
	case tree.TypeBlock:
		what = "block device"
	case tree.TypeFIFO:
		what = "fifo"
	case tree.TypeSock:
		what = "socket"
	}
	return fmt.Errorf("a %s, which ostree cannot store", what)
}
