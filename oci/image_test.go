package oci

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// blobs are the blobs of a test image by their digest.
type blobs map[string][]byte

func (b blobs) add(raw []byte) string {
	d := sum(raw)
	b[d] = raw
	return d
}

func (b blobs) json(t testing.TB, mediaType string, v any) descriptor {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return descriptor{MediaType: mediaType, Digest: b.add(raw), Size: int64(len(raw))}
}

// part is a layer of a test image: its plain tar and its blob, or a filter that
// makes the blob.
type part struct {
	plain     []byte
	blob      []byte
	mediaType string
	diffID    string // "" for the right one
}

// image adds an image and returns the descriptor of its manifest.
func (b blobs) image(t testing.TB, arch string, parts ...part) descriptor {
	t.Helper()
	layers := []map[string]any{}
	diffs := []string{}
	for _, p := range parts {
		if p.blob == nil {
			p.blob = p.plain
		}
		layers = append(layers, map[string]any{
			"mediaType": cmp.Or(p.mediaType, "application/vnd.oci.image.layer.v1.tar+gzip"),
			"digest":    b.add(p.blob), "size": len(p.blob),
		})
		diffs = append(diffs, cmp.Or(p.diffID, sum(p.plain)))
	}
	config := b.json(t, mediaConfig, map[string]any{
		"architecture": arch, "os": "linux",
		"config": map[string]any{"Labels": map[string]string{"containers.bootc": "1", "arch": arch}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	m := b.json(t, mediaManifest, map[string]any{
		"schemaVersion": 2, "mediaType": mediaManifest,
		"config":      map[string]any{"mediaType": config.MediaType, "digest": config.Digest, "size": config.Size},
		"layers":      layers,
		"annotations": map[string]string{"made": "here"},
	})
	m.Platform = &platform{Architecture: arch, OS: "linux"}
	return m
}

// index adds an index of manifests.
func (b blobs) index(t testing.TB, list ...descriptor) descriptor {
	t.Helper()
	return b.json(t, mediaIndex, indexOf(list))
}

func indexOf(list []descriptor) any {
	var manifests []map[string]any
	for _, d := range list {
		m := map[string]any{"mediaType": d.MediaType, "digest": d.Digest, "size": d.Size}
		if d.Platform != nil {
			m["platform"] = map[string]string{"architecture": d.Platform.Architecture, "os": d.Platform.OS, "variant": d.Platform.Variant}
		}
		if d.Annotations != nil {
			m["annotations"] = d.Annotations
		}
		manifests = append(manifests, m)
	}
	return map[string]any{"schemaVersion": 2, "mediaType": mediaIndex, "manifests": manifests}
}

func tagged(d descriptor, tag string) descriptor {
	d.Annotations = map[string]string{annotationRefName: tag}
	return d
}

// layout writes an image layout and returns its directory.
func (b blobs) layout(t testing.TB, list ...descriptor) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	index, err := json.Marshal(indexOf(list))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"index.json": index, "oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	for d, raw := range b {
		files[blobPath(d)] = raw
	}
	for name, raw := range files {
		writeFile(t, filepath.Join(dir, name), raw)
	}
	return dir
}

func writeFile(t testing.TB, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// filter pipes b through a tool, which must be there.
func filter(t testing.TB, b []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(b)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, stderr.Bytes())
	}
	return out
}

// makeTar writes a tar. Sizes are those of the contents, which are given by
// name; types follow from what is set.
func makeTar(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		data := ""
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			data = h.Uname // carries the content
			h.Size = int64(len(data))
		}
		h.Uname = ""
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1000, 0)
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(h.Name, err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func reg(name, data string) tar.Header { return tar.Header{Name: name, Uname: data} }
func dir(name string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}
}
func sym(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}
func hard(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}

// mustParse parses a reference.
func mustParse(t testing.TB, s string) Reference {
	t.Helper()
	ref, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// open opens an image, which is closed at the end of the test.
func open(t testing.TB, ref string, opt Options) *Image {
	t.Helper()
	img, err := Open(context.Background(), mustParse(t, ref), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := img.Close(); err != nil {
			t.Error(err)
		}
	})
	return img
}

// unpackTar unpacks a single plain layer.
func unpackTar(t testing.TB, plain []byte, opt UnpackOptions) (*Layer, error) {
	t.Helper()
	return unpackPart(t, part{plain: plain}, opt)
}

func unpackPart(t testing.TB, p part, opt UnpackOptions) (*Layer, error) {
	t.Helper()
	b := blobs{}
	img := open(t, "oci:"+b.layout(t, b.image(t, "amd64", p)), Options{Arch: "amd64"})
	if opt.TempDir == "" {
		opt.TempDir = t.TempDir()
	}
	layers, err := img.Unpack(context.Background(), opt)
	if err != nil {
		return nil, err
	}
	return layers[0], nil
}

// sums are options that hash as ostree would: content and some metadata.
func sums(opt UnpackOptions) UnpackOptions {
	opt.HashID = "test"
	opt.FileHash = func(i *tree.Inode) hash.Hash {
		h := sha256.New()
		fmt.Fprintf(h, "%d %d %o %d\n", i.UID, i.GID, i.Mode, i.Content.Size())
		return h
	}
	opt.LinkHash = func(i *tree.Inode) tree.Sum { return sha256.Sum256([]byte("link " + i.Target)) }
	return opt
}

// listing writes a tree as text: a line per name, numbers for shared inodes.
func listing(t testing.TB, root *tree.Inode) string {
	t.Helper()
	var b strings.Builder
	names := make(map[*tree.Inode]string)
	err := tree.Walk(root, func(p string, i *tree.Inode) error {
		if first, ok := names[i]; ok {
			fmt.Fprintf(&b, "%s = %s\n", p, first)
			return nil
		}
		names[i] = p
		fmt.Fprintf(&b, "%s %06o %d:%d @%d", p, i.Mode, i.UID, i.GID, i.Mtime)
		switch i.Type() {
		case tree.TypeFile:
			data, err := io.ReadAll(i.Content.Reader())
			if err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			if int64(len(data)) != i.Content.Size() {
				t.Errorf("%s: read %d bytes of %d", p, len(data), i.Content.Size())
			}
			if len(data) > 40 {
				s := sha256.Sum256(data)
				data = []byte(fmt.Sprintf("%d bytes %s", len(data), hex.EncodeToString(s[:8])))
			}
			fmt.Fprintf(&b, " %q", data)
		case tree.TypeLink:
			fmt.Fprintf(&b, " -> %q", i.Target)
		case tree.TypeChar, tree.TypeBlock:
			fmt.Fprintf(&b, " %d,%d", i.Major, i.Minor)
		}
		for _, x := range i.Xattrs {
			fmt.Fprintf(&b, " %s=%q", x.Name, x.Value)
		}
		if i.Object != (tree.Sum{}) {
			fmt.Fprintf(&b, " #%x", i.Object[:4])
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// wantFault checks class and text of an error.
func wantFault(t testing.TB, err error, class fault.Class, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", text)
	}
	if fault.ClassOf(err) != class || !strings.Contains(err.Error(), text) {
		t.Errorf("got class %d: %v\nwant class %d with %q", fault.ClassOf(err), err, class, text)
	}
}

// files lists the files below a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	found := make(map[string]bool)
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, err := filepath.Rel(dir, p)
			if err != nil {
				return err
			}
			found[filepath.ToSlash(rel)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(found))
}

// fileOf returns a regular file of data.
func fileOf(perm uint32, data []byte) *tree.Inode {
	return tree.NewFile(perm, content.Bytes(data))
}

// manyFiles returns a tar of n small files with attributes, in directories of a
// hundred.
func manyFiles(t testing.TB, n int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for k := range n {
		data := fmt.Sprintf("file %d", k)
		h := &tar.Header{
			Typeflag: tar.TypeReg, Size: int64(len(data)), Mode: 0o644, ModTime: time.Unix(1000, 0), Format: tar.FormatPAX,
			Name:       fmt.Sprintf("usr/directory-with-a-name-%06d/file-of-usual-length-%08d.so.1", k/100, k),
			PAXRecords: map[string]string{"SCHILY.xattr.security.selinux": "system_u:object_r:lib_t:s0\x00", "SCHILY.xattr.user.component": fmt.Sprint("package ", k/1000)},
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
