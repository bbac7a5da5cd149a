package vdi

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"imgbuild/disk"
	"imgbuild/formats/output/disktest"
	"imgbuild/partition"
)

var testUUID = partition.DeriveGUID([]byte("test"), "vdi")

func encode(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error {
	return Write(ctx, img, f, Options{UUID: testUUID, Progress: progress})
}

func TestWrite(t *testing.T) {
	for name, img := range disktest.Images(t, blockSize) {
		t.Run(name, func(t *testing.T) { check(t, img) })
	}
}

// check lets qemu-img check and compare a disk, and compares the block map with
// the one it makes.
func check(t *testing.T, img *disk.Image) {
	t.Helper()
	raw := disktest.Raw(t, img, sectorSize)
	file := disktest.File(t, encode, img, "disk.vdi")
	if out := disktest.Tool(t, "qemu-img", "check", "-f", "vdi", file); !strings.Contains(out, "No errors were found") {
		t.Error(out)
	}
	disktest.Compare(t, raw, "vdi", file)

	theirs := filepath.Join(t.TempDir(), "qemu.vdi")
	disktest.Tool(t, "qemu-img", "convert", "-f", "raw", "-O", "vdi", raw, theirs)
	blocks := int(divUp(img.Size(), blockSize))
	a := disktest.Head(t, file, align+4*blocks)
	b := disktest.Head(t, theirs, sectorSize+4*blocks)
	for i := range blocks {
		x := binary.LittleEndian.Uint32(a[align+4*i:])
		y := binary.LittleEndian.Uint32(b[sectorSize+4*i:])
		if y == 0xffffffff {
			y = 0xfffffffe // a block of zeros: QEMU does not tell it from one of anything
		}
		if x != y {
			t.Fatalf("block %d is at %d, qemu-img puts it at %d", i, x, y)
		}
	}
	// The rest of the header: offsets, UUIDs and the size of the header differ.
	for _, p := range [][]byte{a, b} {
		clear(p[:0x40])
		clear(p[0x48:0x4c])
		clear(p[0x154:0x15c])
		clear(p[0x188:0x1a8])
		clear(p[0x1c8:0x1d8])
	}
	if !bytes.Equal(a[:sectorSize], b[:sectorSize]) {
		t.Errorf("header\n% x, qemu-img writes\n% x", a[:sectorSize], b[:sectorSize])
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size()%align != 0 {
		t.Errorf("file of %d bytes", info.Size())
	}
}

// TestHeader compares a header with golden bytes: those of VirtualBox for the
// same fields, but for the text.
func TestHeader(t *testing.T) {
	h := header{MapOffset: 0x100000, DataOffset: 0x200000, Size: 100 << 20, Blocks: 100, Allocated: 3}
	for i := range h.UUID {
		h.UUID[i], h.ModificationUUID[i] = byte(i), byte(16+i)
	}
	b := make([]byte, sizePreheader+sizeHeader)
	h.encode(b)
	if len(b) != 0x1d8 {
		t.Errorf("%#x bytes", len(b))
	}
	for off, want := range map[int]string{
		0x40:  "\x7f\x10\xda\xbe\x01\x00\x01\x00\x90\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00",
		0x154: "\x00\x00\x10\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00",
		0x170: "\x00\x00\x40\x06\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x64\x00\x00\x00\x03\x00\x00\x00",
		0x188: "\x03\x02\x01\x00\x05\x04\x07\x06\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x13\x12\x11\x10\x15\x14\x17\x16\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f",
		0x1a8: strings.Repeat("\x00", 44) + "\x00\x02\x00\x00",
	} {
		if got := string(b[off : off+len(want)]); got != want {
			t.Errorf("at %#x: % x, want % x", off, got, want)
		}
	}
}

func TestEmpty(t *testing.T) {
	file := disktest.File(t, encode, disktest.Image(t, 0), "disk.vdi")
	if out := disktest.Tool(t, "qemu-img", "info", file); !strings.Contains(out, "virtual size: 0 B") {
		t.Error(out)
	}
}

func TestLarge(t *testing.T) {
	for _, size := range []int64{3 << 40, MaxSize} {
		img := disktest.Image(t, size, disktest.At(0, []byte{1}), disktest.At(size-1, []byte{1}))
		file := disktest.File(t, encode, img, "disk.vdi")
		last := disktest.Tool(t, "qemu-io", "-r", "-f", "vdi", "-c", "read -v "+itoa(size-16)+" 16", file)
		if !strings.Contains(last, "00 00 00 00 00 00 00 01") {
			t.Error(last)
		}
		if n := disktest.Tool(t, "qemu-img", "info", file); !strings.Contains(n, itoa(size)+" bytes") {
			t.Error(n)
		}
	}
	disktest.CheckRefused(t, encode, MaxSize+1)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func TestContract(t *testing.T) {
	disktest.CheckDeterminism(t, encode)
	disktest.CheckProgress(t, encode, 64<<10)
	disktest.CheckErrors(t, encode)
	disktest.CheckCancel(t, encode, func(f *os.File) bool {
		return bytes.Contains(disktest.Head(t, f.Name(), 512), []byte("\x7f\x10\xda\xbe"))
	})
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte{1, 10, 2, 255, 4, 0, 0, 4, 255, 200}, uint16(100))
	f.Add(bytes.Repeat([]byte{255, 128, 2, 250}, 6), uint16(1))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		check(t, disktest.FromInput(t, in, cut, blockSize))
	})
}
