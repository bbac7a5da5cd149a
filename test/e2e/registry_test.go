package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imgbuild/test/image"
	"imgbuild/test/timing"
)

// layoutRegistry serves an OCI layout by the distribution protocol, on loopback
// over plain HTTP. blob may answer for a blob in its own way.
func layoutRegistry(t *testing.T, layout string, blob func(w http.ResponseWriter, r *http.Request, path string) (done bool)) (host string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Manifests []struct{ Digest, MediaType string }
	}
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	manifest := index.Manifests[0]
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
		_, digest, _ := strings.Cut(r.URL.Path, "sha256:")
		path := filepath.Join(layout, "blobs/sha256", filepath.Base("/"+digest))
		switch {
		case r.URL.Path == "/v2/":
		case strings.Contains(r.URL.Path, "/manifests/"):
			if digest == "" && !strings.HasSuffix(r.URL.Path, "/1") {
				http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Docker-Content-Digest", manifest.Digest)
			http.ServeFile(w, r, filepath.Join(layout, "blobs/sha256", manifest.Digest[len("sha256:"):]))
		case blob != nil && blob(w, r, path):
		default:
			http.ServeFile(w, r, path)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// The same image from a registry, an archive and a layout gives the same disk.
func TestTransports(t *testing.T) {
	layout := sample(t)
	host := layoutRegistry(t, layout, nil)
	archive := filepath.Join(t.TempDir(), "image.tar")
	check(t, "tar", "tar", "-C", layout, "-cf", archive, ".")
	cache := t.TempDir()
	want := ""
	for _, args := range [][]string{
		{"--no-cache", "oci:" + layout + ":latest"},
		{"--no-cache", "oci-archive:" + archive},
		{"--no-cache", host + "/os:1"},
		{"--cache", cache, "docker://" + host + "/os:1"},
		{"--cache", cache, host + "/os:1"},
	} {
		args = append([]string{"--type", "raw", "--size", "3 GiB", "--target-imgref", "registry.example.com/os:1"}, args...)
		dir, _ := build(t, args...)
		got := sum(t, filepath.Join(dir, "image/disk.raw"))
		if want == "" {
			want = got
		} else if got != want {
			t.Errorf("%v: another disk than from the layout", args)
		}
	}
	r := run(t, command(t, "--no-cache", host+"/os:2"))
	failed(t, "no such tag", r, 3, "")
}

// What a remote image is is told by its manifest and config alone.
func TestInspectRemote(t *testing.T) {
	config, layers := 0, 0
	host := layoutRegistry(t, sample(t), func(_ http.ResponseWriter, _ *http.Request, path string) bool {
		if info, err := os.Stat(path); err == nil && info.Size() > 64<<10 {
			layers++
		} else {
			config++
		}
		return false
	})
	r := run(t, command(t, "inspect", "--no-cache", host+"/os:1"))
	if r.code != 0 || !strings.Contains(r.stdout, "Kind:") || strings.Contains(r.stdout, "Kernel:") {
		t.Errorf("exit %d: %s\n%s", r.code, r.stdout, r.stderr)
	}
	if config != 1 || layers != 0 {
		t.Errorf("%d layers and %d small blobs were fetched, want the config alone", layers, config)
	}
	r = run(t, command(t, "inspect", "--deep", "--json", "--no-cache", host+"/os:1"))
	if r.code != 0 || !strings.Contains(r.stdout, `"kernel": "`) || layers == 0 {
		t.Errorf("exit %d: %s\n%s", r.code, r.stdout, r.stderr)
	}
}

// A registry that fails in the middle of a layer, in several ways.
func TestBrokenRegistry(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "image")
	spec := image.New()
	var noise strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&noise, "%x", sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
	}
	spec.File(0, "usr/share/noise", noise.String())
	if err := spec.Write(layout); err != nil {
		t.Fatal(err)
	}
	large := func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() > 100_000
	}
	for _, tc := range []struct {
		name string
		blob func(w http.ResponseWriter, r *http.Request, path string) bool
		code int
	}{
		{"drops the connection", func(w http.ResponseWriter, r *http.Request, path string) bool {
			if !large(path) {
				return false
			}
			info, err := os.Stat(path)
			if err != nil {
				return false
			}
			w.Header().Set("Content-Length", fmt.Sprint(info.Size()))
			_, _ = w.Write(make([]byte, 1000))
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
			return true
		}, 3},
		{"asks for a login", func(w http.ResponseWriter, r *http.Request, path string) bool {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, "", http.StatusUnauthorized)
			return true
		}, 4},
		{"sends other bytes", func(w http.ResponseWriter, r *http.Request, path string) bool {
			b, err := os.ReadFile(path)
			if err != nil || !large(path) {
				return false
			}
			b[len(b)/2] ^= 1
			_, _ = w.Write(b)
			return true
		}, 5},
		{"sends too much", func(w http.ResponseWriter, r *http.Request, path string) bool {
			if !large(path) {
				return false
			}
			b, _ := os.ReadFile(path)
			_, _ = w.Write(append(b, make([]byte, 1<<20)...))
			return true
		}, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := layoutRegistry(t, layout, tc.blob)
			dir, cache := t.TempDir(), t.TempDir()
			timing.Within(t, time.Minute, func() time.Duration {
				start := time.Now()
				r := run(t, command(t, "--output", dir, "--cache", cache, "--target-arch", "amd64", host+"/os:1"))
				failed(t, tc.name, r, tc.code, dir)
				return time.Since(start)
			})
			for _, f := range files(t, filepath.Join(cache, "tmp")) {
				t.Errorf("left in the cache: %s", f)
			}
		})
	}
}
