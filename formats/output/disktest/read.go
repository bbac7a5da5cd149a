package disktest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/input"
)

// Open is a reader of a format.
type Open func(f *input.File) (*input.Disk, error)

// Convert lets qemu-img make a file of a raw disk, with the options that follow
// its name.
func Convert(t testing.TB, raw string, args ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	Tool(t, "qemu-img", append(append([]string{"convert", "-f", "raw"}, args...), raw, name)...)
	return name
}

// OpenFile opens a file with a reader, which must succeed.
func OpenFile(t testing.TB, open Open, name string) *input.Disk {
	t.Helper()
	d, err := tryOpen(t, open, name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func tryOpen(t testing.TB, open Open, name string) (*input.Disk, error) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return open(input.NewFile(f, info.Size()))
}

// CheckRead checks that a disk is the raw one, which may be followed by as many
// zeros as make up unit bytes, however it is read.
func CheckRead(t testing.TB, img *disk.Image, raw string, unit int64) {
	t.Helper()
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if want := (info.Size() + unit - 1) / unit * unit; img.Size() != want {
		t.Fatalf("size %d, want %d", img.Size(), want)
	}
	want := func(p []byte, off int64) []byte {
		clear(p)
		if n, err := f.ReadAt(p, off); err != nil && err != io.EOF {
			t.Error(err)
		} else {
			clear(p[n:])
		}
		return p
	}
	compare := func(off, n int64, got, wanted []byte) {
		if _, err := img.ReadAt(got[:n], off); err != nil && err != io.EOF {
			t.Errorf("%d bytes at %d: %v", n, off, err)
		} else if w := want(wanted[:n], off); !bytes.Equal(got[:n], w) {
			k := 0
			for got[k] == w[k] {
				k++
			}
			t.Errorf("%d bytes at %d: differ at %d: %x, want %x", n, off, off+int64(k), got[k], w[k])
		}
	}
	const piece = 1 << 20
	got, wanted := make([]byte, piece), make([]byte, piece)
	pos := int64(0)
	for off, n := range img.Data(512) {
		if off < pos || n <= 0 || off+n > img.Size() {
			t.Fatalf("data [%d:+%d] after %d", off, n, pos)
		}
		for ; pos < off && !t.Failed(); pos += piece { // a hole
			n := min(piece, off-pos)
			if !bytes.Equal(want(wanted[:n], pos), make([]byte, n)) {
				t.Fatalf("data in the hole of %d bytes at %d", n, pos)
			}
		}
		for pos = off; pos < off+n && !t.Failed(); pos += piece {
			compare(pos, min(piece, off+n-pos), got, wanted)
		}
		pos = off + n
	}
	for ; pos < img.Size() && !t.Failed(); pos += piece {
		compare(pos, min(piece, img.Size()-pos), got, wanted)
	}
	if img.Size() == 0 {
		return
	}
	var wg sync.WaitGroup
	for seed := range uint64(2 * runtime.NumCPU()) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 7))
			got, wanted := make([]byte, 300<<10), make([]byte, 300<<10)
			for range 40 {
				off := rng.Int64N(img.Size())
				n := min(1+rng.Int64N(1<<(1+rng.IntN(18))), img.Size()-off)
				compare(off, n, got, wanted)
			}
		})
	}
	wg.Wait()
}

// CheckUnreadable checks that a reader refuses a file, or fails to read it, with
// an error of the class that has the text in it.
func CheckUnreadable(t testing.TB, open Open, file []byte, class fault.Class, text string) {
	t.Helper()
	err := readAll(open, bytes.NewReader(file), int64(len(file)))
	if err == nil || fault.ClassOf(err) != class || !bytes.Contains([]byte(err.Error()), []byte(text)) {
		t.Errorf("error %v of class %d, want %q of class %d", err, fault.ClassOf(err), text, class)
	}
}

// readAll reads a disk as a hostile file is read: the first ranges of data, and
// not too much of each. It returns an error where a range has none.
func readAll(open Open, r io.ReaderAt, size int64) error {
	d, err := open(input.NewFile(r, size))
	if err != nil {
		return err
	}
	const most = 1 << 20
	buf := make([]byte, most)
	pos, count := int64(0), 0
	for off, n := range d.Data(512) {
		if off < pos || n <= 0 || off+n > d.Size() {
			panic(fmt.Sprintf("data [%d:+%d] after %d, disk of %d bytes", off, n, pos, d.Size()))
		}
		if hole := min(off-pos, most); hole > 0 {
			if _, err := d.ReadAt(buf[:hole], pos); err != nil {
				return err
			}
			if !bytes.Equal(buf[:hole], make([]byte, hole)) {
				panic(fmt.Sprintf("data in the hole at %d", pos))
			}
		}
		if _, err := d.ReadAt(buf[:min(n, most)], off); err != nil && err != io.EOF {
			return err
		}
		last := min(n, most)
		if _, err := d.ReadAt(buf[:last], off+n-last); err != nil && err != io.EOF {
			return err
		}
		if pos, count = off+n, count+1; count == 50 {
			break
		}
	}
	return nil
}

// Pack returns a file as a fuzz target takes it, small however large the file is:
// its size, and each sector that is not zero behind its number. All numbers are
// little endian.
func Pack(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(info.Size()))
	sector := make([]byte, packSector)
	for number := uint32(0); ; number++ {
		n, err := f.ReadAt(sector, int64(number)*packSector)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		clear(sector[n:])
		if !bytes.Equal(sector, make([]byte, packSector)) {
			b = append(binary.LittleEndian.AppendUint32(b, number), sector...)
		}
		if err == io.EOF {
			return b
		}
	}
}

const packSector = 512

// packed is a file that was packed.
type packed struct {
	size    int64
	sectors map[int64][]byte
}

// Unpack returns the file of what Pack returned, or of anything else.
func Unpack(b []byte) (r io.ReaderAt, size int64) {
	p := &packed{sectors: map[int64][]byte{}}
	if len(b) >= 8 {
		p.size = int64(binary.LittleEndian.Uint64(b) % (1 << 42))
		b = b[8:]
	}
	for len(b) >= 5 {
		number := int64(binary.LittleEndian.Uint32(b))
		n := min(len(b)-4, packSector)
		sector := make([]byte, packSector)
		copy(sector, b[4:4+n])
		p.sectors[number] = sector
		b = b[4+n:]
	}
	return p, p.size
}

// ReadAt implements io.ReaderAt.
func (p *packed) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= p.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.size-off))
	clear(b[:n])
	for pos := 0; pos < n; {
		at := off + int64(pos)
		k := min(n-pos, packSector-int(at%packSector))
		if s := p.sectors[at/packSector]; s != nil {
			copy(b[pos:pos+k], s[at%packSector:])
		}
		pos += k
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// FuzzRead reads what a fuzzer makes of packed files: nothing may panic or take
// for ever, and no error be without a class.
func FuzzRead(f *testing.F, open Open) {
	names, err := filepath.Glob("testdata/*.packed")
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds, %v", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, size := Unpack(b)
		err := readAll(open, r, size)
		if err != nil && !errors.Is(err, input.ErrFormat) && fault.ClassOf(err) == fault.Internal {
			t.Errorf("no class: %v", err)
		}
	})
}

// CheckSeeds checks that the packed files in testdata can be read. They are made
// where update asks for it.
func CheckSeeds(t *testing.T, open Open, update bool, seeds map[string]func(t testing.TB) (file string)) {
	t.Helper()
	for name, create := range seeds {
		path := filepath.Join("testdata", name+".packed")
		if update {
			if err := os.WriteFile(path, Pack(t, create(t)), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r, size := Unpack(b)
		if err := readAll(open, r, size); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
