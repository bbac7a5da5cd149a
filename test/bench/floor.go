package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"imgbuild/formats/output"
)

const (
	blockSize = 1 << 20
	grain     = 64 << 10 // of the zeros that are not written
)

// block is some bytes on their way from one goroutine to the next.
type block struct {
	b   []byte
	buf *[blockSize]byte
}

// floor does the least that must be done with the image and returns the number
// of bytes of its content. Everything is verified, so that nothing is left out.
func floor(layout, file string) (int64, error) {
	layers, err := readLayers(layout)
	if err != nil {
		return 0, err
	}
	f, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()

	g, ctx := errgroup.WithContext(context.Background())
	pool := make(chan *[blockSize]byte, 32)
	for range cap(pool) {
		pool <- new([blockSize]byte)
	}
	write := make(chan block, 16)
	total := int64(0)
	g.Go(func() error {
		defer func() {
			for b := range write { // after an error, so that nobody waits
				pool <- b.buf
			}
		}()
		w := output.NewFile(f)
		defer w.Stop()
		for b := range write {
			if err := writeDense(w, b.b, total); err != nil {
				return err
			}
			total += int64(len(b.b))
			pool <- b.buf
		}
		return w.Sync()
	})
	// All layers at once: there are few, and the largest must not come last.
	var all errgroup.Group
	for _, l := range layers {
		all.Go(func() error { return l.unpack(ctx, pool, write) })
	}
	g.Go(func() error {
		defer close(write)
		return all.Wait()
	})
	return total, g.Wait()
}

// writeDense writes what of p is not zero.
func writeDense(w *output.File, p []byte, off int64) error {
	for len(p) > 0 {
		n, zero := 0, output.IsZero(p[:min(grain, len(p))])
		for n < len(p) && output.IsZero(p[n:min(n+grain, len(p))]) == zero {
			n = min(n+grain, len(p))
		}
		if !zero {
			if _, err := w.WriteAt(p[:n], off); err != nil {
				return err
			}
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// layer is a blob of the layout.
type layer struct {
	path         string
	size         int64
	digest, diff v1.Hash
}

// unpack hashes the blob while it is decompressed, and the content while it is
// on its way to write.
func (l *layer) unpack(ctx context.Context, pool chan *[blockSize]byte, write chan<- block) error {
	f, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := decompress(f)
	if err != nil {
		return fmt.Errorf("%s: %w", l.path, err)
	}
	defer plain.Close()

	g, ctx := errgroup.WithContext(ctx)
	// The blob is read twice, from the page cache: that is cheaper than handing
	// over what is read, and lets both go their own speed.
	g.Go(func() error {
		h := sha256.New()
		_, err := io.CopyBuffer(struct{ io.Writer }{h}, io.NewSectionReader(f, 0, l.size), make([]byte, grain))
		if err == nil && hex.EncodeToString(h.Sum(nil)) != l.digest.Hex {
			err = fmt.Errorf("%s: the digest is another one", l.path)
		}
		return err
	})
	blocks := make(chan block, 4)
	g.Go(func() error {
		h := sha256.New()
		for b := range blocks {
			h.Write(b.b)
			write <- b
		}
		if ctx.Err() == nil && hex.EncodeToString(h.Sum(nil)) != l.diff.Hex {
			return fmt.Errorf("%s: the diff id is another one", l.path)
		}
		return nil
	})
	g.Go(func() error {
		defer close(blocks)
		for {
			var buf *[blockSize]byte
			select {
			case <-ctx.Done():
				return ctx.Err()
			case buf = <-pool:
			}
			n, err := io.ReadFull(plain, buf[:])
			blocks <- block{buf[:n], buf}
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", l.path, err)
			}
		}
	})
	return g.Wait()
}

// decompress returns the content of a blob. What it is shows in its first bytes.
func decompress(f *os.File) (io.ReadCloser, error) {
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(f, 256<<10)
	switch {
	case bytes.HasPrefix(magic[:], []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case magic == [4]byte{0x28, 0xb5, 0x2f, 0xfd}:
		d, err := zstd.NewReader(in)
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(in), nil
}

// readLayers returns the layers of the first image of a layout, the largest
// first.
func readLayers(layout string) ([]*layer, error) {
	blob := func(h v1.Hash) string { return filepath.Join(layout, "blobs", h.Algorithm, h.Hex) }
	name := filepath.Join(layout, "index.json")
	var m *v1.Manifest
	for depth := 0; m == nil; depth++ {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		index, err := v1.ParseIndexManifest(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(index.Manifests) == 0 || depth > 4 {
			return nil, fmt.Errorf("%s: no image", name)
		}
		d := index.Manifests[0]
		name = blob(d.Digest)
		if strings.Contains(string(d.MediaType), "index") || strings.Contains(string(d.MediaType), "list") {
			continue
		}
		if b, err = os.ReadFile(name); err != nil {
			return nil, err
		}
		if m, err = v1.ParseManifest(bytes.NewReader(b)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	b, err := os.ReadFile(blob(m.Config.Digest))
	if err != nil {
		return nil, err
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", blob(m.Config.Digest), err)
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%d layers and %d diff ids", len(m.Layers), len(config.RootFS.DiffIDs))
	}
	var layers []*layer
	for i, d := range m.Layers {
		layers = append(layers, &layer{blob(d.Digest), d.Size, d.Digest, config.RootFS.DiffIDs[i]})
	}
	slices.SortStableFunc(layers, func(a, b *layer) int { return int(b.size - a.size) })
	return layers, nil
}
