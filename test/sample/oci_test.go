package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// testLayers are the real layers around a base with a kernel of one file.
func testLayers() []layer {
	root := make(rootfs)
	for name, target := range links {
		root.symlink(name, target)
	}
	root.dir("tmp", 0o1777)
	root.file("usr/lib/modules/1.0/vmlinuz", 0o644, bytes.Repeat([]byte("kernel"), 100_000)).mtime = 1_600_000_000
	root.dir("usr", 0o751)
	return split(root, 1_700_000_000, "1.0")
}

func TestLayout(t *testing.T) {
	p, err := platformOf("amd64")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	var digests []string
	for range 2 { // the second replaces the first
		d, _, err := writeLayout(context.Background(), dir, p, 1_700_000_000, testLayers())
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("two runs, two digests: %v", digests)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(read(t, filepath.Join(dir, "index.json"))))
	if err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 1 || index.Manifests[0].Digest.String() != digests[0] || index.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "latest" {
		t.Errorf("index %+v", index)
	}
	m, err := v1.ParseManifest(bytes.NewReader(blob(t, dir, index.Manifests[0])))
	if err != nil {
		t.Fatal(err)
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(blob(t, dir, m.Config)))
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != "amd64" || config.Config.Labels["containers.bootc"] != "1" || len(config.History) != 4 {
		t.Errorf("config %+v", config)
	}
	for i, l := range m.Layers {
		plain := decompress(t, blob(t, dir, l), string(l.MediaType))
		if got := digest.FromBytes(plain).String(); got != config.RootFS.DiffIDs[i].String() {
			t.Errorf("layer %d: diff id %s, the config has %s", i, got, config.RootFS.DiffIDs[i])
		}
	}
}

// blob returns what a descriptor stands for, after comparing its digest.
func blob(t *testing.T, dir string, d v1.Descriptor) []byte {
	t.Helper()
	b := read(t, filepath.Join(dir, "blobs", d.Digest.Algorithm, d.Digest.Hex))
	if digest.FromBytes(b).String() != d.Digest.String() || int64(len(b)) != d.Size {
		t.Errorf("blob %s has %d bytes, expected %d, and digest %s", d.Digest, len(b), d.Size, digest.FromBytes(b))
	}
	return b
}

func decompress(t *testing.T, b []byte, mediaType string) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	var err error
	switch mediaType {
	case typeLayer + "+gzip":
		r, err = gzip.NewReader(r)
	case typeLayer + "+zstd":
		r, err = zstd.NewReader(r)
	case typeLayer:
	default:
		t.Errorf("media type %s", mediaType)
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestLayoutInTheWay(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "precious"), nil)
	p, _ := platformOf("amd64")
	if _, _, err := writeLayout(context.Background(), dir, p, 0, nil); err == nil || !strings.Contains(err.Error(), "in the way") {
		t.Errorf("error %v", err)
	}
	read(t, filepath.Join(dir, "precious"))
}

// The last layer replaces what the base has, in every way that there is, and
// says so in the expectations.
func TestChanges(t *testing.T) {
	layers := testLayers()
	base, upper, last := layers[0].files, layers[1].files, layers[2].files
	d := sampleDir + "layers/"
	for _, name := range []string{"gone-file", "gone-dir/sub/file", "opaque/old-file", "dir-to-link/x/file"} {
		if base[d+name] == nil {
			t.Errorf("the base has no %s", name)
		}
	}
	if upper["usr"].mode != 0o751 || last["usr"].mode != 0o751 {
		t.Error("parent directories do not have the metadata of the base")
	}
	if a, b := base[d+"file-to-dir"], last[d+"file-to-dir"]; a.typ != tar.TypeReg || b.typ != tar.TypeDir {
		t.Error("file-to-dir does not become a directory")
	}
	stat := string(last[sampleDir+"expect/stat"].data)
	for _, line := range []string{
		"/" + d + "replaced: 81a0 0:0\n", "/" + d + "kept/original: 81a4 0:0\n", "/" + sampleDir + "features/bin/setuid: 89ed 0:0\n",
		"/" + sampleDir + "features/sticky: 43ff 0:0\n", "/" + sampleDir + "features/owners/large-ids: 81a4 3000000:3000001\n",
		"/" + sampleDir + "features/mostly-zeros: 81a4 0:0\n", "/var/lib/sample/initial: 81a4 0:0\n"} {
		if !strings.Contains(stat, line) {
			t.Errorf("not expected: %s", line)
		}
	}
	if n := strings.Count(stat, "\n"); n != bytes.Count(last[sampleDir+"expect/stat.names"].data, []byte{0}) {
		t.Error("names and lines differ in number")
	}
	if caps := string(last[sampleDir+"features/bin/capable"].xattrs["security.capability"]); caps != "\x01\x00\x00\x02\x00\x24"+strings.Repeat("\x00", 14) {
		t.Errorf("capabilities %x", caps)
	}
}

func TestLayerRejects(t *testing.T) {
	for want, change := range map[string]func(rootfs){
		"no earlier file": func(r rootfs) { r.put("a", &node{typ: tar.TypeLink, link: "b"}) },
		"type":            func(r rootfs) { r.put("a", &node{typ: tar.TypeBlock}) },
	} {
		l := layer{files: make(rootfs)}
		l.files.text("b", "")
		change(l.files)
		if err := l.writeTar(io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected %q", err, want)
		}
	}
}
