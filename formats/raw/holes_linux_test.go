package raw

import (
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/formats/output"
	"imgbuild/formats/pieces"
)

// blocks returns which blocks of the file are data.
func blocks(t *testing.T, f *os.File) map[int64]bool {
	t.Helper()
	m := map[int64]bool{}
	for pos := int64(0); ; {
		start, err := unix.Seek(int(f.Fd()), pos, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return m
		}
		if err != nil {
			t.Fatal(err)
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			t.Fatal(err)
		}
		for off := start / pieces.Grain; off < (end+pieces.Grain-1)/pieces.Grain; off++ {
			m[off] = true
		}
		pos = end
	}
}

// TestHoles checks that each block is a hole if, and only if, it is zero.
func TestHoles(t *testing.T) {
	for name, img := range images(t) {
		t.Run(name, func(t *testing.T) {
			f := create(t)
			if err := Write(t.Context(), img, f, Options{}); err != nil {
				t.Fatal(err)
			}
			want := map[int64]bool{}
			p := make([]byte, pieces.Grain)
			for start, length := range img.Data(pieces.Grain) {
				for off := start; off < start+length; off += pieces.Grain {
					n := min(pieces.Grain, img.Size()-off)
					if _, err := img.ReadAt(p[:n], off); err != nil {
						t.Fatal(err)
					}
					if !output.IsZero(p[:n]) {
						want[off/pieces.Grain] = true
					}
				}
			}
			got := blocks(t, f)
			for b := range got {
				if !want[b] {
					t.Fatalf("block %d is zero and no hole", b)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d blocks of data, want %d", len(got), len(want))
			}
			st, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			// Some for the block map of the file itself.
			if used := st.Sys().(*syscall.Stat_t).Blocks * 512; used > int64(len(want))*pieces.Grain+1<<20 {
				t.Errorf("%d bytes allocated for %d blocks", used, len(want))
			}
		})
	}
}

// TestSpool writes the usual case: much content of a spool on disk.
func TestSpool(t *testing.T) {
	f := create(t)
	w := content.NewSpoolWriter(f)
	rng := rand.New(rand.NewPCG(1, 9))
	for range 30 {
		b := noise(rng, rng.IntN(1<<20))
		if rng.IntN(2) == 0 {
			clear(b)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	// Files of a tar begin at multiples of 512, on a disk of 4096.
	var extents []disk.Extent
	pos := int64(1 << 20)
	for off := int64(512); off < s.Size(); {
		n := min(1+rng.Int64N(1<<18), s.Size()-off)
		extents = append(extents, disk.Extent{Off: pos, Data: s.Ref(off, n)})
		off += (n + 511) &^ 511
		pos = (pos + n + pieces.Grain - 1) &^ (pieces.Grain - 1)
	}
	img := newImage(t, pos+1<<20, extents...)
	out := create(t)
	if err := Write(t.Context(), img, out, Options{}); err != nil {
		t.Fatal(err)
	}
	compare(t, out, img, 0, img.Size())
}
