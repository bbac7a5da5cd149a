package fsverity

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"imgbuild/content"
)

// Store is where Merkle trees are kept: a file, or memory. It is used by
// several goroutines at once, never twice for the same place.
type Store interface {
	io.ReaderAt
	io.WriterAt
}

const (
	// readSize is what is read at once, in bytes.
	readSize = 256 << 10
	// segment is how many blocks of a file are hashed by one goroutine. Their
	// hashes are whole blocks of the tree.
	segment = 2048
)

// Measure computes the metadata of contents, with all cores and a buffer of
// fixed size for each. The trees are written to the store from its beginning,
// one behind the other in the order of the contents, and stay there: the
// results refer to them. progress, which may be nil, is told of bytes that were
// hashed, by several goroutines at once.
func Measure(ctx context.Context, contents []content.Ref, store Store, progress func(n int64)) ([]Metadata, error) {
	m := &measurer{store: store, progress: progress, files: make([]file, len(contents)), out: make([]Metadata, len(contents))}
	end := int64(0)
	for k, c := range contents {
		f := &m.files[k]
		f.content, f.shape, f.base = c, shapeOf(c.Size()), end
		f.left.Store(max(1, (blocksOf(c.Size())+segment-1)/segment))
		m.out[k] = Metadata{Size: c.Size(), Tree: content.NewRef(store, end, f.shape.size)}
		end += f.shape.size
	}
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan job, 64)
	g.Go(func() error {
		defer close(work)
		for k := range m.files {
			for s := range m.files[k].left.Load() {
				select {
				case work <- job{k, s}:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			w := &worker{measurer: m}
			for j := range work {
				if err := w.segment(ctx, j); err != nil {
					return fmt.Errorf("measure: %w", err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return m.out, nil
}

// Restore returns the metadata of contents whose trees are in the store already,
// in the order in which Measure leaves them, and whose root hashes are known.
func Restore(contents []content.Ref, roots [][sha256.Size]byte, store io.ReaderAt) []Metadata {
	out := make([]Metadata, len(contents))
	end := int64(0)
	for k, c := range contents {
		n := TreeSize(c.Size())
		out[k] = Metadata{Size: c.Size(), Root: roots[k], Tree: content.NewRef(store, end, n)}
		end += n
	}
	return out
}

// measurer is one call of Measure.
type measurer struct {
	store    Store
	progress func(int64)
	files    []file
	out      []Metadata
}

// file is a content that is being measured.
type file struct {
	content content.Ref
	shape   shape
	base    int64        // of the tree in the store, in bytes
	left    atomic.Int64 // segments that are not hashed yet
}

// job is a segment of a file.
type job struct {
	file    int
	segment int64
}

// worker is what a goroutine works with.
type worker struct {
	*measurer
	in     [readSize]byte
	hashes [segment * sizeHash]byte // of a segment
}

// segment hashes the blocks of a segment. Whoever hashes the last segment of a
// file finishes its tree.
func (w *worker) segment(ctx context.Context, j job) error {
	f := &w.files[j.file]
	size := f.content.Size()
	from := j.segment * segment << blockShift
	to := min(from+segment<<blockShift, size)
	n := 0 // bytes of hashes
	for off := from; off < to; {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := int(min(int64(len(w.in)), to-off))
		if _, err := f.content.ReadAt(w.in[:k], off); err != nil && err != io.EOF {
			return err
		}
		off += int64(k)
		n += hashBlocks(w.hashes[n:], w.in[:k])
		if w.progress != nil {
			w.progress(int64(k))
		}
	}
	if f.shape.levels == 0 {
		copy(w.out[j.file].Root[:], w.hashes[:n])
		return nil
	}
	at := f.base + f.shape.start[0] + j.segment*int64(len(w.hashes))
	if err := w.writeHashes(w.hashes[:], n, at); err != nil {
		return err
	}
	if f.left.Add(-1) > 0 {
		return nil
	}
	return w.finish(ctx, j.file)
}

// finish computes the levels above the hashes of data, and the root hash.
func (w *worker) finish(ctx context.Context, k int) error {
	f := &w.files[k]
	for l := range f.shape.levels {
		in := f.base + f.shape.start[l]
		end := in + (f.shape.hashes[l]+perBlock-1)/perBlock*BlockSize
		if l+1 == f.shape.levels {
			if _, err := w.store.ReadAt(w.in[:BlockSize], in); err != nil && err != io.EOF {
				return err
			}
			w.out[k].Root = sha256.Sum256(w.in[:BlockSize])
			return nil
		}
		out := f.base + f.shape.start[l+1]
		for n := 0; in < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			size := int(min(int64(len(w.in)), end-in))
			if _, err := w.store.ReadAt(w.in[:size], in); err != nil && err != io.EOF {
				return err
			}
			in += int64(size)
			n += hashBlocks(w.hashes[n:], w.in[:size])
			if n == len(w.hashes) || in == end {
				if err := w.writeHashes(w.hashes[:], n, out); err != nil {
					return err
				}
				out += int64(n)
				n = 0
			}
		}
	}
	return nil
}

// writeHashes writes n bytes of hashes at an offset of the store, filled up with
// zeros to a block.
func (w *worker) writeHashes(buf []byte, n int, at int64) error {
	end := int(blocksOf(int64(n))) << blockShift
	clear(buf[n:end])
	_, err := w.store.WriteAt(buf[:end], at)
	return err
}

// hashBlocks appends to out the hashes of the blocks of b, the last one filled
// up with zeros, and returns their size in bytes.
func hashBlocks(out, b []byte) int {
	n := 0
	for ; len(b) >= BlockSize; b = b[BlockSize:] {
		sum := sha256.Sum256(b[:BlockSize])
		n += copy(out[n:], sum[:])
	}
	if len(b) > 0 {
		var block [BlockSize]byte
		copy(block[:], b)
		sum := sha256.Sum256(block[:])
		n += copy(out[n:], sum[:])
	}
	return n
}
