package bmap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"imgbuild/disk"
	"imgbuild/formats/compressed"
	"imgbuild/formats/output/disktest"
)

func encodeFile(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error {
	return Write(ctx, img, f, Options{Progress: progress})
}

type parsed struct {
	Version   string `xml:"version,attr"`
	ImageSize string
	BlockSize string
	Blocks    string `xml:"BlocksCount"`
	Mapped    string `xml:"MappedBlocksCount"`
	Type      string `xml:"ChecksumType"`
	Sum       string `xml:"BmapFileChecksum"`
	Ranges    []struct {
		Sum  string `xml:"chksum,attr"`
		Text string `xml:",chardata"`
	} `xml:"BlockMap>Range"`
}

// parse reads a map and checks everything that it says.
func parse(t *testing.T, file string, img *disk.Image) spans {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	disktest.Tool(t, "xmllint", "--nonet", "--noout", file)
	var p parsed
	if err := xml.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	number := func(s string) int64 {
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sum := strings.TrimSpace(p.Sum)
	if got := fmt.Sprintf("%x", sha256.Sum256(bytes.Replace(b, []byte(sum), bytes.Repeat([]byte("0"), 64), 1))); got != sum {
		t.Errorf("checksum of the file is %s, it says %s", got, sum)
	}
	var list spans
	total := int64(0)
	for _, r := range p.Ranges {
		from, to, found := strings.Cut(strings.TrimSpace(r.Text), "-")
		if !found {
			to = from
		}
		s := span{number(from) * blockSize, min((number(to)+1)*blockSize, img.Size())}
		if n := len(list); s.from >= s.to || n > 0 && s.from < list[n-1].to || s.to-s.from > maxRange {
			t.Fatalf("range %v after %v", s, list)
		}
		data := make([]byte, s.to-s.from)
		if _, err := img.ReadAt(data, s.from); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != r.Sum {
			t.Errorf("range %v: checksum %s, want %s", s, r.Sum, got)
		}
		list = append(list, s)
		total += divUp(s.to-s.from, blockSize)
	}
	var data spans
	for off, n := range img.Data(blockSize) {
		data = append(data, span{off, off + n})
	}
	if lost := data.subtract(list.normal()); len(lost) > 0 {
		t.Errorf("data that is not mapped: %v", lost)
	}
	if p.Version != "2.0" || number(p.ImageSize) != img.Size() || number(p.BlockSize) != blockSize || number(p.Blocks) != divUp(img.Size(), blockSize) || number(p.Mapped) != total || strings.TrimSpace(p.Type) != "sha256" {
		t.Errorf("%+v, %d blocks are mapped", p, total)
	}
	return list.normal()
}

// copyWithTool lets bmaptool write an image to a file, which checks all sums, and
// returns the name of the file. It cuts files to nothing first, so this says
// nothing about what is not mapped.
func copyWithTool(t *testing.T, image, bmap string) string {
	t.Helper()
	medium := filepath.Join(t.TempDir(), "medium")
	disktest.Tool(t, "bmaptool", "copy", "--bmap", bmap, image, medium)
	return medium
}

// TestWrite checks maps of disks without partitions: all of them is mapped.
func TestWrite(t *testing.T) {
	images := disktest.Images(t, blockSize)
	delete(images, "1 GiB") // bmaptool writes all of it
	for name, img := range images {
		t.Run(name, func(t *testing.T) {
			file := disktest.File(t, encodeFile, img, "disk.bmap")
			if list := parse(t, file, img); len(list) != 1 || list[0] != (span{0, img.Size()}) {
				t.Errorf("mapped: %v", list)
			}
			raw := disktest.Raw(t, img, 1)
			disktest.Tool(t, "cmp", raw, copyWithTool(t, raw, file))
		})
	}
}

// TestCompressed lets bmaptool write compressed images.
func TestCompressed(t *testing.T) {
	img := disktest.Mixed(t, 1, 2<<20+512)
	file := disktest.File(t, encodeFile, img, "disk.bmap")
	for _, c := range []compressed.Compression{compressed.Gzip, compressed.XZ, compressed.Zstd} {
		f := disktest.Create(t, "disk.raw"+c.Extension())
		if err := compressed.Write(t.Context(), img, f, compressed.Options{Compression: c}); err != nil {
			t.Fatal(err)
		}
		disktest.Tool(t, "cmp", disktest.Raw(t, img, 1), copyWithTool(t, f.Name(), file))
	}
}

// TestDamaged checks that bmaptool sees a wrong image and a wrong map.
func TestDamaged(t *testing.T) {
	img := disktest.Mixed(t, 2, 3<<20)
	file := disktest.File(t, encodeFile, img, "disk.bmap")
	raw := disktest.Raw(t, img, 1)
	f, err := os.OpenFile(raw, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	for _, off := range []int64{0, 1 << 20, 3<<20 - 1} {
		if _, err := f.ReadAt(b[:], off); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b[:], off); err != nil {
			t.Fatal(err)
		}
		out := disktest.Tool(t, "sh", "-c", `bmaptool copy --bmap "$1" "$2" "$3" 2>&1; test $? != 0`, "sh", file, raw, filepath.Join(t.TempDir(), "medium"))
		if !strings.Contains(out, "checksum mismatch") {
			t.Error(out)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b[:], off); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpans(t *testing.T) {
	for _, c := range []struct{ a, b, want spans }{
		{nil, nil, nil},
		{spans{{0, 10}}, nil, spans{{0, 10}}},
		{spans{{0, 10}}, spans{{0, 10}}, nil},
		{spans{{0, 10}}, spans{{3, 4}, {6, 20}}, spans{{0, 3}, {4, 6}}},
		{spans{{0, 10}, {20, 30}, {40, 50}}, spans{{5, 45}}, spans{{0, 5}, {45, 50}}},
		{spans{{0, 10}, {20, 30}}, spans{{10, 20}, {22, 24}, {24, 26}}, spans{{0, 10}, {20, 22}, {26, 30}}},
		{spans{{5, 10}}, spans{{0, 1}, {2, 6}, {9, 100}}, spans{{6, 9}}},
	} {
		if got := c.a.subtract(c.b); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%v less %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
	if got := (spans{{5, 6}, {0, 2}, {2, 4}, {9, 9}, {3, 5}, {8, 9}}).normal(); fmt.Sprint(got) != "[{0 6} {8 9}]" {
		t.Errorf("normal: %v", got)
	}
}

func TestLeftOut(t *testing.T) {
	const k = 1 << 10
	got := leftOut(spans{{1, 100*k + 1}, {200 * k, 263 * k}, {300 * k, 364 * k}, {401 * k, 467 * k}, {500*k - 1, 568 * k}})
	if want := (spans{{4 * k, 100 * k}, {300 * k, 364 * k}, {500 * k, 568 * k}}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestContract(t *testing.T) {
	disktest.CheckDeterminism(t, encodeFile)
	disktest.CheckErrors(t, encodeFile)
	disktest.CheckCancel(t, encodeFile, nil)
	disktest.CheckRefused(t, encodeFile, 0)
	img := disktest.Image(t, 200<<20+5)
	last := int64(0)
	if err := encodeFile(t.Context(), img, disktest.Create(t, "disk.bmap"), func(n int64) { last = n }); err != nil || last != img.Size() {
		t.Errorf("progress ends at %d, %v", last, err)
	}
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte{1, 10, 2, 255, 4, 0, 0, 4, 255, 200}, uint16(100))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		img := disktest.FromInput(t, in, cut, 1<<20)
		parse(t, disktest.File(t, encodeFile, img, "disk.bmap"), img)
	})
}
