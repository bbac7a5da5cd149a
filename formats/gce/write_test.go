package gce

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"testing"
	"time"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/formats/output/disktest"
)

var testTime = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

func encode(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error {
	return Write(ctx, img, f, Options{Level: 1, Time: testTime, Progress: progress})
}

// TestTar lets GNU tar list and unpack an archive.
func TestTar(t *testing.T) {
	img := disktest.Mixed(t, 1, 6<<20+777)
	file := disktest.File(t, encode, img, "image.tar.gz")
	// The list goes to stderr, cmp is silent where there is no difference.
	list := disktest.Tool(t, "sh", "-c", `tar -xvvOzf "$1" | cmp - "$2"`, "sh", file, disktest.Raw(t, img, sizeUnit))
	if want := "-rw-r--r-- root/root 1073741824 2024-05-06 07:08 disk.raw\n"; list != want {
		t.Errorf("%q, want %q", list, want)
	}
}

func TestTime(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(-1, 0), time.Unix(0, 999)} {
		a, err := archive(disktest.Image(t, 1), at)
		if err != nil {
			t.Fatal(err)
		}
		h, err := tar.NewReader(io.NewSectionReader(a, 0, a.Size())).Next()
		if err != nil || h.ModTime.Unix() != 0 {
			t.Errorf("%v: %+v, %v", at, h, err)
		}
	}
}

// TestArchive reads archives, before compression, with another reader.
func TestArchive(t *testing.T) {
	for _, img := range []*disk.Image{
		disktest.Image(t, 0),
		disktest.Image(t, 1, disktest.At(0, []byte("x"))),
		disktest.Image(t, 1<<30, disktest.At(5, disktest.Text(1000)), disktest.At(1<<30-3, []byte("end"))),
		disktest.Image(t, 1<<30-1, disktest.At(1<<30-4, []byte("end"))),
	} {
		a, err := archive(img, testTime)
		if err != nil {
			t.Fatal(err)
		}
		size := Size(img.Size())
		if n := a.Size(); n != output.TarEnd(size+output.TarBlock) {
			t.Errorf("archive of %d bytes for %d", n, size)
		}
		r := tar.NewReader(io.NewSectionReader(a, 0, a.Size()))
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != "disk.raw" || h.Size != size || h.Format != tar.FormatGNU || !h.ModTime.Equal(testTime) {
			t.Errorf("%+v", h)
		}
		if n, err := io.Copy(io.Discard, r); n != size || err != nil {
			t.Errorf("%d of %d bytes, %v", n, size, err)
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("second member: %v", err)
		}
		// The content is where it should be, and everything else is a hole.
		got, want := map[int64]string{}, map[int64]string{}
		for _, e := range a.Extents()[1:] {
			got[e.Off-output.TarBlock] = readAll(t, e)
		}
		for _, e := range img.Extents() {
			want[e.Off] = readAll(t, e)
		}
		if !maps.Equal(got, want) {
			t.Errorf("content %v, want %v", got, want)
		}
	}
}

func readAll(t *testing.T, e disk.Extent) string {
	t.Helper()
	b, err := e.Data.ReadAll(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSize(t *testing.T) {
	for size, want := range map[int64]int64{0: 0, 1: 1 << 30, 1 << 30: 1 << 30, 1<<30 + 1: 2 << 30, 10 << 30: 10 << 30} {
		if got := Size(size); got != want {
			t.Errorf("%d: %d, want %d", size, got, want)
		}
	}
}

// TestDeterminism writes an archive twice and compares the bytes. That nothing
// depends on cores is a promise of package compressed.
func TestDeterminism(t *testing.T) {
	img := disktest.Mixed(t, 2, 3<<20)
	var first []byte
	for i := range 2 {
		b, err := os.ReadFile(disktest.File(t, encode, img, "image.tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && !bytes.Equal(b, first) {
			t.Error("other bytes")
		}
		first = b
	}
}

func TestContract(t *testing.T) {
	disktest.CheckErrors(t, encode)
	disktest.CheckCancel(t, encode, nil)
	disktest.CheckRefused(t, encode, MaxSize+1)
	err := Write(t.Context(), disktest.Image(t, 1), disktest.Create(t, "disk"), Options{Level: 10})
	if fault.ClassOf(err) != fault.Usage {
		t.Errorf("level 10: %v", err)
	}
}

func FuzzArchive(f *testing.F) {
	f.Add([]byte{1, 10, 2, 255, 4, 0, 0, 4, 255, 200}, uint16(100))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		img := disktest.FromInput(t, in, cut, 1<<20)
		a, err := archive(img, testTime)
		if err != nil {
			t.Fatal(err)
		}
		got, want := make([]byte, img.Size()), make([]byte, img.Size())
		if _, err := a.ReadAt(got, output.TarBlock); err != nil {
			t.Fatal(err)
		}
		if _, err := img.ReadAt(want, 0); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Error("content differs")
		}
	})
}
