package vhd

import (
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output/disktest"
)

var update = flag.Bool("update", false, "make the seeds of the fuzz target again")

// TestRead reads what qemu-img makes. Without force_size that has a geometry, and
// is larger than the raw disk.
func TestRead(t *testing.T) {
	for name, img := range map[string]*disk.Image{
		"mixed": disktest.Mixed(t, 11, 20<<20),
		"hole":  disktest.Image(t, 300<<20),
		"large": disktest.Image(t, 1<<30, disktest.At(5000, disktest.Text(100000)), disktest.At(1<<30-1024, disktest.Noise(5, 1024))),
	} {
		for _, options := range []string{"subformat=dynamic,force_size=on", "subformat=fixed,force_size=on", "subformat=dynamic", "subformat=fixed"} {
			t.Run(name+"/"+options, func(t *testing.T) {
				file := disktest.Convert(t, disktest.Raw(t, img, 512), "-O", "vpc", "-o", options)
				raw := filepath.Join(t.TempDir(), "raw")
				disktest.Tool(t, "qemu-img", "convert", "-f", "vpc", "-O", "raw", file, raw)
				disktest.CheckRead(t, disktest.OpenFile(t, Open, file).Image, raw, 512)
			})
		}
	}
}

// TestReadOwn reads what Write makes.
func TestReadOwn(t *testing.T) {
	for name, img := range disktest.Images(t, blockSize) {
		raw := disktest.Raw(t, img, 1)
		for _, sub := range []Subformat{Fixed, Dynamic} {
			f := disktest.Create(t, "disk.vhd")
			if err := Write(t.Context(), img, f, Options{Subformat: sub}); err != nil {
				t.Fatal(err)
			}
			t.Run(name+"/"+sub.String(), func(t *testing.T) {
				disktest.CheckRead(t, disktest.OpenFile(t, Open, f.Name()).Image, raw, sectorSize)
			})
		}
	}
}

// TestReadRefused reads what is refused, and what is damaged.
func TestReadRefused(t *testing.T) {
	be := binary.BigEndian
	made := func(sub Subformat) []byte {
		f := disktest.Create(t, "disk.vhd")
		if err := Write(t.Context(), disktest.Mixed(t, 2, 4<<20), f, Options{Subformat: sub}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	fixed, dynamic := made(Fixed), made(Dynamic)
	seal := func(b []byte, at int) {
		clear(b[at : at+4])
		be.PutUint32(b[at:], checksum(b))
	}
	// footers changes both copies, header the dynamic header.
	footers := func(change func(b []byte)) []byte {
		b := append([]byte{}, dynamic...)
		for _, f := range [][]byte{b[:sizeFooter], b[len(b)-sizeFooter:]} {
			change(f)
			seal(f, 0x40)
		}
		return b
	}
	header := func(change func(b []byte)) []byte {
		b := append([]byte{}, dynamic...)
		h := b[sizeFooter:][:sizeHeader]
		change(h)
		seal(h, 0x24)
		return b
	}
	changed := func(b []byte, at int) []byte {
		b = append([]byte{}, b...)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		file  []byte
		class fault.Class
		text  string
	}{
		"nothing":          {nil, fault.BadImage, "512 bytes"},
		"text":             {disktest.Text(5000), fault.BadImage, "not of this format"},
		"differencing":     {footers(func(b []byte) { b[0x3f] = 4 }), fault.Unsupported, "parent"},
		"type":             {footers(func(b []byte) { b[0x3f] = 9 }), fault.BadImage, "type 9"},
		"version":          {footers(func(b []byte) { b[0x0d] = 2 }), fault.Unsupported, "version 2"},
		"size":             {footers(func(b []byte) { b[0x30] = 1 }), fault.BadImage, "disk of"},
		"no sectors":       {footers(func(b []byte) { b[0x37] = 1 }), fault.BadImage, "disk of"},
		"no header":        {footers(func(b []byte) { b[0x16] = 1 }), fault.BadImage, "header"},
		"header beyond":    {footers(func(b []byte) { b[0x10] = 1 }), fault.BadImage, "header"},
		"blocks":           {header(func(b []byte) { b[0x22] = 1 }), fault.BadImage, "blocks of"},
		"few blocks":       {header(func(b []byte) { b[0x1f] = 1 }), fault.BadImage, "1 blocks"},
		"table beyond":     {header(func(b []byte) { b[0x10] = 1 }), fault.BadImage, "table"},
		"table at the end": {header(func(b []byte) { be.PutUint64(b[0x10:], uint64(len(dynamic)-2)) }), fault.BadImage, "allocation table"},
		"header's sum":     {changed(dynamic, sizeFooter+0x100), fault.BadImage, "checksum"},
		"footer's sum":     {changed(fixed, len(fixed)-1), fault.BadImage, "checksum"},
		"block beyond":     {changed(dynamic, sizeFooter+sizeHeader), fault.BadImage, "which has"},
		"truncated, fixed": {append(append([]byte{}, fixed[:1<<20]...), fixed[len(fixed)-sizeFooter:]...), fault.BadImage, "in a file of"},
		"cut, fixed":       {fixed[:len(fixed)-sizeFooter], fault.BadImage, "not of this format"},
		"cut, dynamic":     {dynamic[:2<<20], fault.BadImage, "which has"},
		"cut a block":      {dynamic[:len(dynamic)-sizeFooter-sectorSize], fault.BadImage, "which has"},
	} {
		t.Run(name, func(t *testing.T) { disktest.CheckUnreadable(t, Open, c.file, c.class, c.text) })
	}
	// A damaged footer is made up for by its copy.
	one := append([]byte{}, dynamic...)
	one[len(one)-1] ^= 1
	name := filepath.Join(t.TempDir(), "disk.vhd")
	if err := os.WriteFile(name, one, 0o666); err != nil {
		t.Fatal(err)
	}
	disktest.CheckRead(t, disktest.OpenFile(t, Open, name).Image, disktest.Raw(t, disktest.Mixed(t, 2, 4<<20), 512), 512)
}

// TestReadSeeds checks what FuzzRead begins with.
func TestReadSeeds(t *testing.T) {
	tiny := func(options string) func(t testing.TB) string {
		return func(t testing.TB) string {
			img := disktest.Image(t, 5<<20, disktest.At(100, disktest.Text(2000)), disktest.At(4<<20, disktest.Noise(1, 700)))
			return disktest.Convert(t, disktest.Raw(t, img, 512), "-O", "vpc", "-o", options)
		}
	}
	disktest.CheckSeeds(t, Open, *update, map[string]func(t testing.TB) string{
		"dynamic":  tiny("subformat=dynamic,force_size=on"),
		"fixed":    tiny("subformat=fixed,force_size=on"),
		"geometry": tiny("subformat=dynamic"),
	})
}

func FuzzRead(f *testing.F) { disktest.FuzzRead(f, Open) }
