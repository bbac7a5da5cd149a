package ostree

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"imgbuild/tree"
)

// Where the layers of an encapsulated commit keep its objects, and those of
// format version 0 the xattrs of files, called by the checksum of the variant.
const (
	baseObjects = sysrootRepo + "/objects"
	baseXattrs  = sysrootRepo + "/xattrs"
)

// Kinds of entries among the objects that are none themselves. Xattrs stand
// beside the file, as a tar cannot be relied on to keep them: a variant a(ayay)
// with the checksum of the file as its name.
const (
	sidecarV1       = ".file-xattrs-link" // a hard link to one of sidecarSharedV1, or a file
	sidecarSharedV1 = ".file-xattrs"      // named by its own checksum
	sidecarV0       = ".file.xattrs"      // a hard link into baseXattrs
)

// Sizes in bytes that ostree-ext allows in a layer.
const (
	maxTarMetadata = 10 << 20
	maxSidecar     = 1 << 20
)

var errMissing = errors.New("is missing")

// baseLayer is a layer of an encapsulated commit: its objects by their names,
// nothing of which is verified.
type baseLayer struct {
	files   []baseFile // ascending by checksum
	commits []tree.Sum
	objects map[objectName]*tree.Inode // dirtree, dirmeta, commit and commitmeta
	shared  bool                       // xattrs of several files may be one inode
}

// baseFile is a file object of a layer.
type baseFile struct {
	sum     tree.Sum
	inode   *tree.Inode // with the xattrs of the tar, which do not count
	sidecar *tree.Inode // nil without one
}

// indexLayer lists the objects in the tree of a layer. Only the first layer may
// have metadata. Everything but objects is left alone: the paths of the system,
// which are hard links to the objects, and what else is in a repository.
func indexLayer(root *tree.Inode, first bool) (*baseLayer, error) {
	l := &baseLayer{objects: make(map[objectName]*tree.Inode)}
	if err := l.checkShared(root); err != nil {
		return nil, err
	}
	objects := tree.Lookup(root, baseObjects)
	if objects == nil {
		return l, nil
	}
	if !objects.IsDir() {
		return nil, badImage("%s is not a directory", baseObjects)
	}
	for _, fan := range objects.Entries() {
		if !fan.Inode.IsDir() {
			return nil, badImage("%s/%s: not an object", baseObjects, clip(fan.Name))
		}
		if err := l.indexFan(fan, first); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// checkShared verifies the xattrs of format version 0 that are shared by files.
func (l *baseLayer) checkShared(root *tree.Inode) error {
	dir := tree.Lookup(root, baseXattrs)
	if dir == nil {
		return nil
	}
	l.shared = true
	for _, e := range dir.Entries() {
		if e.Inode.IsDir() {
			continue
		}
		path := baseXattrs + "/" + clip(e.Name)
		sum, err := parseHex(e.Name)
		if err != nil {
			return badImage("%s: %w", path, err)
		}
		if err := verifySidecar(path, e.Inode, sum); err != nil {
			return err
		}
	}
	return nil
}

// indexFan lists the objects whose checksums begin with the two digits that the
// directory is called.
func (l *baseLayer) indexFan(fan tree.Entry, first bool) error {
	dir := fan.Inode
	path := func(name string) string { return baseObjects + "/" + clip(fan.Name) + "/" + clip(name) }
	for _, e := range dir.Entries() {
		dot := strings.IndexByte(e.Name, '.')
		if dot < 0 || len(fan.Name) != 2 {
			return badImage("%s: not the name of an object", path(e.Name))
		}
		stem, kind := e.Name[:dot], e.Name[dot:]
		sum, err := parseHex(fan.Name + stem)
		if err != nil {
			return badImage("%s: not the name of an object", path(e.Name))
		}
		if !e.Inode.IsFile() && (kind != string(typeFile) || !e.Inode.IsLink()) {
			return badImage("object %s%s is not a regular file", Hex(sum), kind)
		}
		switch kind {
		case string(typeFile):
			f := baseFile{sum: sum, inode: e.Inode}
			for _, suffix := range []string{sidecarV1, sidecarV0} {
				s := dir.Child(stem + suffix)
				if s == nil {
					continue
				}
				if f.sidecar != nil {
					return badImage("object %s.file has xattrs in two formats, %s and %s", Hex(sum), sidecarV1, sidecarV0)
				}
				f.sidecar = s
			}
			l.files = append(l.files, f)
		case sidecarV1, sidecarV0:
			if dir.Child(stem+string(typeFile)) == nil {
				return badImage("object %s.file is missing, and its xattrs are there", Hex(sum))
			}
		case sidecarSharedV1:
			l.shared = true
			if err := verifySidecar("object "+Hex(sum)+kind, e.Inode, sum); err != nil {
				return err
			}
		case string(typeCommit), string(typeCommitMeta), string(typeDirTree), string(typeDirMeta):
			name := objectName{sum, objectType(kind)}
			if !first {
				return objectError(name, errors.New("is in a layer that may hold files only"))
			}
			if name.typ == typeCommit {
				l.commits = append(l.commits, sum)
			}
			l.objects[name] = e.Inode
		default:
			return badImage("%s: not a kind of object", path(e.Name))
		}
	}
	return nil
}

// verifySidecar compares the checksum of shared xattrs with their name.
func verifySidecar(what string, i *tree.Inode, want tree.Sum) error {
	b, err := readSidecar(i)
	if err != nil {
		return badImage("%s: %w", what, err)
	}
	if got := sumOf(b); got != want {
		return badImage("%s has the checksum %s", what, Hex(got))
	}
	return nil
}

func readSidecar(i *tree.Inode) ([]byte, error) {
	if !i.IsFile() {
		return nil, errors.New("not a regular file")
	}
	if size := i.Content.Size(); size > maxSidecar {
		return nil, fmt.Errorf("%d bytes of xattrs, more than %d", size, maxSidecar)
	}
	return i.Content.ReadAll(maxSidecar)
}

// xattrs returns the xattrs of a file object. Those that are the same are read,
// and kept, once.
func (im *baseImporter) xattrs(l *baseLayer, f baseFile) ([]tree.Xattr, error) {
	if f.sidecar == nil {
		return nil, nil
	}
	if x, ok := im.sidecarOf[f.sidecar]; ok {
		return x, nil
	}
	b, err := readSidecar(f.sidecar)
	if err != nil {
		return nil, fmt.Errorf("xattrs: %w", err)
	}
	x, ok := im.sidecars[string(b)]
	if !ok {
		if im.budget -= int64(len(b)); im.budget < 0 {
			return nil, fmt.Errorf("the metadata of the base has more than %d bytes", maxBaseMetadata)
		}
		if x, err = parseXattrs(b); err != nil {
			return nil, err
		}
		im.sidecars[string(b)] = x
	}
	if l.shared {
		im.sidecarOf[f.sidecar] = x
	}
	return x, nil
}

// parseHex reads a checksum as file names have it.
func parseHex(s string) (sum tree.Sum, err error) {
	if len(s) != 2*sizeSum || strings.ToLower(s) != s {
		return sum, errors.New("not a checksum")
	}
	if _, err := hex.Decode(sum[:], []byte(s)); err != nil {
		return sum, errors.New("not a checksum")
	}
	return sum, nil
}

func sumOf(b []byte) tree.Sum { return sha256.Sum256(b) }

// String returns the name of an object as ostree prints it.
func (n objectName) String() string { return Hex(n.sum) + string(n.typ) }

// objectError says what is wrong with an object of the image.
func objectError(name objectName, err error) error { return badImage("object %s: %w", name, err) }

// clip shortens a name from the image for a message.
func clip(name string) string {
	const most = 80
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}
