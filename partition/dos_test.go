package partition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	diskfsmbr "github.com/diskfs/go-diskfs/partition/mbr"
	"github.com/google/go-cmp/cmp"

	"imgbuild/disk"
)

func dosImage(t testing.TB, table *DOSTable, code []byte) *disk.Image {
	t.Helper()
	parts, err := table.Parts(code)
	if err != nil {
		t.Fatal(err)
	}
	d, err := disk.Compose(table.Size, parts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func dosTables() map[string]*DOSTable {
	return map[string]*DOSTable{
		"one": {Signature: 1, Size: 64 * mib, SectorSize: 512, Partitions: []DOSPartition{{Type: 0x83, Start: 512, Size: 512}}},
		"four": {Signature: 0xDEADBEEF, Size: 12 * gib, SectorSize: 512, Partitions: []DOSPartition{
			{Type: 0xEF, Start: mib, Size: 300 * mib}, {Type: 0x83, Active: true, Start: 301 * mib, Size: gib},
			{Type: 0x82, Start: 2 * gib, Size: gib}, {Type: 0x83, Start: 3 * gib, Size: 9 * gib},
		}},
		"out of order": {Signature: 2, Size: gib, SectorSize: 512, Partitions: []DOSPartition{
			{Type: 0x83, Start: 500 * mib, Size: 100 * mib}, {Type: 0x83, Start: mib, Size: 100 * mib},
		}},
		"as far as 32 bits": {Signature: 3, Size: 4*tib - 512, SectorSize: 512, Partitions: []DOSPartition{
			{Type: 0x83, Start: mib, Size: 2*tib - 512}, {Type: 0x83, Start: 2*tib - 512, Size: 0}, // the size is set below
		}},
	}
}

// sfdisk and go-diskfs read the tables, and we read those of sfdisk.
func TestDOSTools(t *testing.T) {
	for name, table := range dosTables() {
		t.Run(name, func(t *testing.T) {
			if name == "as far as 32 bits" {
				table.Partitions[0].Size = 2*tib - 512 - mib
				table.Partitions[1] = DOSPartition{Type: 0x83, Start: 2*tib - 512, Size: 2*tib - 512}
			}
			d := dosImage(t, table, bytes.Repeat([]byte{0xC3}, 512))
			path := save(t, d)
			var got struct {
				Partitiontable struct {
					Label, ID  string
					Partitions []struct {
						Start, Size int64
						Type        string
						Bootable    bool
					}
				}
			}
			out := run(t, "sfdisk", "-J", path)
			out = out[max(strings.Index(out, "{"), 0):] // behind warnings
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			if got.Partitiontable.Label != "dos" || got.Partitiontable.ID != fmt.Sprintf("0x%08x", table.Signature) {
				t.Errorf("sfdisk: %+v", got)
			}
			var parts []DOSPartition
			for _, p := range got.Partitiontable.Partitions {
				var typ byte
				fmt.Sscanf(p.Type, "%x", &typ)
				parts = append(parts, DOSPartition{Type: typ, Active: p.Bootable, Start: p.Start * 512, Size: p.Size * 512})
			}
			if diff := cmp.Diff(table.Partitions, parts); diff != "" {
				t.Errorf("sfdisk (-want +got)\n%s", diff)
			}
			if out := run(t, "sfdisk", "--verify", path); !strings.Contains(out, "No errors detected") {
				t.Errorf("sfdisk --verify: %s", out)
			}
			readDOSWithDiskfs(t, path, table)
			back, err := ReadDOS(d, table.Size, 512)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(table, back); diff != "" {
				t.Errorf("ReadDOS (-want +got)\n%s", diff)
			}
		})
	}
}

func readDOSWithDiskfs(t *testing.T, path string, want *DOSTable) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := diskfsmbr.Read(file.New(f, true), 512, 512)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range want.Partitions {
		g := got.Partitions[i]
		if int64(g.Start)*512 != p.Start || int64(g.Size)*512 != p.Size || byte(g.Type) != p.Type || g.Bootable != p.Active {
			t.Errorf("go-diskfs: partition %d %+v, want %+v", i+1, g, p)
		}
	}
}

// Every byte is as sfdisk writes it, addresses in cylinders and heads included.
func TestDOSBytes(t *testing.T) {
	const size = 12 * gib
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	script := "label: dos\nlabel-id: 0xdeadbeef\nstart=2048,size=614400,type=ef\nstart=616448,size=2097152,type=83,bootable\nstart=4194304,size=2097152,type=82\nstart=6291456,size=18874368,type=83\n"
	runInput(t, script, "sfdisk", path)
	want := make([]byte, 512)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	d := dosImage(t, dosTables()["four"], nil)
	got := make([]byte, 512)
	if _, err := d.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[0x1B8:], got[0x1B8:]); diff != "" {
		t.Errorf("-sfdisk +ours\n%s", diff)
	}
}

// Cylinder, head and sector count as BIOSes do.
func TestCHS(t *testing.T) {
	for lba, want := range map[int64]string{
		0: "\x00\x01\x00", 1: "\x00\x02\x00", 62: "\x00\x3F\x00", 63: "\x01\x01\x00", 2048: "\x20\x21\x00",
		255*63 - 1: "\xFE\x3F\x00", 255 * 63: "\x00\x01\x01", 1023*255*63 + 254*63 + 62: "\xFE\xFF\xFF", 1024 * 255 * 63: "\xFE\xFF\xFF", 1 << 40: "\xFE\xFF\xFF",
	} {
		if got := chs(lba); got != want {
			t.Errorf("%d: % x, want % x", lba, got, want)
		}
	}
}

func TestDOSValidate(t *testing.T) {
	ok := func() *DOSTable { return dosTables()["four"] }
	for want, edit := range map[string]func(*DOSTable){
		"sector size 1024":                     func(t *DOSTable) { t.SectorSize = 1024 },
		"not a multiple of the sector size":    func(t *DOSTable) { t.Size++ },
		"no signature":                         func(t *DOSTable) { t.Signature = 0 },
		"at most 4 are possible":               func(t *DOSTable) { t.Partitions = append(t.Partitions, t.Partitions[0]) },
		"partition 1: type 00":                 func(t *DOSTable) { t.Partitions[0].Type = 0 },
		"partition 1: type ee":                 func(t *DOSTable) { t.Partitions[0].Type = 0xEE },
		"partition 1: type 05":                 func(t *DOSTable) { t.Partitions[0].Type = 5 },
		"partition 2: size 0":                  func(t *DOSTable) { t.Partitions[1].Size = 0 },
		"partition 1: start 0 is in the table": func(t *DOSTable) { t.Partitions[0].Start = 0 },
		"partition 2 at 315621376 overlaps":    func(t *DOSTable) { t.Partitions[0].Size += 512 },
		"go beyond the disk":                   func(t *DOSTable) { t.Partitions[3].Size += 512 },
		"are not multiples of the sector size": func(t *DOSTable) { t.Partitions[3].Size-- },
		"2 active partitions":                  func(t *DOSTable) { t.Partitions[0].Active = true },
		"start 3298534883328 and size 512: an MBR addresses": func(t *DOSTable) {
			t.Size = 10 * tib
			t.Partitions[3].Start, t.Partitions[3].Size = 3*tib, 512
		},
		"an MBR addresses 4294967295 sectors": func(t *DOSTable) {
			t.Size = 10 * tib
			t.Partitions[3].Size = 2 * tib
		},
	} {
		table := ok()
		edit(table)
		err := table.Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, partsErr := table.Parts(nil); err != nil && partsErr == nil {
			t.Errorf("%s: written all the same", want)
		}
	}
	if err := ok().Validate(); err != nil {
		t.Error(err)
	}
}

func TestReadDOSRefuses(t *testing.T) {
	for name, edit := range map[string]func(b []byte){
		"no boot signature":         func(b []byte) { b[0x1FF] = 0 },
		"follows an unused one":     func(b []byte) { clear(b[0x1BE:0x1CE]) },
		"status 01":                 func(b []byte) { b[0x1BE] = 1 },
		"type ee":                   func(b []byte) { b[0x1C2] = 0xEE },
		"go beyond the disk":        func(b []byte) { b[0x1CD] = 0xFF },
		"the disk has no signature": func(b []byte) { clear(b[0x1B8:0x1BC]) },
	} {
		table := dosTables()["four"]
		b := make([]byte, 512)
		if _, err := dosImage(t, table, nil).ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		edit(b)
		_, err := ReadDOS(bytes.NewReader(b), table.Size, 512)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "no boot signature" && !errors.Is(err, ErrNoTable) {
			t.Errorf("%v is not ErrNoTable", err)
		}
	}
}

func FuzzReadDOS(f *testing.F) {
	for _, table := range dosTables() {
		if table.Validate() != nil {
			continue
		}
		b := make([]byte, 512)
		if _, err := dosImage(f, table, nil).ReadAt(b, 0); err != nil {
			f.Fatal(err)
		}
		f.Add(b, table.Size)
	}
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		table, err := ReadDOS(bytes.NewReader(b), size, 512)
		if err != nil {
			return
		}
		parts, err := table.Parts(b)
		if err != nil {
			t.Fatalf("what is read cannot be written: %v", err)
		}
		d, err := disk.Compose(table.Size, parts)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ReadDOS(d, size, 512)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(table, back); diff != "" {
			t.Error(diff)
		}
	})
}
