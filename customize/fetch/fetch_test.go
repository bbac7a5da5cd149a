package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imgbuild/fault"
)

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func source(t *testing.T) *Source {
	t.Helper()
	s := &Source{Dir: t.TempDir(), Pause: time.Millisecond}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(s.Dir)
		if err != nil || len(left) > 0 {
			t.Errorf("%v is left, %v", left, err)
		}
	})
	return s
}

func TestLocal(t *testing.T) {
	for _, size := range []int{0, 1, inMemory, inMemory + 1, 3 * inMemory} {
		text := bytes.Repeat([]byte("x"), size)
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, text, 0o640); err != nil {
			t.Fatal(err)
		}
		s := source(t)
		for _, uri := range []string{"file://" + name, name} {
			ref, mode, err := s.Fetch(t.Context(), uri, strings.ToUpper(sum(text)))
			if err != nil || mode != 0o640 || ref.Size() != int64(size) {
				t.Fatalf("%d bytes: %d, %o, %v", size, ref.Size(), mode, err)
			}
			// What was read stays, whatever happens to the file.
			if err := os.WriteFile(name, bytes.Repeat([]byte("y"), size), 0o640); err != nil {
				t.Fatal(err)
			}
			if got, err := ref.ReadAll(10 * inMemory); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%d bytes: %v", size, err)
			}
			if err := os.WriteFile(name, text, 0o640); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLocalErrors(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := source(t)
	s.Limit = 4
	for _, tc := range []struct{ uri, sum, want string }{
		{"file://" + name, "", "more than 4 bytes"},
		{"file://" + dir, "", "not a regular file"},
		{"file://" + name + "x", "", "no such file"},
		{"http://example.com/x", "", "not supported"},
		{"://", "", "not a URI"},
	} {
		if _, _, err := s.Fetch(t.Context(), tc.uri, tc.sum); err == nil || !strings.Contains(err.Error(), tc.want) || fault.ClassOf(err) != fault.Usage {
			t.Errorf("%s: %v", tc.uri, err)
		}
	}
	s.Limit = 5
	if _, _, err := s.Fetch(t.Context(), name, sum([]byte("12346"))); err == nil || !strings.Contains(err.Error(), "its sha256 is "+sum([]byte("12345"))) {
		t.Errorf("wrong digest: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Fetch(ctx, name, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// server returns a server of https, and a source that trusts it.
func server(t *testing.T, h http.HandlerFunc) (*httptest.Server, *Source) {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	s := source(t)
	s.Transport = srv.Client().Transport
	return srv, s
}

func TestRemote(t *testing.T) {
	large := bytes.Repeat([]byte("large"), inMemory)
	var host string
	srv, s := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/small":
			_, _ = w.Write([]byte("small"))
		case "/large":
			_, _ = w.Write(large)
		case "/to-small":
			http.Redirect(w, r, "/small", http.StatusFound)
		case "/again":
			http.Redirect(w, r, "/again", http.StatusFound)
		case "/down":
			http.Redirect(w, r, "http://"+host+"/small", http.StatusFound)
		case "/to-file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/private":
			w.WriteHeader(http.StatusForbidden)
		case "/short":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("short"))
		default:
			http.NotFound(w, r)
		}
	})
	host = strings.TrimPrefix(srv.URL, "https://")
	for path, text := range map[string][]byte{"/small": []byte("small"), "/large": large, "/to-small": []byte("small")} {
		ref, mode, err := s.Fetch(t.Context(), srv.URL+path, sum(text))
		if err != nil || mode != 0 {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got, err := ref.ReadAll(1 << 30); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, tc := range []struct {
		path  string
		want  string
		class fault.Class
	}{
		{"/none", "404 Not Found", fault.NotFound},
		{"/private", "403 Forbidden", fault.Auth},
		{"/again", "more than 10 redirections", fault.NotFound},
		{"/down", "which is not https", fault.NotFound},
		{"/to-file", "which is not https", fault.NotFound},
		{"/short", "unexpected EOF", fault.NotFound},
		{"/large", "its sha256 is", fault.Usage},
	} {
		_, _, err := s.Fetch(t.Context(), srv.URL+tc.path, sum([]byte("small")))
		if err == nil || !strings.Contains(err.Error(), tc.want) || fault.ClassOf(err) != tc.class {
			t.Errorf("%s: %v, class %d", tc.path, err, fault.ClassOf(err))
		}
	}
	s.Limit = 4
	if _, _, err := s.Fetch(t.Context(), srv.URL+"/small", sum([]byte("small"))); err == nil || !strings.Contains(err.Error(), "more than 4 bytes") {
		t.Errorf("limit: %v", err)
	}
	// No password in a message.
	if _, _, err := s.Fetch(t.Context(), strings.Replace(srv.URL, "https://", "https://me:secret@", 1)+"/none", ""); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("password: %v", err)
	}
}

// A server that fails is asked again, one that refuses is not.
func TestRetry(t *testing.T) {
	var asked atomic.Int32
	var fails int32
	srv, s := server(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= fails {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path != "/" {
			http.NotFound(w, r)
		}
	})
	for _, tc := range []struct {
		path  string
		fails int32
		asked int32
		ok    bool
	}{{"/", 0, 1, true}, {"/", 2, 3, true}, {"/", 3, 3, false}, {"/none", 0, 1, false}} {
		fails = tc.fails
		asked.Store(0)
		_, _, err := s.Fetch(t.Context(), srv.URL+tc.path, "")
		if (err == nil) != tc.ok || asked.Load() != tc.asked {
			t.Errorf("%+v: asked %d times, %v", tc, asked.Load(), err)
		}
	}
}

func TestSilence(t *testing.T) {
	release := make(chan struct{})
	srv, s := server(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("a"))
		w.(http.Flusher).Flush()
		<-release
	})
	defer close(release)
	s.Silence = 100 * time.Millisecond
	if _, _, err := s.Fetch(t.Context(), srv.URL, ""); err == nil || !strings.Contains(err.Error(), "nothing came for 100ms") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.Silence = time.Minute
	if _, _, err := s.Fetch(ctx, srv.URL, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("canceled: %v", err)
	}
}

// A certificate that nobody vouches for is refused.
func TestCertificate(t *testing.T) {
	srv, s := server(t, func(http.ResponseWriter, *http.Request) {})
	s.Transport = nil
	if _, _, err := s.Fetch(t.Context(), srv.URL, ""); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v", err)
	}
}
