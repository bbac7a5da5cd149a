package oci

import (
	"bytes"
	"context"
	"fmt"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"imgbuild/fault"
	"imgbuild/tree"
)

func openCache(t testing.TB, dir string) *Cache {
	t.Helper()
	c, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rich is a layer with one of each kind of entry.
func rich(t testing.TB) part {
	x := reg("d/x", strings.Repeat("some content ", 50000))
	x.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.selinux": "s0\x00"}
	x.Uid, x.Gid = 70000, 5
	y := reg("d/y", "y")
	y.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1"}
	dev := dir("null", 0o666)
	dev.Typeflag, dev.Devmajor, dev.Devminor = '3', 1, 3
	plain := makeTar(t, dir("d", 0o1777), x, y, reg("zeros", string(make([]byte, 300<<10))), sym("s", "d/x"),
		hard("h", "d/x"), hard("first", "last"), reg("last", ""), dev, reg("ü/ö", "ä"), reg(".wh.gone", ""))
	return part{plain: plain, blob: filter(t, plain, "zstd", "-qc")}
}

// counted are options that count how much is hashed.
func counted(opt UnpackOptions, n *int) UnpackOptions {
	opt = sums(opt)
	var mu sync.Mutex
	inner := opt.FileHash
	opt.FileHash = func(i *tree.Inode) hash.Hash {
		mu.Lock()
		defer mu.Unlock()
		*n++
		return inner(i)
	}
	return opt
}

func unpacked(t testing.TB, ref string, opt UnpackOptions) string {
	t.Helper()
	img := open(t, ref, Options{Arch: "amd64"})
	layers, err := img.Unpack(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, l := range layers {
		text += fmt.Sprintf("%s %s %d\n%s", l.Digest, l.DiffID, l.Size, listing(t, l.Tree))
		for _, e := range l.Tree.Entries() {
			if l.Implied[e.Inode] {
				text += "implied " + e.Name + "\n"
			}
		}
	}
	return text
}

func TestWarm(t *testing.T) {
	b := blobs{}
	p := rich(t)
	ref := "oci:" + b.layout(t, b.image(t, "amd64", p, simplePart(t, "x")))
	c := openCache(t, t.TempDir())
	n := 0
	cold := unpacked(t, ref, counted(UnpackOptions{Cache: c}, &n))
	if n != 7 {
		t.Errorf("hashed %d files", n)
	}
	n = 0
	events := 0
	opt := counted(UnpackOptions{Cache: c}, &n)
	opt.Progress = func(e Event) {
		if !e.Cached || e.Done != e.Total {
			t.Errorf("event %+v", e)
		}
		events++
	}
	if warm := unpacked(t, ref, opt); warm != cold {
		t.Errorf("cold\n%s\nwarm\n%s", cold, warm)
	}
	if n != 0 || events != 2 {
		t.Errorf("hashed %d files, %d events", n, events)
	}
	// Other sums are computed from the spool, and then remembered.
	for range 2 {
		other := counted(UnpackOptions{Cache: c}, &n)
		other.HashID = "other"
		if got := unpacked(t, ref, other); got != cold {
			t.Errorf("other sums\n%s", got)
		}
	}
	if n != 7 {
		t.Errorf("hashed %d files again", n)
	}
	// Without hashes there are no sums.
	plain := unpacked(t, ref, UnpackOptions{Cache: c})
	if strings.Contains(plain, "#") || plain == "" {
		t.Errorf("without sums\n%s", plain)
	}
	if left := files(t, c.tempDir()); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if got := files(t, c.blobDir()); len(got) > 0 {
		t.Errorf("a local image was copied: %v", got)
	}
	st, err := os.Stat(c.spoolPath(sum(p.plain)))
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(c.spoolPath(sum(p.plain))); err != nil || !bytes.Equal(raw, p.plain) {
		t.Errorf("the spool is not the plain tar, %v", err)
	}
	if diskSize(st) >= st.Size() {
		t.Errorf("the spool takes %d bytes on disk for %d", diskSize(st), st.Size())
	}
}

func TestPullOnce(t *testing.T) {
	s := newServer(t)
	b := blobs{}
	m := b.image(t, "amd64", rich(t), simplePart(t, "x"))
	s.push(t, b, map[string]descriptor{"latest": m})
	c := openCache(t, t.TempDir())
	pull := func(ref string) string {
		t.Helper()
		img := open(t, s.host+"/org/os"+ref, Options{Arch: "amd64", Cache: c})
		layers, err := img.Unpack(context.Background(), UnpackOptions{Cache: c})
		if err != nil {
			t.Fatal(err)
		}
		return listing(t, layers[0].Tree) + listing(t, layers[1].Tree)
	}
	first := pull("")
	if got := s.count("/blobs/"); got != 3 {
		t.Errorf("%d requests for blobs", got)
	}
	s.hostile(nil)
	if pull("") != first || s.count("/blobs/") != 0 || s.count("/manifests/") != 1 {
		t.Errorf("%d requests for blobs, %d for manifests", s.count("/blobs/"), s.count("/manifests/"))
	}
	// Without spools the blobs are there still.
	if err := os.RemoveAll(c.spoolDir()); err != nil {
		t.Fatal(err)
	}
	c = openCache(t, c.Dir())
	if pull("") != first || s.count("/blobs/") != 0 {
		t.Errorf("%d requests for blobs", s.count("/blobs/"))
	}
	// A damaged blob is fetched again.
	blob := c.blobPath(sum(rich(t).blob))
	raw, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{slices.Concat(raw[:100], []byte{raw[100] ^ 1}, raw[101:]), raw[:50], nil} {
		writeFile(t, blob, damaged)
		if err := os.RemoveAll(c.spoolDir()); err != nil {
			t.Fatal(err)
		}
		c = openCache(t, c.Dir())
		s.hostile(nil)
		if pull("") != first || s.count("/blobs/") != 1 {
			t.Errorf("%d requests for blobs", s.count("/blobs/"))
		}
	}
	// A pinned image that was pulled once needs no registry.
	pull("@" + m.Digest)
	s.Close()
	if pull("@"+m.Digest) != first {
		t.Error("differs without a registry")
	}
}

// TestDamagedCache damages the files of a cache in every way that a crash, a
// full disk or a hand can.
func TestDamagedCache(t *testing.T) {
	b := blobs{}
	p := rich(t)
	ref := "oci:" + b.layout(t, b.image(t, "amd64", p))
	c := openCache(t, t.TempDir())
	opt := sums(UnpackOptions{Cache: c})
	want := unpacked(t, ref, opt)
	spool, rec := c.spoolPath(sum(p.plain)), c.recordPath(sum(p.plain))
	good, err := os.ReadFile(rec)
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(b []byte, off int) []byte { b = bytes.Clone(b); b[off] ^= 0x20; return b }
	cases := map[string]func(){
		"no record":        func() { _ = os.Remove(rec) },
		"no spool":         func() { _ = os.Remove(spool) },
		"empty record":     func() { writeFile(t, rec, nil) },
		"zero record":      func() { writeFile(t, rec, make([]byte, len(good))) },
		"long record":      func() { writeFile(t, rec, append(bytes.Clone(good), 0)) },
		"short spool":      func() { writeFile(t, spool, p.plain[:len(p.plain)-1]) },
		"long spool":       func() { writeFile(t, spool, append(bytes.Clone(p.plain), 0)) },
		"zero spool":       func() { writeFile(t, spool, make([]byte, len(p.plain))) },
		"flipped spool":    func() { writeFile(t, spool, flipped(p.plain, 2000)) },
		"spool replaced":   func() { writeFile(t, spool, p.plain) },
		"record directory": func() { _ = os.Remove(rec); _ = os.Mkdir(rec, 0o755) },
		"record of another": func() {
			r, err := decodeRecord(good)
			if err != nil {
				t.Fatal(err)
			}
			r.diffID[0] ^= 1
			writeFile(t, rec, r.encode())
		},
	}
	for off := 0; off < len(good); off += len(good)/20 + 1 {
		cases[fmt.Sprintf("record flipped at %d", off)] = func() { writeFile(t, rec, flipped(good, off)) }
		cases[fmt.Sprintf("record cut at %d", off)] = func() { writeFile(t, rec, good[:off]) }
	}
	for name, damage := range cases {
		damage()
		if name == "record directory" {
			// Nothing can take the name: that is an error of the cache.
			img := open(t, ref, Options{Arch: "amd64"})
			_, err := img.Unpack(context.Background(), opt)
			wantFault(t, err, fault.Output, "cache")
			_ = os.Remove(rec)
		}
		for range 2 {
			if got := unpacked(t, ref, opt); got != want {
				t.Errorf("%s: differs\n%s", name, got)
			}
		}
		if left := files(t, c.tempDir()); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

// TestCrash uses a cache after another boot.
func TestCrash(t *testing.T) {
	b := blobs{}
	p := rich(t)
	ref := "oci:" + b.layout(t, b.image(t, "amd64", p))
	for name, boots := range map[string][2]string{"known boots": {"boot a", "boot b"}, "unknown boots": {"", ""}} {
		c := openCache(t, t.TempDir())
		c.boot = boots[0]
		n := 0
		opt := counted(UnpackOptions{Cache: c}, &n)
		want := unpacked(t, ref, opt)
		read := func() *record {
			t.Helper()
			raw, err := os.ReadFile(c.recordPath(sum(p.plain)))
			if err != nil {
				t.Fatal(err)
			}
			r, err := decodeRecord(raw)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if r := read(); r.durable != (boots[0] == "") || r.boot != boots[0] {
			t.Errorf("%s: %v in %q", name, r.durable, r.boot)
		}
		c.boot = boots[1]
		n = 0
		if unpacked(t, ref, opt) != want || n != 0 {
			t.Errorf("%s: differs or was unpacked again", name)
		}
		if r := read(); !r.durable || r.boot != boots[1] {
			t.Errorf("%s: not verified: %v in %q", name, r.durable, r.boot)
		}
		// A spool that was written since is right, but may not be on disk yet.
		writeFile(t, c.spoolPath(sum(p.plain)), p.plain)
		if unpacked(t, ref, opt) != want || n != 0 {
			t.Errorf("%s: differs or was unpacked again", name)
		}
		if read().durable {
			t.Errorf("%s: durable without reason", name)
		}
		// The crash took some of the spool, but neither size nor time.
		c.boot = "boot c"
		r := read()
		r.durable = false
		spool := c.spoolPath(sum(p.plain))
		raw := bytes.Clone(p.plain)
		clear(raw[4096:8192])
		writeFile(t, spool, raw)
		if err := os.Chtimes(spool, time.Unix(0, r.spoolMtime), time.Unix(0, r.spoolMtime)); err != nil {
			t.Fatal(err)
		}
		if err := c.putFile(c.recordPath(sum(p.plain)), r.encode()); err != nil {
			t.Fatal(err)
		}
		if unpacked(t, ref, opt) != want || n == 0 {
			t.Errorf("%s: differs or was not unpacked again", name)
		}
	}
}

// TestConcurrent unpacks one image into one cache from several processes, each
// with several goroutines.
func TestConcurrent(t *testing.T) {
	if ref := os.Getenv("OCI_TEST_REF"); ref != "" {
		c := openCache(t, os.Getenv("OCI_TEST_CACHE"))
		var wg sync.WaitGroup
		texts := make([]string, 3)
		for k := range texts {
			wg.Go(func() { texts[k] = unpacked(t, ref, sums(UnpackOptions{Cache: c})) })
		}
		wg.Wait()
		for _, text := range texts {
			if text != texts[0] {
				t.Error("goroutines differ")
			}
		}
		fmt.Printf("sum %s\n", sum([]byte(texts[0])))
		return
	}
	b := blobs{}
	parts := []part{rich(t)}
	for k := range 6 {
		parts = append(parts, simplePart(t, fmt.Sprint("layer ", k%4)))
	}
	ref := "oci:" + b.layout(t, b.image(t, "amd64", parts...))
	cache := t.TempDir()
	var wg sync.WaitGroup
	out := make([]string, 3)
	for k := range out {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run=^TestConcurrent$", "-test.count=1")
			cmd.Env = append(os.Environ(), "OCI_TEST_REF="+ref, "OCI_TEST_CACHE="+cache)
			raw, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, raw)
			}
			for line := range strings.Lines(string(raw)) {
				if strings.HasPrefix(line, "sum ") {
					out[k] = line
				}
			}
		})
	}
	wg.Wait()
	for _, o := range out {
		if o == "" || o != out[0] {
			t.Errorf("processes differ: %q", out)
		}
	}
	if left := files(t, filepath.Join(cache, "tmp")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestTrim(t *testing.T) {
	b := blobs{}
	refs := make([]string, 3)
	data := make([]part, 3)
	for k := range refs {
		data[k] = bigPart(t, 1<<20+k)
		refs[k] = "oci:" + b.layout(t, b.image(t, "amd64", data[k]))
	}
	c := openCache(t, t.TempDir())
	for _, ref := range refs {
		unpacked(t, ref, UnpackOptions{Cache: c})
	}
	for k, p := range data {
		for _, path := range []string{c.spoolPath(sum(p.plain)), c.recordPath(sum(p.plain))} {
			when := time.Unix(int64(1000+k), 0)
			if err := os.Chtimes(path, when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	img := open(t, refs[1], Options{})
	layers, err := img.Unpack(context.Background(), UnpackOptions{Cache: c})
	if err != nil {
		t.Fatal(err)
	}
	want := listing(t, layers[0].Tree)
	if err := c.Trim(2<<20 + 512<<10); err != nil {
		t.Fatal(err)
	}
	// The first was used least recently: the second was touched just now.
	have := strings.Join(files(t, c.spoolDir()), " ")
	for k, p := range data {
		if strings.Contains(have, hexOf(sum(p.plain))) != (k > 0) {
			t.Errorf("layer %d of %s", k, have)
		}
	}
	if err := c.Trim(0); err != nil {
		t.Fatal(err)
	}
	if got := files(t, c.Dir()); len(got) > 0 {
		t.Errorf("left %v", got)
	}
	if listing(t, layers[0].Tree) != want {
		t.Error("what is in use cannot be read")
	}
	stale := filepath.Join(c.tempDir(), "spool-1")
	writeFile(t, stale, nil)
	if err := os.Chtimes(stale, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(c.tempDir(), "spool-2"), nil)
	openCache(t, c.Dir())
	if got := files(t, c.tempDir()); !slices.Equal(got, []string{"spool-2"}) {
		t.Errorf("left %v", got)
	}
}

func TestCacheErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, nil)
	_, err := OpenCache(file)
	wantFault(t, err, fault.Output, "cache")
	c := openCache(t, t.TempDir())
	if err := os.RemoveAll(c.tempDir()); err != nil {
		t.Fatal(err)
	}
	b := blobs{}
	img := open(t, "oci:"+b.layout(t, b.image(t, "amd64", simplePart(t, "x"))), Options{})
	_, err = img.Unpack(context.Background(), UnpackOptions{Cache: c})
	wantFault(t, err, fault.Output, "tmp")
	_, err = img.Unpack(context.Background(), UnpackOptions{TempDir: file})
	wantFault(t, err, fault.Output, "not a directory")
}
