package partition

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/formats/output/disktest"
)

// TestMove checks a moved table with sgdisk and with Read.
func TestMove(t *testing.T) {
	for name, c := range map[string]struct{ sectorSize, size, larger int64 }{
		"a bit":         {512, 100 << 20, 100<<20 + 512},
		"to whole GiB":  {512, 100 << 20, 1 << 30},
		"4 KiB sectors": {4096, 100 << 20, 101 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			table := &Table{
				DiskID: DeriveGUID([]byte("disk"), "move"), Size: c.size, SectorSize: int(c.sectorSize),
				Partitions: []Partition{
					{Name: "one", Type: ESP, ID: DeriveGUID([]byte("1"), "move"), Start: 1 << 20, Size: 10 << 20, Number: 1},
					{Name: "root", Type: LinuxData, ID: DeriveGUID([]byte("2"), "move"), Start: 20 << 20, Size: 70 << 20, Number: 5, Attributes: GrowFileSystem},
				},
			}
			parts, err := table.Parts([]byte("boot code"))
			if err != nil {
				t.Fatal(err)
			}
			// Content right before the backup stays as it is.
			parts = append(parts, disk.Part{Off: 89 << 20, Size: 10, Extents: []disk.Extent{{Data: content.String("the end")}}})
			before, err := disk.Compose(c.size, parts)
			if err != nil {
				t.Fatal(err)
			}
			moved, err := Move(before, c.size, c.larger)
			if err != nil {
				t.Fatal(err)
			}
			after, err := disk.Overlay(before, c.larger, moved)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Read(after, c.larger, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got.DiskID != table.DiskID || len(got.Partitions) != 2 || got.Partitions[1] != table.Partitions[1] {
				t.Errorf("%+v", got)
			}
			b := make([]byte, 512)
			if _, err := after.ReadAt(b, 0); err != nil || !strings.HasPrefix(string(b), "boot code") {
				t.Errorf("boot sector %q, %v", b[:16], err)
			}
			for _, off := range []int64{89 << 20, c.size - c.sectorSize} {
				if _, err := after.ReadAt(b, off); err != nil || strings.Trim(string(b), "\x00") != map[bool]string{true: "the end"}[off == 89<<20] {
					t.Errorf("at %d: %q, %v", off, b, err)
				}
			}
			if c.sectorSize != 512 {
				return // sgdisk takes that from the device
			}
			name := filepath.Join(t.TempDir(), "disk")
			f, err := os.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.Truncate(c.larger); err != nil {
				t.Fatal(err)
			}
			for off, n := range after.Data(512) {
				b := make([]byte, n)
				if _, err := after.ReadAt(b, off); err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt(b, off); err != nil {
					t.Fatal(err)
				}
			}
			if out := disktest.Tool(t, "sgdisk", "-v", name); !strings.Contains(out, "No problems found") {
				t.Error(out)
			}
		})
	}
}

func TestMoveRefused(t *testing.T) {
	empty := disktest.Image(t, 1<<20)
	if _, err := Move(empty, 1<<20, 2<<20); !errors.Is(err, ErrNoTable) {
		t.Errorf("no table: %v", err)
	}
	table := &Table{DiskID: DeriveGUID([]byte("disk"), "move"), Size: 10 << 20, SectorSize: 512}
	parts, err := table.Parts(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := disk.Compose(10<<20, parts)
	if err != nil {
		t.Fatal(err)
	}
	for _, larger := range []int64{9 << 20, 10<<20 + 1} {
		if _, err := Move(d, 10<<20, larger); err == nil {
			t.Errorf("%d bytes: no error", larger)
		}
	}
	if parts, err := Move(d, 10<<20, 10<<20); err != nil || parts != nil {
		t.Errorf("the same size: %v, %v", parts, err)
	}
}
