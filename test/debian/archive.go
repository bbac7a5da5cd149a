package debian

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/ulikunitz/xz"
	"golang.org/x/sync/errgroup"
)

// DefaultSuite is the release that packages come from.
const DefaultSuite = "forky"

const (
	maxRelease = 16 << 20 // bytes of InRelease; 150 kB at present
	maxIndex   = 1 << 30  // bytes of an index, uncompressed; 60 MB at present
	downloads  = 4        // at a time: mirrors answer small files slowly
)

// Options say which packages to use and where to keep them.
type Options struct {
	Mirror string    // default: HostMirror()
	Suite  string    // default: DefaultSuite
	Arch   string    // Debian's name of the architecture, default "amd64"
	Cache  string    // directory, required; files are found by their SHA-256
	Log    io.Writer // progress, one line a step; default: none

	pause time.Duration // after the first failed request; default firstPause
}

// Archive is the index of one suite and architecture, and a cache of files.
type Archive struct {
	opts  Options
	get   *getter
	index *index
}

// Open reads the index of an archive. Without a connection it falls back on the
// last one that is in the cache.
func Open(ctx context.Context, o Options) (*Archive, error) {
	if o.Cache == "" {
		return nil, errors.New("debian: no cache directory")
	}
	if o.Mirror == "" {
		o.Mirror = HostMirror()
	}
	if o.Suite == "" {
		o.Suite = DefaultSuite
	}
	if o.Arch == "" {
		o.Arch = "amd64"
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.pause == 0 {
		o.pause = firstPause
	}
	if err := os.MkdirAll(filepath.Join(o.Cache, "sha256"), 0o755); err != nil {
		return nil, err
	}
	a := &Archive{opts: o, get: newGetter(o.Cache, o.pause)}
	text, err := a.inRelease(ctx)
	if err != nil {
		return nil, fmt.Errorf("debian: %w", err)
	}
	rel, err := parseRelease(text)
	if err != nil {
		return nil, fmt.Errorf("debian: %w", err)
	}
	if a.index, err = a.packages(ctx, rel); err != nil {
		return nil, fmt.Errorf("debian: index of %s: %w", o.Arch, err)
	}
	return a, nil
}

func (a *Archive) logf(format string, args ...any) {
	fmt.Fprintf(a.opts.Log, "debian: "+format+"\n", args...)
}

// inRelease returns the newest InRelease to be had.
func (a *Archive) inRelease(ctx context.Context) ([]byte, error) {
	kept := filepath.Join(a.opts.Cache, "InRelease-"+a.opts.Suite)
	text, err := a.get.fetch(ctx, a.url("dists", a.opts.Suite, "InRelease"), maxRelease)
	if err == nil {
		return text, writeFile(kept, text)
	}
	if ctx.Err() != nil {
		return nil, err
	}
	text, kerr := os.ReadFile(kept)
	if kerr != nil {
		return nil, err
	}
	a.logf("using the index of an earlier run: %v", err)
	return text, nil
}

// packages returns the index, from the cache if it is there.
func (a *Archive) packages(ctx context.Context, rel release) (*index, error) {
	plain := "main/binary-" + a.opts.Arch + "/Packages"
	want, ok := rel[plain]
	if !ok || want.size > maxIndex {
		return nil, fmt.Errorf("release lists no usable %s", plain)
	}
	path := a.get.path(want.sha256)
	if _, err := os.Stat(path); err != nil {
		if err := a.fetchIndex(ctx, rel, plain, want); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseIndex(f)
}

// fetchIndex puts the uncompressed index into the cache.
func (a *Archive) fetchIndex(ctx context.Context, rel release, plain string, want fileSum) error {
	err := fmt.Errorf("release lists neither %s.xz nor .gz", plain)
	for _, c := range []struct {
		ext  string
		open func(io.Reader) (io.Reader, error)
	}{
		{".xz", func(r io.Reader) (io.Reader, error) { return xz.NewReader(r) }},
		{".gz", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	} {
		sum, ok := rel[plain+c.ext]
		if !ok {
			continue
		}
		a.logf("fetching the index of %s/%s (%d kB)", a.opts.Suite, a.opts.Arch, sum.size/1000)
		// By hash first: the plain name may be of a newer index already.
		dir := a.url("dists", a.opts.Suite, filepath.ToSlash(filepath.Dir(plain)))
		var compressed string
		compressed, err = a.get.cached(ctx, dir+"/by-hash/SHA256/"+sum.sha256, sum)
		if err != nil {
			compressed, err = a.get.cached(ctx, a.url("dists", a.opts.Suite, plain+c.ext), sum)
		}
		if err == nil {
			err = a.get.unpack(compressed, c.open, want)
			// What it holds is kept without compression.
			os.Remove(compressed)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// Fetch downloads what of the packages is not in the cache yet and returns the
// paths of their .deb files, in the same order. Each was compared with the
// SHA-256 of the index when it was stored.
func (a *Archive) Fetch(ctx context.Context, packages []*Package) ([]string, error) {
	paths := make([]string, len(packages))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(downloads)
	for i, p := range packages {
		g.Go(func() error {
			sum := fileSum{size: p.Size, sha256: p.SHA256}
			if path := a.get.path(p.SHA256); isFile(path, p.Size) {
				paths[i] = path
				return nil
			}
			a.logf("fetching %s %s (%d kB)", p.Name, p.Version, (p.Size+999)/1000)
			path, err := a.get.cached(ctx, a.url(p.Filename), sum)
			if err != nil {
				return fmt.Errorf("debian: %s: %w", p.Name, err)
			}
			paths[i] = path
			return nil
		})
	}
	return paths, g.Wait()
}

func (a *Archive) url(parts ...string) string {
	u := a.opts.Mirror
	for _, p := range parts {
		u += "/" + p
	}
	return u
}
