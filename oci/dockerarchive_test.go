package oci

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/fault"
)

// skopeo runs the tool, without a policy or user namespaces.
func skopeo(t testing.TB, args ...string) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command("skopeo", append([]string{"--insecure-policy"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR="+home, "TMPDIR="+home)
	if !isRoot() {
		// The store is written as this user, who needs no namespace for that.
		cmd.Env = append(cmd.Env, "_CONTAINERS_USERNS_CONFIGURED=done", "_CONTAINERS_ROOTLESS_UID=1000")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("skopeo (Debian package skopeo) %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// trees lists what all layers of an image have.
func trees(t testing.TB, ref string, opt Options) string {
	t.Helper()
	_, layers, err := pulled(t, ref, opt, nil)
	if err != nil {
		t.Fatal(ref, err)
	}
	text := ""
	for _, l := range layers {
		text += l.DiffID + "\n" + listing(t, l.Tree)
	}
	return text
}

// gzipped is a rich layer that Docker's formats can hold.
func gzipped(t testing.TB) part {
	p := rich(t)
	return part{plain: p.plain, blob: filter(t, p.plain, "gzip", "-nc")}
}

func TestDockerArchive(t *testing.T) {
	b := blobs{}
	one := b.image(t, "amd64", gzipped(t), simplePart(t, "one"))
	two := b.image(t, "amd64", simplePart(t, "two"), simplePart(t, "two"))
	layout := b.layout(t, tagged(one, "one"), tagged(two, "two"))
	want := map[string]string{"one": trees(t, "oci:"+layout+":one", Options{}), "two": trees(t, "oci:"+layout+":two", Options{})}
	dir := t.TempDir()
	for _, tag := range []string{"one", "two"} {
		file := filepath.Join(dir, tag+".tar")
		skopeo(t, "copy", "-q", "oci:"+layout+":"+tag, "docker-archive:"+file+":localhost/"+tag+":1")
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, file+".gz", filter(t, raw, "gzip", "-c"))
		writeFile(t, file+".zst", filter(t, raw, "zstd", "-qc"))
		for _, ref := range []string{file, file + ":localhost/" + tag + ":1", file + ":@0", file + ".gz", file + ".zst:localhost/" + tag + ":1"} {
			if got := trees(t, "docker-archive:"+ref, Options{Arch: "amd64"}); got != want[tag] {
				t.Errorf("%s:\n%s\nwant\n%s", ref, got, want[tag])
			}
		}
		img := open(t, "docker-archive:"+file, Options{})
		if img.MediaType != mediaDockerManifest || img.ManifestDigest != sum(img.Manifest) || img.Labels["arch"] != "amd64" {
			t.Errorf("%+v", img)
		}
		// skopeo makes the same manifest of it.
		copied := filepath.Join(t.TempDir(), "dir")
		skopeo(t, "copy", "-q", "docker-archive:"+file, "dir:"+copied)
		theirs := open(t, "dir:"+copied, Options{})
		if theirs.ConfigDigest != img.ConfigDigest {
			t.Errorf("config %s, skopeo has %s", img.ConfigDigest, theirs.ConfigDigest)
		}
	}
	one1 := "docker-archive:" + filepath.Join(dir, "one.tar")
	err := openErr(t, one1+":localhost/none:1", Options{})
	wantFault(t, err, fault.NotFound, "no image is called")
	if hint := fault.HintOf(err); !strings.Contains(hint, "localhost/one:1") {
		t.Errorf("hint %q", hint)
	}
	wantFault(t, openErr(t, one1+":@7", Options{}), fault.NotFound, "none of them is number")
	wantFault(t, openErr(t, one1, Options{Arch: "arm64"}), fault.NotFound, "linux/amd64")
	err = openErr(t, "docker-archive:"+tarLayout(t, layout), Options{})
	wantFault(t, err, fault.NotFound, "no docker archive")
	if hint := fault.HintOf(err); !strings.Contains(hint, "oci-archive:") {
		t.Errorf("hint %q", hint)
	}
}

// What Docker wrote before it shared an archive's format with OCI: layers in
// directories, links to layers that were there already; and what is broken.
func TestArchives(t *testing.T) {
	plain := simplePart(t, "x").plain
	config, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []string{sum(plain), sum(plain)}}})
	if err != nil {
		t.Fatal(err)
	}
	const list = `[{"Config":"c.json","RepoTags":["os:1"],"Layers":["a/layer.tar","b/layer.tar"]}]`
	write := func(name string, parts ...string) string {
		dir := t.TempDir()
		var names []string
		for i := 0; i < len(parts); i += 2 {
			path := filepath.Join(dir, parts[i])
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if to, ok := strings.CutPrefix(parts[i+1], "-> "); ok {
				if err := os.Symlink(to, path); err != nil {
					t.Fatal(err)
				}
			} else {
				writeFile(t, path, []byte(parts[i+1]))
			}
			names = append(names, parts[i])
		}
		return "docker-archive:" + tarLayout(t, dir, names...)
	}
	good := write("links", "manifest.json", list, "c.json", string(config), "a/layer.tar", string(plain), "b/layer.tar", "-> ../a/layer.tar")
	if _, _, err := pulled(t, good+":os:1", Options{}, nil); err != nil {
		t.Error(err)
	}
	packed := write("packed", "manifest.json", list, "c.json", string(config), "a/layer.tar", string(plain), "b/layer.tar", string(filter(t, plain, "gzip", "-c")))
	if _, _, err := pulled(t, packed, Options{}, nil); err != nil {
		t.Error(err)
	}
	other := simplePart(t, "y").plain
	for name, c := range map[string]struct {
		parts []string
		class fault.Class
		text  string
	}{
		"no layer":      {[]string{"manifest.json", list, "c.json", string(config), "a/layer.tar", string(plain)}, fault.BadImage, "lacks a file"},
		"no config":     {[]string{"manifest.json", list, "a/layer.tar", string(plain), "b/layer.tar", string(plain)}, fault.BadImage, "lacks a file"},
		"loop":          {[]string{"manifest.json", list, "c.json", string(config), "a/layer.tar", "-> ../b/layer.tar", "b/layer.tar", "-> ../a/layer.tar"}, fault.BadImage, "lacks a file"},
		"outside":       {[]string{"manifest.json", `[{"Config":"../../../../../../../../etc/passwd","Layers":[]}]`}, fault.BadImage, "lacks a file"},
		"empty":         {[]string{"manifest.json", `[]`}, fault.BadImage, "no image"},
		"not a list":    {[]string{"manifest.json", `{}`}, fault.BadImage, "JSON"},
		"null":          {[]string{"manifest.json", `[null]`}, fault.BadImage, "path is missing"},
		"count":         {[]string{"manifest.json", `[{"Config":"c.json","Layers":["a"]}]`, "c.json", string(config), "a", "x"}, fault.BadImage, "2 diff_ids for 1 layers"},
		"several":       {[]string{"manifest.json", `[{"Config":"c"},{"Config":"c"}]`}, fault.Usage, "several images"},
		"another layer": {[]string{"manifest.json", list, "c.json", string(config), "a/layer.tar", string(plain), "b/layer.tar", string(other)}, fault.BadImage, ""},
		"a bad layer":   {[]string{"manifest.json", list, "c.json", string(config), "a/layer.tar", "no tar at all", "b/layer.tar", string(plain)}, fault.BadImage, ""},
		"a cut layer":   {[]string{"manifest.json", list, "c.json", string(config), "a/layer.tar", string(filter(t, plain, "gzip", "-c")[:30]), "b/layer.tar", string(plain)}, fault.BadImage, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := pulled(t, write(name, c.parts...), Options{}, nil)
			wantFault(t, err, c.class, c.text)
		})
	}
}

func TestDir(t *testing.T) {
	b := blobs{}
	amd, arm := b.image(t, "amd64", gzipped(t), simplePart(t, "amd")), b.image(t, "arm64", simplePart(t, "arm"))
	layout := b.layout(t, tagged(b.index(t, amd, arm), "multi"), tagged(amd, "one"))
	base := t.TempDir()
	one, all := filepath.Join(base, "one"), filepath.Join(base, "all")
	skopeo(t, "copy", "-q", "oci:"+layout+":one", "dir:"+one)
	skopeo(t, "copy", "-q", "--all", "oci:"+layout+":multi", "dir:"+all)
	for _, c := range []struct{ dir, arch, tag string }{{one, "amd64", "one"}, {one, "", "one"}, {all, "amd64", "multi"}, {all, "arm64", "multi"}} {
		arch := c.arch
		if arch == "" {
			arch = "amd64"
		}
		if got, want := trees(t, "dir:"+c.dir, Options{Arch: c.arch}), trees(t, "oci:"+layout+":"+c.tag, Options{Arch: arch}); got != want {
			t.Errorf("%v:\n%s\nwant\n%s", c, got, want)
		}
	}
	img := open(t, "dir:"+one, Options{})
	if img.ManifestDigest != amd.Digest {
		t.Errorf("manifest %s, want %s", img.ManifestDigest, amd.Digest)
	}
	if err := os.Remove(filepath.Join(all, hexOf(arm.Digest)+".manifest.json")); err != nil {
		t.Fatal(err)
	}
	wantFault(t, openErr(t, "dir:"+all, Options{Arch: "arm64"}), fault.NotFound, "lacks the manifest")
	wantFault(t, openErr(t, "dir:"+base, Options{}), fault.NotFound, "no image directory")
	wantFault(t, openErr(t, "dir:"+base+"/none", Options{}), fault.NotFound, "no such file")
	err := openErr(t, "dir:"+layout, Options{})
	if hint := fault.HintOf(err); !strings.Contains(hint, "oci:"+layout) {
		t.Errorf("%v, hint %q", err, hint)
	}
	writeFile(t, filepath.Join(one, "version"), []byte("Directory Transport Version: 2.0\n"))
	wantFault(t, openErr(t, "dir:"+one, Options{}), fault.Unsupported, "2.0")
	writeFile(t, filepath.Join(one, "version"), []byte("Directory Transport Version: 1.1\n"))
	if err := os.Remove(filepath.Join(one, hexOf(img.Layers[0].Digest))); err != nil {
		t.Fatal(err)
	}
	_, _, err = pulled(t, "dir:"+one, Options{}, nil)
	wantFault(t, err, fault.BadImage, "lacks the blob")
}

// Whatever manifest.json says, a docker archive is opened or refused.
func FuzzArchiveManifest(f *testing.F) {
	for _, seed := range []string{
		`[{"Config":"c.json","RepoTags":["os:1"],"Layers":["a/layer.tar"]}]`,
		`[{"Config":"c.json","RepoTags":null,"Layers":["l"]},{"Config":"d","Layers":[]}]`,
		`[{"Config":"blobs/sha256/0123","RepoTags":["docker.io/library/os:latest"],"Layers":["blobs/sha256/4567"],"LayerSources":{"sha256:1":{"mediaType":"x","size":1,"digest":"sha256:1"}}}]`,
	} {
		f.Add([]byte(seed), "docker.io/library/os:1")
		f.Add([]byte(seed), "@1")
		f.Add([]byte(seed), "")
	}
	plain := simplePart(f, "x").plain
	f.Fuzz(func(t *testing.T, raw []byte, tag string) {
		list, err := parseArchiveManifest(raw)
		if err == nil {
			_, err = pickArchived(list, tag)
		}
		if err != nil {
			if fault.ClassOf(err) == fault.Internal {
				t.Errorf("%v has no class", err)
			}
			return
		}
		path := filepath.Join(t.TempDir(), "a.tar")
		writeFile(t, path, makeTar(t, reg("manifest.json", string(raw)), reg("c.json", `{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":["`+sum(plain)+`"]}}`), reg("l", string(plain))))
		ref := Reference{transport: TransportDockerArchive, place: path, tag: tag}
		img, err := Open(context.Background(), ref, Options{})
		if err == nil {
			img.Close()
		} else if fault.ClassOf(err) == fault.Internal {
			t.Errorf("%v has no class", err)
		}
	})
}

// Whatever is in a directory, it is opened or refused.
func FuzzDir(f *testing.F) {
	b := blobs{}
	m := b.image(f, "amd64", simplePart(f, "x"))
	index := b.index(f, m)
	f.Add([]byte("Directory Transport Version: 1.1\n"), b[m.Digest])
	f.Add([]byte("Directory Transport Version: 1.0\n"), b[index.Digest])
	f.Fuzz(func(t *testing.T, version, manifest []byte) {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "version"), version)
		writeFile(t, filepath.Join(dir, "manifest.json"), manifest)
		for d, raw := range b {
			writeFile(t, filepath.Join(dir, hexOf(d)), raw)
		}
		writeFile(t, filepath.Join(dir, hexOf(m.Digest)+".manifest.json"), b[m.Digest])
		img, err := Open(context.Background(), Reference{transport: TransportDir, place: dir}, Options{})
		if err != nil {
			if fault.ClassOf(err) == fault.Internal {
				t.Errorf("%v has no class", err)
			}
			return
		}
		defer img.Close()
		if _, err := img.Unpack(context.Background(), UnpackOptions{TempDir: t.TempDir()}); err != nil && fault.ClassOf(err) == fault.Internal {
			t.Errorf("%v has no class", err)
		}
	})
}
