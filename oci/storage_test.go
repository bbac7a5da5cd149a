package oci

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"imgbuild/fault"
)

// store copies images of a layout into a new store with skopeo, and returns its
// graph root. names says which name each tag gets.
func store(t testing.TB, layout string, names map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "graph")
	// The roots of layers have mode 0555.
	t.Cleanup(func() {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				_ = os.Chmod(path, 0o755)
			}
			return nil
		})
	})
	for tag, name := range names {
		skopeo(t, "copy", "-q", "oci:"+layout+":"+tag,
			fmt.Sprintf("containers-storage:[vfs@%s+%s:vfs.ignore_chown_errors=true]%s", root, t.TempDir(), name))
	}
	return root
}

// Layers come out of a store that skopeo filled as they went in.
func TestStorage(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Fatal("skopeo has a local store on Linux only")
	}
	b := blobs{}
	// Files in directories that are links in a lower layer, an absolute one
	// among them; whiteouts; hard links; padding.
	lower := makeTar(t, dir("usr", 0o755), dir("usr/lib", 0o755), sym("lib", "usr/lib"), sym("lib64", "/usr/lib"), reg("usr/lib/a", "one"), reg("gone", "x"), hard("again", "gone"))
	upper := makeTar(t, reg("usr/lib/.wh..wh..opq", ""), reg("lib/b", "two"), reg("lib64/c", "three"), reg(".wh.gone", ""), reg("big", strings.Repeat("0123456789abcdef", 20_000)))
	upper = append(upper, make([]byte, 10240)...)
	one := b.image(t, "amd64", part{plain: lower, blob: filter(t, lower, "gzip", "-nc")}, part{plain: upper, blob: filter(t, upper, "zstd", "-qc")})
	two := b.image(t, "arm64", simplePart(t, "arm"))
	layout := b.layout(t, tagged(one, "one"), tagged(two, "two"))
	root := store(t, layout, map[string]string{"one": "localhost/os:1", "two": "quay.io/org/os:2"})
	in := "containers-storage:[vfs@" + root + "]"
	want := trees(t, "oci:"+layout+":one", Options{})
	img := open(t, in+"localhost/os:1", Options{Arch: "amd64"})
	if img.ManifestDigest != one.Digest || len(img.Layers) != 2 {
		t.Fatalf("%+v", img)
	}
	id := hexOf(img.ConfigDigest)
	for _, ref := range []string{
		in + "localhost/os:1", in + "@" + id, in + "@" + id[:12], in + id[:12], in + "localhost/os@" + one.Digest, in + "localhost/os:1@" + id[:20],
		"containers-storage:[" + root + "+/run/x:overlay.mountopt=nodev]localhost/os:1",
	} {
		if got := trees(t, ref, Options{}); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", ref, got, want)
		}
	}
	for ref, text := range map[string]string{
		in + "localhost/os:2": "no such image", in + "localhost/os@" + two.Digest: "no such image", in + "@" + strings.Repeat("0", 64): "no such image",
		"containers-storage:[overlay@" + root + "]localhost/os:1": "there is no store", "containers-storage:[/none]os": "there is no store in /none",
	} {
		err := openErr(t, ref, Options{})
		wantFault(t, err, fault.NotFound, text)
		if fault.HintOf(err) == "" {
			t.Errorf("%s: no hint", ref)
		}
	}
	wantFault(t, openErr(t, in+"quay.io/org/os:2", Options{Arch: "amd64"}), fault.NotFound, "linux/arm64")
	wantFault(t, openErr(t, "containers-storage:[btrfs@"+root+"]os", Options{}), fault.Unsupported, "btrfs")
	wantFault(t, openErr(t, "containers-storage:[vfs@relative]os", Options{}), fault.Usage, "not absolute")

	// By name alone, by the user's configuration, the environment and as an
	// additional store.
	home := t.TempDir()
	env := func(kv ...string) Options {
		m := map[string]string{"CONTAINERS_STORAGE_CONF": filepath.Join(home, "storage.conf")}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return Options{Home: home, Getenv: func(k string) string { return m[k] }, Access: Access{root: t.TempDir()}}
	}
	writeFile(t, filepath.Join(home, "storage.conf"), []byte(fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\n", root)))
	for _, ref := range []string{"localhost/os:1", "containers-storage:localhost/os:1"} {
		if got := trees(t, ref, env()); got != want {
			t.Errorf("%s: another image", ref)
		}
	}
	wantFault(t, openErr(t, "localhost/os:1", env("STORAGE_DRIVER", "zfs")), fault.Unsupported, "zfs")
	opt := env()
	opt.Local = LocalFirst
	ref, err := Find(context.Background(), "os:1", opt)
	if err != nil || ref.String() != "docker://localhost/os:1" {
		t.Errorf("short name: %v, %v", ref, err)
	}
	if img := open(t, "quay.io/org/os:2", opt); img.ManifestDigest != two.Digest || img.Reference.String() != "docker://quay.io/org/os:2" {
		t.Errorf("local first: %+v", img)
	}
	opt.Local, opt.Pull = LocalNever, PullNever
	wantFault(t, openErr(t, "quay.io/org/os:2", opt), fault.NotFound, "not in the cache")
	writeFile(t, filepath.Join(home, "storage.conf"), []byte(fmt.Sprintf("[storage]\ngraphroot = %q\n[storage.options]\nadditionalimagestores = [%q]\n", home, root)))
	if got := trees(t, "localhost/os:1", env()); got != want {
		t.Error("additional store: another image")
	}
	writeFile(t, filepath.Join(home, "storage.conf"), []byte("[storage\n"))
	wantFault(t, openErr(t, "localhost/os:1", env()), fault.Config, "storage.conf")

	// What is damaged.
	layers := listStore(t, root, "vfs-layers", ".tar-split.gz")
	top := ""
	for _, name := range layers {
		path := filepath.Join(root, "vfs", "dir", strings.TrimSuffix(filepath.Base(name), ".tar-split.gz"), "big")
		if _, err := os.Stat(path); err == nil {
			top = path
		}
	}
	if err := os.Chmod(filepath.Dir(top), 0o755); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(top)
	if err != nil {
		t.Fatal(err)
	}
	pull := func() error {
		_, _, err := pulled(t, in+"localhost/os:1", Options{}, nil)
		return err
	}
	for name, c := range map[string]struct {
		damage func() error
		class  fault.Class
		text   string
	}{
		"changed":  {func() error { return os.WriteFile(top, append([]byte("x"), raw[1:]...), 0o644) }, fault.BadImage, `"big" of the layer was changed`},
		"longer":   {func() error { return os.WriteFile(top, append(raw[:len(raw):len(raw)], 'x'), 0o644) }, fault.BadImage, "was changed"},
		"shorter":  {func() error { return os.WriteFile(top, raw[1:], 0o644) }, fault.BadImage, "was changed"},
		"a link":   {func() error { return os.Symlink("/etc/passwd", top) }, fault.BadImage, "not a regular file"},
		"missing":  {func() error { return nil }, fault.BadImage, "no such file"},
		"no right": {func() error { return os.WriteFile(top, raw, 0) }, fault.NotFound, "1 files in"},
	} {
		if err := os.Remove(top); err != nil {
			t.Fatal(err)
		}
		if err := c.damage(); err != nil {
			t.Fatal(err)
		}
		if name == "no right" && isRoot() {
			continue // root may
		}
		err := pull()
		wantFault(t, err, c.class, c.text)
		if name == "no right" && (!strings.Contains(err.Error(), "/big") || !strings.Contains(fault.HintOf(err), "podman unshare")) {
			t.Errorf("%v, hint %q", err, fault.HintOf(err))
		}
		_ = os.Remove(top)
		writeFile(t, top, raw)
	}
	if err := pull(); err != nil {
		t.Error(err)
	}
	split := filepath.Join(root, "vfs-layers", filepath.Base(filepath.Dir(top))+".tar-split.gz")
	if err := os.Rename(split, split+".away"); err != nil {
		t.Fatal(err)
	}
	wantFault(t, pull(), fault.Unsupported, "no tar-split")
	writeFile(t, split, []byte("no gzip"))
	wantFault(t, pull(), fault.BadImage, "tar-split")
}

func listStore(t *testing.T, root, dir, suffix string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(root, dir, "*"+suffix))
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	return list
}

// A store is data of others, too: what is in it cannot make us read elsewhere,
// and is no reason to hang or to crash.
func FuzzStorage(f *testing.F) {
	b := blobs{}
	plain := simplePart(f, "x").plain
	m := b.image(f, "amd64", part{plain: plain})
	id, layer := strings.Repeat("a", 64), strings.Repeat("b", 64)
	images, _ := json.Marshal([]map[string]any{{"id": id, "digest": m.Digest, "names": []string{"localhost/os:1"}, "layer": layer, "big-data-digests": map[string]string{"manifest": m.Digest}}})
	layers, _ := json.Marshal([]map[string]any{{"id": layer, "diff-digest": sum(plain)}, {"id": id, "parent": layer}})
	split := func(lines ...string) []byte { return []byte(strings.Join(lines, "\n")) }
	entry := func(v map[string]any) string { raw, _ := json.Marshal(v); return string(raw) }
	f.Add(images, layers, split(entry(map[string]any{"type": 2, "payload": plain})))
	f.Add(images, layers, split(entry(map[string]any{"type": 2, "payload": plain[:512]}), entry(map[string]any{"type": 1, "name": "../../etc/passwd", "size": 1, "payload": []byte("12345678")})))
	f.Add(images, []byte(`[{"id":"`+layer+`","parent":"`+layer+`"}]`), split(entry(map[string]any{"type": 1, "name_raw": []byte("\xff"), "size": 1 << 62})))
	f.Add([]byte(`[{"id":"../x","layer":"../y"}]`), layers, []byte("{"))
	f.Fuzz(func(t *testing.T, images, layers, split []byte) {
		root := t.TempDir()
		put := func(name string, raw []byte) {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, raw)
		}
		put("overlay-images/images.json", images)
		put("overlay-layers/layers.json", layers)
		put("overlay-images/"+id+"/manifest", b[m.Digest])
		for d, raw := range b {
			put("overlay-images/"+id+"/"+storedName(d), raw)
		}
		put("overlay/"+layer+"/diff/x", []byte("x"))
		path := filepath.Join(root, "overlay-layers", layer+".tar-split.gz")
		z, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w := gzip.NewWriter(z)
		_, _ = io.WriteString(w, string(split))
		w.Close()
		z.Close()
		img, err := Open(context.Background(), mustParse(t, "containers-storage:["+root+"]localhost/os:1"), Options{})
		if err == nil {
			_, err = img.Unpack(context.Background(), UnpackOptions{TempDir: t.TempDir(), Limits: Limits{Bytes: 1 << 20}})
			img.Close()
		}
		if err != nil && fault.ClassOf(err) == fault.Internal {
			t.Errorf("%v has no class", err)
		}
	})
}

// storedName is the name of a document in a store, for digests.
func storedName(digest string) string {
	return "=" + base64.StdEncoding.EncodeToString([]byte(digest))
}
