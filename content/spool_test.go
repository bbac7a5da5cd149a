package content

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func newFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// spool writes b in chunks of the sizes that chunk returns.
func spool(t *testing.T, b []byte, chunk func() int) *Spool {
	t.Helper()
	w := NewSpoolWriter(newFile(t))
	for pos := 0; pos < len(b); {
		if w.Offset() != int64(pos) {
			t.Fatalf("offset %d after %d bytes", w.Offset(), pos)
		}
		n := min(chunk(), len(b)-pos)
		if k, err := w.Write(b[pos : pos+n]); k != n || err != nil {
			t.Fatalf("write of %d bytes: %d, %v", n, k, err)
		}
		pos += n
	}
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run is n bytes that are all zero or all not.
type run struct {
	n    int
	zero bool
}

func content(runs []run) (b []byte) {
	for i, r := range runs {
		if r.zero {
			b = append(b, make([]byte, r.n)...)
		} else {
			b = append(b, pattern(uint64(i), r.n)...)
		}
	}
	return b
}

func TestSpoolHoles(t *testing.T) {
	const g = holeGrain
	const z, d = true, false
	for _, c := range []struct {
		name  string
		runs  []run
		holes []Range
	}{
		{"empty", nil, nil},
		{"one byte", []run{{1, d}}, nil},
		{"one zero", []run{{1, z}}, []Range{{0, 1}}},
		{"zeros, a grain", []run{{g, z}}, []Range{{0, g}}},
		{"zeros, a grain less one", []run{{g - 1, z}}, []Range{{0, g - 1}}},
		{"zeros, a grain and one", []run{{g + 1, z}}, []Range{{0, g + 1}}},
		{"data, a grain", []run{{g, d}}, nil},
		{"data, a grain and one", []run{{g + 1, d}}, nil},
		{"data, then the grain", []run{{g, d}, {g, z}}, []Range{{g, 2 * g}}},
		{"data, then a grain less one", []run{{g, d}, {g - 1, z}}, []Range{{g, 2*g - 1}}},
		{"data less one, then zeros", []run{{g - 1, d}, {g + 1, z}}, []Range{{g, 2 * g}}},
		{"data and one, then zeros", []run{{g + 1, d}, {2 * g, z}}, []Range{{2 * g, 3*g + 1}}},
		{"zeros not aligned", []run{{1, d}, {2*g - 2, z}, {1, d}}, nil},
		{"zeros just aligned", []run{{1, d}, {2*g - 1, z}, {1, d}}, []Range{{g, 2 * g}}},
		{"last byte of a grain", []run{{2*g - 1, z}, {1, d}}, []Range{{0, g}}},
		{"first byte of a grain", []run{{g, z}, {1, d}, {g - 1, z}}, []Range{{0, g}}},
		{"two holes", []run{{2 * g, z}, {g, d}, {3 * g, z}, {1, d}}, []Range{{0, 2 * g}, {3 * g, 6 * g}}},
	} {
		b := content(c.runs)
		for name, chunk := range map[string]func() int{
			"whole":            func() int { return len(b) },
			"grains":           func() int { return g },
			"grains less one":  func() int { return g - 1 },
			"grains and one":   func() int { return g + 1 },
			"as tar does":      func() int { return 512 },
			"more than grains": func() int { return 3*g + 7 },
		} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				s := spool(t, b, chunk)
				if s.Size() != int64(len(b)) {
					t.Errorf("size %d, want %d", s.Size(), len(b))
				}
				if !slices.Equal(s.Holes(), c.holes) {
					t.Errorf("holes %v, want %v", s.Holes(), c.holes)
				}
				if st, err := s.f.Stat(); err != nil || st.Size() != s.Size() {
					t.Errorf("file of %d bytes, want %d", st.Size(), s.Size())
				}
				check(t, s.Ref(0, s.Size()), b)
			})
		}
	}
}

// TestSpoolSlices reads the data ranges of Refs that begin and end in, at and
// beside holes.
func TestSpoolSlices(t *testing.T) {
	const g = holeGrain
	b := content([]run{{g, false}, {2 * g, true}, {g, false}, {g, true}})
	s := spool(t, b, func() int { return len(b) })
	edges := []int{0, 1, g - 1, g, g + 1, 3*g - 1, 3 * g, 3*g + 1, 4*g - 1, 4 * g, 4*g + 1, 5*g - 1, 5 * g}
	for _, from := range edges {
		for _, to := range edges {
			if from <= to {
				check(t, s.Ref(int64(from), int64(to-from)), b[from:to])
			}
		}
	}
	if got, want := collect(s.Ref(g+5, 3*g)), []Range{{2*g - 5, 3*g - 5}}; !slices.Equal(got, want) {
		t.Errorf("ranges %v, want %v", got, want)
	}
	if got := collect(s.Ref(g+1, 2*g-2)); got != nil {
		t.Errorf("ranges %v within a hole", got)
	}
}

func TestSpoolRandom(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			var runs []run
			for range 1 + rng.IntN(8) {
				runs = append(runs, run{rng.IntN(3 * holeGrain), rng.IntN(2) == 0})
			}
			b := content(runs)
			s := spool(t, b, func() int { return 1 + rng.IntN(2*holeGrain) })
			check(t, s.Ref(0, s.Size()), b)
			// The same bytes in one go give the same holes.
			again := spool(t, b, func() int { return len(b) })
			if !slices.Equal(s.Holes(), again.Holes()) {
				t.Errorf("holes %v and %v of the same content", s.Holes(), again.Holes())
			}
			// A spool opened again from its record is the same.
			reopened := NewSpool(s.f, s.Size(), s.Holes())
			check(t, reopened.Ref(0, s.Size()), b)
		})
	}
}

func TestSpoolWriterErrors(t *testing.T) {
	f := newFile(t)
	w := NewSpoolWriter(f)
	f.Close()
	if n, err := w.Write(pattern(1, 2*holeGrain)); n != 0 || err == nil {
		t.Errorf("write to a closed file: %d, %v", n, err)
	}
	first := w.err
	if _, err := w.Write([]byte("x")); err != first {
		t.Errorf("the first error does not stick: %v", err)
	}
	if _, err := w.Finish(); err != first {
		t.Errorf("Finish: %v", err)
	}

	w = NewSpoolWriter(newFile(t))
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a finished spool can be written to")
	}
}

func TestSpoolSyncAndClose(t *testing.T) {
	s := spool(t, []byte("abc"), func() int { return 3 })
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
	r := s.Ref(0, 3)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.ReadAt(make([]byte, 3), 0); err == nil {
		t.Error("a closed spool can be read")
	}
}

func TestIsZero(t *testing.T) {
	for n := range 200 {
		b := make([]byte, n)
		if !IsZero(b) {
			t.Errorf("%d zeros are not zero", n)
		}
		for i := range b {
			b[i] = 0x80
			if IsZero(b) {
				t.Errorf("byte %d of %d is missed", i, n)
			}
			b[i] = 0
		}
	}
}

func BenchmarkIsZero(b *testing.B) {
	p := make([]byte, holeGrain)
	b.SetBytes(holeGrain)
	for b.Loop() {
		if !IsZero(p) {
			b.Fatal()
		}
	}
}

// FuzzSpool writes the runs and chunk sizes of the input.
func FuzzSpool(f *testing.F) {
	f.Add([]byte{0, 255, 1, 255, 0, 3}, uint16(512))
	f.Add([]byte{1, 128, 0, 128, 1, 128}, uint16(65535))
	f.Fuzz(func(t *testing.T, in []byte, chunk uint16) {
		var runs []run
		for ; len(in) >= 2 && len(runs) < 12; in = in[2:] {
			runs = append(runs, run{int(in[1]) * 512, in[0]%2 == 1})
		}
		b := content(runs)
		s := spool(t, b, func() int { return 1 + int(chunk) })
		check(t, s.Ref(0, s.Size()), b)
		if !bytes.Equal(b, content(runs)) {
			t.Fatal("the writer changed its input")
		}
	})
}
