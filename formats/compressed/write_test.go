package compressed

import (
	"bytes"
	"context"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"compress/gzip"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output/disktest"
	"imgbuild/formats/pieces"
)

func encoderOf(c Compression, level int) disktest.Write {
	return func(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error {
		return Write(ctx, img, f, Options{Compression: c, Level: level, Progress: progress})
	}
}

var all = []Compression{Gzip, XZ, Zstd}

func TestWrite(t *testing.T) {
	const u = 4 << 20
	images := disktest.Images(t, 1<<20)
	delete(images, "1 GiB") // below, by size
	images["empty"] = disktest.Image(t, 0)
	images["zeros to the end"] = disktest.Image(t, 2*u+5, disktest.At(100, disktest.Text(5)))
	images["zeros from the beginning"] = disktest.Image(t, 2*u+5, disktest.At(2*u, disktest.Text(5)))
	images["units"] = disktest.Image(t, 2*u, disktest.At(0, disktest.Text(2*u)))
	for name, img := range images {
		t.Run(name, func(t *testing.T) {
			for _, c := range all {
				if c == XZ && name == "mixed" {
					continue // a few MB a second
				}
				checkDisk(t, img, c)
			}
		})
	}
}

// checkDisk lets the tool test a file, decompresses it with the tool and compares.
func checkDisk(t *testing.T, img *disk.Image, c Compression) {
	t.Helper()
	file := disktest.File(t, encoderOf(c, 0), img, "disk.raw"+c.Extension())
	tool := c.String()
	disktest.Tool(t, tool, "-t", file)
	raw := disktest.Raw(t, img, 1)
	cmd := exec.Command("sh", "-c", tool+` -dc "$1" | cmp - "$2"`, "sh", file, raw)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c, err, out)
	}
	switch c {
	case Gzip:
		checkGzip(t, file, img)
	case XZ:
		checkXZ(t, file, img)
	case Zstd:
		checkZstd(t, file, img)
	}
}

// checkGzip checks that a reader that stops behind the first member sees all.
func checkGzip(t *testing.T, file string, img *disk.Image) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := bytes.NewReader(b)
	r, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	r.Multistream(false)
	if n, err := io.Copy(io.Discard, r); n != img.Size() || err != nil || in.Len() != 0 {
		t.Errorf("member of %d bytes, %v, %d bytes behind it", n, err, in.Len())
	}
	if r.Name != "" || !r.ModTime.IsZero() || r.Comment != "" || len(r.Extra) > 0 {
		t.Errorf("header %+v", r.Header)
	}
}

// checkXZ checks number and sizes of the blocks.
func checkXZ(t *testing.T, file string, img *disk.Image) {
	t.Helper()
	out := disktest.Tool(t, "xz", "--robot", "--list", "--verbose", "--verbose", file)
	blocks := 0
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		switch f[0] {
		case "stream":
			if f[1] != "1" || f[9] != "0" {
				t.Errorf("streams or padding: %s", line)
			}
		case "block":
			blocks++
			// Number, ... offsets, sizes, ratio, check, its value, header size, flags.
			if f[9] != "CRC64" || f[12] != "cu" || f[15] != "--lzma2=dict=1MiB" {
				t.Errorf("block: %q", f)
			}
		case "totals":
			if f[1] != "1" || f[2] != itoa(int64(blocks)) || f[4] != itoa(img.Size()) {
				t.Errorf("%d blocks: %s", blocks, line)
			}
		}
	}
	if want := (img.Size() + XZ.Unit() - 1) / XZ.Unit(); int64(blocks) != want {
		t.Errorf("%d blocks, want %d", blocks, want)
	}
	disktest.Tool(t, "xz", "-t", "-T2", file)
}

// checkZstd checks that all frames have size and checksum.
func checkZstd(t *testing.T, file string, img *disk.Image) {
	t.Helper()
	if img.Size() == 0 {
		return
	}
	out := disktest.Tool(t, "zstd", "-lv", file)
	frames := (img.Size() + Zstd.Unit() - 1) / Zstd.Unit()
	for _, want := range []string{"# Zstandard Frames: " + itoa(frames) + "\n", "(" + itoa(img.Size()) + " B)", "Check: XXH64"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// TestLevels checks every level that is something of its own.
func TestLevels(t *testing.T) {
	img := disktest.Mixed(t, 9, 3<<20+17)
	raw := disktest.Raw(t, img, 1)
	sizes := map[string]int64{}
	for _, s := range []string{"gzip", "gzip:1", "gzip:4", "gzip:5", "gzip:7", "gzip:9", "zstd", "zstd:1", "zstd:3", "zstd:7", "zstd:22"} {
		c, level, err := ParseCompression(s)
		if err != nil {
			t.Fatal(err)
		}
		file := disktest.File(t, encoderOf(c, level), img, "disk"+c.Extension())
		if out, err := exec.Command("sh", "-c", c.String()+` -dc "$1" | cmp - "$2"`, "sh", file, raw).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", s, err, out)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		sizes[s] = info.Size()
	}
	if sizes["gzip"] < sizes["gzip:9"] || sizes["zstd"] != sizes["zstd:3"] || sizes["gzip:1"] <= sizes["gzip:9"] || sizes["zstd:1"] <= sizes["zstd:22"] {
		t.Errorf("sizes %v", sizes)
	}
}

// TestSparse checks that holes cost next to nothing.
func TestSparse(t *testing.T) {
	const size = 120 << 20
	img := disktest.Image(t, size, disktest.At(60<<20, []byte("x")))
	for _, c := range all {
		file := disktest.File(t, encoderOf(c, 0), img, "disk"+c.Extension())
		disktest.Tool(t, c.String(), "-t", file)
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 140<<10 {
			t.Errorf("%v: %d bytes", c, info.Size())
		}
	}
}

// TestZeroContent checks that zeros in the content and holes are the same bytes.
func TestZeroContent(t *testing.T) {
	const size = 9<<20 + 5
	for _, c := range all {
		var files [][]byte
		for _, img := range []*disk.Image{disktest.Image(t, size), disktest.Image(t, size, disktest.At(0, make([]byte, size))), disktest.Image(t, size, disktest.At(5<<20, make([]byte, 7)))} {
			b, err := os.ReadFile(disktest.File(t, encoderOf(c, 0), img, "disk"))
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, b)
		}
		if !bytes.Equal(files[0], files[1]) || !bytes.Equal(files[0], files[2]) {
			t.Errorf("%v: other bytes", c)
		}
	}
}

func TestCRC(t *testing.T) {
	b := disktest.Noise(1, 100000)
	for _, cut := range []int{0, 1, 7, 4096, 65536, 99999, 100000} {
		got := crcMultiply(crcShift(int64(len(b)-cut)), crc32.ChecksumIEEE(b[:cut])) ^ crc32.ChecksumIEEE(b[cut:])
		if want := crc32.ChecksumIEEE(b); got != want {
			t.Errorf("cut at %d: %#x, want %#x", cut, got, want)
		}
	}
	// The CRC of 3 GiB of zeros is from zlib.
	g := &gzipContainer{}
	zeros := unit{size: Gzip.Unit(), crc: crc32.ChecksumIEEE(make([]byte, Gzip.Unit()))}
	for range 3 << 30 / Gzip.Unit() {
		g.add(&zeros)
	}
	if g.crc != 0x480bbe37 || g.size != 3<<30 {
		t.Errorf("%#x of %d bytes", g.crc, g.size)
	}
}

// TestEncodersKeepNothing checks that a unit does not depend on those before it.
func TestEncodersKeepNothing(t *testing.T) {
	for _, c := range all {
		e, err := newEncoder(c, 0)
		if err != nil {
			t.Fatal(err)
		}
		src := append(disktest.Text(100000), disktest.Noise(1, 100000)...)
		var first, u unit
		if err := e.encode(&first, src); err != nil {
			t.Fatal(err)
		}
		for i := range 12 {
			if err := e.encode(&u, append(disktest.Noise(uint64(i), 800*i), disktest.Text(2000*i)...)); err != nil {
				t.Fatal(err)
			}
			if err := e.encode(&u, src); err != nil || !bytes.Equal(u.data, first.data) || u.crc != first.crc || u.size != first.size {
				t.Fatalf("%v: other bytes after %d units, %v", c, i, err)
			}
		}
	}
}

func TestContract(t *testing.T) {
	for _, c := range all {
		t.Run(c.String(), func(t *testing.T) {
			if c != XZ {
				disktest.CheckDeterminism(t, encoderOf(c, 0))
			}
			if c == Gzip {
				disktest.CheckProgress(t, encoderOf(c, 0), pieces.Size)
				disktest.CheckProgress(t, encoderOf(c, 1), c.Unit())
			} else {
				disktest.CheckProgress(t, encoderOf(c, 0), c.Unit())
			}
			disktest.CheckErrors(t, encoderOf(c, 0))
			disktest.CheckCancel(t, encoderOf(c, 0), func(f *os.File) bool { return exec.Command(c.String(), "-tq", f.Name()).Run() == nil })
		})
	}
}

// TestDeterminismXZ is CheckDeterminism with less content, as xz is slow.
func TestDeterminismXZ(t *testing.T) {
	img := disktest.Image(t, 17<<20, disktest.At(0, disktest.Text(100000)), disktest.At(4<<20+5, disktest.Noise(1, 100000)), disktest.At(16<<20, disktest.Text(1<<20)))
	var first []byte
	for i := range 3 {
		b, err := os.ReadFile(disktest.File(t, encoderOf(XZ, 0), img, "disk"))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = b
		} else if !bytes.Equal(b, first) {
			t.Error("other bytes")
		}
	}
}

// TestCancelInHole checks that a long hole can be cancelled, too.
func TestCancelInHole(t *testing.T) {
	for _, c := range all {
		ctx, cancel := context.WithCancel(t.Context())
		img := disktest.Image(t, 1<<50, disk.Extent{Data: content.String("x")}, disk.Extent{Off: 1<<50 - 1, Data: content.String("y")})
		f := disktest.Create(t, "disk")
		err := Write(ctx, img, f, Options{Compression: c, Progress: func(int64) { cancel() }})
		if err != context.Canceled {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestParseCompression(t *testing.T) {
	for _, c := range []struct {
		s     string
		c     Compression
		level int
	}{{"gzip", Gzip, 0}, {"gzip:1", Gzip, 1}, {"gzip:9", Gzip, 9}, {"xz", XZ, 0}, {"zstd", Zstd, 0}, {"zstd:1", Zstd, 1}, {"zstd:22", Zstd, 22}} {
		if got, level, err := ParseCompression(c.s); got != c.c || level != c.level || err != nil {
			t.Errorf("%q: %v, %d, %v", c.s, got, level, err)
		}
	}
	for _, s := range []string{"", "none", "GZIP", "gzip:", "gzip:0", "gzip:10", "gzip:-1", "gzip:1x", "xz:6", "zstd:23", "zstd:0", "zstd:1:2"} {
		if _, _, err := ParseCompression(s); fault.ClassOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("%q: %v, class %d", s, err, fault.ClassOf(err))
		}
	}
	for c, want := range map[Compression]string{Gzip: ".gz", XZ: ".xz", Zstd: ".zst", -1: "", 3: ""} {
		if got := c.Extension(); got != want {
			t.Errorf("%v: extension %q", c, got)
		}
	}
	for _, opt := range []Options{{Compression: 3}, {Compression: -1}, {Level: 10}, {Level: -1}, {Compression: XZ, Level: 1}, {Compression: Zstd, Level: 23}} {
		if err := Write(t.Context(), disktest.Image(t, 1), disktest.Create(t, "disk"), opt); fault.ClassOf(err) != fault.Usage {
			t.Errorf("%+v: %v", opt, err)
		}
	}
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte{1, 10, 2, 255, 4, 0, 0, 4, 255, 200}, uint16(100))
	f.Add(bytes.Repeat([]byte{255, 128, 2, 250}, 2), uint16(1))
	f.Add([]byte{0, 255, 255, 128, 0, 255, 0, 255, 0, 255, 255, 255}, uint16(7))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		img := disktest.FromInput(t, in[:min(len(in), 30)], cut, 1<<18)
		for _, c := range all {
			checkDisk(t, img, c)
		}
	})
}
