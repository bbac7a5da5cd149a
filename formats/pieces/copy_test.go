package pieces

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"imgbuild/disk"
	"imgbuild/formats/output"
	"imgbuild/formats/output/disktest"
)

// copied is a format that stores all pieces behind ten bytes.
type copied struct {
	*Copier
	out    *output.File
	places []int64
	fail   error // of placing
}

func newCopied(t *testing.T, f *os.File, size int64) *copied {
	t.Helper()
	c := &copied{out: output.NewFile(f)}
	if err := c.out.Truncate(size + 10); err != nil {
		t.Fatal(err)
	}
	c.Copier = NewCopier(c.out, func(off int64) (int64, error) {
		c.places = append(c.places, off/CopyUnit)
		return off + 10, c.fail
	})
	return c
}

func (c *copied) Finish(context.Context) error { return c.out.Sync() }

func TestCopier(t *testing.T) {
	const size = 5*CopyUnit + 777
	rng := rand.New(rand.NewPCG(1, 1))
	want := make([]byte, size)
	var extents []disk.Extent
	for _, r := range [][2]int{{5, 100}, {2*CopyUnit - 10, 20}, {3 * CopyUnit, CopyUnit}, {size - 3, 3}} {
		b := want[r[0] : r[0]+r[1]]
		for i := range b {
			b[i] = byte(1 + rng.IntN(255))
		}
		if r[0] == 3*CopyUnit {
			clear(b) // content that is zero
		}
		extents = append(extents, disktest.At(int64(r[0]), b))
	}
	img := disktest.Image(t, size, extents...)
	f := disktest.Create(t, "out")
	c := newCopied(t, f, size)
	if err := Write(t.Context(), img, []Format{c}, nil); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	// The length as well: zeros behind the end of the disk are not written.
	if !bytes.Equal(got[10:], want) {
		t.Errorf("%d bytes, other than the %d of the disk", len(got)-10, len(want))
	}
	if !slices.Equal(c.places, []int64{0, 1, 2, 5}) {
		t.Errorf("places %v", c.places)
	}

	c = newCopied(t, disktest.Create(t, "full"), size)
	c.fail = errors.New("full")
	if err := Write(t.Context(), img, []Format{c}, nil); !errors.Is(err, c.fail) {
		t.Errorf("error of place: %v", err)
	}
}

// TestCopierBeside checks that pieces are stored as they are beside formats that
// want them compressed.
func TestCopierBeside(t *testing.T) {
	for name, img := range disktest.Images(t, Size) {
		f := disktest.Create(t, "out")
		r := &record{t: t}
		if err := Write(t.Context(), img, []Format{r, newCopied(t, f, img.Size())}, nil); err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() != img.Size()+10 {
			t.Errorf("%s: %d bytes of %d", name, info.Size()-10, img.Size())
		}
		want, got := make([]byte, Grain), make([]byte, Grain)
		for off, n := range img.Data(Grain) {
			for end := off + n; off < end; off += Grain {
				n := min(Grain, end-off)
				if _, err := img.ReadAt(want[:n], off); err != nil {
					t.Fatal(err)
				}
				if _, err := f.ReadAt(got[:n], off+10); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got[:n], want[:n]) {
					t.Fatalf("%s: other bytes at %d", name, off)
				}
			}
		}
	}
}

// TestRuns checks that the runs of batches are all that is not zero, and no more.
func TestRuns(t *testing.T) {
	for name, img := range disktest.Images(t, Grain) {
		r := &record{t: t}
		if err := Write(t.Context(), img, []Format{r}, nil); err != nil {
			t.Fatal(err)
		}
		for _, b := range r.batches {
			if b.Off+int64(len(b.Data)) > img.Size() {
				t.Errorf("%s: %d bytes at %d of %d", name, len(b.Data), b.Off, img.Size())
			}
			rest := bytes.Clone(b.Data)
			last := -1
			for _, run := range b.Runs {
				if run.From <= last || run.From%Grain != 0 || run.To <= run.From {
					t.Errorf("%s: batch at %d: %+v", name, b.Off, b.Runs)
				}
				for pos := run.From; pos < run.To; pos += Grain {
					if output.IsZero(rest[pos:min(pos+Grain, run.To)]) {
						t.Errorf("%s: batch at %d: zeros at %d", name, b.Off, pos)
					}
				}
				clear(rest[run.From:run.To])
				last = run.To
			}
			if last < 0 || !output.IsZero(rest) {
				t.Errorf("%s: batch at %d: more than %+v", name, b.Off, b.Runs)
			}
		}
	}
}
