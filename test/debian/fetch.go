package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	attempts   = 4
	firstPause = time.Second // doubled after each attempt
	idleLimit  = time.Minute // without a byte, a connection is given up
)

// getter downloads into a directory of files named by their SHA-256.
type getter struct {
	dir    string
	client *http.Client
	pause  time.Duration
}

func newGetter(cache string, pause time.Duration) *getter {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = idleLimit
	if proxy := HostProxy(); proxy != nil {
		transport.Proxy = func(r *http.Request) (*url.URL, error) {
			if u, err := http.ProxyFromEnvironment(r); u != nil || err != nil {
				return u, err
			}
			return proxy, nil
		}
	}
	return &getter{dir: filepath.Join(cache, "sha256"), client: &http.Client{Transport: transport}, pause: pause}
}

func (g *getter) path(sum string) string { return filepath.Join(g.dir, sum) }

// permanent is an answer that asking again does not change.
type permanent struct{ error }

// fetch returns what is at u, at most limit bytes.
func (g *getter) fetch(ctx context.Context, u string, limit int64) ([]byte, error) {
	var b bytes.Buffer
	err := g.retry(ctx, func() error {
		b.Reset()
		return g.once(ctx, u, limit, &b)
	})
	return b.Bytes(), err
}

// retry repeats what fails for a reason that may pass.
func (g *getter) retry(ctx context.Context, try func() error) error {
	pause := g.pause
	for n := 1; ; n++ {
		err := try()
		if err == nil || n == attempts || ctx.Err() != nil || errors.As(err, new(permanent)) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// once makes one request. When it fails, some of the body may have been written.
func (g *getter) once(ctx context.Context, u string, limit int64, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return permanent{err}
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("%s: %s", u, resp.Status)
		if resp.StatusCode >= 400 && resp.StatusCode < 500 &&
			resp.StatusCode != http.StatusRequestTimeout && resp.StatusCode != http.StatusTooManyRequests {
			return permanent{err}
		}
		return err
	}
	idle := time.AfterFunc(idleLimit, cancel)
	defer idle.Stop()
	body := &watched{r: io.LimitReader(resp.Body, limit+1), idle: idle}
	n, err := io.Copy(w, body)
	if n > limit {
		return permanent{fmt.Errorf("%s: larger than %d bytes", u, limit)}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", u, err)
	}
	return nil
}

// watched restarts a timer whenever something was read.
type watched struct {
	r    io.Reader
	idle *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.idle.Reset(idleLimit)
	return n, err
}

// cached returns the path of the file with the given digest, which it downloads
// from u if need be.
func (g *getter) cached(ctx context.Context, u string, want fileSum) (string, error) {
	path := g.path(want.sha256)
	if isFile(path, want.size) {
		return path, nil
	}
	return path, g.retry(ctx, func() error {
		return g.store(want, func(w io.Writer) error { return g.once(ctx, u, want.size, w) })
	})
}

// unpack stores what the compressed file holds under its own digest.
func (g *getter) unpack(compressed string, open func(io.Reader) (io.Reader, error), want fileSum) error {
	f, err := os.Open(compressed)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := open(f)
	if err != nil {
		return err
	}
	return g.store(want, func(w io.Writer) error {
		_, err := io.Copy(w, io.LimitReader(r, want.size+1))
		return err
	})
}

// store writes a file to the cache. It gets its name when its size and digest
// are as expected; several processes may do so at once.
func (g *getter) store(want fileSum, write func(io.Writer) error) error {
	f, err := os.CreateTemp(g.dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	hash := sha256.New()
	count := &counter{}
	if err := write(io.MultiWriter(f, hash, count)); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); count.n != want.size || got != want.sha256 {
		return fmt.Errorf("%d bytes with SHA256 %s, expected %d with %s", count.n, got, want.size, want.sha256)
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), g.path(want.sha256))
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// writeFile replaces a file in one step.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func isFile(path string, size int64) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Size() == size
}
