package ostree

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"imgbuild/fault"
	"imgbuild/tree"
)

// xattrSELinux is the label, recomputed for every file of an image with a
// policy.
const xattrSELinux = "security.selinux"

// ImportOptions vary the import of a layer.
type ImportOptions struct {
	// KeepTopLevel keeps what is neither below /usr, /etc nor /var: for images
	// without an encapsulated base, and for those whose base has composefs or
	// a transient root enabled.
	KeepTopLevel bool
	// StripSELinux removes labels that the layer brings: ostree-ext computes
	// all of them anew from the policy of the merged tree.
	StripSELinux bool
}

// ImportLayer returns the tree that ostree-ext commits for a layer on top of the
// base: /etc becomes /usr/etc, the contents of /run, /tmp, /proc, /sys and /dev
// and of /sysroot/ostree/repo are dropped, and so are xattrs without a value,
// which libostree cannot keep. Whiteouts are ordinary files here and stay.
//
// The layer is the tree of one tar, hard links resolved. Its files are shared
// with the result, its directories are not. dropped tells for each top-level
// directory how many entries were left out, as "name (count)", in ascending
// order. Names that are not UTF-8, and devices, fifos and sockets, are errors
// of the class fault.BadImage, as they stop bootc.
func ImportLayer(layer *tree.Inode, opt ImportOptions) (imported *tree.Inode, dropped []string, err error) {
	if !layer.IsDir() {
		return nil, nil, fmt.Errorf("import layer: the root is not a directory")
	}
	im := importer{opt: opt, stripped: make(map[*tree.Inode]*tree.Inode)}
	root := layer.Copy()
	im.strip(root)
	for _, e := range layer.Entries() {
		if err := im.topLevel(root, e); err != nil {
			return nil, nil, err
		}
	}
	if etc := layer.Child("etc"); etc != nil {
		if err := im.moveEtc(root, etc); err != nil {
			return nil, nil, err
		}
	}
	return root, im.dropped, nil
}

type importer struct {
	opt      ImportOptions
	stripped map[*tree.Inode]*tree.Inode // files that lost an xattr
	dropped  []string
}

// topLevel imports an entry of the root, except for etc.
func (im *importer) topLevel(root *tree.Inode, e tree.Entry) error {
	path := "/" + e.Name
	if err := checkName("/", e.Name); err != nil {
		return err
	}
	switch e.Name {
	case "etc":
		return nil
	case "usr", "var":
	case "run", "tmp", "proc", "sys", "dev":
		// The mount point stays; what was left in it does not.
		if e.Inode.IsDir() {
			if err := im.drop(path, e.Inode, 0); err != nil {
				return err
			}
			dir := e.Inode.Copy()
			im.strip(dir)
			root.Set(e.Name, dir)
			return nil
		}
	default:
		if !im.opt.KeepTopLevel {
			return im.drop(path, e.Inode, 1)
		}
	}
	i, err := im.file(path, e.Inode, 0)
	if err != nil {
		return err
	}
	root.Set(e.Name, i)
	return nil
}

// sysrootRepo is where an image made of an ostree commit has its objects. They
// are no content of their own: files elsewhere are hard links to them.
const sysrootRepo = "/sysroot/ostree/repo"

// file imports what is at path.
func (im *importer) file(path string, i *tree.Inode, depth int) (*tree.Inode, error) {
	switch i.Type() {
	case tree.TypeDir:
		return im.dir(path, i, depth)
	case tree.TypeFile:
	case tree.TypeLink:
		if !utf8.ValidString(i.Target) || strings.IndexByte(i.Target, 0) >= 0 {
			return nil, badImage("%s: link target %q is not UTF-8", path, i.Target)
		}
	default:
		return nil, fault.New(fault.BadImage, fmt.Errorf("%s: %w", path, unsupportedType(i)),
			"remove it in the container build; systemd-tmpfiles or udev create it at boot")
	}
	if err := checkXattrs(i.Xattrs); err != nil {
		return nil, badImage("%s: %w", path, err)
	}
	if !slices.ContainsFunc(i.Xattrs, im.unwanted) {
		return i, nil
	}
	c := im.stripped[i]
	if c == nil {
		c = i.Copy()
		im.strip(c)
		im.stripped[i] = c
	}
	return c, nil
}

func (im *importer) dir(path string, i *tree.Inode, depth int) (*tree.Inode, error) {
	if depth > maxDepth {
		return nil, badImage("%s: %w", path, errDepth)
	}
	if err := checkXattrs(i.Xattrs); err != nil {
		return nil, badImage("%s: %w", path, err)
	}
	dir := i.Copy()
	im.strip(dir)
	if path == sysrootRepo {
		return dir, im.drop(path, i, 0)
	}
	for _, e := range i.Entries() {
		if err := checkName(path, e.Name); err != nil {
			return nil, err
		}
		child, err := im.file(join(path, e.Name), e.Inode, depth+1)
		if err != nil {
			return nil, err
		}
		dir.Set(e.Name, child)
	}
	return dir, nil
}

// unwanted tells whether an xattr is left out: labels, if asked for, and what
// has an empty value. libostree reads the latter as missing from a file on disk
// (libglnx, glnx-xattrs.c), so that an object with one has another checksum than
// its name says.
func (im *importer) unwanted(x tree.Xattr) bool {
	return x.Value == "" || im.opt.StripSELinux && x.Name == xattrSELinux
}

// strip removes the unwanted xattrs of an inode that is not shared, and with
// them what is known of its checksum.
func (im *importer) strip(i *tree.Inode) {
	if n := len(i.Xattrs); n > 0 {
		if i.Xattrs = slices.DeleteFunc(i.Xattrs, im.unwanted); len(i.Xattrs) < n {
			i.Object = tree.Sum{}
		}
	}
}

// drop counts what is below path, and the entry itself if own is 1.
func (im *importer) drop(path string, i *tree.Inode, own int) error {
	n, err := count(path, i, 0)
	if err != nil {
		return err
	}
	if n += own; n > 0 {
		im.dropped = append(im.dropped, fmt.Sprintf("%s (%d)", path[1:], n))
	}
	return nil
}

// count returns the number of entries below i. Their names are checked, as
// ostree-ext reads all before it drops any.
func count(path string, i *tree.Inode, depth int) (int, error) {
	if depth > maxDepth {
		return 0, badImage("%s: %w", path, errDepth)
	}
	n := 0
	for _, e := range i.Entries() {
		if err := checkName(path, e.Name); err != nil {
			return 0, err
		}
		below, err := count(join(path, e.Name), e.Inode, depth+1)
		if err != nil {
			return 0, err
		}
		n += 1 + below
	}
	return n, nil
}

// moveEtc makes etc the directory usr/etc, merged with one that is there. Where
// a layer has both, what was in usr/etc wins, as it does in a tar in the order
// of names. Missing parents are created as libostree does, with the owner of
// the entry that needs them.
func (im *importer) moveEtc(root, etc *tree.Inode) error {
	moved, err := im.file("/etc", etc, 1)
	if err != nil {
		return err
	}
	usr := root.Child("usr")
	if usr == nil {
		usr = tree.NewDir(0o755)
		usr.UID, usr.GID, usr.Mtime = etc.UID, etc.GID, etc.Mtime
		root.Set("usr", usr)
	}
	if !usr.IsDir() {
		return badImage("/etc cannot become /usr/etc: /usr is not a directory")
	}
	if have := usr.Child("etc"); have != nil {
		return mergeEtc("/usr/etc", have, moved)
	}
	usr.Set("etc", moved)
	return nil
}

// mergeEtc adds to the directory have what only other has.
func mergeEtc(path string, have, other *tree.Inode) error {
	if have.IsDir() != other.IsDir() {
		return badImage("%s: a directory in one and a file in the other of /etc and /usr/etc", path)
	}
	for _, e := range other.Entries() {
		mine := have.Child(e.Name)
		if mine == nil {
			have.Set(e.Name, e.Inode)
			continue
		}
		if err := mergeEtc(join(path, e.Name), mine, e.Inode); err != nil {
			return err
		}
	}
	return nil
}

func checkName(dir, name string) error {
	if !utf8.ValidString(name) {
		return badImage("%s: %q is not UTF-8", dir, name)
	}
	return nil
}

// CheckEtc returns an error of the class fault.BadImage when the image made of
// the layers, as they are before [ImportLayer], has both a non-empty /etc and a
// /usr/etc. libostree refuses to deploy such a tree; ostree-ext would mix the
// two up.
func CheckEtc(layers ...*tree.Inode) error {
	pruned := make([]*tree.Inode, len(layers))
	for k, layer := range layers {
		root := prune(layer, "etc", "usr")
		if usr := root.Child("usr"); usr != nil && usr.IsDir() {
			root.Set("usr", prune(usr, "etc"))
		}
		pruned[k] = root
	}
	root, err := overlayAll(nil, pruned)
	if err != nil || root == nil {
		return err
	}
	if etc := root.Child("etc"); etc == nil || !etc.IsDir() || etc.Len() == 0 || tree.Lookup(root, "usr/etc") == nil {
		return nil
	}
	return fault.New(fault.BadImage, errEtc, "put the files into /etc and remove /usr/etc in the container build")
}

// prune returns a copy of a directory with the names and the whiteouts only.
func prune(dir *tree.Inode, names ...string) *tree.Inode {
	c := dir.Copy()
	for _, e := range dir.Entries() {
		if slices.Contains(names, e.Name) || strings.HasPrefix(e.Name, whiteoutPrefix) {
			c.Set(e.Name, e.Inode)
		}
	}
	return c
}
