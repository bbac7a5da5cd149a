package content

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// pattern returns n bytes, none of them zero, that differ at every place.
func pattern(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + rng.IntN(255))
	}
	return b
}

func collect(r Ref) (ranges []Range) {
	for off, n := range r.Data() {
		ranges = append(ranges, Range{off, off + n})
	}
	return ranges
}

// check compares a Ref with what it should read as, and its data ranges with
// where that is not zero.
func check(t *testing.T, r Ref, want []byte) {
	t.Helper()
	if r.Size() != int64(len(want)) {
		t.Fatalf("size %d, want %d", r.Size(), len(want))
	}
	got, err := r.ReadAll(r.Size())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("content differs")
	}
	pos := int64(-1)
	covered := make([]byte, len(want))
	for off, n := range r.Data() {
		if off <= pos || n <= 0 || off+n > r.Size() {
			t.Fatalf("range [%d:+%d] after one that ends at %d, of %d bytes", off, n, pos, r.Size())
		}
		pos = off + n
		copy(covered[off:], want[off:pos])
	}
	if !bytes.Equal(covered, want) {
		t.Fatalf("data ranges %v leave out what is not zero", collect(r))
	}
}

func TestRefReadAt(t *testing.T) {
	b := []byte("0123456789")
	r := Bytes(b).Slice(2, 6) // 234567
	for _, c := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{
		{0, 6, "234567", nil},
		{0, 0, "", nil},
		{2, 3, "456", nil},
		{5, 1, "7", nil},
		{5, 2, "7", io.EOF},
		{0, 7, "234567", io.EOF},
		{6, 1, "", io.EOF},
		{7, 0, "", io.EOF},
		{1 << 60, 1, "", io.EOF},
	} {
		p := make([]byte, c.n)
		n, err := r.ReadAt(p, c.off)
		if string(p[:n]) != c.want || err != c.err {
			t.Errorf("ReadAt(%d bytes, %d) = %q, %v; want %q, %v", c.n, c.off, p[:n], err, c.want, c.err)
		}
	}
	if _, err := r.ReadAt(nil, -1); err == nil {
		t.Error("a negative offset is no error")
	}
}

func TestRefOfShortSource(t *testing.T) {
	// A Ref that claims more than its source has must not read as short
	// content: io.EOF would look like its regular end.
	r := NewRef(bytes.NewReader([]byte("abc")), 0, 10)
	if _, err := r.ReadAt(make([]byte, 10), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadAt: %v", err)
	}
	if _, err := r.ReadAll(10); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadAll: %v", err)
	}
}

func TestRefZero(t *testing.T) {
	for name, r := range map[string]Ref{
		"zero":        {},
		"empty bytes": Bytes(nil),
		"empty slice": String("abc").Slice(3, 0),
	} {
		t.Run(name, func(t *testing.T) { check(t, r, []byte{}) })
	}
}

func TestRefSlice(t *testing.T) {
	r := String("0123456789").Slice(1, 8).Slice(1, 6)
	check(t, r, []byte("234567"))
	for _, c := range [][2]int64{{-1, 1}, {0, -1}, {0, 7}, {7, 0}, {6, 1}, {1 << 62, 1 << 62}, {1, 1<<63 - 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("slice [%d:+%d] does not panic", c[0], c[1])
				}
			}()
			r.Slice(c[0], c[1])
		}()
	}
}

func TestRefReader(t *testing.T) {
	b := pattern(1, 10000)
	if err := iotest.TestReader(Bytes(append([]byte("xx"), b...)).Slice(2, 10000).Reader(), b); err != nil {
		t.Error(err)
	}
}

func TestReadAllLimit(t *testing.T) {
	r := String("12345")
	if _, err := r.ReadAll(4); err == nil || !strings.Contains(err.Error(), "limit of 4") {
		t.Errorf("limit 4: %v", err)
	}
	if b, err := r.ReadAll(5); err != nil || string(b) != "12345" {
		t.Errorf("limit 5: %q, %v", b, err)
	}
}

func TestRefFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	s := NewSpool(f, 100, nil)
	defer s.Close()
	if got, off, ok := s.Ref(10, 50).Slice(5, 5).File(); got != f || off != 15 || !ok {
		t.Errorf("File() = %v, %d, %v", got, off, ok)
	}
	if _, _, ok := String("x").File(); ok {
		t.Error("bytes in memory have a file")
	}
}

func TestSparse(t *testing.T) {
	holed := func(size int64, off int64, data string) Ref {
		r, err := Sparse(size, []Piece{{off, String(data)}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, c := range []struct {
		name   string
		size   int64
		pieces []Piece
		want   string // _ is zero
		ranges []Range
	}{
		{"nothing", 0, nil, "", nil},
		{"hole", 3, nil, "___", nil},
		{"only empty pieces", 3, []Piece{{0, Ref{}}, {3, Ref{}}}, "___", nil},
		{"whole", 3, []Piece{{0, String("abc")}}, "abc", []Range{{0, 3}}},
		{"middle", 5, []Piece{{1, String("abc")}}, "_abc_", []Range{{1, 4}}},
		{"end", 4, []Piece{{1, String("abc")}}, "_abc", []Range{{1, 4}}},
		{"empty piece first", 5, []Piece{{1, Ref{}}, {2, String("ab")}}, "__ab_", []Range{{2, 4}}},
		{"touching", 5, []Piece{{1, String("ab")}, {3, String("c")}}, "_abc_", []Range{{1, 4}}},
		{"apart", 7, []Piece{{1, String("ab")}, {4, String("c")}}, "_ab_c__", []Range{{1, 3}, {4, 5}}},
		{"nested", 8, []Piece{{1, holed(4, 1, "ab")}, {5, String("c")}}, "__ab_c__", []Range{{2, 4}, {5, 6}}},
		{"nested, touching", 8, []Piece{{0, holed(4, 2, "ab")}, {4, holed(4, 0, "c")}}, "__abc___", []Range{{2, 5}}},
		{"nested hole", 8, []Piece{{0, holed(2, 0, "")}, {2, String("x")}, {3, holed(2, 0, "")}, {5, String("y")}}, "__x__y__", []Range{{2, 3}, {5, 6}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Sparse(c.size, c.pieces)
			if err != nil {
				t.Fatal(err)
			}
			check(t, r, []byte(strings.ReplaceAll(c.want, "_", "\x00")))
			if got := collect(r); !slices.Equal(got, c.ranges) {
				t.Errorf("ranges %v, want %v", got, c.ranges)
			}
		})
	}
}

func TestSparseErrors(t *testing.T) {
	for name, c := range map[string]struct {
		size   int64
		pieces []Piece
	}{
		"negative offset": {3, []Piece{{-1, String("a")}}},
		"beyond":          {3, []Piece{{1, String("abc")}}},
		"larger":          {3, []Piece{{0, String("abcd")}}},
		"far beyond":      {3, []Piece{{1<<63 - 1, String("a")}}},
		"empty beyond":    {3, []Piece{{4, Ref{}}}},
		"overlap":         {9, []Piece{{0, String("abc")}, {2, String("d")}}},
		"order":           {9, []Piece{{5, String("a")}, {0, String("b")}}},
		"negative size":   {-1, nil},
	} {
		if _, err := Sparse(c.size, c.pieces); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSparseDoesNotKeepPieces(t *testing.T) {
	pieces := []Piece{{0, String("a")}}
	r, err := Sparse(1, pieces)
	if err != nil {
		t.Fatal(err)
	}
	pieces[0] = Piece{0, String("b")}
	check(t, r, []byte("a"))
}

// failing is a source whose reads fail.
type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestSparseReadError(t *testing.T) {
	want := errors.New("gone")
	r, err := Sparse(10, []Piece{{5, NewRef(failing{want}, 0, 2)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(make([]byte, 5), 0); err != nil {
		t.Errorf("hole: %v", err)
	}
	if _, err := r.ReadAt(make([]byte, 6), 0); !errors.Is(err, want) {
		t.Errorf("piece: %v", err)
	}
}

// FuzzSparse builds nested sparse content from the input and compares it, and
// slices of it, with plain bytes.
func FuzzSparse(f *testing.F) {
	f.Add([]byte{3, 1, 2, 0, 5, 9, 9, 1, 1, 4, 0, 0, 7})
	f.Add([]byte{0, 8, 0, 8, 0, 8, 1, 8, 2, 8})
	f.Add(bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7}, 20))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, want := build(t, &in, 3)
		check(t, r, want)
		if len(in) >= 2 && len(want) > 0 {
			off := int(in[0]) % len(want)
			n := int(in[1]) % (len(want) - off + 1)
			check(t, r.Slice(int64(off), int64(n)), want[off:off+n])
		}
	})
}

// build takes content from the front of in: pieces with gaps between them,
// which are sparse themselves down to depth.
func build(t *testing.T, in *[]byte, depth int) (Ref, []byte) {
	next := func() int {
		if len(*in) == 0 {
			return 0
		}
		b := (*in)[0]
		*in = (*in)[1:]
		return int(b)
	}
	var pieces []Piece
	var want []byte
	for range next() % 5 {
		want = append(want, make([]byte, next()%4)...)
		var r Ref
		var b []byte
		if depth > 0 && next()%3 == 0 {
			r, b = build(t, in, depth-1)
		} else {
			b = pattern(uint64(next()), next()%9)
			r = Bytes(b)
		}
		pieces = append(pieces, Piece{int64(len(want)), r})
		want = append(want, b...)
	}
	want = append(want, make([]byte, next()%4)...)
	r, err := Sparse(int64(len(want)), pieces)
	if err != nil {
		t.Fatal(err)
	}
	return r, want
}
