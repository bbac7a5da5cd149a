// Package image makes small OCI images for tests: as large as the point they
// make, and broken where a test wants them broken.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"imgbuild/ostree"
)

// Spec is an image. Maps and slices may be changed between New and Write.
type Spec struct {
	Arch   string
	Labels map[string]string
	Layers [][]tar.Header // Name, Typeflag, Mode … ; content is in Content by name
	// Content of regular files, by the name in the header.
	Content map[string]string
	// Tar, if set, may change the bytes of a layer's tar.
	Tar func(layer int, b []byte) []byte
	// Blob, if set, may change the compressed bytes of a layer after its digest
	// is taken.
	Blob func(layer int, b []byte) []byte
	// DiffID, if set, may change a layer's diff_id in the config.
	DiffID func(layer int, id string) string

	base int // how many of the layers are an encapsulated commit
}

// New returns an image that has everything imgbuild asks of one, in one layer,
// and nothing that would run: the kernel, initramfs and EFI programs are text.
func New() *Spec {
	s := &Spec{
		Arch:    "amd64",
		Labels:  map[string]string{"containers.bootc": "1", "ostree.bootable": "1"},
		Content: map[string]string{},
	}
	s.Layers = append(s.Layers, nil)
	for _, dir := range []string{"boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "var", "etc", "usr"} {
		s.Dir(0, dir)
	}
	s.Link(0, "ostree", "sysroot/ostree")
	modules := "usr/lib/modules/6.1.0-test/"
	s.File(0, modules+"vmlinuz", "kernel")
	s.File(0, modules+"initramfs.img", "initramfs")
	s.File(0, "usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = true\n")
	s.File(0, "usr/lib/os-release", "ID=test\nPRETTY_NAME=\"Test OS\"\n")
	s.File(0, "etc/hostname", "test\n")
	updates := "usr/lib/bootupd/updates/"
	s.File(0, updates+"EFI.json", `{"timestamp":"2026-01-01T00:00:00Z","version":"grub-2,shim-1"}`)
	s.File(0, updates+"EFI/BOOT/BOOTX64.EFI", "shim")
	s.File(0, updates+"EFI/test/shimx64.efi", "shim")
	s.File(0, updates+"EFI/test/grubx64.efi", "grub")
	static := "usr/lib/bootupd/grub2-static/"
	s.File(0, static+"grub-static-pre.cfg", "set timeout=1\n")
	s.File(0, static+"grub-static-efi.cfg", "configfile $prefix/grub.cfg\n")
	s.File(0, static+"configs.d/10_entries.cfg", "if [ -f $prefix/x ]; then blscfg; else menuentry x { true; }; fi\n")
	return s
}

// Add adds an entry to a layer.
func (s *Spec) Add(layer int, h tar.Header) {
	for len(s.Layers) <= layer {
		s.Layers = append(s.Layers, nil)
	}
	s.Layers[layer] = append(s.Layers[layer], h)
}

// Dir adds a directory to a layer.
func (s *Spec) Dir(layer int, name string) {
	s.Add(layer, tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755})
}

// File adds a regular file to a layer.
func (s *Spec) File(layer int, name, content string) {
	s.Content[name] = content
	s.Add(layer, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))})
}

// Link adds a symbolic link to a layer.
func (s *Spec) Link(layer int, name, target string) {
	s.Add(layer, tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink, Mode: 0o777})
}

// Remove takes all entries at name, and below it, out of all layers.
func (s *Spec) Remove(name string) {
	for i, layer := range s.Layers {
		var kept []tar.Header
		for _, h := range layer {
			if h.Name != name && h.Name != name+"/" && !(len(h.Name) > len(name) && h.Name[:len(name)+1] == name+"/") {
				kept = append(kept, h)
			}
		}
		s.Layers[i] = kept
	}
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Write writes the image as an OCI layout with the tag latest into dir, which
// it makes.
func (s *Spec) Write(dir string) error {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o777); err != nil {
		return err
	}
	var layers []descriptor
	var diffIDs []string
	for i := range s.Layers {
		plain, err := s.tar(i)
		if err != nil {
			return err
		}
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		if _, err := z.Write(plain); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		diffID := digest(plain)
		if s.DiffID != nil {
			diffID = s.DiffID(i, diffID)
		}
		diffIDs = append(diffIDs, diffID)
		blob := zipped.Bytes()
		d := descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: digest(blob), Size: len(blob)}
		if s.Blob != nil {
			blob = s.Blob(i, bytes.Clone(blob))
		}
		if err := os.WriteFile(filepath.Join(blobs, d.Digest[len("sha256:"):]), blob, 0o666); err != nil {
			return err
		}
		layers = append(layers, d)
	}
	labels := maps.Clone(s.Labels)
	if s.base > 0 {
		labels[ostree.LabelFinalDiffID] = diffIDs[s.base-1]
	}
	put := func(mediaType string, v any) (descriptor, error) {
		b, err := json.Marshal(v)
		if err != nil {
			return descriptor{}, err
		}
		d := descriptor{MediaType: mediaType, Digest: digest(b), Size: len(b)}
		return d, os.WriteFile(filepath.Join(blobs, d.Digest[len("sha256:"):]), b, 0o666)
	}
	config, err := put("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": s.Arch, "os": "linux", "created": "2026-01-02T03:04:05Z",
		"config": map[string]any{"Labels": labels},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return err
	}
	manifest, err := put("application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
	})
	if err != nil {
		return err
	}
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": "latest"}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), index, 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o666)
}

// tar returns the plain tar of a layer.
func (s *Spec) tar(layer int) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range s.Layers[layer] {
		content := s.Content[h.Name]
		if h.Typeflag != tar.TypeReg {
			content = ""
		}
		h.ModTime = time.Unix(1_700_000_000, 0)
		if err := w.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if s.Tar != nil {
		return s.Tar(layer, b.Bytes()), nil
	}
	return b.Bytes(), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
