package storage

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The store is where Podman has it, for root and for others.
func TestLocate(t *testing.T) {
	root, home := t.TempDir(), t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	vars := map[string]string{}
	get := func(k string) string { return vars[k] }
	check := func(name string, uid int, want Config) {
		t.Helper()
		got, err := Locate(Env{Getenv: get, Home: home, UID: uid, Root: root})
		if len(got.Additional) == 0 {
			got.Additional = nil
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
	system, mine := root+"/var/lib/containers/storage", home+"/.local/share/containers/storage"
	check("nothing, root", 0, Config{GraphRoot: system})
	check("nothing", 1000, Config{GraphRoot: mine})
	write(root+"/usr/share/containers/storage.conf", "[storage]\ndriver=\"vfs\"\ngraphroot=\"/usr-share\"\n")
	check("vendor, root", 0, Config{Driver: "vfs", GraphRoot: "/usr-share"})
	check("vendor", 1000, Config{Driver: "vfs", GraphRoot: mine})
	write(root+"/etc/containers/storage.conf", "[storage]\ndriver=\"overlay2\"\ngraphroot=\"/etc-root/\"\nrunroot=\"/run/x\"\nrootless_storage_path=\"$HOME/x/$UID/${USER}\"\n[storage.options]\nadditionalimagestores=[\"/more\"]\n")
	vars["USER"] = "me"
	check("system, root", 0, Config{Driver: "overlay", GraphRoot: "/etc-root", Additional: []string{"/more"}})
	check("system", 1000, Config{Driver: "overlay", GraphRoot: home + "/x/1000/me", Additional: []string{"/more"}})
	write(home+"/.config/containers/storage.conf", "[storage]\ndriver=\"vfs\"\ngraphroot=\"/mine\"\nimagestore=\"/images\"\n")
	check("user's, root", 0, Config{Driver: "overlay", GraphRoot: "/etc-root", Additional: []string{"/more"}})
	check("user's", 1000, Config{Driver: "vfs", GraphRoot: "/mine", ImageStore: "/images"})
	vars["STORAGE_DRIVER"], vars["STORAGE_OPTS"] = "overlay", "overlay.imagestore=/extra,overlay.mountopt=nodev"
	check("environment", 1000, Config{Driver: "overlay", GraphRoot: "/mine", ImageStore: "/images", Additional: []string{"/extra"}})
	clear(vars)
	vars["XDG_DATA_HOME"], vars["XDG_CONFIG_HOME"] = "/data", "/none"
	write(root+"/etc/containers/storage.conf", "")
	check("XDG", 1000, Config{GraphRoot: "/data/containers/storage"})
	vars["CONTAINERS_STORAGE_CONF"] = home + "/.config/containers/storage.conf"
	check("named, root", 0, Config{Driver: "vfs", GraphRoot: "/mine", ImageStore: "/images"})
	vars["CONTAINERS_STORAGE_CONF"] = "/none.conf"
	if _, err := Locate(Env{Getenv: get, Home: home, UID: 0, Root: root}); err == nil {
		t.Error("a named file that does not exist")
	}
}

// Keys get the file names that containers/storage gives them.
func TestDataName(t *testing.T) {
	for key, want := range map[string]string{
		"manifest":      "manifest",
		"sha256:0123ab": "=c2hhMjU2OjAxMjNhYg==",
		"manifest-x":    "=bWFuaWZlc3QteA==",
		"Upper":         "=VXBwZXI=",
	} {
		if got := dataName(key); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
}

// Links mean what they mean below the layer, and never lead out of it.
func TestBelow(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "layer")
	for _, d := range []string{"usr/lib", "a/b"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"lib": "usr/lib", "abs": "/usr/lib", "up": "../../../usr/lib", "a/b/back": "../../lib", "out": "../secret", "loop": "loop2", "loop2": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{"layer/usr/lib/x": "inside", "secret": "outside", "usr": "outside"} {
		if err := os.WriteFile(filepath.Join(base, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, want := range map[string]string{
		"usr/lib/x": "inside", "/usr/lib/x": "inside", "./lib/x": "inside", "abs/x": "inside", "up/x": "inside", "a/b/back/x": "inside", "../../usr/lib/x": "inside",
		"out": "", "../secret": "", "loop/x": "", "usr": "", "none": "", "usr/lib": "", "": "",
	} {
		f, err := openBelow(root, name)
		if err != nil {
			if want != "" {
				t.Errorf("%q: %v", name, err)
			}
			continue
		}
		b, _ := io.ReadAll(f)
		f.Close()
		if string(b) != want {
			t.Errorf("%q: read %q, want %q", name, b, want)
		}
	}
}

// Whatever a storage.conf says, it is read or refused.
func FuzzStorageConf(f *testing.F) {
	f.Add([]byte("[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/var/lib/containers/storage\"\n[storage.options]\nadditionalimagestores = [\"/usr/lib/containers/storage\"]\npull_options = {enable_partial_images = \"true\"}\n[storage.options.overlay]\nmountopt = \"nodev,metacopy=on\"\n"))
	f.Add([]byte("[storage]\nrootless_storage_path = \"$HOME/$UID/${USER\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseConfig(text)
		if err == nil {
			Env{Home: "/home/me", UID: 1000}.expand(c.Storage.GraphRoot + c.Storage.RootlessStoragePath)
		}
	})
}

// Whatever tar-split says, entries come out or an error, in bounded memory.
func FuzzTarSplit(f *testing.F) {
	f.Add([]byte(`{"type":2,"payload":"AAAA","position":0}` + "\n" + `{"type":1,"name":"usr/x","size":3,"payload":"AAAAAAAAAAA=","position":1}` + "\n"))
	f.Add([]byte(`{"type":1,"name_raw":"//4=","size":-1,"payload":null}`))
	f.Add([]byte("\n\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := newSplitReader(bytes.NewReader(raw))
		for n := 0; ; n++ {
			e, err := r.next()
			if err != nil {
				return
			}
			if n > bytes.Count(raw, []byte("\n")) {
				t.Fatal("more entries than lines")
			}
			if name := cleanName(e.name()); strings.HasPrefix(name, "..") && (len(name) == 2 || name[2] == '/') {
				t.Errorf("%q leads out", name)
			}
		}
	})
}

// Whatever the lists of a store say, ids that come out are safe as names.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`[{"id":"0123","digest":"sha256:0","names":["localhost/os:1"],"layer":"4567","big-data-digests":{"manifest":"sha256:0"}}]`), []byte(`[{"id":"4567","parent":"89ab","diff-digest":"sha256:1"},{"id":"89ab"}]`), "01")
	f.Add([]byte(`[{"id":"a","layer":"b"},{"id":"ab"}]`), []byte(`[{"id":"b","parent":"b"}]`), "a")
	f.Fuzz(func(t *testing.T, images, layers []byte, id string) {
		p := &place{root: "/none", driver: "vfs", layers: map[string]*layer{}}
		var err error
		if p.images, err = parseImages(images); err != nil {
			return
		}
		list, err := parseLayers(layers)
		if err != nil {
			return
		}
		for i := range list {
			p.layers[list[i].ID] = &list[i]
		}
		s := &Store{places: []*place{p}}
		image, err := s.Find(Query{ID: id})
		if err != nil {
			return
		}
		if chain, err := image.Layers(); err == nil {
			for _, l := range chain {
				if strings.ContainsAny(l.dir()[len("/none/vfs/dir/"):], "/") {
					t.Errorf("%s leads elsewhere", l.dir())
				}
			}
		}
	})
}
