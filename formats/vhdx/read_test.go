package vhdx

import (
	"encoding/binary"
	"flag"
	"os"
	"testing"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/formats/output/disktest"
)

var update = flag.Bool("update", false, "make the seeds of the fuzz target again")

// TestRead reads what qemu-img makes.
func TestRead(t *testing.T) {
	for name, img := range map[string]*disk.Image{
		"mixed": disktest.Mixed(t, 11, 20<<20),
		"hole":  disktest.Image(t, 300<<20),
		"large": disktest.Image(t, 9<<30, disktest.At(5000, disktest.Text(100000)), disktest.At(4<<30-100, disktest.Noise(4, 200)), disktest.At(9<<30-512, disktest.Noise(5, 512))),
	} {
		raw := disktest.Raw(t, img, 512)
		for _, options := range []string{"subformat=dynamic", "subformat=fixed", "subformat=dynamic,block_size=1M", "subformat=dynamic,block_size=64M,block_state_zero=off"} {
			if name == "large" && options != "subformat=dynamic,block_size=1M" {
				continue // takes its time; this one has bitmap entries in its table
			}
			t.Run(name+"/"+options, func(t *testing.T) {
				file := disktest.Convert(t, raw, "-O", "vhdx", "-o", options)
				disktest.CheckRead(t, disktest.OpenFile(t, Open, file).Image, raw, 512)
			})
		}
	}
}

// TestReadOwn reads what Write makes.
func TestReadOwn(t *testing.T) {
	for name, img := range disktest.Images(t, minBlock) {
		t.Run(name, func(t *testing.T) {
			file := disktest.File(t, encode, img, "disk.vhdx")
			disktest.CheckRead(t, disktest.OpenFile(t, Open, file).Image, disktest.Raw(t, img, 1), logicalSector)
		})
	}
}

// TestReadRefused reads what is refused, and what is damaged.
func TestReadRefused(t *testing.T) {
	f, err := os.ReadFile(disktest.File(t, encode, disktest.Mixed(t, 2, 4<<20), "disk.vhdx"))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	const items = offMetadata + 64<<10
	changed := func(change func(b []byte)) []byte {
		b := append([]byte{}, f...)
		change(b)
		return b
	}
	// both changes both copies of a structure and seals them.
	both := func(off, size int, change func(b []byte)) []byte {
		return changed(func(b []byte) {
			for i := range 2 {
				s := b[off+i*headerSpacing:][:size]
				change(s)
				seal(s)
			}
		})
	}
	log := both(offHeader1, sizeHeader, func(b []byte) { b[0x30] = 7 })
	dirty := append([]byte{}, log...)
	copy(dirty[offLog+4096:], logSignature)
	dirty[offLog+4096+0x20] = 7
	for name, c := range map[string]struct {
		file  []byte
		class fault.Class
		text  string
	}{
		"nothing":           {nil, fault.BadImage, "8 bytes at 0"},
		"text":              {disktest.Text(5000), fault.BadImage, "not of this format"},
		"no header":         {changed(func(b []byte) { b[offHeader1+0x20] ^= 1; b[offHeader2+0x20] ^= 1 }), fault.BadImage, "no header"},
		"version":           {both(offHeader1, sizeHeader, func(b []byte) { b[0x42] = 2 }), fault.Unsupported, "version 2"},
		"log":               {dirty, fault.Unsupported, "log has changes"},
		"huge log":          {both(offHeader1, sizeHeader, func(b []byte) { b[0x30], b[0x47] = 7, 0x7f }), fault.BadImage, "a log of"},
		"log beyond":        {both(offHeader1, sizeHeader, func(b []byte) { b[0x30], b[0x4d] = 7, 1 }), fault.BadImage, "a log of"},
		"no regions":        {changed(func(b []byte) { b[offRegions1+5] ^= 1; b[offRegions2+5] ^= 1 }), fault.BadImage, "region table"},
		"many regions":      {both(offRegions1, sizeRegionTable, func(b []byte) { le.PutUint32(b[8:], 5000) }), fault.BadImage, "5000"},
		"one region":        {both(offRegions1, sizeRegionTable, func(b []byte) { le.PutUint32(b[8:], 1) }), fault.BadImage, "no region"},
		"unknown region":    {both(offRegions1, sizeRegionTable, func(b []byte) { b[16] ^= 1 }), fault.Unsupported, "unknown region"},
		"region beyond":     {both(offRegions1, sizeRegionTable, func(b []byte) { b[16+32+0x17] = 1 }), fault.BadImage, "metadata"},
		"region far beyond": {both(offRegions1, sizeRegionTable, func(b []byte) { b[16+0x17] = 0xff }), fault.BadImage, "a region"},
		"no metadata":       {changed(func(b []byte) { b[offMetadata] ^= 1 }), fault.BadImage, "metadata"},
		"many items":        {changed(func(b []byte) { le.PutUint16(b[offMetadata+10:], 5000) }), fault.BadImage, "5000"},
		"two items":         {changed(func(b []byte) { le.PutUint16(b[offMetadata+10:], 2) }), fault.BadImage, "no metadata item"},
		"unknown item":      {changed(func(b []byte) { b[offMetadata+32] ^= 1 }), fault.Unsupported, "unknown metadata item"},
		"item beyond":       {changed(func(b []byte) { b[offMetadata+32+0x13] = 1 }), fault.BadImage, "outside"},
		"differencing":      {changed(func(b []byte) { b[items+4] = 2 }), fault.Unsupported, "parent"},
		"blocks":            {changed(func(b []byte) { b[items] = 1 }), fault.BadImage, "blocks of"},
		"size":              {changed(func(b []byte) { b[items+8+7] = 1 }), fault.BadImage, "disk of"},
		"table too short":   {changed(func(b []byte) { b[items+8+5] = 2 }), fault.BadImage, "needs"},
		"sectors":           {changed(func(b []byte) { b[items+8+8+16] = 1 }), fault.BadImage, "sectors of"},
		"state":             {changed(func(b []byte) { b[offTable] = 4 }), fault.BadImage, "state 4"},
		"partly present":    {changed(func(b []byte) { b[offTable] = 7 }), fault.BadImage, "parent"},
		"block beyond":      {changed(func(b []byte) { b[offTable+5] = 1 }), fault.BadImage, "which has"},
		"block far beyond":  {changed(func(b []byte) { b[offTable+7] = 0xff }), fault.BadImage, "a block at"},
		"truncated":         {f[:offTable], fault.BadImage, "allocation table"},
		"cut a block":       {f[:len(f)-logicalSector], fault.BadImage, "which has"},
	} {
		t.Run(name, func(t *testing.T) { disktest.CheckUnreadable(t, Open, c.file, c.class, c.text) })
	}
	// A log without entries of its own is no matter, nor is a damaged first copy.
	log[offRegions1] ^= 1
	name := disktest.Create(t, "disk.vhdx").Name()
	if err := os.WriteFile(name, log, 0o666); err != nil {
		t.Fatal(err)
	}
	disktest.CheckRead(t, disktest.OpenFile(t, Open, name).Image, disktest.Raw(t, disktest.Mixed(t, 2, 4<<20), 512), 512)
}

func TestGUID(t *testing.T) {
	b := make([]byte, 16)
	g := mustGUID(itemDiskSize)
	if output.PutGUID(b, g); output.GetGUID(b) != g {
		t.Error("GUIDs change on the way")
	}
}

// TestReadSeeds checks what FuzzRead begins with.
func TestReadSeeds(t *testing.T) {
	tiny := func(options string) func(t testing.TB) string {
		return func(t testing.TB) string {
			img := disktest.Image(t, 5<<20, disktest.At(100, disktest.Text(2000)), disktest.At(4<<20, disktest.Noise(1, 700)))
			return disktest.Convert(t, disktest.Raw(t, img, 512), "-O", "vhdx", "-o", options)
		}
	}
	disktest.CheckSeeds(t, Open, *update, map[string]func(t testing.TB) string{
		"dynamic": tiny("subformat=dynamic,block_size=1M"), "fixed": tiny("subformat=fixed"),
		"own": func(t testing.TB) string {
			return disktest.File(t, encode, disktest.Image(t, 3<<20, disktest.At(1<<20, []byte{1})), "disk.vhdx")
		},
	})
}

func FuzzRead(f *testing.F) { disktest.FuzzRead(f, Open) }
