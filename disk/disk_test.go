package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"imgbuild/content"
)

func at(off int64, s string) Extent { return Extent{off, content.String(s)} }

func TestNew(t *testing.T) {
	for _, c := range []struct {
		name    string
		size    int64
		extents []Extent
		want    string // _ is zero
		err     string
	}{
		{"nothing", 0, nil, "", ""},
		{"hole", 4, nil, "____", ""},
		{"whole", 3, []Extent{at(0, "abc")}, "abc", ""},
		{"any order", 6, []Extent{at(4, "c"), at(0, "a"), at(2, "b")}, "a_b_c_", ""},
		{"touching", 4, []Extent{at(0, "ab"), at(2, "cd")}, "abcd", ""},
		{"empty extents", 4, []Extent{at(2, ""), at(1, "ab"), at(99, ""), at(-1, "")}, "_ab_", ""},
		{"up to the end", 4, []Extent{at(3, "x")}, "___x", ""},
		{"overlap", 9, []Extent{at(0, "abc"), at(2, "d")}, "", "overlaps"},
		{"same place", 9, []Extent{at(2, "a"), at(2, "b")}, "", "overlaps"},
		{"inside", 9, []Extent{at(3, "b"), at(2, "aaaa")}, "", "overlaps"},
		{"beyond", 4, []Extent{at(3, "xy")}, "", "beyond"},
		{"behind", 4, []Extent{at(4, "x")}, "", "beyond"},
		{"larger", 4, []Extent{at(0, "12345")}, "", "beyond"},
		{"negative", 4, []Extent{at(-1, "x")}, "", "beyond"},
		{"overflow", 4, []Extent{at(math.MaxInt64, "xy")}, "", "beyond"},
		{"negative size", -1, []Extent{at(0, "x")}, "", "beyond"},
	} {
		t.Run(c.name, func(t *testing.T) {
			given := slices.Clone(c.extents)
			d, err := New(c.size, c.extents)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(given, c.extents) {
				t.Error("New changed its argument")
			}
			check(t, d, []byte(strings.ReplaceAll(c.want, "_", "\x00")), 1)
		})
	}
}

func TestCompose(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int64
		parts []Part
		want  string
		err   string
	}{
		{"nothing", 2, nil, "__", ""},
		{"parts", 10, []Part{{1, 3, []Extent{at(0, "a"), at(2, "b")}}, {5, 4, []Extent{at(3, "c")}}}, "_a_b____c_", ""},
		{"any order", 6, []Part{{4, 2, []Extent{at(0, "b")}}, {0, 2, []Extent{at(1, "a")}}}, "_a__b_", ""},
		{"interleaved", 4, []Part{{0, 4, []Extent{at(0, "a"), at(2, "a")}}, {1, 3, []Extent{at(0, "b"), at(2, "b")}}}, "abab", ""},
		{"outside its part", 9, []Part{{0, 2, []Extent{at(1, "ab")}}}, "", "outside its part"},
		{"before its part", 9, []Part{{2, 2, []Extent{at(-1, "a")}}}, "", "outside its part"},
		{"overflow", 9, []Part{{2, 2, []Extent{at(math.MaxInt64, "a")}}}, "", "outside its part"},
		{"parts overlap", 9, []Part{{0, 4, []Extent{at(3, "a")}}, {3, 4, []Extent{at(0, "b")}}}, "", "overlaps"},
		{"part beyond", 9, []Part{{6, 4, nil}}, "", "beyond"},
		{"part before", 9, []Part{{-1, 4, nil}}, "", "beyond"},
		{"part larger", 9, []Part{{0, math.MaxInt64, nil}}, "", "beyond"},
		{"negative part", 9, []Part{{4, -1, nil}}, "", "beyond"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Compose(c.size, c.parts)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			check(t, d, []byte(strings.ReplaceAll(c.want, "_", "\x00")), 1)
		})
	}
}

// check compares a disk with what it should read as.
func check(t *testing.T, d *Image, want []byte, grain int64) {
	t.Helper()
	if d.Size() != int64(len(want)) {
		t.Fatalf("size %d, want %d", d.Size(), len(want))
	}
	if err := iotest.TestReader(io.NewSectionReader(d, 0, d.Size()), want); err != nil {
		t.Fatal(err)
	}
	covered := make([]byte, len(want))
	pos := int64(-1)
	for off, n := range d.Data(grain) {
		if off <= pos || n <= 0 || off+n > d.Size() || off%grain != 0 || (off+n)%grain != 0 && off+n != d.Size() {
			t.Fatalf("range [%d:+%d] after one that ends at %d, grain %d, size %d", off, n, pos, grain, d.Size())
		}
		pos = off + n
		copy(covered[off:pos], want[off:pos])
	}
	if !bytes.Equal(covered, want) {
		t.Fatal("data ranges leave out what is not zero")
	}
}

func TestData(t *testing.T) {
	sparse, err := content.Sparse(32, []content.Piece{{Off: 8, Ref: content.String("x")}, {Off: 24, Ref: content.String("y")}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(99, []Extent{at(1, "a"), at(5, "b"), at(17, "c"), {20, sparse}, at(98, "e")})
	if err != nil {
		t.Fatal(err)
	}
	for grain, want := range map[int64]string{
		1:  "1-2 5-6 17-18 28-29 44-45 98-99",
		2:  "0-2 4-6 16-18 28-30 44-46 98-99",
		4:  "0-8 16-20 28-32 44-48 96-99",
		8:  "0-8 16-32 40-48 96-99",
		16: "0-48 96-99",
		64: "0-99",
	} {
		var got []string
		for off, n := range d.Data(grain) {
			got = append(got, fmt.Sprintf("%d-%d", off, off+n))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("grain %d: %s, want %s", grain, s, want)
		}
	}
	for range d.Data(1) {
		break // stopping early is allowed
	}
}

func TestReadAtEdges(t *testing.T) {
	d, err := New(4, []Extent{at(1, "ab")})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{
		{0, 4, "\x00ab\x00", nil}, {2, 5, "b\x00", io.EOF}, {4, 1, "", io.EOF}, {5, 0, "", io.EOF}, {1, 1, "a", nil}, {math.MaxInt64, 1, "", io.EOF},
	} {
		p := bytes.Repeat([]byte{0xff}, c.n)
		n, err := d.ReadAt(p, c.off)
		if string(p[:n]) != c.want || err != c.err {
			t.Errorf("ReadAt(%d bytes, %d) = %q, %v; want %q, %v", c.n, c.off, p[:n], err, c.want, c.err)
		}
	}
	if _, err := d.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
		t.Errorf("negative offset: %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestReadAtError(t *testing.T) {
	gone := errors.New("gone")
	d, err := New(100, []Extent{{40, content.NewRef(failing{gone}, 0, 10)}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.ReadAt(make([]byte, 100), 0)
	if !errors.Is(err, gone) || !strings.Contains(err.Error(), "40") {
		t.Errorf("error %v does not name its cause and offset", err)
	}
	// A source that is shorter than its extent is no regular end either.
	d, err = New(100, []Extent{{0, content.NewRef(strings.NewReader("abc"), 0, 10)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(make([]byte, 10), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short source: %v", err)
	}
}

// FuzzImage composes a disk from the input and compares it with plain bytes.
func FuzzImage(f *testing.F) {
	f.Add(uint64(1), uint16(100), uint8(3))
	f.Add(uint64(7), uint16(5000), uint8(60))
	f.Add(uint64(9), uint16(1), uint8(1))
	f.Fuzz(func(t *testing.T, seed uint64, size uint16, count uint8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		want := make([]byte, size)
		used := make([]bool, size)
		var extents []Extent
		overlap := false
		for range count {
			off := rng.IntN(int(size) + 1)
			b := make([]byte, rng.IntN(min(64, int(size)-off)+1))
			for i := range b {
				b[i] = byte(rng.Uint32())
				overlap = overlap || used[off+i]
				used[off+i] = true
			}
			copy(want[off:], b)
			extents = append(extents, Extent{int64(off), content.Bytes(b)})
			if overlap {
				break
			}
		}
		d, err := New(int64(size), extents)
		if overlap != (err != nil) {
			t.Fatalf("overlap %v, error %v", overlap, err)
		}
		if err != nil {
			return
		}
		for _, grain := range []int64{1, 16, 512, 4096} {
			check(t, d, want, grain)
		}
		for range 10 {
			p := make([]byte, rng.IntN(int(size)+10))
			off := rng.IntN(int(size) + 1)
			n, err := d.ReadAt(p, int64(off))
			if !bytes.Equal(p[:n], want[off:off+n]) || n < len(p) && err != io.EOF {
				t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", len(p), off, n, err)
			}
		}
	})
}

func TestImageRandom(t *testing.T) {
	// Many small extents, as file system metadata has them.
	rng := rand.New(rand.NewPCG(1, 4))
	want := make([]byte, 1<<16)
	var extents []Extent
	for off := 0; off < len(want)-64; off += rng.IntN(64) {
		b := []byte(strings.Repeat("x", 1+rng.IntN(32)))
		copy(want[off:], b)
		extents = append(extents, Extent{int64(off), content.Bytes(b)})
		off += len(b)
	}
	rng.Shuffle(len(extents), func(i, k int) { extents[i], extents[k] = extents[k], extents[i] })
	d, err := New(int64(len(want)), extents)
	if err != nil {
		t.Fatal(err)
	}
	check(t, d, want, 1)
	check(t, d, want, 4096)
	if !slices.IsSortedFunc(d.Extents(), func(a, b Extent) int { return int(a.Off - b.Off) }) {
		t.Error("extents are not ascending")
	}
}
