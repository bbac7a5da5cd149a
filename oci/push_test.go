package oci

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"imgbuild/fault"
	"imgbuild/test/timing"
)

// toPush returns an image in the form that Push takes, and its manifest.
func toPush(t testing.TB, n int) (PushImage, descriptor) {
	b := blobs{}
	p := bigPart(t, n)
	m := b.image(t, "amd64", p)
	doc, err := parseDocument(b[m.Digest], "")
	if err != nil {
		t.Fatal(err)
	}
	l := doc.Layers[0]
	return PushImage{
		Manifest: b[m.Digest], MediaType: m.MediaType, Config: b[doc.Config.Digest],
		Layers: []PushLayer{{Digest: l.Digest, Size: l.Size, MediaType: l.MediaType, Content: bytes.NewReader(b[l.Digest])}},
	}, m
}

func TestPush(t *testing.T) {
	s := newServer(t)
	img, m := toPush(t, 3<<20)
	var sent atomic.Int64
	var agent atomic.Value
	s.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if r.Method == http.MethodPatch || r.Method == http.MethodPut {
			sent.Add(r.ContentLength)
			if r.ContentLength < 0 {
				b, _ := io.ReadAll(r.Body)
				sent.Add(int64(len(b)) + 1)
				r.Body = io.NopCloser(bytes.NewReader(b))
			}
		}
		if r.Method != http.MethodGet {
			agent.Store(r.UserAgent())
		}
		inner.ServeHTTP(w, r)
	})
	for i, tag := range []string{":1", ":2", ""} {
		sent.Store(0)
		done := int64(0)
		if err := Push(t.Context(), mustParse(t, s.host+"/org/vm"+tag), img, Options{UserAgent: "imgbuild/test"}, func(n int64) { done += n }); err != nil {
			t.Fatal(err)
		}
		if done != img.Layers[0].Size {
			t.Errorf("progress ends at %d of %d", done, img.Layers[0].Size)
		}
		if n := sent.Load(); i == 0 && n < img.Layers[0].Size || i > 0 && n > 10000 {
			t.Errorf("%s: %d bytes were sent", tag, n)
		}
		got, _, err := pulled(t, s.host+"/org/vm"+tag, Options{Arch: "amd64"}, nil)
		if err != nil || got.ManifestDigest != m.Digest {
			t.Errorf("%s: pulled %v, %v", tag, got, err)
		}
	}
	if a, _ := agent.Load().(string); !strings.HasPrefix(a, "imgbuild/test") {
		t.Errorf("user agent %q", a)
	}
	for _, ref := range []string{"oci:dir", s.host + "/org/vm@" + m.Digest} {
		wantFault(t, Push(t.Context(), mustParse(t, ref), img, Options{}, nil), fault.Usage, "")
	}
}

func TestPushFails(t *testing.T) {
	img, _ := toPush(t, 3<<20)
	var calls atomic.Int32
	for name, c := range map[string]struct {
		wrap  func(w http.ResponseWriter, r *http.Request, inner http.Handler)
		class fault.Class // 0 for success
		text  string
	}{
		"bad gateway once": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if r.Method == http.MethodPatch && calls.Add(1) == 1 {
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			inner.ServeHTTP(w, r)
		}, 0, ""},
		"cut once": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if r.Method == http.MethodPatch && calls.Add(1) == 1 {
				_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
				panic(http.ErrAbortHandler)
			}
			inner.ServeHTTP(w, r)
		}, 0, ""},
		"denied": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if r.Method == http.MethodPost {
				http.Error(w, `{"errors":[{"code":"DENIED","message":"no"}]}`, http.StatusForbidden)
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.Auth, "DENIED"},
		"unauthorized": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, fault.Auth, "401"},
		"wrong digest": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/") {
				http.Error(w, `{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}`, http.StatusBadRequest)
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.NotFound, "DIGEST_INVALID"},
		"manifest refused": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
				http.Error(w, `{"errors":[{"code":"MANIFEST_INVALID","message":"no"}]}`, http.StatusBadRequest)
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.NotFound, "MANIFEST_INVALID"},
		"takes nothing": {func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if r.Method == http.MethodPatch {
				time.Sleep(time.Second) // longer than the client waits
				return
			}
			inner.ServeHTTP(w, r)
		}, fault.NotFound, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			calls.Store(0)
			s := newServer(t)
			s.hostile(c.wrap)
			opt := Options{}
			if name == "takes nothing" {
				opt.IdleTimeout = 100 * time.Millisecond
			}
			done := int64(0)
			start := time.Now()
			err := Push(t.Context(), mustParse(t, s.host+"/org/vm"), img, opt, func(n int64) { done += n })
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
			if c.class == 0 {
				if err != nil || done != img.Layers[0].Size {
					t.Errorf("%v, progress ends at %d of %d", err, done, img.Layers[0].Size)
				}
				return
			}
			wantFault(t, err, c.class, c.text)
		})
	}
}

func TestPushCredentials(t *testing.T) {
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "https://")
	file := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(file, []byte(`{"auths":{"`+host+`":{"auth":"bWU6c2VjcmV0"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	img, _ := toPush(t, 1000)
	ref := mustParse(t, host+"/org/vm")
	wantFault(t, Push(t.Context(), ref, img, Options{AuthFile: file}, nil), fault.NotFound, "certificate")
	wantFault(t, Push(t.Context(), ref, img, Options{Insecure: true}, nil), fault.Auth, "")
	if err := Push(t.Context(), ref, img, Options{Insecure: true, AuthFile: file}, nil); err != nil {
		t.Error(err)
	}
}

// A push ends with its context.
func TestCancelPush(t *testing.T) {
	s := newServer(t)
	img, _ := toPush(t, 20<<20)
	timing.Within(t, 2*time.Second, func() time.Duration {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		s.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if r.Method == http.MethodPatch {
				_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
				cancel()
				<-ended
				return
			}
			inner.ServeHTTP(w, r)
		})
		start := time.Now()
		err := Push(ctx, mustParse(t, s.host+"/org/vm"), img, Options{}, nil)
		close(ended)
		if err == nil || !strings.Contains(err.Error(), "context canceled") {
			t.Error(err)
		}
		return time.Since(start)
	})
}
