package pieces

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"hash/adler32"
	"hash/crc32"
	"io"
	"slices"
	"testing"

	"imgbuild/formats/output/disktest"
)

// record is a format that keeps the pieces.
type record struct {
	t        *testing.T
	plain    map[int64][]byte
	order    []int64
	batches  []Batch
	streams  []byte
	fail     error // of Add
	failEnd  error // of Finish
	finished bool
	stopped  int
}

func (r *record) Add(_ context.Context, b *Batch) error {
	if r.fail != nil {
		return r.fail
	}
	if len(b.Pieces) == 0 || b.Off%Size != 0 || len(b.Data) > BatchSize {
		r.t.Errorf("batch of %d pieces, %d bytes at %d", len(b.Pieces), len(b.Data), b.Off)
	}
	r.batches = append(r.batches, Batch{Off: b.Off, Data: bytes.Clone(b.Data), Runs: slices.Clone(b.Runs)})
	for i := range b.Pieces {
		r.add(&b.Pieces[i])
	}
	return nil
}

func (r *record) add(p *Piece) {
	if r.plain == nil {
		r.plain = map[int64][]byte{}
	}
	if len(p.Plain) != Size || p.Sums.CRC != crc32.ChecksumIEEE(p.Plain) || p.Sums.Adler != adler32.Checksum(p.Plain) {
		r.t.Errorf("piece %d: %d bytes, sums %+v", p.Number, len(p.Plain), p.Sums)
	}
	got, err := io.ReadAll(flate.NewReader(bytes.NewReader(p.Stream)))
	if err != nil || !bytes.Equal(got, p.Plain) {
		r.t.Errorf("piece %d: the stream has %d bytes, %v", p.Number, len(got), err)
	}
	if !bytes.HasSuffix(p.Stream, []byte(Last)) || len(p.Blocks()) != len(p.Stream)-2 {
		r.t.Errorf("piece %d: no last block", p.Number)
	}
	r.plain[p.Number] = bytes.Clone(p.Plain)
	r.order = append(r.order, p.Number)
	r.streams = append(r.streams, p.Blocks()...)
}

func (r *record) Finish(context.Context) error {
	r.finished = true
	return r.failEnd
}

func (*record) Want() Want { return Want{Stream: true, CRC: true, Adler: true} }

func (r *record) Stop() { r.stopped++ }

func TestWrite(t *testing.T) {
	for name, img := range disktest.Images(t, Size) {
		a, b := &record{t: t}, &record{t: t}
		done := int64(0)
		if err := Write(t.Context(), img, []Format{a, b}, func(n int64) { done = n }); err != nil {
			t.Fatal(err)
		}
		total := int64(0)
		for _, n := range img.Data(Size) {
			total += n
		}
		if done != total || !a.finished || a.stopped != 1 || b.stopped != 1 || !slices.IsSorted(a.order) || !bytes.Equal(a.streams, b.streams) {
			t.Errorf("%s: %d of %d bytes, %+v", name, done, total, a.order)
		}
		want := make([]byte, Size)
		for number := range (img.Size() + Size - 1) / Size {
			clear(want)
			if _, err := img.ReadAt(want, number*Size); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			got, ok := a.plain[number]
			if zero := bytes.Equal(want, make([]byte, Size)); zero == ok || ok && !bytes.Equal(got, want) {
				t.Errorf("%s: piece %d is another one", name, number)
			}
		}
		// The blocks behind each other are a stream, too.
		all, err := io.ReadAll(flate.NewReader(bytes.NewReader(append(a.streams, Last...))))
		if err != nil || len(all) != len(a.order)*Size {
			t.Errorf("%s: all streams have %d bytes, %v", name, len(all), err)
		}
	}
}

func TestWriteFails(t *testing.T) {
	img := disktest.Mixed(t, 1, 5<<20)
	failure := errors.New("full")
	for name, f := range map[string]*record{"Add": {t: t, fail: failure}, "Finish": {t: t, failEnd: failure}} {
		other := &record{t: t}
		if err := Write(t.Context(), img, []Format{other, f}, nil); !errors.Is(err, failure) {
			t.Errorf("%s: %v", name, err)
		}
		if f.stopped != 1 || other.stopped != 1 {
			t.Errorf("%s: not stopped", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := &record{t: t}
	if err := Write(ctx, img, []Format{f}, nil); !errors.Is(err, context.Canceled) || f.stopped != 1 || f.finished {
		t.Errorf("cancelled: %v, %+v", err, f)
	}
}

// TestCompressorHasNoMemory checks that a piece does not depend on those before.
func TestCompressorHasNoMemory(t *testing.T) {
	c, err := NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	src := append(disktest.Text(30000), disktest.Noise(1, Size-30000)...)
	first, err := c.Append([]byte("before"), src)
	if err != nil || !bytes.HasPrefix(first, []byte("before")) {
		t.Fatalf("%q, %v", first[:6], err)
	}
	for i := range 300 {
		other := append(disktest.Noise(uint64(i), Size-200*i), disktest.Text(200*i)...)
		if _, err := c.Append(nil, other); err != nil {
			t.Fatal(err)
		}
		if again, err := c.Append(nil, src); err != nil || !bytes.Equal(again, first[6:]) {
			t.Fatalf("other bytes after %d pieces, %v", i+1, err)
		}
	}
}

func BenchmarkCompressor(b *testing.B) {
	c, err := NewCompressor()
	if err != nil {
		b.Fatal(err)
	}
	src := append(disktest.Text(40000), disktest.Noise(1, Size-40000)...)
	b.SetBytes(Size)
	var dst []byte
	for b.Loop() {
		if dst, err = c.Append(dst[:0], src); err != nil {
			b.Fatal(err)
		}
	}
}
