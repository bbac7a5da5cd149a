package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/ulikunitz/xz"
)

// mirror is an archive with one package, for amd64, in memory.
type mirror struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	fail  map[string]int // status of the next requests for a path, until it is 0
	times map[string]int
	asked map[string]int
}

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

func newMirror(t *testing.T) *mirror {
	t.Helper()
	deb, err := os.ReadFile("testdata/hello-xz.deb")
	if err != nil {
		t.Fatal(err)
	}
	packages := []byte(fmt.Sprintf("Package: hello-test\nVersion: 1.0-1\nFilename: pool/hello.deb\nSize: %d\nSHA256: %s\n", len(deb), sum(deb)))
	var x, z bytes.Buffer
	xw, err := xz.NewWriter(&x)
	if err != nil {
		t.Fatal(err)
	}
	zw := gzip.NewWriter(&z)
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{xw, zw} {
		if _, err := w.Write(packages); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	const dir = "main/binary-amd64/"
	inRelease := "SHA256:\n"
	m := &mirror{fail: make(map[string]int), times: make(map[string]int), asked: make(map[string]int), files: map[string][]byte{
		"/pool/hello.deb":                                         deb,
		"/dists/test/" + dir + "Packages.gz":                      z.Bytes(),
		"/dists/test/" + dir + "by-hash/SHA256/" + sum(x.Bytes()): x.Bytes(),
	}}
	for name, b := range map[string][]byte{"Packages": packages, "Packages.xz": x.Bytes(), "Packages.gz": z.Bytes()} {
		inRelease += fmt.Sprintf(" %s %d %s%s\n", sum(b), len(b), dir, name)
	}
	m.files["/dists/test/InRelease"] = []byte(inRelease)
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked[r.URL.Path]++
	if m.times[r.URL.Path] > 0 {
		m.times[r.URL.Path]--
		w.WriteHeader(m.fail[r.URL.Path])
		return
	}
	b, ok := m.files[r.URL.Path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Write(b)
}

// failNext makes the next n requests for a path fail.
func (m *mirror) failNext(path string, status, n int) {
	m.fail[path], m.times[path] = status, n
}

func (m *mirror) open(t *testing.T, cache string, log *strings.Builder) (*Archive, error) {
	t.Helper()
	return Open(context.Background(), Options{Mirror: m.URL, Suite: "test", Cache: cache, Log: log, pause: time.Millisecond})
}

// fetch opens the archive and downloads its package.
func (m *mirror) fetch(t *testing.T, cache string) error {
	t.Helper()
	var log strings.Builder
	a, err := m.open(t, cache, &log)
	if err != nil {
		return err
	}
	list, err := a.Resolve([]string{"hello-test"}, nil)
	if err != nil {
		return err
	}
	paths, err := a.Fetch(context.Background(), list)
	if err != nil {
		return err
	}
	return ReadFile(paths[0], nil, func(Entry) error { return nil })
}

func TestArchive(t *testing.T) {
	m, cache := newMirror(t), t.TempDir()
	m.failNext("/pool/hello.deb", http.StatusServiceUnavailable, 2)
	for range 2 {
		if err := m.fetch(t, cache); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.asked["/pool/hello.deb"]; n != 3 {
		t.Errorf("asked %d times for the package, expected two failures, one success and no more", n)
	}
	m.Close()
	var log strings.Builder
	if _, err := m.open(t, cache, &log); err != nil || !strings.Contains(log.String(), "earlier run") {
		t.Errorf("without a connection: %v, log %q", err, log.String())
	}
}

func TestArchiveFallsBack(t *testing.T) {
	m := newMirror(t)
	for path := range m.files {
		if strings.Contains(path, "by-hash") {
			delete(m.files, path)
		}
	}
	if err := m.fetch(t, t.TempDir()); err != nil {
		t.Error(err)
	}
}

func TestArchiveRejects(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*mirror)
		want   string
	}{
		"missing package": {func(m *mirror) { delete(m.files, "/pool/hello.deb") }, "404"},
		"changed package": {func(m *mirror) { m.files["/pool/hello.deb"][100]++ }, "SHA256"},
		"larger package": {func(m *mirror) {
			m.files["/pool/hello.deb"] = append(m.files["/pool/hello.deb"], 0)
		}, "larger than"},
		"changed index": {func(m *mirror) {
			for path, b := range m.files {
				if strings.Contains(path, "by-hash") || strings.HasSuffix(path, ".gz") {
					b[len(b)/2]++
				}
			}
		}, "SHA256"},
		"no such architecture": {func(m *mirror) {
			b := m.files["/dists/test/InRelease"]
			m.files["/dists/test/InRelease"] = bytes.ReplaceAll(b, []byte("amd64"), []byte("sparc"))
		}, "lists no usable"},
	} {
		t.Run(name, func(t *testing.T) {
			m, cache := newMirror(t), t.TempDir()
			c.change(m)
			err := m.fetch(t, cache)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, expected %q", err, c.want)
			}
			left, _ := os.ReadDir(cache + "/sha256")
			for _, f := range left {
				if strings.HasPrefix(f.Name(), ".new") {
					t.Errorf("%s is left behind", f.Name())
				}
			}
		})
	}
}
