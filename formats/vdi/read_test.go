package vdi

import (
	"encoding/binary"
	"flag"
	"os"
	"testing"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output/disktest"
)

var update = flag.Bool("update", false, "make the seeds of the fuzz target again")

// TestRead reads what qemu-img makes.
func TestRead(t *testing.T) {
	for name, img := range map[string]*disk.Image{
		"mixed": disktest.Mixed(t, 11, 20<<20+512),
		"hole":  disktest.Image(t, 300<<20),
		"large": disktest.Image(t, 1<<30+512, disktest.At(5000, disktest.Text(100000)), disktest.At(1<<30, disktest.Noise(5, 512))),
	} {
		raw := disktest.Raw(t, img, 512)
		for _, options := range []string{"static=off", "static=on"} {
			t.Run(name+"/"+options, func(t *testing.T) {
				file := disktest.Convert(t, raw, "-O", "vdi", "-o", options)
				disktest.CheckRead(t, disktest.OpenFile(t, Open, file).Image, raw, 512)
			})
		}
	}
}

// TestReadOwn reads what Write makes.
func TestReadOwn(t *testing.T) {
	for name, img := range disktest.Images(t, blockSize) {
		t.Run(name, func(t *testing.T) {
			file := disktest.File(t, encode, img, "disk.vdi")
			disktest.CheckRead(t, disktest.OpenFile(t, Open, file).Image, disktest.Raw(t, img, 1), sectorSize)
		})
	}
}

// TestReadRefused reads what is refused, and what is damaged.
func TestReadRefused(t *testing.T) {
	f, err := os.ReadFile(disktest.File(t, encode, disktest.Mixed(t, 2, 4<<20), "disk.vdi"))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	set := func(at int, v uint32) []byte {
		b := append([]byte{}, f...)
		le.PutUint32(b[at:], v)
		return b
	}
	for name, c := range map[string]struct {
		file  []byte
		class fault.Class
		text  string
	}{
		"nothing":      {nil, fault.BadImage, "472 bytes at 0"},
		"text":         {disktest.Text(5000), fault.BadImage, "not of this format"},
		"version":      {set(0x44, 1), fault.Unsupported, "version 0.1"},
		"differencing": {set(0x4c, 4), fault.Unsupported, "parent"},
		"type":         {set(0x4c, 3), fault.Unsupported, "type 3"},
		"size":         {set(0x174, 1<<31), fault.BadImage, "disk of"},
		"no sectors":   {set(0x170, 5), fault.BadImage, "disk of"},
		"too large":    {set(0x174, 1), fault.BadImage, "4 blocks"},
		"blocks":       {set(0x178, 12345), fault.BadImage, "blocks of"},
		"extra":        {set(0x17c, 1<<31), fault.BadImage, "ahead"},
		"few blocks":   {set(0x180, 1), fault.BadImage, "1 blocks"},
		"map beyond":   {set(0x154, 1<<31), fault.BadImage, "block map"},
		"block beyond": {set(align, 1000), fault.BadImage, "which has"},
		"truncated":    {f[:align], fault.BadImage, "block map"},
		"cut":          {f[:len(f)-3<<20], fault.BadImage, "which has"},
		"cut a block":  {f[:len(f)-sectorSize], fault.BadImage, "which has"},
	} {
		t.Run(name, func(t *testing.T) { disktest.CheckUnreadable(t, Open, c.file, c.class, c.text) })
	}
}

// TestReadSeeds checks what FuzzRead begins with.
func TestReadSeeds(t *testing.T) {
	tiny := func(options string) func(t testing.TB) string {
		return func(t testing.TB) string {
			img := disktest.Image(t, 5<<20, disktest.At(100, disktest.Text(2000)), disktest.At(4<<20, disktest.Noise(1, 700)))
			return disktest.Convert(t, disktest.Raw(t, img, 512), "-O", "vdi", "-o", options)
		}
	}
	disktest.CheckSeeds(t, Open, *update, map[string]func(t testing.TB) string{"dynamic": tiny("static=off"), "fixed": tiny("static=on")})
}

func FuzzRead(f *testing.F) { disktest.FuzzRead(f, Open) }
