package vhdx

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"imgbuild/disk"
	"imgbuild/formats/output/disktest"
	"imgbuild/partition"
)

var testUUID = partition.DeriveGUID([]byte("test"), "vhdx")

func encode(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error {
	return Write(ctx, img, f, Options{UUID: testUUID, Progress: progress})
}

func TestWrite(t *testing.T) {
	for name, img := range disktest.Images(t, minBlock) {
		t.Run(name, func(t *testing.T) { check(t, img) })
	}
}

// check lets qemu-img check and compare a disk.
func check(t *testing.T, img *disk.Image) {
	t.Helper()
	raw := disktest.Raw(t, img, logicalSector)
	file := disktest.File(t, encode, img, "disk.vhdx")
	if out := disktest.Tool(t, "qemu-img", "check", "-f", "vhdx", file); !strings.Contains(out, "No errors were found") {
		t.Error(out)
	}
	disktest.Compare(t, raw, "vhdx", file)
	checkStructures(t, file)
	if img.Size() < 1<<29 { // qemu-img writes its table entry by entry
		compare(t, raw, file)
	}
}

// compare compares metadata and block allocation table with those that qemu-img
// makes.
func compare(t *testing.T, raw, file string) {
	t.Helper()
	theirs := filepath.Join(t.TempDir(), "qemu.vhdx")
	disktest.Tool(t, "qemu-img", "convert", "-f", "raw", "-O", "vhdx", "-o", "block_size=1M,subformat=dynamic", raw, theirs)
	a := disktest.Head(t, file, offTable+regionAlign)
	b := disktest.Head(t, theirs, offTable+regionAlign)
	// QEMU has the two regions the other way round, and zeros behind the entries
	// that are in use.
	table, meta := b[2<<20:3<<20], b[3<<20:4<<20]
	le, base := binary.LittleEndian, uint64(0)
	for i := 0; i < regionAlign; i += 8 {
		x, y := le.Uint64(a[offTable+i:]), le.Uint64(table[i:])
		if y>>20 > 0 && base == 0 {
			base = y - y%regionAlign - (offTable + regionAlign) // its data begins later
		}
		if y>>20 > 0 {
			y -= base
		}
		if x != y {
			t.Fatalf("entry %d is %#x, qemu-img writes %#x", i/8, x, y)
		}
	}
	if got := le.Uint32(a[offMetadata+64<<10+36:]); got != physicalSector {
		t.Errorf("physical sector of %d bytes", got)
	}
	for _, m := range [][]byte{a[offMetadata:offTable], meta} {
		clear(m[64<<10+16:][:16]) // identifier of the disk
		clear(m[64<<10+36:][:4])  // physical sector, 512 there
	}
	if !bytes.Equal(a[offMetadata:offTable], meta) {
		t.Errorf("other metadata:\n% x\n% x", a[offMetadata:][:256], meta[:256])
	}
}

// checkStructures checks what QEMU does not look at as long as the first copy is
// sound: both headers and region tables, and that the log is empty.
func checkStructures(t *testing.T, file string) {
	t.Helper()
	b := disktest.Head(t, file, offMetadata)
	le := binary.LittleEndian
	if string(b[:8]) != "vhdxfile" || string(b[8:26]) != "i\x00m\x00g\x00b\x00u\x00i\x00l\x00d\x00\x00\x00" {
		t.Errorf("identifier %q", b[:32])
	}
	for _, s := range []struct {
		off, n int
		magic  string
	}{{offHeader1, sizeHeader, "head"}, {offHeader2, sizeHeader, "head"}, {offRegions1, sizeRegionTable, "regi"}, {offRegions2, sizeRegionTable, "regi"}} {
		p := bytes.Clone(b[s.off : s.off+s.n])
		sum := le.Uint32(p[4:])
		clear(p[4:8])
		if string(p[:4]) != s.magic || sum != crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) {
			t.Errorf("structure at %#x: magic %q, checksum %#x", s.off, p[:4], sum)
		}
	}
	one, two := b[offHeader1:][:sizeHeader], b[offHeader2:][:sizeHeader]
	if le.Uint64(one[8:])+1 != le.Uint64(two[8:]) || !bytes.Equal(one[16:], two[16:]) {
		t.Error("the headers are no two of one sequence")
	}
	var none [16]byte
	if !bytes.Equal(two[0x30:0x40], none[:]) || bytes.Equal(two[0x10:0x20], none[:]) || bytes.Equal(two[0x20:0x30], none[:]) || bytes.Equal(two[0x10:0x20], two[0x20:0x30]) {
		t.Errorf("GUIDs % x", two[0x10:0x40])
	}
	if !bytes.Equal(b[offRegions1:][:sizeRegionTable], b[offRegions2:][:sizeRegionTable]) {
		t.Error("the region tables differ")
	}
	if log := b[offLog:offMetadata]; !bytes.Equal(log, make([]byte, sizeLog)) {
		t.Error("the log is not empty")
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size()%regionAlign != 0 {
		t.Errorf("file of %d bytes", info.Size())
	}
}

func TestDiskID(t *testing.T) {
	id := partition.GUID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	f := disktest.Create(t, "disk.vhdx")
	if err := Write(t.Context(), disktest.Image(t, 3<<20), f, Options{UUID: id}); err != nil {
		t.Fatal(err)
	}
	b := disktest.Head(t, f.Name(), offTable)
	if got := b[offMetadata+64<<10+16:][:16]; !bytes.Equal(got, []byte{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}) {
		t.Errorf("% x", got)
	}
}

// TestEmpty checks that a disk of no bytes is refused: no reader takes it.
func TestEmpty(t *testing.T) { disktest.CheckRefused(t, encode, 0) }

func TestBlockSize(t *testing.T) {
	for _, c := range []struct{ size, block, entries int64 }{
		{1, 1 << 20, 1}, {4 << 30, 1 << 20, 4096}, {4<<30 + 1, 1 << 20, 4096 + 1 + 1}, {1 << 40, 1 << 20, 1<<20 + 255},
		{1<<40 + 1, 2 << 20, 1<<19 + 1 + 256}, {3 << 40, 4 << 20, 3<<18 + 767}, {MaxSize, 64 << 20, 1<<20 + 16383},
	} {
		tab := newTable(c.size)
		if tab.blockSize != c.block || int64(len(tab.entries)) != 8*c.entries {
			t.Errorf("%d bytes: %d entries of %d bytes, want %d of %d", c.size, len(tab.entries)/8, tab.blockSize, c.entries, c.block)
		}
	}
}

func TestLarge(t *testing.T) {
	for _, size := range []int64{1 << 40, 3 << 40, MaxSize} {
		places := []int64{0, 4<<30 - 512, 4 << 30, 5 << 30, size/2 + 1<<20, size - 512}
		var extents []disk.Extent
		for i, off := range places {
			extents = append(extents, disktest.At(off, bytes.Repeat([]byte{byte(0xa0 + i)}, 512)))
		}
		file := disktest.File(t, encode, disktest.Image(t, size, extents...), "disk.vhdx")
		checkStructures(t, file)
		disktest.Tool(t, "qemu-img", "check", file)
		if out := disktest.Tool(t, "qemu-img", "info", file); !strings.Contains(out, strconv.FormatInt(size, 10)+" bytes") {
			t.Error(out)
		}
		args := []string{"-r", "-f", "vhdx"}
		for i, off := range places {
			args = append(args, "-c", "read -P "+strconv.Itoa(0xa0+i)+" "+strconv.FormatInt(off, 10)+" 512")
			if off > 4096 {
				args = append(args, "-c", "read -P 0 "+strconv.FormatInt(off-4096, 10)+" 512")
			}
		}
		if out := disktest.Tool(t, "qemu-io", append(args, file)...); strings.Contains(out, "failed") || strings.Count(out, "read 512/512") != 2*len(places)-1 {
			t.Error(out)
		}
	}
	disktest.CheckRefused(t, encode, MaxSize+1)
}

func TestContract(t *testing.T) {
	disktest.CheckDeterminism(t, encode)
	disktest.CheckProgress(t, encode, 64<<10)
	disktest.CheckErrors(t, encode)
	disktest.CheckCancel(t, encode, func(f *os.File) bool { return string(disktest.Head(t, f.Name(), 8)) == "vhdxfile" })
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte{1, 10, 2, 255, 4, 0, 0, 4, 255, 200}, uint16(100))
	f.Add(bytes.Repeat([]byte{255, 128, 2, 250}, 6), uint16(1))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		check(t, disktest.FromInput(t, in, cut, minBlock))
	})
}
