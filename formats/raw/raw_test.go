package raw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/pieces"
	"imgbuild/test/timing"
)

func create(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func newImage(t *testing.T, size int64, extents ...disk.Extent) *disk.Image {
	t.Helper()
	d, err := disk.New(size, extents)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// noise returns n bytes, none of them zero.
func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + rng.IntN(255))
	}
	return b
}

// images are disks on the limits of the writer.
func images(t *testing.T) map[string]*disk.Image {
	rng := rand.New(rand.NewPCG(1, 1))
	at := func(off int64, b []byte) disk.Extent { return disk.Extent{Off: off, Data: content.Bytes(b)} }
	m := map[string]*disk.Image{
		"empty":            newImage(t, 0),
		"hole":             newImage(t, 1<<20),
		"huge hole":        newImage(t, 1<<40, at(1<<39, noise(rng, 1)), at(1<<40-1, noise(rng, 1))),
		"one byte":         newImage(t, 1, at(0, noise(rng, 1))),
		"zeros":            newImage(t, 5<<20, at(0, make([]byte, 5<<20))),
		"no whole block":   newImage(t, pieces.Grain+1, at(0, noise(rng, pieces.Grain+1))),
		"last bytes zero":  newImage(t, 2*pieces.Grain+9, at(pieces.Grain, noise(rng, pieces.Grain)), at(2*pieces.Grain, make([]byte, 9))),
		"batches":          newImage(t, 3*pieces.CopyUnit, at(0, noise(rng, 3*pieces.CopyUnit))),
		"batches and one":  newImage(t, 3*pieces.CopyUnit+1, at(0, noise(rng, 3*pieces.CopyUnit+1))),
		"batches less one": newImage(t, 3*pieces.CopyUnit-1, at(0, noise(rng, 3*pieces.CopyUnit-1))),
	}
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var extents []disk.Extent
		pos := int64(0)
		for pos < 20<<20 {
			n := 1 + rng.IntN(1<<(4+rng.IntN(18)))
			b := noise(rng, n)
			if k := rng.IntN(n); rng.IntN(2) == 0 {
				clear(b[k : k+rng.IntN(n-k)]) // zeros within the data
			}
			extents = append(extents, at(pos, b))
			pos += int64(n)
			if rng.IntN(3) == 0 {
				pos += int64(rng.IntN(1 << (4 + rng.IntN(18))))
			}
		}
		m[fmt.Sprintf("random %d", seed)] = newImage(t, pos, extents...)
	}
	return m
}

func TestWrite(t *testing.T) {
	for name, img := range images(t) {
		t.Run(name, func(t *testing.T) {
			f := create(t)
			last := int64(0)
			err := Write(t.Context(), img, f, Options{Progress: func(n int64) {
				if n <= last {
					t.Errorf("progress %d after %d", n, last)
				}
				last = n
			}})
			if err != nil {
				t.Fatal(err)
			}
			if st, err := f.Stat(); err != nil || st.Size() != img.Size() {
				t.Fatalf("%d bytes, want %d", st.Size(), img.Size())
			}
			total := int64(0)
			for off, n := range img.Data(pieces.Size) {
				total += n
				compare(t, f, img, off, n)
			}
			if last != total {
				t.Errorf("progress ends at %d of %d", last, total)
			}
			if img.Size() <= 1<<30 {
				compare(t, f, img, 0, img.Size())
			}
		})
	}
}

// compare compares n bytes of the file and the disk.
func compare(t *testing.T, f *os.File, img *disk.Image, off, n int64) {
	t.Helper()
	const chunk = 1 << 20
	a, b := make([]byte, chunk), make([]byte, chunk)
	for end := off + n; off < end; off += chunk {
		k := int(min(chunk, end-off))
		if _, err := f.ReadAt(a[:k], off); err != nil {
			t.Fatal(err)
		}
		if _, err := img.ReadAt(b[:k], off); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a[:k], b[:k]) {
			t.Fatalf("content differs within 1 MiB of %d", off)
		}
	}
}

func TestWriteCancelled(t *testing.T) {
	img := newImage(t, 1<<40, disk.Extent{Data: content.NewRef(endless{}, 0, 1<<40)})
	timing.Within(t, time.Second, func() time.Duration {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		var stopped time.Time
		err := Write(ctx, img, create(t), Options{Progress: func(int64) {
			if calls++; calls == 3 {
				stopped = time.Now()
				cancel()
			}
		}})
		took := time.Since(stopped)
		if !errors.Is(err, context.Canceled) || calls > 3 {
			t.Errorf("%v after %d batches", err, calls)
		}
		return took
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := create(t)
	if err := Write(ctx, img, f, Options{}); err != context.Canceled {
		t.Errorf("cancelled before: %v", err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != 0 {
		t.Errorf("cancelled before: file of %d bytes, %v", st.Size(), err)
	}
}

// endless is a source without end that is not zero.
type endless struct{}

func (endless) ReadAt(p []byte, _ int64) (int, error) {
	p[0], p[len(p)-1] = 1, 1
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	img := newImage(t, 10<<20, disk.Extent{Data: content.Bytes(make([]byte, 1)), Off: 5})

	f := create(t)
	f.Close()
	if err := Write(t.Context(), img, f, Options{}); fault.ClassOf(err) != fault.Output {
		t.Errorf("closed file: %v, class %d", err, fault.ClassOf(err))
	}

	readOnly, err := os.Open(create(t).Name())
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	if err := Write(t.Context(), img, readOnly, Options{}); fault.ClassOf(err) != fault.Output {
		t.Errorf("read-only file: %v, class %d", err, fault.ClassOf(err))
	}

	// What is wrong with the content is not a fault of the output.
	short := newImage(t, 10<<20, disk.Extent{Data: content.NewRef(content.String("abc").Reader().(io.ReaderAt), 0, 5<<20), Off: 1 << 20})
	if err := Write(t.Context(), short, create(t), Options{}); !errors.Is(err, io.ErrUnexpectedEOF) || fault.ClassOf(err) != fault.Internal {
		t.Errorf("short content: %v, class %d", err, fault.ClassOf(err))
	}
}
