package diskfile

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"

	"imgbuild/fault"
	"imgbuild/formats/input"
	"imgbuild/formats/output"
)

// isTar tells whether p is a tar.
func isTar(p *part) bool { return len(p.head) >= output.TarBlock && isTarHead(p.head) }

func isTarHead(b []byte) bool {
	return bytes.Equal(b[257:262], []byte("ustar"))
}

// maxMembers bounds the members of an archive that are looked at.
const maxMembers = 10000

// member is a file in a tar.
type member struct {
	name      string
	off, size int64
}

// members lists the regular files of a tar that are stored as they are.
func members(p *part) ([]member, error) {
	var list []member
	r := io.NewSectionReader(p, 0, p.Size())
	t := tar.NewReader(r)
	for range maxMembers {
		h, err := t.Next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, fault.Default(fault.BadImage, fmt.Errorf("tar: %w", err))
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		// The reader of package tar reads nothing ahead.
		off, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if sparse(h) {
			return nil, input.Unsupported("unpack it first, with tar", "%.100q is stored as a sparse file in the tar", h.Name)
		}
		list = append(list, member{path.Clean(h.Name), off, h.Size})
	}
	return nil, input.Bad("more than %d files in the tar", maxMembers)
}

// sparse tells whether the bytes in the archive are not those of the file.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// openTar opens the disk of an appliance, of a container disk, or the only file.
func (o *opener) openTar(p *part) error {
	list, err := members(p)
	if err != nil {
		return err
	}
	var disks []member
	ovf := false
	for _, m := range list {
		switch {
		case m.name == "index.json":
			o.names = append(o.names, "container image")
			return o.openImage(&archiveStore{p, list})
		case strings.HasSuffix(m.name, ".ovf"):
			ovf = true
		case path.Ext(m.name) == ".mf", path.Ext(m.name) == ".cert":
		default:
			disks = append(disks, m)
		}
	}
	name := "tar"
	if ovf {
		name = "ova"
	}
	o.names = append(o.names, name)
	if len(disks) != 1 {
		return input.Unsupported("unpack it, and convert one by one", "%d disks in the %s", len(disks), name)
	}
	if ovf && o.opt.Verify {
		if err := o.checkAppliance(p, list); err != nil {
			return err
		}
	}
	return o.openSection(p, disks[0])
}

func (o *opener) openSection(p *part, m member) error {
	f, err := p.Section(m.off, m.size)
	if err != nil {
		return err
	}
	return o.open(&part{File: f})
}

// blobStore is an image layout.
type blobStore interface {
	// open opens the file with the name, with slashes. The error wraps
	// fs.ErrNotExist where there is none.
	open(name string) (*part, error)
}

type archiveStore struct {
	p    *part
	list []member
}

func (a *archiveStore) open(name string) (*part, error) {
	for _, m := range a.list {
		if m.name == name {
			f, err := a.p.Section(m.off, m.size)
			return &part{File: f}, err
		}
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

// openLayout opens the container disk in a layout directory.
func (o *opener) openLayout(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fault.New(fault.NotFound, err, "")
	}
	o.disk.closers = append(o.disk.closers, root)
	o.names = append(o.names, "container image")
	err = o.openImage(&dirStore{o, root})
	if errors.Is(err, fs.ErrNotExist) && fault.ClassOf(err) == fault.Internal {
		return fault.New(fault.NotFound, errors.New("a directory, and no image layout"), "name the disk file in it")
	}
	return err
}

type dirStore struct {
	o    *opener
	root *os.Root
}

func (d *dirStore) open(name string) (*part, error) {
	f, size, err := d.o.openIn(d.root, name)
	if err != nil {
		return nil, err
	}
	return &part{File: input.NewFile(f, size), host: f}, nil
}

// maxDocument bounds the documents of an image, in bytes.
const maxDocument = 4 << 20

var reDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// openImage opens the disk of a container image: the only file below /disk of its
// layers.
func (o *opener) openImage(s blobStore) error {
	type descriptor struct{ Digest string }
	var index struct{ Manifests []descriptor }
	if err := document(s, "index.json", "", &index); err != nil {
		return err
	}
	if len(index.Manifests) != 1 {
		return input.Unsupported("copy one of them to a layout of its own", "%d images in the layout", len(index.Manifests))
	}
	var manifest struct{ Layers []descriptor }
	if err := o.blob(s, index.Manifests[0].Digest, &manifest); err != nil {
		return err
	}
	if len(manifest.Layers) != 1 {
		return input.Unsupported("", "%d layers in the image, a container disk has one", len(manifest.Layers))
	}
	if !reDigest.MatchString(manifest.Layers[0].Digest) {
		return input.Bad("digest %.100q", manifest.Layers[0].Digest)
	}
	sum := manifest.Layers[0].Digest[len("sha256:"):]
	layer, err := s.open("blobs/sha256/" + sum)
	if err != nil {
		return missing(err)
	}
	if o.opt.Verify {
		if err := o.check(io.NewSectionReader(layer, 0, layer.Size()), "blobs/sha256/"+sum, digest{"sha256", sum}); err != nil {
			return err
		}
	}
	if layer.head, err = layer.Read(0, min(layer.Size(), sizeProbe)); err != nil {
		return err
	}
	if !isTar(layer) {
		return o.open(layer) // compressed, by somebody else
	}
	list, err := members(layer)
	if err != nil {
		return err
	}
	var disks []member
	for _, m := range list {
		if path.Dir(strings.TrimPrefix(m.name, "/")) == "disk" {
			disks = append(disks, m)
		}
	}
	if len(disks) != 1 {
		return input.Bad("%d files below /disk of the container image, a container disk has one", len(disks))
	}
	return o.openSection(layer, disks[0])
}

func (o *opener) blob(s blobStore, digest string, v any) error {
	if !reDigest.MatchString(digest) {
		return input.Bad("digest %.100q", digest)
	}
	name, sum := "blobs/sha256/"+digest[len("sha256:"):], ""
	if o.opt.Verify {
		sum = digest[len("sha256:"):]
	}
	return missing(document(s, name, sum, v))
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.BadImage, fmt.Errorf("the layout lacks a blob: %w", err), "")
	}
	return err
}

// document decodes the file of that name, whose SHA-256 is sum unless that is "".
func document(s blobStore, name, sum string, v any) error {
	p, err := s.open(name)
	if err != nil {
		return err
	}
	if p.Size() > maxDocument {
		return input.Bad("%s has %d bytes", name, p.Size())
	}
	b, err := p.Read(0, p.Size())
	if err != nil {
		return err
	}
	if got := sha256.Sum256(b); sum != "" && hex.EncodeToString(got[:]) != sum {
		return damaged(name, "sha256", hex.EncodeToString(got[:]))
	}
	if err := json.Unmarshal(b, v); err != nil {
		return input.Bad("%s: %v", name, err)
	}
	return nil
}
