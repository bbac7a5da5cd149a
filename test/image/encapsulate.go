package image

import (
	"archive/tar"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"imgbuild/composefs"
	"imgbuild/content"
	"imgbuild/fsverity"
	"imgbuild/ostree"
	"imgbuild/tree"
)

// Encapsulation says how a layer becomes an encapsulated ostree commit.
type Encapsulation struct {
	Chunks  int  // layers of objects beside the one with the commit
	Version int  // 0 or 1, the format of ostree-ext: where xattrs are kept
	Shared  bool // version 1 as before 2025: equal xattrs once, with hard links
	// Key signs the commit, which then names its composefs image.
	Key ed25519.PrivateKey
	// Label returns the SELinux label of a path in the commit. nil labels
	// nothing.
	Label func(path string, mode uint32) string
}

// Encapsulate replaces the first layer by those of an encapsulated ostree commit
// of its files, as the base images of Fedora and CentOS have them: the lowest
// holds the commit and all directories, the others content. It returns the
// checksum of the commit. Layers that replace files of the base are added after
// it, as Content knows one file of a name.
func (s *Spec) Encapsulate(opt Encapsulation) (commit string, err error) {
	root, err := s.commitTree(opt.Label)
	if err != nil {
		return "", err
	}
	if err := ostree.Checksum(context.Background(), root); err != nil {
		return "", err
	}
	e := &encapsulator{spec: s, opt: opt, repo: ostree.NewRepo(), layers: make([]layer, opt.Chunks+1)}
	c := &ostree.Commit{Subject: "base", Time: 1_600_000_000}
	if c.Contents, c.Meta, err = e.repo.AddTree(root); err != nil {
		return "", err
	}
	if opt.Key != nil {
		digest, err := composefsDigest(root)
		if err != nil {
			return "", err
		}
		c.Metadata = []ostree.Metadata{{Key: "ostree.composefs.digest.v0", Value: ostree.Variant{Type: "ay", Data: digest[:]}}}
	}
	sum, err := e.repo.AddCommit(c)
	if err != nil {
		return "", err
	}
	e.object(0, sum, ".commit", string(e.repo.Commit(sum)))
	if opt.Key != nil {
		e.object(0, sum, ".commitmeta", signature(ed25519.Sign(opt.Key, e.repo.Commit(sum))))
	}
	if err := e.directory("", root, c.Contents, c.Meta); err != nil {
		return "", err
	}
	var base [][]tar.Header
	for k := range e.layers {
		base = append(base, append(skeleton(), e.layers[k].headers...))
	}
	s.Content["sysroot/ostree/repo/config"] = repoConfig
	s.Layers = append(base, s.Layers[1:]...)
	s.base = len(base)
	s.Labels[ostree.LabelCommit] = ostree.Hex(sum)
	return ostree.Hex(sum), nil
}

// composefsDigest returns the fs-verity digest of the composefs image of a
// commit's tree.
func composefsDigest(root *tree.Inode) ([32]byte, error) {
	image, err := composefs.Ostree(root, composefs.Options{Digest: func(i *tree.Inode) ([32]byte, bool) {
		m, err := fsverity.Of(context.Background(), i.Content)
		return m.Digest(), err == nil
	}})
	if err != nil {
		return [32]byte{}, err
	}
	m, err := fsverity.Of(context.Background(), content.Bytes(image))
	return m.Digest(), err
}

// signature serializes detached metadata with a signature of 64 bytes: a
// GVariant a{sv} with the one key ostree.sign.ed25519 of the type aay.
func signature(sig []byte) string {
	const key = "ostree.sign.ed25519\x00"
	b := []byte(key)
	end := byte(len(b))
	b = append(b, make([]byte, -len(b)&7)...)     // a variant is aligned to 8
	b = append(append(b, sig...), byte(len(sig))) // the array, with the end of its element
	b = append(b, "\x00aay"...)
	b = append(b, end) // of the key
	return string(append(b, byte(len(b))))
}

const (
	objects    = "sysroot/ostree/repo/objects/"
	repoConfig = "[core]\nrepo_version=1\nmode=bare-split-xattrs\n"
)

// commitTree returns what the first layer is as a commit: with usr/etc.
func (s *Spec) commitTree(label func(string, uint32) string) (*tree.Inode, error) {
	root := tree.NewDir(0o755)
	for _, h := range s.Layers[0] {
		name := strings.TrimSuffix(h.Name, "/")
		if name == "etc" || strings.HasPrefix(name, "etc/") {
			name = "usr/" + name
		}
		var i *tree.Inode
		switch h.Typeflag {
		case tar.TypeDir:
			i = tree.NewDir(uint32(h.Mode))
			if old := tree.Lookup(root, name); old != nil {
				old.Mode, i = i.Mode, old
			}
		case tar.TypeReg:
			i = tree.NewFile(uint32(h.Mode), content.String(s.Content[h.Name]))
		case tar.TypeSymlink:
			i = tree.NewLink(h.Linkname)
		default:
			return nil, fmt.Errorf("%s: not for an ostree commit", h.Name)
		}
		i.UID, i.GID = uint32(h.Uid), uint32(h.Gid)
		for key, value := range h.PAXRecords {
			if attr, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
				i.SetXattr(attr, value)
			}
		}
		if err := tree.Put(root, name, i); err != nil {
			return nil, err
		}
	}
	if label == nil {
		return root, nil
	}
	return root, tree.Walk(root, func(p string, i *tree.Inode) error {
		if l := label(p, i.Mode); l != "" {
			i.SetXattr("security.selinux", l+"\x00")
		}
		return nil
	})
}

// encapsulator writes the layers of one commit.
type encapsulator struct {
	spec   *Spec
	opt    Encapsulation
	repo   *ostree.Repo
	layers []layer
}

type layer struct {
	headers []tar.Header
	written map[string]bool
}

// add adds an entry to a layer, once.
func (e *encapsulator) add(k int, h tar.Header, text string) {
	l := &e.layers[k]
	if l.written == nil {
		l.written = map[string]bool{}
	}
	if l.written[h.Name] {
		return
	}
	l.written[h.Name] = true
	if h.Typeflag == tar.TypeReg {
		h.Size = int64(len(text))
		e.spec.Content[h.Name] = text
	}
	if h.Mode == 0 {
		h.Mode = 0o644
	}
	l.headers = append(l.headers, h)
}

func objectName(sum tree.Sum, suffix string) string {
	return objects + ostree.Hex(sum)[:2] + "/" + ostree.Hex(sum)[2:] + suffix
}

func (e *encapsulator) object(k int, sum tree.Sum, suffix, text string) {
	e.add(k, tar.Header{Name: objectName(sum, suffix), Typeflag: tar.TypeReg}, text)
}

// directory writes what is below a directory of the commit.
func (e *encapsulator) directory(path string, dir *tree.Inode, contents, meta tree.Sum) error {
	e.object(0, meta, ".dirmeta", string(e.repo.DirMeta(meta)))
	e.object(0, contents, ".dirtree", string(e.repo.DirTree(contents)))
	parsed, err := ostree.ParseDirTree(e.repo.DirTree(contents))
	if err != nil {
		return err
	}
	for _, f := range parsed.Files {
		if err := e.file(path+f.Name, dir.Child(f.Name)); err != nil {
			return err
		}
	}
	for _, d := range parsed.Dirs {
		child := dir.Child(d.Name)
		if name := path + d.Name; name != "sysroot" { // in every layer
			e.add(0, tar.Header{Name: shown(name) + "/", Typeflag: tar.TypeDir, Mode: int64(child.Perm()), Uid: int(child.UID), Gid: int(child.GID)}, "")
		}
		if err := e.directory(path+d.Name+"/", child, d.Contents, d.Meta); err != nil {
			return err
		}
	}
	return nil
}

// file writes an object and a hard link to it.
func (e *encapsulator) file(path string, i *tree.Inode) error {
	sum := i.Object
	k := int(sum[0]) % len(e.layers)
	e.sidecar(k, sum, variant(i.Xattrs))
	h := tar.Header{Name: objectName(sum, ".file"), Typeflag: tar.TypeReg, Mode: int64(i.Perm()), Uid: int(i.UID), Gid: int(i.GID), PAXRecords: map[string]string{}}
	for _, x := range i.Xattrs {
		if x.Name != "security.selinux" {
			h.PAXRecords["SCHILY.xattr."+x.Name] = x.Value
		}
	}
	text := ""
	if i.IsLink() {
		h.Typeflag, h.Linkname = tar.TypeSymlink, i.Target
	} else {
		b, err := i.Content.ReadAll(1 << 30)
		if err != nil {
			return err
		}
		text = string(b)
	}
	e.add(k, h, text)
	// A link to an empty file would let container builds change the object.
	if i.IsFile() && i.Content.Size() == 0 {
		e.add(k, tar.Header{Name: shown(path), Typeflag: tar.TypeReg, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid}, "")
	} else {
		e.add(k, tar.Header{Name: shown(path), Typeflag: tar.TypeLink, Linkname: h.Name, Mode: h.Mode}, "")
	}
	return nil
}

// sidecar writes the xattrs of an object.
func (e *encapsulator) sidecar(k int, sum tree.Sum, text string) {
	own := tree.Sum(sha256.Sum256([]byte(text)))
	link := func(suffix, to string) {
		e.add(k, tar.Header{Name: to, Typeflag: tar.TypeReg}, text)
		e.add(k, tar.Header{Name: objectName(sum, suffix), Typeflag: tar.TypeLink, Linkname: to}, "")
	}
	switch {
	case e.opt.Version == 0:
		link(".file.xattrs", "sysroot/ostree/repo/xattrs/"+hex.EncodeToString(own[:]))
	case e.opt.Shared:
		link(".file-xattrs-link", objectName(own, ".file-xattrs"))
	default:
		e.object(k, sum, ".file-xattrs-link", text)
	}
}

// variant serializes xattrs as a GVariant a(ayay) of less than 64 KiB.
func variant(xattrs []tree.Xattr) string {
	var b []byte
	var ends []int
	for _, x := range xattrs {
		element := slices.Concat([]byte(x.Name), []byte{0}, []byte(x.Value))
		element = offset(element, len(x.Name)+1, len(element)+1)
		b = append(b, element...)
		ends = append(ends, len(b))
	}
	total := len(b) + len(ends)
	for _, end := range ends {
		b = offset(b, end, total)
	}
	return string(b)
}

// offset appends a framing offset in a container of size bytes.
func offset(b []byte, v, size int) []byte {
	if size > 0xff {
		return binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return append(b, byte(v))
}

// skeleton is the empty repository in each of the layers.
func skeleton() []tar.Header {
	var list []tar.Header
	dir := func(name string) {
		list = append(list, tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755})
	}
	for _, name := range []string{"sysroot", "sysroot/ostree", "sysroot/ostree/repo", "sysroot/ostree/repo/objects"} {
		dir(name)
	}
	for fan := range 256 {
		dir(fmt.Sprintf("%s%02x", objects, fan))
	}
	for _, name := range []string{"extensions", "refs", "refs/heads", "state", "tmp", "tmp/cache"} {
		dir("sysroot/ostree/repo/" + name)
	}
	return append(list, tar.Header{Name: "sysroot/ostree/repo/config", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(repoConfig))})
}

// shown returns where a path of the commit is in a container.
func shown(path string) string {
	if path == "usr/etc" || strings.HasPrefix(path, "usr/etc/") {
		return path[len("usr/"):]
	}
	return path
}
