package ostree

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/tree"
)

const (
	blobA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	blobB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

	testManifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:cc","size":123,"unknown":1},
 "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + blobA + `","size":1,"annotations":{}},
  {"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","digest":"` + blobB + `","size":9007199254740993}],
 "annotations":{"z":"1","a":"<&>\u00e9\u0001\n\"\\","\ue000":"x","\ud83d\ude00":"y"},"extra":{"x":[1]}}`
	testConfig = `{"created":"2026-08-22T01:02:03.120Z","architecture":"amd64","os":"linux","author":"","docker_version":"1",
 "config":{"Labels":{"containers.bootc":"1","b":""},"Cmd":null,"Env":["A=b"],"Volumes":{"/v":{}},"ArgsEscaped":true},
 "rootfs":{"type":"layers","diff_ids":["sha256:1","sha256:2"]},"history":[{"created_by":"x","empty_layer":false},{"empty_layer":true}]}`
)

func testContainer() *Container {
	return &Container{
		Manifest: []byte(testManifest), Config: []byte(testConfig), ManifestDigest: "sha256:dd", ImageRef: "docker://quay.io/org/os:1",
		Layers:  []ContainerLayer{{Digest: blobA, Tree: tree.NewDir(0o755)}, {Digest: blobB, Tree: tree.NewDir(0o700)}},
		Merged:  tree.NewDir(0o755),
		Created: 1700000000, LayerTime: 5,
	}
}

func TestAddContainer(t *testing.T) {
	c := testContainer()
	for k := range c.Layers {
		put(t, c.Layers[k].Tree, fmt.Sprintf("usr/f%d", k), file(0o644, "x"))
		put(t, c.Layers[k].Tree, "usr/.wh.f", file(0o600, ""))
	}
	merged, err := Merge(c.Layers[0].Tree, c.Layers[1].Tree)
	if err != nil {
		t.Fatal(err)
	}
	c.Merged = merged
	checksum(t, c.Layers[0].Tree, c.Layers[1].Tree, c.Merged)
	r := NewRepo()
	sum, err := r.AddContainer(c)
	if err != nil {
		t.Fatal(err)
	}
	commit, err := ParseCommit(r.Commit(sum))
	if err != nil {
		t.Fatal(err)
	}
	if commit.Time != 1700000000 || commit.Parent != (tree.Sum{}) || commit.Subject+commit.Body != "" {
		t.Errorf("commit %+v", commit)
	}
	want := [][2]string{
		{"ostree.container.image-config", `{"architecture":"amd64","config":{"Env":["A=b"],"Labels":{"b":"","containers.bootc":"1"},"Volumes":{"/v":{}}},"created":"2026-08-22T01:02:03.12Z","history":[{"created_by":"x"},{"empty_layer":true}],"os":"linux","rootfs":{"diff_ids":["sha256:1","sha256:2"],"type":"layers"}}`},
		{"ostree.importer.version", "0.15.3"},
		{"ostree.manifest", `{"annotations":{"a":"<&>é\u0001\n\"\\","z":"1","😀":"y","` + "\ue000" + `":"x"},"config":{"digest":"sha256:cc","mediaType":"application/vnd.oci.image.config.v1+json","size":123},"layers":[{"annotations":{},"digest":"` + blobA + `","mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":1},{"digest":"` + blobB + `","mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","size":9007199254740993}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}`},
		{"ostree.manifest-digest", "sha256:dd"},
	}
	for k, m := range commit.Metadata {
		if s, ok := m.Value.Text(); !ok || m.Key != want[k][0] || s != want[k][1] {
			t.Errorf("metadata %s = %s\nwant %s", m.Key, s, want[k][1])
		}
	}
	if len(commit.Metadata) != len(want) {
		t.Errorf("%d metadata", len(commit.Metadata))
	}
	if ref, ok := r.Ref("ostree/container/image/docker_3A__2F__2F_quay_2E_io/org/os_3A_1"); !ok || ref != sum {
		t.Error("image ref is missing")
	}
	for _, l := range c.Layers {
		ref, ok := r.Ref(BlobRef(l.Digest))
		layer, err := ParseCommit(r.Commit(ref))
		if !ok || err != nil || layer.Time != 5 || len(layer.Metadata) != 1 || layer.Parent != (tree.Sum{}) {
			t.Errorf("layer %s: %+v, %v", l.Digest, layer, err)
		}
	}
	if len(r.refs) != 3 {
		t.Errorf("refs %v", r.refs)
	}

	// A base: the merge commit gets a parent, its layers only refs.
	layer, _ := r.Ref(BlobRef(blobA))
	c.Parent, c.Layers[0] = layer, ContainerLayer{Digest: blobA, Commit: layer}
	if sum, err = r.AddContainer(c); err != nil {
		t.Fatal(err)
	}
	if commit, err = ParseCommit(r.Commit(sum)); err != nil || commit.Parent != layer {
		t.Errorf("parent %v, %v", commit.Parent, err)
	}
}

// The documents that the real tool reads out of the commit are ours.
func TestContainerMetadataRead(t *testing.T) {
	c := testContainer()
	own(c.Merged)
	own(c.Layers[0].Tree)
	own(c.Layers[1].Tree)
	r := NewRepo()
	sum, err := r.AddContainer(c)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := r.Tree(Config{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	materialize(t, dir, repo)
	out := ostree(t, "--repo="+dir, "show", "--print-metadata-key=ostree.manifest-digest", Hex(sum))
	if out != "'sha256:dd'\n" {
		t.Errorf("manifest digest %s", out)
	}
	if out := ostree(t, "--repo="+dir, "refs"); len(strings.Fields(out)) != 3 || !strings.Contains(out, ImageRef(c.ImageRef)) {
		t.Errorf("refs %s", out)
	}
	if out := ostree(t, "--repo="+dir, "fsck"); !strings.Contains(out, "fsck of 3 commits completed successfully") {
		t.Errorf("fsck %s", out)
	}
}

func TestDockerManifest(t *testing.T) {
	m, err := parseManifest([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
 "config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"sha256:c","size":1},
 "layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":"sha256:l","size":2}]}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := canonicalJSON(m)
	const want = `{"config":{"digest":"sha256:c","mediaType":"application/vnd.oci.image.config.v1+json","size":1},"layers":[{"digest":"sha256:l","mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":2}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}`
	if err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
}

func TestAddContainerErrors(t *testing.T) {
	for name, change := range map[string]func(*Container){
		"manifest":       func(c *Container) { c.Manifest = []byte("{") },
		"UTF-8":          func(c *Container) { c.Manifest = []byte("{\"schemaVersion\":2,\"x\":\"\xff\"}") },
		"no layers":      func(c *Container) { c.Manifest = []byte(`{"schemaVersion":2,"config":{},"layers":[]}`) },
		"null layers":    func(c *Container) { c.Manifest = []byte(`{"schemaVersion":2,"config":{},"layers":null}`) },
		"config":         func(c *Container) { c.Config = []byte("[]") },
		"rootfs":         func(c *Container) { c.Config = []byte("{}") },
		"layer digest":   func(c *Container) { c.Layers[0].Digest = blobB },
		"layer missing":  func(c *Container) { c.Layers = c.Layers[:1] },
		"parent missing": func(c *Container) { c.Parent = tree.Sum{1} },
		"reference":      func(c *Container) { c.ImageRef = "" },
		"long reference": func(c *Container) { c.ImageRef = "docker://" + strings.Repeat("x", 300) },
		"digest":         func(c *Container) { c.ManifestDigest = "" },
		"merged":         func(c *Container) { c.Merged = nil },
	} {
		c := testContainer()
		change(c)
		_, err := NewRepo().AddContainer(c)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		switch name {
		case "manifest", "UTF-8", "no layers", "null layers", "config", "rootfs", "layer digest", "layer missing":
			if fault.ClassOf(err) != fault.BadImage {
				t.Errorf("%s: class of %v", name, err)
			}
		}
	}
}

func TestCreated(t *testing.T) {
	for _, c := range []struct {
		manifest, config string
		want             int64
		ok               bool
	}{
		{`{"annotations":{"org.opencontainers.image.created":"1970-01-01T00:01:00Z"}}`, `{"created":"1970-01-01T00:02:00Z"}`, 60, true},
		{`{}`, `{"created":"1970-01-01T00:02:00.999999999+00:01"}`, 60, true},
		{`{"annotations":{"org.opencontainers.image.created":"yesterday"}}`, `{"created":"1970-01-01T00:02:00Z"}`, 0, false},
		{`{}`, `{"created":"0001-01-01T00:00:00Z"}`, 0, false},
		{`{}`, `{"created":null}`, 0, false},
		{`{}`, `{}`, 0, false},
		{`[]`, `{}`, 0, false},
	} {
		if got, ok := Created([]byte(c.manifest), []byte(c.config)); got != c.want || ok != c.ok {
			t.Errorf("%s %s: %d, %v", c.manifest, c.config, got, ok)
		}
	}
}

func FuzzCanonicalJSON(f *testing.F) {
	f.Add([]byte(testManifest))
	f.Add([]byte(testConfig))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte) (any, error){
			func(b []byte) (any, error) { return parseManifest(b) },
			func(b []byte) (any, error) { return parseConfig(b) },
		} {
			v, err := parse(b)
			if err != nil {
				continue
			}
			s, err := canonicalJSON(v)
			if err != nil {
				continue // a year that RFC 3339 cannot express
			}
			if !json.Valid([]byte(s)) || strings.ContainsRune(s, 0) {
				t.Fatalf("not JSON: %s", s)
			}
			again, err := parse([]byte(s))
			if err != nil {
				t.Fatalf("%v: %s", err, s)
			}
			if s2, err := canonicalJSON(again); err != nil || s2 != s {
				t.Fatalf("%s\n%s\n%v", s, s2, err)
			}
		}
	})
}
