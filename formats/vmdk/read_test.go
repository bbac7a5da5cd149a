package vmdk

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/input"
	"imgbuild/formats/output/disktest"
)

var update = flag.Bool("update", false, "make the seeds of the fuzz target again")

// inDir opens files of a directory.
func inDir(t testing.TB, dir string) OpenFile {
	return func(name string) (*input.File, error) {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { f.Close() })
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		return input.NewFile(f, info.Size()), nil
	}
}

// alone opens disks in one file.
func alone(f *input.File) (*input.Disk, error) { return Open(f, nil) }

// TestRead reads what qemu-img makes.
func TestRead(t *testing.T) {
	for name, img := range map[string]*disk.Image{
		"mixed": disktest.Mixed(t, 11, 20<<20+512),
		"hole":  disktest.Image(t, 300<<20),
		"large": disktest.Image(t, 2<<30+1<<20, disktest.At(5000, disktest.Text(100000)), disktest.At(2<<30-64<<10-512, disktest.Noise(4, 128<<10)), disktest.At(2<<30+1<<20-512, disktest.Noise(5, 512))),
	} {
		raw := disktest.Raw(t, img, 512)
		for _, options := range []string{
			"subformat=monolithicSparse", "subformat=streamOptimized", "subformat=monolithicFlat", "subformat=monolithicSparse,zeroed_grain=on",
			"subformat=twoGbMaxExtentSparse", "subformat=twoGbMaxExtentFlat",
		} {
			t.Run(name+"/"+options, func(t *testing.T) {
				file := disktest.Convert(t, raw, "-O", "vmdk", "-o", options)
				open := func(f *input.File) (*input.Disk, error) { return Open(f, inDir(t, filepath.Dir(file))) }
				d := disktest.OpenFile(t, open, file)
				disktest.CheckRead(t, d.Image, raw, 512)
				if want := strings.TrimPrefix(strings.Split(options, ",")[0], "subformat="); d.Details != want {
					t.Errorf("details %q, want %s", d.Details, want)
				}
			})
		}
	}
}

// TestReadWritten reads what a guest has written to, with grains of zeros.
func TestReadWritten(t *testing.T) {
	file, raw := filepath.Join(t.TempDir(), "disk.vmdk"), filepath.Join(t.TempDir(), "raw")
	disktest.Tool(t, "qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicSparse,zeroed_grain=on", file, "100M")
	disktest.Tool(t, "qemu-io", "-c", "write -P 1 0 3M", "-c", "write -z 1M 128k", "-c", "write -P 2 70M 7k", "-c", "write -z 40M 1M", file)
	disktest.Tool(t, "qemu-img", "convert", "-O", "raw", file, raw)
	disktest.CheckRead(t, disktest.OpenFile(t, alone, file).Image, raw, 512)
}

// TestReadOwn reads what Write makes.
func TestReadOwn(t *testing.T) {
	for name, img := range disktest.Images(t, grainSize) {
		t.Run(name, func(t *testing.T) {
			file := disktest.File(t, encode, img, "disk.vmdk")
			disktest.CheckRead(t, disktest.OpenFile(t, alone, file).Image, disktest.Raw(t, img, 1), grainSize)
		})
	}
}

// TestReadRefused reads what is refused, and what is damaged.
func TestReadRefused(t *testing.T) {
	le := binary.LittleEndian
	raw := disktest.Raw(t, disktest.Mixed(t, 2, 4<<20), 512)
	plain, err := os.ReadFile(disktest.Convert(t, raw, "-O", "vmdk"))
	if err != nil {
		t.Fatal(err)
	}
	split := disktest.Convert(t, raw, "-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse")
	part, err := os.ReadFile(split + "-s001")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := os.ReadFile(disktest.File(t, encode, disktest.Mixed(t, 2, 4<<20), "disk.vmdk"))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(b []byte, change func(b []byte)) []byte {
		b = append([]byte{}, b...)
		change(b)
		return b
	}
	table := func(b []byte, footer int) int {
		directory := int(le.Uint64(b[footer+0x38:])) * sectorSize
		return int(le.Uint32(b[directory:])) * sectorSize
	}
	foot := len(stream) - 2*sectorSize
	grain := int(le.Uint32(stream[table(stream, foot):])) * sectorSize
	if grain == 0 {
		t.Fatal("the first grain is a hole")
	}
	text := func(lines ...string) []byte {
		return []byte("# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType=\"x\"\n" + strings.Join(lines, "\n") + "\n")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "flat"), make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	open := func(f *input.File) (*input.Disk, error) { return Open(f, inDir(t, dir)) }
	for name, c := range map[string]struct {
		file  []byte
		class fault.Class
		text  string
	}{
		"nothing":           {nil, fault.BadImage, "not of this format"},
		"text":              {disktest.Text(5000), fault.BadImage, "not of this format"},
		"ESX":               {append([]byte("COWD"), make([]byte, 2000)...), fault.Unsupported, "ESX"},
		"header":            {plain[:100], fault.BadImage, "512 bytes at 0"},
		"version":           {changed(plain, func(b []byte) { b[4] = 9 }), fault.Unsupported, "version 9"},
		"grains":            {changed(plain, func(b []byte) { b[0x14] = 3 }), fault.BadImage, "grains of 3"},
		"tables":            {changed(plain, func(b []byte) { b[0x2f] = 3 }), fault.BadImage, "grain tables"},
		"capacity":          {changed(plain, func(b []byte) { b[0x13] = 3 }), fault.BadImage, "capacity"},
		"larger":            {changed(plain, func(b []byte) { b[0x11] = 3 }), fault.BadImage, "directory"},
		"directory beyond":  {changed(plain, func(b []byte) { b[0x3d] = 3 }), fault.BadImage, "directory"},
		"table beyond":      {changed(plain, func(b []byte) { le.PutUint32(b[le.Uint64(b[0x38:])*sectorSize:], 1<<30) }), fault.BadImage, "grain table"},
		"cut a grain":       {plain[:len(plain)-sectorSize], fault.BadImage, "which has"},
		"part":              {changed(plain, func(b []byte) { clear(b[0x1c:0x2c]) }), fault.Unsupported, "part of a disk"},
		"part, by QEMU":     {part, fault.Unsupported, "part of a disk"},
		"grain beyond":      {changed(plain, func(b []byte) { le.PutUint32(b[table(b, 0):], 1<<30) }), fault.BadImage, "which has"},
		"parent":            {changed(plain, func(b []byte) { replace(b, "parentCID=ffffffff", "parentCID=12345678") }), fault.Unsupported, "parent"},
		"compression":       {changed(stream, func(b []byte) { b[foot+0x4d] = 2 }), fault.Unsupported, "compression 2"},
		"no footer":         {stream[:len(stream)-4*sectorSize], fault.BadImage, "no footer"},
		"large grain":       {changed(stream, func(b []byte) { b[grain+10] = 0x7f }), fault.BadImage, "compressed bytes"},
		"empty grain":       {changed(stream, func(b []byte) { clear(b[grain+8 : grain+12]) }), fault.BadImage, "compressed bytes"},
		"damaged grain":     {changed(stream, func(b []byte) { b[grain+30] ^= 0xff; b[grain+40] ^= 0xff }), fault.BadImage, "compressed grain"},
		"short grain":       {changed(stream, func(b []byte) { le.PutUint32(b[grain+8:], 8); copy(b[grain+12:], "\x78\x9c\x03\x00\x00\x00\x00\x01") }), fault.BadImage, "0 of 65536"},
		"no extents":        {text(), fault.BadImage, "without extents"},
		"many extents":      {text(strings.Split(strings.Repeat("RW 1 ZERO\n", 5000), "\n")...), fault.Unsupported, "more than"},
		"delta":             {text(`parentCID=00000001`, `RW 8 FLAT "flat" 0`), fault.Unsupported, "parent"},
		"directory":         {text(`RW 8 FLAT "../flat" 0`), fault.Unsupported, "another directory"},
		"absolute":          {text(`RW 8 FLAT "/etc/passwd" 0`), fault.Unsupported, "another directory"},
		"drive":             {text(`RW 8 FLAT "C:\flat" 0`), fault.Unsupported, "another directory"},
		"missing":           {text(`RW 8 FLAT "gone" 0`), fault.BadImage, "gone"},
		"device":            {text(`RW 8 VMFSRDM "flat" 0`), fault.Unsupported, "VMFSRDM"},
		"short file":        {text(`RW 8 FLAT "flat" 2041`), fault.BadImage, "bytes at"},
		"no sparse extent":  {text(`RW 8 SPARSE "flat"`), fault.BadImage, "version 0"},
		"huge extents":      {text(`RW 9007199254740992 ZERO`), fault.BadImage, "extent"},
		"many huge extents": {text(strings.Split(strings.Repeat("RW 9007199254740991 ZERO\n", 3), "\n")...), fault.BadImage, "2^62"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "no sparse extent" {
				c.class = fault.Unsupported
			}
			if name == "missing" {
				c.class = fault.Internal // that of the error of os.Open
			}
			disktest.CheckUnreadable(t, open, c.file, c.class, c.text)
		})
	}
	disktest.CheckUnreadable(t, alone, text(`RW 8 FLAT "flat" 0`), fault.Unsupported, "other files")
}

// replace replaces text in b by one of the same length.
func replace(b []byte, old, with string) {
	i := strings.Index(string(b), old)
	copy(b[i:], with)
}

// TestReadDescriptor reads a disk that is put together in all ways.
func TestReadDescriptor(t *testing.T) {
	dir := t.TempDir()
	img := disktest.Mixed(t, 3, 3<<20)
	if err := os.Rename(disktest.File(t, encode, img, "x"), filepath.Join(dir, "sparse one.vmdk")); err != nil {
		t.Fatal(err)
	}
	flat := disktest.Noise(5, 2<<20)
	if err := os.WriteFile(filepath.Join(dir, "flat"), flat, 0o666); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("\r\n# disk descriptorfile\r\nVersion = 1\r\nParentCID=FFFFFFFF\r\nRDONLY %d SPARSE \"sparse one.vmdk\"\r\nNOACCESS 100 ZERO\r\nRW 200 ZERO\r\nRW 1000 FLAT \"flat\" 24\r\nRW 500 VMFS \"flat\"\r\n", 3<<20/512)
	name := filepath.Join(dir, "disk.vmdk")
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	want := disktest.Image(t, 3<<20+1800*512, append(img.Extents(), disktest.At(3<<20+300*512, flat[24*512:][:1000*512]), disktest.At(3<<20+1300*512, flat[:500*512]))...)
	d := disktest.OpenFile(t, func(f *input.File) (*input.Disk, error) { return Open(f, inDir(t, dir)) }, name)
	disktest.CheckRead(t, d.Image, disktest.Raw(t, want, 512), 512)
}

// TestReadSeeds checks what FuzzRead begins with.
func TestReadSeeds(t *testing.T) {
	tiny := func(options string) func(t testing.TB) string {
		return func(t testing.TB) string {
			img := disktest.Image(t, 500<<10, disktest.At(100, disktest.Text(2000)), disktest.At(400<<10, disktest.Noise(1, 700)))
			return disktest.Convert(t, disktest.Raw(t, img, 512), "-O", "vmdk", "-o", options)
		}
	}
	disktest.CheckSeeds(t, alone, *update, map[string]func(t testing.TB) string{
		"sparse": tiny("subformat=monolithicSparse"), "stream": tiny("subformat=streamOptimized"), "zeroed": tiny("subformat=monolithicSparse,zeroed_grain=on"),
		"own": func(t testing.TB) string {
			return disktest.File(t, encode, disktest.Image(t, 100<<20, disktest.At(50<<20, []byte{1})), "disk.vmdk")
		},
	})
}

func FuzzRead(f *testing.F) { disktest.FuzzRead(f, alone) }

func FuzzDescriptor(f *testing.F) {
	f.Add([]byte("# Disk DescriptorFile\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 1000 FLAT \"flat\" 7\nRW 5 ZERO\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := input.NewFile(strings.NewReader(strings.Repeat("x", 1<<16)), 1<<16)
		d, err := openDescriptor(b, func(name string) (*input.File, error) {
			if strings.ContainsAny(name, `/\`) {
				t.Errorf("opens %q", name)
			}
			return file, nil
		})
		if err != nil {
			return
		}
		if _, err := d.ReadAt(make([]byte, 100), 0); err != nil && d.Size() >= 100 {
			t.Error(err)
		}
	})
}
