package qcow2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/test/timing"
)

func itoa(n int) string { return strconv.Itoa(n) }

// qemuImg runs qemu-img and returns its output.
func qemuImg(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func newImage(t *testing.T, size int64, extents ...disk.Extent) *disk.Image {
	t.Helper()
	d, err := disk.New(size, extents)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func at(off int64, b []byte) disk.Extent { return disk.Extent{Off: off, Data: content.Bytes(b)} }

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// writeRaw writes a disk as a sparse file, independently of package raw.
func writeRaw(t *testing.T, img *disk.Image) string {
	t.Helper()
	f := create(t, "disk.raw")
	if err := f.Truncate(img.Size()); err != nil {
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

func write(t *testing.T, img *disk.Image, opt Options) string {
	t.Helper()
	f := create(t, "disk.qcow2")
	if err := Write(t.Context(), img, f, opt); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// images are disks on the limits of the format.
func images(t *testing.T) map[string]*disk.Image {
	rng := rand.New(rand.NewPCG(1, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	text := func(n int) []byte { return bytes.Repeat([]byte("all work and no play\n"), n/21+1)[:n] }
	const c = clusterSize
	const table = l2Entries * clusterSize // of the disk, mapped by one L2 table
	m := map[string]*disk.Image{
		"empty":                  newImage(t, 0),
		"one sector":             newImage(t, 512, at(0, noise(512))),
		"no whole sector":        newImage(t, 777, at(0, noise(777))),
		"hole":                   newImage(t, 10<<20),
		"zeros":                  newImage(t, 10<<20, at(0, make([]byte, 10<<20))),
		"noise":                  newImage(t, 20<<20, at(0, noise(20<<20))),
		"noise, no whole sector": newImage(t, 20<<20+9, at(0, noise(20<<20+9))),
		"text":                   newImage(t, 20<<20, at(0, text(20<<20))),
		"cluster":                newImage(t, c, at(0, text(c))),
		"cluster and a sector":   newImage(t, c+512, at(0, text(c+512))),
		"cluster less a sector":  newImage(t, c-512, at(0, text(c-512))),
		"last cluster only":      newImage(t, 5*c+1, at(5*c, []byte{1})),
		"10 GiB":                 newImage(t, 10<<30, at(0, text(1000)), at(5<<30, noise(3*c)), at(10<<30-512, text(512))),
		"2 TiB":                  newImage(t, 2<<40, at(0, text(1000)), at(1<<40-5, noise(3*c)), at(2<<40-1, text(1))),
		"table":                  newImage(t, table, at(table-1, text(1))),
		"table and a cluster":    newImage(t, table+c, at(table-c, text(2*c))),
		"table and noise":        newImage(t, 2*table, at(table-3*c, noise(6*c))),
		"every table of 100 GiB": newImage(t, 100<<30, everyTable(100<<30, table)...),
	}
	// Clusters that compress to all sorts of sizes, some not at all, some zero.
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var extents []disk.Extent
		size := int64(40 << 20)
		for pos := int64(0); pos < size; pos += c {
			b := make([]byte, c)
			switch k := rng.IntN(c); rng.IntN(8) {
			case 0:
				continue
			case 1:
				copy(b, noise(c))
			case 2:
				copy(b, text(c))
			case 3: // tiny
				b[k] = 1
			default:
				copy(b, noise(k))
			}
			extents = append(extents, at(pos, b))
		}
		m["mixed "+itoa(int(seed))] = newImage(t, size, extents...)
	}
	var samples []disk.Extent
	pos := int64(0)
	for range 3 {
		for _, b := range clusterSamples() {
			samples = append(samples, at(pos, b))
			pos += c
		}
	}
	m["samples"] = newImage(t, pos, samples...)
	return m
}

func everyTable(size, step int64) (extents []disk.Extent) {
	for off := int64(0); off < size; off += step {
		extents = append(extents, at(off+off/step*clusterSize, []byte("x")))
	}
	return extents
}

var variants = []Options{
	{},
	{Compression: None},
	{Compression: Zstd},
	{Compression: Zstd, Level: 1},
	{Compression: Zstd, Level: 19},
}

func TestWrite(t *testing.T) {
	for name, img := range images(t) {
		t.Run(name, func(t *testing.T) {
			rawFile := writeRaw(t, img)
			for _, opt := range variants {
				if opt.Level > 1 && name != "samples" {
					continue // as slow as it is strong
				}
				last, total := int64(0), int64(0)
				opt.Progress = func(n int64) {
					if n <= last {
						t.Errorf("progress %d after %d", n, last)
					}
					last = n
				}
				file := write(t, img, opt)
				for _, n := range img.Data(clusterSize) {
					total += n
				}
				if last != total {
					t.Errorf("%v: progress ends at %d of %d", opt.Compression, last, total)
				}
				out := qemuImg(t, "check", "-f", "qcow2", file)
				if !strings.Contains(out, "No errors were found") || strings.Contains(out, "leaked") {
					t.Errorf("%v: %s", opt.Compression, out)
				}
				qemuImg(t, "compare", "-f", "raw", "-F", "qcow2", rawFile, file)
				checkPacking(t, file)
			}
		})
	}
}

// checkPacking checks what qemu-img does not: that no two clusters share bytes,
// that there is nothing in the file that is not counted, and no zero cluster.
func checkPacking(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(b)%clusterSize != 0 {
		t.Errorf("file of %d bytes, no whole clusters", len(b))
	}
	be := binary.BigEndian
	owner := make([]byte, len(b)/64+1) // in units that no piece is smaller than half of
	claim := func(off, n int64) {
		for i := (off + 63) / 64; i < (off+n)/64; i++ {
			if owner[i] != 0 {
				t.Fatalf("bytes at %d are used twice", i*64)
			}
			owner[i] = 1
		}
	}
	claim(0, clusterSize)
	l1 := b[be.Uint64(b[40:]):][:8*be.Uint32(b[36:])]
	for ; len(l1) > 0; l1 = l1[8:] {
		off := int64(be.Uint64(l1) &^ entryCopied)
		if off == 0 {
			continue
		}
		claim(off, clusterSize)
		for l2 := b[off : off+clusterSize]; len(l2) > 0; l2 = l2[8:] {
			switch e := be.Uint64(l2); {
			case e == 0:
			case e&entryCompressed != 0:
				off := int64(e & (1<<sectorsShift - 1))
				sectors := int64(e>>sectorsShift&0xff) + 1
				end := (off/sectorSize + sectors) * sectorSize
				if end > int64(len(b)) || end-off > clusterSize+sectorSize {
					t.Fatalf("compressed cluster [%d:%d] of a file of %d", off, end, len(b))
				}
			default:
				off := int64(e &^ entryCopied)
				claim(off, clusterSize)
				if !bytes.ContainsFunc(b[off:off+clusterSize], func(r rune) bool { return r != 0 }) {
					t.Fatalf("cluster at %d is zero", off)
				}
			}
		}
	}
}

// TestHeader compares the first cluster with that of qemu-img.
func TestHeader(t *testing.T) {
	for _, c := range []Compression{Zlib, Zstd} {
		file := write(t, newImage(t, 3<<30), Options{Compression: c})
		want := filepath.Join(t.TempDir(), "want.qcow2")
		qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "compat=1.1,compression_type="+c.String(), want, "3G")
		a, b := readCluster(t, file), readCluster(t, want)
		// Ours has its tables elsewhere.
		for _, p := range [][]byte{a, b} {
			clear(p[40:60])
		}
		// Names of features may have been added since QEMU 7.2; all that is in
		// front of them must be equal.
		if !bytes.Equal(a[:sizeHeader], b[:sizeHeader]) {
			t.Errorf("%v: header\n% x, want\n% x", c, a[:sizeHeader], b[:sizeHeader])
		}
		info := qemuImg(t, "info", file)
		for _, line := range []string{"compat: 1.1", "compression type: " + c.String(), "refcount bits: 16", "corrupt: false", "lazy refcounts: false", "cluster_size: 65536", "virtual size: 3 GiB"} {
			if !strings.Contains(info, line) {
				t.Errorf("%v: no %q in\n%s", c, line, info)
			}
		}
	}
}

func readCluster(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, clusterSize)
	if _, err := io.ReadFull(f, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFeatureNames(t *testing.T) {
	// The golden bytes are from qemu-img 7.2, qemu-img create -f qcow2.
	b := make([]byte, clusterSize)
	(&header{}).encode(b)
	for off, want := range map[int]string{
		0x70: "\x68\x03\xf8\x57\x00\x00\x01\x80\x00\x00dirty bit\x00",
		0xa8: "\x00\x01corrupt bit\x00",
		0xd8: "\x00\x02external data file\x00", 0x108: "\x00\x03compression type\x00", 0x138: "\x00\x04extended L2 entries\x00",
		0x168: "\x01\x00lazy refcounts\x00", 0x198: "\x02\x00bitmaps\x00", 0x1c8: "\x02\x01raw external data\x00",
		0x1f8: "\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		if got := string(b[off : off+len(want)]); got != want {
			t.Errorf("at %#x: %q, want %q", off, got, want)
		}
	}
}

func TestCompressedEntry(t *testing.T) {
	for _, c := range []struct {
		off     int64
		n       int
		sectors uint64 // behind the first
	}{
		{clusterSize, 1, 0}, {clusterSize, 511, 0}, {clusterSize, 512, 0}, {clusterSize, 513, 1},
		{clusterSize + 1, 511, 0}, {clusterSize + 1, 512, 1}, {clusterSize + 511, 1, 0}, {clusterSize + 511, 2, 1},
		{2*clusterSize - 1, 2, 1}, {2*clusterSize - 1, 1, 0}, {2 * clusterSize, plainAbove, (plainAbove - 1) / 512},
		{2*clusterSize + 511, plainAbove, (511 + plainAbove - 1) / 512},
		{1<<sectorsShift - 512, 512, 0},
	} {
		e := compressedEntry(c.off, c.n)
		if e>>62 != 1 || e&(1<<54-1) != uint64(c.off) || e>>54&0xff != c.sectors {
			t.Errorf("%d bytes at %d: entry %#x", c.n, c.off, e)
		}
	}
}

// TestDeterminism writes the same disk with one, two and more cores, from
// extents that are cut differently.
func TestDeterminism(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	img := images(t)["mixed 1"]
	all := make([]byte, img.Size())
	if _, err := img.ReadAt(all, 0); err != nil {
		t.Fatal(err)
	}
	var cut []disk.Extent
	for off := 0; off < len(all); off += 12345 {
		cut = append(cut, at(int64(off), all[off:min(off+12345, len(all))]))
	}
	for _, opt := range variants[:3] {
		var first [32]byte
		for i, procs := range []int{1, 2, 5} {
			for _, img := range []*disk.Image{img, newImage(t, img.Size(), cut...)} {
				runtime.GOMAXPROCS(procs)
				b, err := os.ReadFile(write(t, img, opt))
				if err != nil {
					t.Fatal(err)
				}
				sum := sha256.Sum256(b)
				if i == 0 {
					first = sum
				}
				if sum != first {
					t.Errorf("%v: other bytes with %d cores", opt.Compression, procs)
				}
			}
		}
	}
}

func TestWriteCancelled(t *testing.T) {
	for _, opt := range variants[:3] {
		img := newImage(t, 1<<40, disk.Extent{Data: content.NewRef(endless{}, 0, 1<<40)})
		timing.Within(t, time.Second, func() time.Duration {
			ctx, cancel := context.WithCancel(t.Context())
			calls := 0
			var stopped time.Time
			opt.Progress = func(int64) {
				if calls++; calls == 3 {
					stopped = time.Now()
					cancel()
				}
			}
			f := create(t, "disk.qcow2")
			err := Write(ctx, img, f, opt)
			took := time.Since(stopped)
			if err != context.Canceled || calls != 3 {
				t.Errorf("%v: %v after %d batches", opt.Compression, err, calls)
			}
			var p [4]byte
			if n, _ := f.ReadAt(p[:], 0); n > 0 && p != [4]byte{} {
				t.Errorf("%v: a cancelled image has a header", opt.Compression)
			}
			return took
		})
	}
}

// endless is a source without end that is not zero.
type endless struct{}

func (endless) ReadAt(p []byte, off int64) (int, error) {
	rng := rand.New(rand.NewPCG(uint64(off), 1))
	for i := range p {
		p[i] = byte(rng.Uint32()) & 0x1f
	}
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	img := images(t)["noise"]
	closed := create(t, "disk.qcow2")
	closed.Close()
	if err := Write(t.Context(), img, closed, Options{}); fault.ClassOf(err) != fault.Output {
		t.Errorf("closed file: %v, class %d", err, fault.ClassOf(err))
	}
	short := newImage(t, 10<<20, disk.Extent{Data: content.NewRef(strings.NewReader("abc"), 0, 5<<20), Off: 1 << 20})
	if err := Write(t.Context(), short, create(t, "disk.qcow2"), Options{}); !errors.Is(err, io.ErrUnexpectedEOF) || fault.ClassOf(err) != fault.Internal {
		t.Errorf("short content: %v, class %d", err, fault.ClassOf(err))
	}
	if err := Write(t.Context(), newImage(t, maxSize+1), create(t, "disk.qcow2"), Options{}); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("too large: %v, class %d", err, fault.ClassOf(err))
	}
	for _, opt := range []Options{{Compression: 7}, {Compression: -1}, {Level: 1}, {Compression: None, Level: 3}, {Compression: Zstd, Level: 23}, {Compression: Zstd, Level: -1}} {
		if err := Write(t.Context(), img, create(t, "disk.qcow2"), opt); fault.ClassOf(err) != fault.Usage {
			t.Errorf("%+v: %v, class %d", opt, err, fault.ClassOf(err))
		}
	}
}

// TestLargest checks that QEMU opens a disk of the largest size.
func TestLargest(t *testing.T) {
	file := write(t, newImage(t, maxSize, at(maxSize-1, []byte{1})), Options{})
	if out := qemuImg(t, "info", file); !strings.Contains(out, "virtual size: 2 PiB") {
		t.Error(out)
	}
}

// FuzzWrite lets qemu-img check and compare disks made of the input: each two
// bytes are a cluster with so much noise in it, or a gap.
func FuzzWrite(f *testing.F) {
	f.Add([]byte{1, 10, 2, 255, 3, 0, 0, 4, 1, 200}, uint16(100))
	f.Add(bytes.Repeat([]byte{1, 128, 2, 250}, 40), uint16(1))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		rng := rand.New(rand.NewPCG(1, 5))
		var extents []disk.Extent
		pos := int64(0)
		for ; len(in) >= 2 && len(extents) < 300 && pos < 64<<20; in = in[2:] {
			if in[0]%8 == 0 {
				pos += int64(in[1]) * clusterSize / 16
				continue
			}
			b := make([]byte, clusterSize)
			for i := range int(in[1]) * 257 {
				b[i] = byte(rng.Uint32())
			}
			extents = append(extents, at(pos, b))
			pos += clusterSize
		}
		img := newImage(t, pos+int64(cut), extents...)
		rawFile := writeRaw(t, img)
		for _, opt := range variants[:3] {
			file := write(t, img, opt)
			qemuImg(t, "check", "-q", "-f", "qcow2", file)
			qemuImg(t, "compare", "-q", "-f", "raw", "-F", "qcow2", rawFile, file)
			checkPacking(t, file)
		}
	})
}
