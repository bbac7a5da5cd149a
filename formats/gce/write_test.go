package gce

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"testing"
	"time"

	"imgbuild/disk"
	"imgbuild/formats/output"
	"imgbuild/formats/output/disktest"
)

var testTime = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

func encode(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error {
	return Write(ctx, img, f, Options{Time: testTime, Progress: progress})
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

// open returns a reader of the archive of a disk, before compression.
func open(t testing.TB, img *disk.Image, at time.Time) io.Reader {
	t.Helper()
	f := disktest.Create(t, "image.tar.gz")
	if err := Write(t.Context(), img, f, Options{Time: at}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTime(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(-1, 0), time.Unix(0, 999)} {
		h, err := tar.NewReader(open(t, disktest.Image(t, 0), at)).Next()
		if err != nil || h.ModTime.Unix() != 0 {
			t.Errorf("%v: %+v, %v", at, h, err)
		}
	}
}

// TestArchive reads archives with another reader.
func TestArchive(t *testing.T) {
	for _, img := range []*disk.Image{
		disktest.Image(t, 0),
		disktest.Image(t, 1, disktest.At(0, []byte("x"))),
		disktest.Image(t, 1<<30, disktest.At(5, disktest.Text(1000)), disktest.At(1<<30-3, []byte("end"))),
		disktest.Image(t, 1<<30-1, disktest.At(1<<30-4, []byte("end"))),
	} {
		checkArchive(t, img)
	}
}

func checkArchive(t *testing.T, img *disk.Image) {
	t.Helper()
	counted := &count{r: open(t, img, testTime)}
	r := tar.NewReader(counted)
	h, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	size := Size(img.Size())
	if h.Name != "disk.raw" || h.Size != size || h.Format != tar.FormatGNU || !h.ModTime.Equal(testTime) {
		t.Errorf("%+v", h)
	}
	got, want := make([]byte, 1<<20), make([]byte, 1<<20)
	for pos := int64(0); pos < size; pos += 1 << 20 {
		clear(want)
		if _, err := img.ReadAt(want, pos); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("at %d: %v", pos, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("second member: %v", err)
	}
	if _, err := io.Copy(io.Discard, counted); err != nil {
		t.Error(err)
	}
	if counted.n != output.TarEnd(size+output.TarBlock) {
		t.Errorf("archive of %d bytes for %d", counted.n, size)
	}
}

// count counts what is read.
type count struct {
	r io.Reader
	n int64
}

func (c *count) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func TestSize(t *testing.T) {
	for size, want := range map[int64]int64{0: 0, 1: 1 << 30, 1 << 30: 1 << 30, 1<<30 + 1: 2 << 30, 10 << 30: 10 << 30} {
		if got := Size(size); got != want {
			t.Errorf("%d: %d, want %d", size, got, want)
		}
	}
}

// TestDeterminism writes an archive twice and compares the bytes. That nothing
// depends on cores is a promise of package pieces.
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
	disktest.CheckProgress(t, encode, 64<<10)
}

func FuzzArchive(f *testing.F) {
	f.Add([]byte{1, 10, 2, 255, 4, 0, 0, 4, 255, 200}, uint16(100))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		checkArchive(t, disktest.FromInput(t, in, cut, 1<<20))
	})
}
