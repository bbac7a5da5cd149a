package main

import (
	"archive/tar"
	"fmt"
	"io"
	"path"
	"time"
)

// layer is a layer of the image before it is packed.
type layer struct {
	createdBy   string
	compression string // "gzip", "zstd" or "" for none
	files       rootfs
	epoch       int64 // time of the files that have none, seconds since 1970
	// Of a layer of an encapsulated ostree commit: its checksum, and instead of
	// files the entries of the archive with the content of each.
	commit  string
	entries []tar.Header
	content map[string]string
}

// upperDirs are the directories whose content is in the second layer.
var upperDirs = []string{"usr/lib/modules", "usr/lib/bootupd", "usr/lib/grub"}

// split distributes the tree over the layers of the image.
func split(root rootfs, epoch int64, kver string) []layer {
	base, upper := make(rootfs), make(rootfs)
	for name, n := range root {
		if underAny(name, upperDirs) {
			upper[name] = n
		} else {
			base[name] = n
		}
	}
	addVictims(base)
	upper.file(sampleDir+"features/mostly-zeros", 0o644, zeros())
	last := changes()
	merged := make(rootfs)
	for _, t := range []rootfs{base, upper} {
		for name, n := range t {
			merged[name] = n
		}
	}
	addExpectations(last, merged)
	withParents(upper, base)
	withParents(last, base)
	return []layer{
		{createdBy: "system", compression: "gzip", files: base, epoch: epoch},
		{createdBy: "kernel " + kver + " and boot loaders", compression: "zstd", files: upper, epoch: epoch},
		{createdBy: "changes of every kind", files: last, epoch: epoch},
	}
}

// withParents gives the directories above the files of a layer the metadata that
// they have in the layer below, as layers made from an overlay have it.
func withParents(t, below rootfs) {
	for _, name := range t.paths() {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			n, own := below[dir], t[dir]
			if n != nil && n.typ == tar.TypeDir && (own == nil || own.typ == tar.TypeDir && own.xattrs == nil) {
				t[dir] = n
			}
		}
	}
}

// writeTar writes the layer as PAX archive, ascending by path where it is made
// of files.
func (l layer) writeTar(w io.Writer) error {
	if l.entries != nil {
		return l.writeEntries(w)
	}
	t := tar.NewWriter(w)
	for _, name := range l.files.paths() {
		n := l.files[name]
		h := &tar.Header{Typeflag: n.typ, Name: name, Linkname: n.link, Mode: int64(n.mode), Uid: n.uid, Gid: n.gid,
			Size: int64(len(n.data)), ModTime: time.Unix(l.epoch, 0)}
		if n.mtime > 0 {
			h.ModTime = time.Unix(n.mtime, 0)
		}
		switch n.typ {
		case tar.TypeDir:
			h.Name += "/"
		case tar.TypeLink:
			if to := l.files[n.link]; to == nil || to.typ != tar.TypeReg || n.link > name {
				return fmt.Errorf("%s: hard link to %s, which is no earlier file", name, n.link)
			}
		case tar.TypeReg, tar.TypeSymlink:
		default:
			return fmt.Errorf("%s: type %q", name, n.typ)
		}
		for key, value := range n.xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = make(map[string]string)
			}
			h.PAXRecords["SCHILY.xattr."+key] = value
		}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := t.Write(n.data); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return t.Close()
}
