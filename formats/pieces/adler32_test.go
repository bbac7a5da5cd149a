package pieces

import (
	"bytes"
	"hash/adler32"
	"math/rand/v2"
	"testing"

	"imgbuild/formats/output/disktest"
)

func TestAdler32(t *testing.T) {
	full := bytes.Repeat([]byte{0xff}, 1<<20) // the largest sums
	for _, p := range [][]byte{full, full[:Size], full[:adlerBlock], full[:adlerBlock-1], nil, disktest.Noise(1, Size), disktest.Text(Size)} {
		if got, want := Adler32(p), adler32.Checksum(p); got != want {
			t.Errorf("%d bytes: %#x, want %#x", len(p), got, want)
		}
	}
	noise := disktest.Noise(2, Size)
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		from := r.IntN(len(noise))
		p := noise[from : from+r.IntN(min(1000, len(noise)-from)+1)]
		if got, want := Adler32(p), adler32.Checksum(p); got != want {
			t.Fatalf("%x: %#x, want %#x", p, got, want)
		}
	}
}

func BenchmarkAdler32(b *testing.B) {
	src := disktest.Noise(1, Size)
	for name, sum := range map[string]func([]byte) uint32{"ours": Adler32, "hash": adler32.Checksum} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(Size)
			for b.Loop() {
				sum(src)
			}
		})
	}
}
