// Package disktest holds what the tests of the disk encoders share: disks on the
// limits of a format, and what every encoder promises.
package disktest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/test/timing"
)

// Write is an encoder. Progress may be nil.
type Write func(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error

// Tool runs a program, which must be installed and succeed, and returns what it
// prints.
func Tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		// What makes and checks file systems is in sbin, which is not in everyone's
		// PATH.
		if path, err = exec.LookPath(filepath.Join("/usr/sbin", name)); err != nil {
			t.Fatalf("%s is not installed: %v", name, err)
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Image returns a disk.
func Image(t testing.TB, size int64, extents ...disk.Extent) *disk.Image {
	t.Helper()
	d, err := disk.New(size, extents)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// At returns the extent of b at off.
func At(off int64, b []byte) disk.Extent { return disk.Extent{Off: off, Data: content.Bytes(b)} }

// Create returns a new empty file in a directory of its own.
func Create(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// File writes a disk with an encoder and returns the name of the file.
func File(t testing.TB, write Write, img *disk.Image, name string) string {
	t.Helper()
	f := Create(t, name)
	if err := write(t.Context(), img, f, nil); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// Raw writes a disk as a sparse file, independently of package raw, and rounds
// its size up to a multiple of unit.
func Raw(t testing.TB, img *disk.Image, unit int64) string {
	t.Helper()
	f := Create(t, "disk.raw")
	if err := f.Truncate((img.Size() + unit - 1) / unit * unit); err != nil {
		t.Fatal(err)
	}
	for _, e := range img.Extents() {
		b, err := e.Data.ReadAll(1 << 30)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(b, e.Off); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// Compare lets qemu-img compare a disk with a raw one, sizes included.
func Compare(t testing.TB, raw, format, file string) {
	t.Helper()
	out := Tool(t, "qemu-img", "compare", "-f", "raw", "-F", format, raw, file)
	if !strings.Contains(out, "Images are identical") || strings.Contains(out, "size mismatch") {
		t.Errorf("%s", out)
	}
}

// Noise returns n bytes that do not compress.
func Noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// Text returns n bytes that compress well.
func Text(n int) []byte { return bytes.Repeat([]byte("all work and no play\n"), n/21+1)[:n] }

// Images returns disks on the limits of a format that keeps blocks of unit bytes,
// none larger than 1 GiB: QEMU reads most formats from one end to the other.
func Images(t testing.TB, unit int64) map[string]*disk.Image {
	u := int(unit)
	m := map[string]*disk.Image{
		"one sector":           Image(t, 512, At(0, Noise(1, 512))),
		"hole":                 Image(t, 10<<20),
		"zeros":                Image(t, 10<<20, At(0, make([]byte, 10<<20))),
		"noise":                Image(t, 9<<20, At(0, Noise(2, 9<<20))),
		"noise, odd":           Image(t, 9<<20+9, At(0, Noise(3, 9<<20+9))),
		"text":                 Image(t, 9<<20, At(0, Text(9<<20))),
		"unit":                 Image(t, unit, At(0, Text(u))),
		"unit and a sector":    Image(t, unit+512, At(0, Text(u+512))),
		"unit less a sector":   Image(t, unit-512, At(0, Text(u-512))),
		"last unit only":       Image(t, 5*unit+512, At(5*unit, []byte{1})),
		"every other unit":     Image(t, 8*unit, At(0, []byte{1}), At(3*unit-1, []byte{1}), At(4*unit, []byte{1}), At(7*unit-1, []byte{1, 2})),
		"1 MiB":                Image(t, 1<<20, At(5000, Text(1000))),
		"1 GiB":                Image(t, 1<<30, At(0, Text(1000)), At(1<<29, Noise(4, 200000)), At(1<<30-512, Text(512))),
		"odd size, data first": Image(t, 3*unit+777, At(0, Noise(5, 777))),
		"odd size, data last":  Image(t, 3*unit+777, At(3*unit+700, Noise(6, 77))),
		"mixed":                Mixed(t, 1, 20<<20),
	}
	return m
}

// Mixed returns a disk of size bytes with text, noise, zeros and holes.
func Mixed(t testing.TB, seed uint64, size int64) *disk.Image {
	rng := rand.New(rand.NewPCG(seed, 2))
	var extents []disk.Extent
	for pos := int64(0); pos < size; {
		n := min(1+rng.Int64N(200000), size-pos)
		switch rng.IntN(6) {
		case 0, 1:
		case 2:
			extents = append(extents, At(pos, make([]byte, n)))
		case 3:
			extents = append(extents, At(pos, Text(int(n))))
		default:
			extents = append(extents, At(pos, Noise(rng.Uint64(), int(n))))
		}
		pos += n
	}
	return Image(t, size, extents...)
}

// FromInput returns a disk of unit-sized places made of the input of a fuzz
// target: each two bytes are a place with so much noise in it, or a gap. It has no
// more than 64 places, whatever the input: the tools' own disks of some formats are
// as large as the disk, and compared in memory.
func FromInput(t testing.TB, in []byte, cut uint16, unit int) *disk.Image {
	var extents []disk.Extent
	pos := int64(0)
	for ; len(in) >= 2 && len(extents) < 40 && pos < 47*int64(unit); in = in[2:] {
		if in[0]%4 == 0 {
			pos += int64(in[1]) * int64(unit) / 16
			continue
		}
		b := make([]byte, int(in[0])*unit/256)
		copy(b, Noise(uint64(in[1]), len(b)*int(in[1])/256))
		extents = append(extents, At(pos, b))
		pos += int64(len(b)) + int64(in[1]%3)
	}
	return Image(t, pos+int64(cut)+1, extents...)
}

// CheckDeterminism checks that a disk becomes the same bytes with one, two and
// more cores, and from extents that are cut differently.
func CheckDeterminism(t *testing.T, write Write) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	img := Mixed(t, 3, 12<<20+512)
	all := make([]byte, img.Size())
	if _, err := img.ReadAt(all, 0); err != nil {
		t.Fatal(err)
	}
	var cut []disk.Extent
	for off := 0; off < len(all); off += 123456 {
		cut = append(cut, At(int64(off), all[off:min(off+123456, len(all))]))
	}
	var first [sha256.Size]byte
	for i, procs := range []int{1, 2, 5} {
		for k, img := range []*disk.Image{img, Image(t, img.Size(), cut...)} {
			runtime.GOMAXPROCS(procs)
			b, err := os.ReadFile(File(t, write, img, "disk"))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(b)
			if i == 0 && k == 0 {
				first = sum
			} else if sum != first {
				t.Errorf("other bytes with %d cores, cut %d", procs, k)
			}
		}
	}
}

// CheckProgress checks that progress grows up to all of the data, in units of
// grain.
func CheckProgress(t *testing.T, write Write, grain int64) {
	t.Helper()
	img := Mixed(t, 4, 6<<20+512)
	last, total := int64(0), int64(0)
	err := write(t.Context(), img, Create(t, "disk"), func(n int64) {
		if n < last {
			t.Errorf("progress %d after %d", n, last)
		}
		last = n
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range img.Data(grain) {
		total += n
	}
	if last != total {
		t.Errorf("progress ends at %d of %d", last, total)
	}
}

// CheckCancel checks that an encoder stops soon, and that what is there then is
// nothing that any reader takes for a disk: probe returns whether it is one.
func CheckCancel(t *testing.T, write Write, probe func(*os.File) bool) {
	t.Helper()
	img := Image(t, 1<<40, disk.Extent{Data: content.NewRef(endless{}, 0, 1<<40)})
	timing.Within(t, 3*time.Second, func() time.Duration {
		ctx, cancel := context.WithCancel(t.Context())
		var stopped time.Time
		f := Create(t, "disk")
		err := write(ctx, img, f, func(int64) {
			if stopped.IsZero() {
				stopped = time.Now()
				cancel()
			}
		})
		took := time.Since(stopped)
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if probe != nil && probe(f) {
			t.Error("a cancelled disk looks like a complete one")
		}
		return took
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := write(ctx, img, Create(t, "disk"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

// endless is a source without end that is not zero.
type endless struct{}

func (endless) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = byte(i>>3) | 1
	}
	return len(p), nil
}

// CheckErrors checks the classes of the errors that every encoder can meet.
func CheckErrors(t *testing.T, write Write) {
	t.Helper()
	img := Mixed(t, 5, 3<<20)
	closed := Create(t, "disk")
	closed.Close()
	if err := write(t.Context(), img, closed, nil); fault.ClassOf(err) != fault.Output {
		t.Errorf("closed file: %v, class %d", err, fault.ClassOf(err))
	}
	readOnly, err := os.Open(Create(t, "disk").Name())
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	if err := write(t.Context(), img, readOnly, nil); fault.ClassOf(err) != fault.Output {
		t.Errorf("file for reading: %v, class %d", err, fault.ClassOf(err))
	}
	short := Image(t, 10<<20, disk.Extent{Data: content.NewRef(strings.NewReader("abc"), 0, 5<<20), Off: 1 << 20})
	if err := write(t.Context(), short, Create(t, "disk"), nil); !errors.Is(err, io.ErrUnexpectedEOF) || fault.ClassOf(err) != fault.Internal {
		t.Errorf("short content: %v, class %d", err, fault.ClassOf(err))
	}
}

// CheckRefused checks that a disk of size bytes is refused before anything is
// written.
func CheckRefused(t *testing.T, write Write, size int64) {
	t.Helper()
	f := Create(t, "disk")
	err := write(t.Context(), Image(t, size), f, nil)
	if fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("%d bytes: %v, class %d", size, err, fault.ClassOf(err))
	}
	if info, err := f.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%d bytes: something was written", size)
	}
}

// Head returns the first n bytes of a file, or fewer.
func Head(t testing.TB, name string, n int) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	k, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		t.Fatal(err)
	}
	return b[:k]
}
