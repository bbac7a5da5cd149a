package output

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/partition"
)

func newImage(t *testing.T, size int64, extents ...disk.Extent) *disk.Image {
	t.Helper()
	d, err := disk.New(size, extents)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func at(off int64, s string) disk.Extent { return disk.Extent{Off: off, Data: content.String(s)} }

func TestCutter(t *testing.T) {
	img := newImage(t, 107, at(1, "a"), at(17, strings.Repeat("b", 40)), at(64, strings.Repeat("c", 43)))
	for _, c := range []struct {
		grain, size int64
		want        string
	}{
		{1, 16, "1+1 17+15 32+16 48+9 64+16 80+16 96+11"},
		{4, 16, "0+4 16+16 32+16 48+12 64+16 80+16 96+11"},
		{16, 32, "0+32 32+32 64+32 96+11"},
		{32, 32, "0+32 32+32 64+32 96+11"},
		{128, 128, "0+107"},
	} {
		cutter := NewCutter(img, c.grain, c.size)
		var got []string
		var p Piece
		for cutter.Next(&p) {
			if err := p.Read(img); err != nil {
				t.Fatal(err)
			}
			want := make([]byte, len(p.Data))
			if _, err := img.ReadAt(want, p.Off); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p.Data, want) {
				t.Errorf("grain %d, size %d: other data at %d", c.grain, c.size, p.Off)
			}
			got = append(got, fmt.Sprintf("%d+%d", p.Off, len(p.Data)))
		}
		cutter.Stop()
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("grain %d, size %d: %s, want %s", c.grain, c.size, s, c.want)
		}
	}
}

func TestAppendRuns(t *testing.T) {
	for _, c := range []struct {
		data string // _ is zero
		want []Span
	}{
		{"", nil}, {"_", nil}, {"____", nil}, {"a", []Span{{0, 1}}}, {"____a", []Span{{4, 5}}}, {"a___b_______c_", []Span{{0, 8}, {12, 14}}}, {"____ab__", []Span{{4, 8}}},
	} {
		data := []byte(strings.ReplaceAll(c.data, "_", "\x00"))
		if got := AppendRuns(nil, data, 4); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.data, got, c.want)
		}
		first := Span{7, 8}
		if got := AppendRuns([]Span{first}, data, 4); got[0] != first || !slices.Equal(got[1:], c.want) {
			t.Errorf("%q behind another: %v, want %v", c.data, got, c.want)
		}
	}
}

func TestPad(t *testing.T) {
	img := newImage(t, 20, at(0, strings.Repeat("x", 20)))
	cutter := NewCutter(img, 16, 16)
	defer cutter.Stop()
	var p Piece
	for _, want := range []string{strings.Repeat("x", 16), "xxxx\x00\x00\x00\x00"} {
		if !cutter.Next(&p) {
			t.Fatal("no piece")
		}
		if err := p.Read(img); err != nil {
			t.Fatal(err)
		}
		if p.Pad(8); string(p.Data) != want {
			t.Errorf("%q, want %q", p.Data, want)
		}
	}
}

func TestStream(t *testing.T) {
	f := create(t)
	w := NewFile(f)
	defer w.Stop()
	s := NewStream(w, 5)
	want := make([]byte, 5)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, streamBuffer - 1, 1, 3 * streamBuffer, 7, streamBuffer} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		if k, err := s.Write(b); k != n || err != nil {
			t.Fatal(k, err)
		}
		want = append(want, b...)
		if s.Offset() != int64(len(want)) {
			t.Fatalf("offset %d, want %d", s.Offset(), len(want))
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("content differs")
	}
	f.Close()
	if _, err := s.Write(make([]byte, 2*streamBuffer)); fault.ClassOf(err) != fault.Output {
		t.Errorf("closed file: %v", err)
	}
	if err := w.Truncate(1); fault.ClassOf(err) != fault.Output {
		t.Errorf("closed file: %v", err)
	}
}

func TestPutGUID(t *testing.T) {
	g, err := partition.ParseGUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	PutGUID(b, g)
	if want := "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08"; string(b) != want {
		t.Errorf("% x", b)
	}
}

func TestIdentifier(t *testing.T) {
	g := partition.DeriveGUID(nil, "x")
	if Identifier(g, "vdi") != g {
		t.Error("an identifier is changed")
	}
	if a := Identifier(partition.GUID{}, "vdi"); a.IsZero() || a == Identifier(partition.GUID{}, "vhd") {
		t.Errorf("zero becomes %v", a)
	}
}
