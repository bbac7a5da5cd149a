package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"imgbuild/content"
	"imgbuild/selinux"
	"imgbuild/test/image"
	"imgbuild/tree"
)

// baseChunks is the number of layers of objects in the base, beside the one
// with the commit.
const baseChunks = 3

// encapsulate returns the layers of an encapsulated ostree commit of the tree,
// labelled by the policy in it.
func encapsulate(base rootfs, epoch int64) ([]layer, error) {
	label, err := commitLabels(base)
	if err != nil {
		return nil, err
	}
	spec := &image.Spec{Labels: map[string]string{}, Content: map[string]string{}, Layers: [][]tar.Header{nil}}
	for _, name := range base.paths() {
		n := base[name]
		// Names of equal files are links to one object in any case.
		if n.typ == tar.TypeLink {
			if n = base[n.link]; n == nil || n.typ != tar.TypeReg {
				return nil, fmt.Errorf("%s: hard link to no file", name)
			}
		}
		h := tar.Header{Typeflag: n.typ, Name: name, Linkname: n.link, Mode: int64(n.mode), Uid: n.uid, Gid: n.gid,
			Size: int64(len(n.data)), PAXRecords: map[string]string{}}
		if n.typ == tar.TypeReg {
			spec.Content[name] = string(n.data)
		}
		for key, value := range n.xattrs {
			h.PAXRecords["SCHILY.xattr."+key] = value
		}
		spec.Add(0, h)
	}
	commit, err := spec.Encapsulate(image.Encapsulation{Chunks: baseChunks, Version: 1, Label: label})
	if err != nil {
		return nil, fmt.Errorf("ostree commit: %w", err)
	}
	var layers []layer
	for i, headers := range spec.Layers {
		l := layer{createdBy: fmt.Sprintf("chunk %d", i), compression: "gzip", epoch: epoch, commit: commit, entries: headers, content: spec.Content}
		if i == 0 {
			l.createdBy = "ostree export of commit " + commit
		}
		layers = append(layers, l)
	}
	return layers, nil
}

// commitLabels returns the labels of paths in a commit of the tree, where
// usr/etc has those of /etc: what ostree calls labeling epoch 1.
func commitLabels(root rootfs) (func(name string, mode uint32) string, error) {
	t := tree.NewDir(0o755)
	for _, name := range root.paths() {
		if n := root[name]; n.typ == tar.TypeReg && under(name, "etc/selinux") {
			if err := tree.Put(t, name, tree.NewFile(n.mode, content.Bytes(n.data))); err != nil {
				return nil, err
			}
		}
	}
	policy, err := selinux.Load(t)
	if err != nil {
		return nil, err
	}
	if policy == nil {
		return nil, errors.New("the tree has no SELinux policy")
	}
	return func(name string, mode uint32) string {
		if etc, ok := strings.CutPrefix(name, "/usr/etc"); ok && (etc == "" || etc[0] == '/') {
			name = "/etc" + etc
		}
		if name == "/proc" {
			name = "/mnt" // as libostree, whose policy has no label for /proc
		}
		label, _ := policy.Lookup(name, mode)
		return label
	}, nil
}

// writeEntries writes a layer whose entries are in an order of their own.
func (l layer) writeEntries(w io.Writer) error {
	t := tar.NewWriter(w)
	for _, h := range l.entries {
		h.ModTime = time.Unix(l.epoch, 0)
		if err := t.WriteHeader(&h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if _, err := io.WriteString(t, l.content[h.Name]); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	return t.Close()
}
