package vhd

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output/disktest"
	"imgbuild/partition"
)

var (
	testUUID = partition.DeriveGUID([]byte("test"), "vhd")
	testTime = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
)

func encoder(s Subformat) disktest.Write {
	return func(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error {
		return Write(ctx, img, f, Options{Subformat: s, UUID: testUUID, Time: testTime, Progress: progress})
	}
}

var subformats = []Subformat{Fixed, Dynamic}

// qemuImg makes the same disk with qemu-img.
func qemuImg(t *testing.T, raw string, s Subformat) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "qemu.vhd")
	disktest.Tool(t, "qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on,subformat="+s.String(), raw, file)
	return file
}

// TestWrite compares disks with those that qemu-img makes, byte for byte but for
// time, UUID and checksum of footers, and lets it read them.
func TestWrite(t *testing.T) {
	for name, img := range disktest.Images(t, blockSize) {
		t.Run(name, func(t *testing.T) {
			raw := disktest.Raw(t, img, sectorSize)
			for _, s := range subformats {
				file := disktest.File(t, encoder(s), img, "disk.vhd")
				disktest.Compare(t, raw, "vpc", file)
				if name == "1 GiB" && s == Fixed {
					checkFooter(t, file)
					continue // too long to compare
				}
				compare(t, file, qemuImg(t, raw, s))
			}
		})
	}
}

// compare compares two images.
func compare(t *testing.T, file, want string) {
	t.Helper()
	checkFooter(t, file)
	a, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != len(b) {
		t.Fatalf("%d bytes, qemu-img makes %d", len(a), len(b))
	}
	for _, p := range [][]byte{a, b} {
		blank(p[len(p)-sizeFooter:])
		if string(p[:8]) == footerCookie {
			blank(p)
		}
	}
	if !bytes.Equal(a, b) {
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("byte %#x is %#x, qemu-img makes %#x", i, a[i], b[i])
			}
		}
	}
}

// blank zeroes what of a footer no two images share.
func blank(b []byte) {
	clear(b[0x18:0x1c])
	clear(b[0x40:0x54])
}

// checkFooter checks checksum, time and UUID.
func checkFooter(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, sizeFooter)
	if _, err := f.ReadAt(b, end-sizeFooter); err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	sum := be.Uint32(b[0x40:])
	clear(b[0x40:0x44])
	if sum != checksum(b) {
		t.Error("checksum of the footer")
	}
	if got := epoch.Add(time.Duration(be.Uint32(b[0x18:])) * time.Second); got != testTime {
		t.Errorf("time %v", got)
	}
	if !bytes.Equal(b[0x44:0x54], testUUID[:]) {
		t.Errorf("UUID % x", b[0x44:0x54])
	}
	if head := disktest.Head(t, file, sizeFooter); string(head[:8]) == footerCookie {
		clear(head[0x40:0x44])
		if !bytes.Equal(head, b) {
			t.Error("the copy of the footer differs")
		}
	}
}

// TestFooter compares a footer with golden bytes of qemu-img 7.2: qemu-img create
// -f vpc -o subformat=fixed,force_size=on of 100 MiB.
func TestFooter(t *testing.T) {
	golden := "conectix" + "\x00\x00\x00\x02\x00\x01\x00\x00" + "\xff\xff\xff\xff\xff\xff\xff\xff\x32\x94\x3b\x2eqem2" +
		"\x00\x05\x00\x03Wi2k\x00\x00\x00\x00\x06\x40\x00\x00" + "\x00\x00\x00\x00\x06\x40\x00\x00\xff\xff\x10\xff\x00\x00\x00\x02" +
		"\xff\xff\xe4\x0c\x8e\x17\x9d\x66\xf0\xdc\x45\xea\xa8\x6d\x61\x6f" + "\x52\xed\xc7\x69" + strings.Repeat("\x00", 512-0x54)
	f := footer{DataOffset: none, Time: 0x32943b2e, Size: 100 << 20, Type: typeFixed}
	copy(f.UUID[:], golden[0x44:])
	b := bytes.Repeat([]byte{0xaa}, sizeFooter)
	f.encode(b)
	if string(b) != golden {
		t.Errorf("% x", b)
	}
}

func TestTimestamp(t *testing.T) {
	for _, c := range []struct {
		t    time.Time
		want uint32
	}{
		{time.Time{}, 0}, {time.Unix(0, 0), 0}, {epoch, 0}, {epoch.Add(-1), 0}, {epoch.Add(5 * time.Second), 5},
		{time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC), 768294489}, {time.Date(2136, 2, 7, 6, 28, 15, 0, time.UTC), 0xffffffff}, {time.Date(2136, 2, 7, 6, 28, 16, 0, time.UTC), 0},
	} {
		if got := timestamp(c.t); got != c.want {
			t.Errorf("%v: %d, want %d", c.t, got, c.want)
		}
	}
}

// TestEmpty checks a disk of no bytes. QEMU takes the footer of a fixed one, the
// whole file, for the copy at the head of a dynamic one, also in its own.
func TestEmpty(t *testing.T) {
	for _, s := range subformats {
		file := disktest.File(t, encoder(s), disktest.Image(t, 0), "disk.vhd")
		checkFooter(t, file)
		if s == Fixed {
			continue
		}
		if out := disktest.Tool(t, "qemu-img", "info", "-f", "vpc", file); !strings.Contains(out, "virtual size: 0 B") {
			t.Error(out)
		}
	}
}

// TestLargest checks that QEMU opens a disk of the largest size.
func TestLargest(t *testing.T) {
	img := disktest.Image(t, MaxSize, disktest.At(0, []byte{1}), disktest.At(MaxSize-1, []byte{1}))
	for _, s := range subformats {
		file := disktest.File(t, encoder(s), img, "disk.vhd")
		if out := disktest.Tool(t, "qemu-img", "info", "-f", "vpc", file); !strings.Contains(out, "2190433320960 bytes") {
			t.Error(out)
		}
		checkFooter(t, file)
		// Its last block, at its place.
		last := disktest.Tool(t, "qemu-io", "-r", "-f", "vpc", "-c", "read -v 2190433320944 16", file)
		if !strings.Contains(last, "00 00 00 00 00 00 00 01") {
			t.Error(last)
		}
		disktest.CheckRefused(t, encoder(s), MaxSize+1)
	}
}

func TestContract(t *testing.T) {
	for _, s := range subformats {
		t.Run(s.String(), func(t *testing.T) {
			disktest.CheckDeterminism(t, encoder(s))
			disktest.CheckProgress(t, encoder(s), 64<<10)
			disktest.CheckErrors(t, encoder(s))
			disktest.CheckCancel(t, encoder(s), func(f *os.File) bool {
				b := make([]byte, 8)
				end, err := f.Seek(-sizeFooter, io.SeekEnd)
				if err != nil {
					return false
				}
				_, err = f.ReadAt(b, end)
				return err == nil && string(b) == footerCookie || string(disktest.Head(t, f.Name(), 8)) == footerCookie
			})
		})
	}
	err := Write(t.Context(), disktest.Image(t, 512), disktest.Create(t, "disk.vhd"), Options{Subformat: 2})
	if fault.ClassOf(err) != fault.Usage {
		t.Errorf("subformat 2: %v", err)
	}
}

func TestParseSubformat(t *testing.T) {
	for _, s := range subformats {
		if got, err := ParseSubformat(s.String()); got != s || err != nil {
			t.Errorf("%v: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "Fixed", "differencing"} {
		if _, err := ParseSubformat(s); fault.ClassOf(err) != fault.Usage {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte{1, 10, 2, 255, 4, 0, 0, 4, 255, 200}, uint16(100))
	f.Add(bytes.Repeat([]byte{255, 128, 2, 250}, 6), uint16(1))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		img := disktest.FromInput(t, in, cut, blockSize)
		raw := disktest.Raw(t, img, sectorSize)
		for _, s := range subformats {
			compare(t, disktest.File(t, encoder(s), img, "disk.vhd"), qemuImg(t, raw, s))
		}
	})
}
