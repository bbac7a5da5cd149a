package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"imgbuild/fault"
	"imgbuild/test/timing"
)

// server is a registry on this machine, in front of which a test can put
// something hostile.
type server struct {
	*httptest.Server
	host  string
	inner http.Handler
	mu    sync.Mutex
	wrap  func(w http.ResponseWriter, r *http.Request, inner http.Handler)
	// requests counts requests for blobs and manifests, by path.
	requests map[string]int
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{inner: registry.New(registry.Logger(log.New(io.Discard, "", 0))), requests: make(map[string]int)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	s.host = strings.TrimPrefix(s.URL, "http://")
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	wrap := s.wrap
	if r.Method == http.MethodGet && r.URL.Path != "/v2/" {
		s.requests[r.URL.Path]++
	}
	s.mu.Unlock()
	if wrap != nil {
		wrap(w, r, s.inner)
		return
	}
	s.inner.ServeHTTP(w, r)
}

func (s *server) hostile(wrap func(w http.ResponseWriter, r *http.Request, inner http.Handler)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrap = wrap
	clear(s.requests)
}

// count returns how many requests there were for paths with text.
func (s *server) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for path, k := range s.requests {
		if strings.Contains(path, text) {
			n += k
		}
	}
	return n
}

// push uploads all blobs, and the manifests under their digest and a tag.
func (s *server) push(t testing.TB, b blobs, tags map[string]descriptor) {
	t.Helper()
	for d, raw := range b {
		s.put(t, http.MethodPost, "/blobs/uploads/?digest="+d, "", raw)
		var doc document
		if json.Unmarshal(raw, &doc) == nil && doc.SchemaVersion == 2 && doc.Manifests == nil {
			s.put(t, http.MethodPut, "/manifests/"+d, mediaManifest, raw)
		}
	}
	for d, raw := range b {
		var doc document
		if json.Unmarshal(raw, &doc) == nil && doc.Manifests != nil {
			s.put(t, http.MethodPut, "/manifests/"+d, mediaIndex, raw)
		}
	}
	for tag, d := range tags {
		s.put(t, http.MethodPut, "/manifests/"+tag, d.MediaType, b[d.Digest])
	}
}

func (s *server) put(t testing.TB, method, path, mediaType string, raw []byte) {
	t.Helper()
	req := httptest.NewRequest(method, "/v2/org/os"+path, bytes.NewReader(raw))
	req.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	s.inner.ServeHTTP(w, req)
	if w.Code/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
}

// bigPart is a layer whose blob does not compress, of n bytes.
func bigPart(t testing.TB, n int) part {
	data := make([]byte, n)
	rand.New(rand.NewSource(int64(n))).Read(data)
	plain := makeTar(t, reg("data", string(data)))
	return part{plain: plain, blob: filter(t, plain, "gzip", "-1nc")}
}

// pulled opens and unpacks.
func pulled(t testing.TB, ref string, opt Options, cache *Cache) (*Image, []*Layer, error) {
	t.Helper()
	img, err := Open(context.Background(), mustParse(t, ref), opt)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { img.Close() })
	layers, err := img.Unpack(context.Background(), UnpackOptions{Cache: cache, TempDir: t.TempDir()})
	return img, layers, err
}

func TestRegistry(t *testing.T) {
	s := newServer(t)
	b := blobs{}
	amd, arm := b.image(t, "amd64", simplePart(t, "amd"), bigPart(t, 3<<20)), b.image(t, "arm64", simplePart(t, "arm"))
	multi := b.index(t, amd, arm)
	s.push(t, b, map[string]descriptor{"amd": amd, "latest": multi})
	var agent atomic.Value
	s.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		agent.Store(r.UserAgent())
		inner.ServeHTTP(w, r)
	})
	for ref, want := range map[string]string{
		":amd": amd.Digest, "": amd.Digest, "@" + amd.Digest: amd.Digest, "@" + multi.Digest: amd.Digest, ":amd@" + amd.Digest: amd.Digest,
	} {
		img, layers, err := pulled(t, s.host+"/org/os"+ref, Options{Arch: "amd64", UserAgent: "imgbuild/test"}, nil)
		if err != nil {
			t.Fatal(ref, err)
		}
		if img.ManifestDigest != want || len(layers) != 2 || !strings.Contains(listing(t, layers[0].Tree), `"amd"`) {
			t.Errorf("%s: %s", ref, img.ManifestDigest)
		}
	}
	if a := agent.Load().(string); !strings.HasPrefix(a, "imgbuild/test") {
		t.Errorf("user agent %q", a)
	}
	img, _, err := pulled(t, s.host+"/org/os", Options{Arch: "arm64"}, nil)
	if err != nil || img.ManifestDigest != arm.Digest {
		t.Error(err)
	}
	_, _, err = pulled(t, s.host+"/org/os", Options{Arch: "riscv64"}, nil)
	wantFault(t, err, fault.NotFound, "not there for linux/riscv64")
	for _, ref := range []string{"/org/os:none", "/org/none", "/org/os@" + hexDigest} {
		_, _, err = pulled(t, s.host+ref, Options{Arch: "amd64"}, nil)
		wantFault(t, err, fault.NotFound, "_UNKNOWN")
	}
}

func TestUnreachable(t *testing.T) {
	s := newServer(t)
	s.Close()
	_, _, err := pulled(t, s.host+"/org/os", Options{}, nil)
	wantFault(t, err, fault.NotFound, "refused")
	_, _, err = pulled(t, "no-such-host.invalid/org/os", Options{}, nil)
	wantFault(t, err, fault.NotFound, "no-such-host.invalid")
}

func TestHostileRegistry(t *testing.T) {
	s := newServer(t)
	b := blobs{}
	p := bigPart(t, 2<<20)
	m := b.image(t, "amd64", p)
	s.push(t, b, map[string]descriptor{"latest": m})
	digest := sum(p.blob)
	isBlob := func(r *http.Request) bool { return strings.Contains(r.URL.Path, digest) }
	drop := func(w http.ResponseWriter) {
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	var calls atomic.Int32
	for name, c := range map[string]struct {
		wrap  func(w http.ResponseWriter, r *http.Request, inner http.Handler)
		class fault.Class // 0 for success
		text  string
	}{
		"dropped once, ranges": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if !isBlob(r) {
				inner.ServeHTTP(w, r)
				return
			}
			var from int
			if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(p.blob)-1, len(p.blob)))
				w.Header().Set("Content-Length", fmt.Sprint(len(p.blob)-from))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(p.blob[from:])
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(p.blob)))
			_, _ = w.Write(p.blob[:1<<20])
			drop(w)
		}, 0, ""},
		"dropped once, no ranges": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if isBlob(r) && calls.Add(1) == 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(p.blob)))
				_, _ = w.Write(p.blob[:1<<20])
				drop(w)
			}
			r.Header.Del("Range")
			inner.ServeHTTP(w, r)
		}, 0, ""},
		"dropped always": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if isBlob(r) {
				w.Header().Set("Content-Length", fmt.Sprint(len(p.blob)))
				_, _ = w.Write(p.blob[:1<<20])
				drop(w)
			}
			inner.ServeHTTP(w, r)
		}, fault.NotFound, "EOF"},
		"wrong range": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if !isBlob(r) {
				inner.ServeHTTP(w, r)
				return
			}
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 5-9/10")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(p.blob)
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(p.blob)))
			_, _ = w.Write(p.blob[:1<<20])
			drop(w)
		}, fault.BadImage, "asked for bytes"},
		"wrong content": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if isBlob(r) {
				bad := bytes.Clone(p.blob)
				bad[len(bad)/2] ^= 1
				_, _ = w.Write(bad)
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.BadImage, "does not match its digest"},
		"shorter": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if isBlob(r) {
				_, _ = w.Write(p.blob[:5000])
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.NotFound, "unexpected EOF"},
		"wrong length": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if isBlob(r) {
				w.Header().Set("Content-Length", "5000")
				_, _ = w.Write(p.blob[:5000])
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.BadImage, "the manifest says"},
		"longer": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if isBlob(r) {
				_, _ = w.Write(p.blob)
				drop := w.(http.Flusher)
				drop.Flush()
				_, _ = w.Write(p.blob)
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.BadImage, "more than the"},
		"silent": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if isBlob(r) {
				w.Header().Set("Content-Length", fmt.Sprint(len(p.blob)))
				_, _ = w.Write(p.blob[:5000])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.NotFound, "stopped sending"},
		"silent manifest": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				_, _ = w.Write(b[m.Digest][:50])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.NotFound, "stopped sending"},
		"silent from the start": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if isBlob(r) {
				<-r.Context().Done()
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.NotFound, "timeout"},
		"missing blob": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if isBlob(r) {
				http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"gone"}]}`, http.StatusNotFound)
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.NotFound, "BLOB_UNKNOWN"},
		"wrong manifest": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				_, _ = io.WriteString(w, strings.Replace(string(b[m.Digest]), "here", "HERE", 1))
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.BadImage, "does not match its digest"},
		"endless manifest": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				for range 100 {
					_, _ = w.Write(make([]byte, 1<<20))
				}
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.BadImage, "more than"},
		"html": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				_, _ = io.WriteString(w, "<html>login</html>")
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.BadImage, ""},
		"redirect to plain HTTP": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if isBlob(r) {
				http.Redirect(w, r, "http://example.invalid/x", http.StatusFound)
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.NotFound, "plain HTTP"},
		"bad gateway once": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if isBlob(r) && calls.Add(1) == 1 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			inner.ServeHTTP(w, r)
		}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s.hostile(c.wrap)
			opt := Options{Arch: "amd64"}
			if strings.HasPrefix(name, "silent") {
				// A busy machine answers later than an idle one, but not that late.
				opt.IdleTimeout = 2 * time.Second
			}
			var cache *Cache
			var layers []*Layer
			var err error
			timing.Within(t, 15*time.Second, func() time.Duration { // four tries of 2 s, and pauses
				calls.Store(0)
				if cache, err = OpenCache(t.TempDir()); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				_, layers, err = pulled(t, s.host+"/org/os@"+m.Digest, opt, cache)
				return time.Since(start)
			})
			if left := files(t, cache.tempDir()); len(left) > 0 {
				t.Errorf("left %v", left)
			}
			if c.class == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if layers[0].Size != int64(len(p.plain)) {
					t.Errorf("size %d", layers[0].Size)
				}
				return
			}
			wantFault(t, err, c.class, c.text)
			for _, f := range files(t, cache.Dir()) {
				if strings.Contains(f, strings.TrimPrefix(digest, "sha256:")) || strings.HasPrefix(f, "spools/") {
					t.Errorf("cached %s", f)
				}
			}
		})
	}
}

func TestCancelPull(t *testing.T) {
	s := newServer(t)
	b := blobs{}
	p := bigPart(t, 1<<20)
	m := b.image(t, "amd64", p, simplePart(t, "other"))
	s.push(t, b, map[string]descriptor{"latest": m})
	var cancel context.CancelFunc
	s.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if strings.Contains(r.URL.Path, sum(p.blob)) {
			w.Header().Set("Content-Length", fmt.Sprint(len(p.blob)))
			_, _ = w.Write(p.blob[:5000])
			w.(http.Flusher).Flush()
			cancel()
			<-r.Context().Done()
			return
		}
		inner.ServeHTTP(w, r)
	})
	for _, cached := range []bool{true, false} {
		timing.Within(t, time.Second, func() time.Duration {
			var ctx context.Context
			ctx, cancel = context.WithCancel(context.Background())
			defer cancel()
			dir := t.TempDir()
			opt := UnpackOptions{TempDir: dir}
			if cached {
				var err error
				if opt.Cache, err = OpenCache(dir); err != nil {
					t.Fatal(err)
				}
			}
			img := open(t, s.host+"/org/os", Options{Arch: "amd64"})
			start := time.Now()
			_, err := img.Unpack(ctx, opt)
			took := time.Since(start)
			if err == nil || ctx.Err() == nil || !strings.Contains(err.Error(), "context canceled") {
				t.Errorf("got %v", err)
			}
			img.Close()
			if left := files(t, dir); cached && len(files(t, opt.Cache.tempDir())) > 0 || !cached && len(left) > 0 {
				t.Errorf("left %v", left)
			}
			return took
		})
	}
}

func TestTLS(t *testing.T) {
	b := blobs{}
	m := b.image(t, "amd64", simplePart(t, "x"))
	plain := newServer(t)
	plain.push(t, b, map[string]descriptor{"latest": m})
	secure := httptest.NewTLSServer(plain.inner)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer secure.Close()
	host := strings.TrimPrefix(secure.URL, "https://")
	_, _, err := pulled(t, host+"/org/os", Options{}, nil)
	wantFault(t, err, fault.NotFound, "certificate")
	if !strings.Contains(fault.HintOf(err), "--tls-verify=false") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
	if _, _, err := pulled(t, host+"/org/os", Options{Insecure: true}, nil); err != nil {
		t.Error(err)
	}
	if _, _, err := pulled(t, plain.host+"/org/os", Options{Insecure: true}, nil); err != nil {
		t.Error(err)
	}
	guard := &guard{inner: http.DefaultTransport}
	for url, ok := range map[string]bool{
		"http://10.0.0.1/v2/": false, "http://192.168.1.1/": false, "http://quay.io/": false, "http://localhost.evil.example/": false,
	} {
		if _, err := guard.RoundTrip(httptest.NewRequest("GET", url, nil)); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
	for host, want := range map[string]bool{"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "a.localhost": true, "10.0.0.1": false, "localhost.example": false} {
		if loopback(host) != want {
			t.Errorf("%s: loopback is %v", host, !want)
		}
	}
}

func TestRedirects(t *testing.T) {
	request := func(url string) *http.Request { return httptest.NewRequest("GET", url, nil) }
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"https://quay.io/", "https://cdn.example/", true},
		{"https://quay.io/", "https://169.254.169.254/", false},
		{"https://quay.io/", "https://10.0.0.1/", false},
		{"https://quay.io/", "https://[::1]/", false},
		{"https://10.0.0.1/", "https://10.0.0.1/x", true},
		{"http://127.0.0.1/", "http://127.0.0.2/", true},
	} {
		if err := checkRedirect(request(c.to), []*http.Request{request(c.from)}); (err == nil) != c.ok {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		}
	}
}
