package partition

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/go-cmp/cmp"

	"imgbuild/disk"
	"imgbuild/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

// guid returns one that is easy to recognise.
func guid(n byte) GUID {
	return GUID{n, 0x11, 0x22, 0x33, 0x44, 0x55, 0x46, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, n}
}

func mustRoot(t testing.TB, arch string) GUID {
	t.Helper()
	g, ok := RootType(arch)
	if !ok {
		t.Fatal(arch)
	}
	return g
}

// imageBuilder is the layout of image-builder on amd64, with the Discoverable
// Partitions type for root.
func imageBuilder(t testing.TB) []Request {
	return []Request{
		{Name: "BIOS-BOOT", Type: BIOSBoot, ID: guid(1), Size: mib, Attributes: LegacyBIOSBootable},
		{Name: "EFI-SYSTEM", Type: ESP, ID: guid(2), Size: 501 * mib},
		{Name: "boot", Type: XBOOTLDR, ID: guid(3), Size: gib},
		{Name: "root", Type: mustRoot(t, "amd64"), ID: guid(4), Size: 3 * gib, Grow: true},
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return runInput(t, "", name, args...)
}

func runInput(t testing.TB, input, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		// The tools are in sbin, which is not in everyone's PATH.
		if path, err = exec.LookPath(filepath.Join("/usr/sbin", name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// image returns the disk with the table alone.
func image(t testing.TB, table *Table, code []byte) *disk.Image {
	t.Helper()
	parts, err := table.Parts(code)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		for _, q := range table.Partitions {
			if p.Off < q.End() && q.Start < p.Off+p.Size {
				t.Errorf("part %d of the table overlaps partition %q", i, q.Name)
			}
		}
		if i > 0 && p.Off < parts[i-1].Off+parts[i-1].Size {
			t.Errorf("parts %d and %d of the table overlap", i-1, i)
		}
	}
	d, err := disk.Compose(table.Size, parts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// save writes the disk to a sparse file.
func save(t testing.TB, d *disk.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(d.Size()); err != nil {
		t.Fatal(err)
	}
	for _, e := range d.Extents() {
		b, err := e.Data.ReadAll(mib)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(b, e.Off); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", name, diff)
	}
}

// everything has all attributes named, names of every length and the partitions
// out of order.
func everything() *Table {
	p := func(n byte, name string, start, size int64, a Attributes) Partition {
		return Partition{Number: int(n), Name: name, Type: LinuxData, ID: guid(n), Start: start * mib, Size: size * mib, Attributes: a}
	}
	return &Table{DiskID: guid(0xFF), Size: 64 * mib, SectorSize: 512, Partitions: []Partition{
		p(1, "", 9, 1, 0),
		p(2, strings.Repeat("n", 36), 2, 1, Required|NoBlockIO),
		p(3, strings.Repeat("\U0001F600", 18), 3, 4, GrowFileSystem|ReadOnly|Hidden|NoAutoMount),
		p(7, "quote \" back \\ slash ä", 8, 1, LegacyBIOSBootable),
		p(128, "last", 62, 1, 0),
	}}
}

var imagePath = regexp.MustCompile(`/[^ "]*/disk\.img`)

// TestTools has sfdisk, sgdisk and go-diskfs read tables, and reads them back.
func TestTools(t *testing.T) {
	plan := func(size int64, sectorSize int, requests []Request) *Table {
		table, err := Plan(guid(0xFF), size, sectorSize, requests)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	for _, test := range []struct {
		name  string
		table *Table
	}{
		{"image-builder", plan(10*gib, 512, imageBuilder(t))},
		{"image-builder-4k", plan(10*gib, 4096, imageBuilder(t))},
		{"odd-size", plan(10*gib+700*1024, 512, imageBuilder(t))},
		{"3TiB", plan(3*tib, 512, imageBuilder(t))},
		{"empty", plan(2*mib, 512, nil)},
		{"ppc64le", plan(5*gib, 512, []Request{
			{Name: "PowerPC-PReP-boot", Type: PReP, ID: guid(1), Size: 4 * mib, Attributes: LegacyBIOSBootable},
			{Name: "boot", Type: XBOOTLDR, ID: guid(2), Size: gib},
			{Name: "root", Type: mustRoot(t, "ppc64le"), ID: guid(3), Grow: true},
		})},
		{"everything", everything()},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := image(t, test.table, nil)
			path := save(t, d)
			if test.table.SectorSize == 512 { // of a file, sfdisk and sgdisk read no other
				dump := run(t, "sfdisk", "--dump", path)
				golden(t, test.name+".sfdisk", imagePath.ReplaceAllString(dump, "disk.img"))
				json := run(t, "sfdisk", "--json", path)
				golden(t, test.name+".json", imagePath.ReplaceAllString(json, "disk.img"))
				if out := run(t, "sfdisk", "--verify", path); !strings.Contains(out, "No errors detected.") {
					t.Errorf("sfdisk --verify:\n%s", out)
				}
				if out := run(t, "sgdisk", "--verify", path); !strings.Contains(out, "No problems found") {
					t.Errorf("sgdisk --verify:\n%s", out)
				}
				// sgdisk says here what it thinks of the MBR.
				if out := run(t, "sgdisk", "--print", path); strings.Contains(out, "invalid") || strings.Contains(out, "Creating") {
					t.Errorf("sgdisk --print:\n%s", out)
				}
			}
			ss := fmt.Sprint(test.table.SectorSize)
			list := run(t, "fdisk", "--sector-size", ss, "--color=never", "--bytes",
				"--list-details", "--output", "Start,End,Sectors,Size,Type-UUID,UUID,Name,Attrs", path)
			golden(t, test.name+".fdisk", imagePath.ReplaceAllString(list, "disk.img"))
			if out := runInput(t, "v\nq\n", "fdisk", "--sector-size", ss, path); !strings.Contains(out, "No errors detected.") {
				t.Errorf("fdisk, verify:\n%s", out)
			}
			readWithDiskfs(t, path, test.table)

			got, err := Read(d, d.Size(), test.table.SectorSize)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.table, got, cmp.Transformer("nil", func(p []Partition) string { return fmt.Sprint(p) })); diff != "" {
				t.Errorf("read back (-want +got)\n%s", diff)
			}
		})
	}
}

func readWithDiskfs(t *testing.T, path string, want *Table) {
	t.Helper()
	b, err := file.OpenFromPath(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got, err := gpt.Read(b, want.SectorSize, want.SectorSize)
	if err != nil {
		t.Fatal(err)
	}
	if got.RecoveredFromBackup {
		t.Error("go-diskfs: the primary table is unreadable")
	}
	if !strings.EqualFold(got.GUID, want.DiskID.String()) {
		t.Errorf("go-diskfs: disk ID %s", got.GUID)
	}
	// go-diskfs looks for a size in 512-byte sectors, and modulo 2 TiB.
	if want.SectorSize == 512 && want.Size <= 2*tib && !got.ProtectiveMBR {
		t.Error("go-diskfs: no protective MBR")
	}
	var list []string
	for _, p := range got.Partitions {
		if p.Type == gpt.Unused {
			continue
		}
		list = append(list, fmt.Sprintln(p.Index, p.Start, p.End, strings.ToLower(string(p.Type)), strings.ToLower(p.GUID), p.Name, p.Attributes))
	}
	var wanted []string
	ss := int64(want.SectorSize)
	for _, p := range want.Partitions {
		wanted = append(wanted, fmt.Sprintln(p.Number, p.Start/ss, p.End()/ss-1, p.Type, p.ID, p.Name, uint64(p.Attributes)))
	}
	if diff := cmp.Diff(wanted, list); diff != "" {
		t.Errorf("go-diskfs (-want +got)\n%s", diff)
	}
}

// TestMBR checks the protective record up to and beyond 2 TiB, and what boot code may
// touch.
func TestMBR(t *testing.T) {
	code := bytes.Repeat([]byte{0xAB}, 512)
	for _, test := range []struct {
		size       int64
		sectorSize int
		record     string
	}{
		{10 * gib, 512, "00000200eeffffff01000000ffff3f01"},
		{2 * tib, 512, "00000200eeffffff01000000ffffffff"},
		{2*tib + mib, 512, "00000200eeffffff01000000ffffffff"},
		{3 * tib, 512, "00000200eeffffff01000000ffffffff"},
		{3 * tib, 4096, "00000200eeffffff01000000ffffff2f"},
	} {
		d := image(t, &Table{DiskID: guid(1), Size: test.size, SectorSize: test.sectorSize}, code)
		b := make([]byte, 4096)
		if _, err := d.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		want := append(bytes.Clone(code[:440]), make([]byte, 6)...)
		record, err := hex.DecodeString(test.record)
		if err != nil {
			t.Fatal(err)
		}
		want = append(append(append(want, record...), make([]byte, 48)...), 0x55, 0xAA)
		if !bytes.Equal(b[:512], want) {
			t.Errorf("%d bytes: MBR\n%s", test.size, hex.Dump(b[432:512]))
		}
		if test.sectorSize == 4096 && !bytes.Equal(b[512:], make([]byte, 4096-512)) {
			t.Error("the rest of sector 0 is not zero")
		}
	}
}

// TestValidate has a table for each error.
func TestValidate(t *testing.T) {
	if err := everything().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		want   string
		change func(*Table)
	}{
		{"sector size 1024", func(t *Table) { t.SectorSize = 1024 }},
		{"not a multiple", func(t *Table) { t.Size++ }},
		{"no room", func(t *Table) { t.Size = 67 * 512 }},
		{"no room", func(t *Table) { t.Size = 0 }},
		{"not a multiple", func(t *Table) { t.Size = -1 }},
		{"the disk has no ID", func(t *Table) { t.DiskID = GUID{} }},
		{"no type", func(t *Table) { t.Partitions[0].Type = GUID{} }},
		{"no ID", func(t *Table) { t.Partitions[0].ID = GUID{} }},
		{"also that of partition 2", func(t *Table) { t.Partitions[2].ID = guid(2) }},
		{"also that of the disk", func(t *Table) { t.Partitions[2].ID = t.DiskID }},
		{"not multiples", func(t *Table) { t.Partitions[0].Start += 256 }},
		{"not multiples", func(t *Table) { t.Partitions[0].Size -= 256 }},
		{"size 0", func(t *Table) { t.Partitions[0].Size = 0 }},
		{"size -512", func(t *Table) { t.Partitions[0].Size = -512 }},
		{"before the first usable byte 17408", func(t *Table) { t.Partitions[0].Start = 33 * 512 }},
		{"before the first usable", func(t *Table) { t.Partitions[0].Start = -512 }},
		{"beyond the last usable byte 67091967", func(t *Table) { t.Partitions[4].Size = 2*mib - 32*512 }},
		{"beyond the last usable", func(t *Table) { t.Partitions[4].Size = 1<<63 - 512 }},
		{"beyond the last usable", func(t *Table) { t.Partitions[4].Start = 1<<63 - 512 }},
		{"partition 7 at 8388608 overlaps partition 3, which ends at 8389120", func(t *Table) { t.Partitions[2].Size += mib + 512 }},
		{"37 UTF-16 units", func(t *Table) { t.Partitions[0].Name = strings.Repeat("n", 37) }},
		{"38 UTF-16 units", func(t *Table) { t.Partitions[0].Name = strings.Repeat("\U0001F600", 19) }},
		{"not UTF-8", func(t *Table) { t.Partitions[0].Name = "\xff" }},
		{"NUL", func(t *Table) { t.Partitions[0].Name = "a\x00" }},
		{"not above", func(t *Table) { t.Partitions[1].Number = 1 }},
		{"not above", func(t *Table) { t.Partitions[1].Number = -1 }},
		{"at most 128", func(t *Table) { t.Partitions[4].Number = 129 }},
		{"at most 128", func(t *Table) { t.Partitions[4].Number = 128; t.Partitions = append(t.Partitions, Partition{}) }},
		{"at most 128", func(t *Table) { t.Partitions = make([]Partition, 129) }},
	} {
		table := everything()
		test.change(table)
		err := table.Validate()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
		if _, err := table.Parts(nil); err == nil {
			t.Errorf("Parts: no error %q", test.want)
		}
	}

	// On the limits: the whole usable area, and all 128 partitions.
	table := everything()
	table.Partitions = []Partition{{Type: LinuxData, ID: guid(1), Start: 34 * 512, Size: 64*mib - (34+33)*512}}
	if err := table.Validate(); err != nil {
		t.Error(err)
	}
	table.Partitions = nil
	for i := range 128 {
		table.Partitions = append(table.Partitions, Partition{Type: LinuxData, ID: guid(byte(i + 1)), Start: int64(i+34) * 512, Size: 512})
	}
	path := save(t, image(t, table, nil))
	if out := run(t, "sgdisk", "--verify", path); !strings.Contains(out, "No problems found") {
		t.Errorf("128 partitions: sgdisk --verify:\n%s", out)
	}
}

// TestPlan checks the geometry, and the smallest disk of a plan with one byte
// less.
func TestPlan(t *testing.T) {
	table, err := Plan(guid(9), 10*gib, 512, imageBuilder(t))
	if err != nil {
		t.Fatal(err)
	}
	if root := table.Partitions[3]; root.Start != 1527*mib || root.End() != 10*gib-mib {
		t.Errorf("root [%d:%d]", root.Start, root.End())
	}

	fixed := []Request{{Type: ESP, ID: guid(1), Size: 1}, {Type: LinuxData, ID: guid(2), Size: 3*mib + 1}}
	growing := []Request{{Type: ESP, ID: guid(1), Grow: true}, {Type: LinuxData, ID: guid(2), Size: mib}}
	for _, test := range []struct {
		requests []Request
		size     int64 // smallest
		starts   [2]int64
		grown    [2]int64 // starts with 5 MiB more
	}{
		{fixed, 7 * mib, [2]int64{mib, 2 * mib}, [2]int64{mib, 2 * mib}},
		{growing, 4 * mib, [2]int64{mib, 2 * mib}, [2]int64{mib, 7 * mib}},
	} {
		size, err := MinSize(test.requests)
		if err != nil || size != test.size {
			t.Errorf("smallest size %d, %v, want %d", size, err, test.size)
		}
		for _, sectorSize := range []int{512, 4096} {
			for more, starts := range map[int64][2]int64{0: test.starts, 5 * mib: test.grown} {
				table, err := Plan(guid(9), size+more, sectorSize, test.requests)
				if err != nil {
					t.Fatal(err)
				}
				for i, p := range table.Partitions {
					if p.Start != starts[i] || p.Size%mib != 0 || p.Size < test.requests[i].Size {
						t.Errorf("%d+%d bytes: partition %d is [%d:+%d]", size, more, i, p.Start, p.Size)
					}
				}
			}
			// A disk that is short of its last sectors has no room for the
			// backup table behind the last whole MiB.
			_, err = Plan(guid(9), size-mib, sectorSize, test.requests)
			small := new(TooSmallError)
			if !errors.As(err, &small) || small.Need != size || fault.ClassOf(err) != fault.NoSpace {
				t.Errorf("a MiB less: %v", err)
			}
		}
	}

	for _, requests := range [][]Request{
		{{Type: ESP, ID: guid(1)}},
		{{Type: ESP, ID: guid(1), Size: -1}},
		{{Type: ESP, ID: guid(1), Size: 1<<63 - 1}},
		{{Type: ESP, ID: guid(1), Size: 1 << 62}, {Type: ESP, ID: guid(2), Size: 1 << 62}},
		{{Type: ESP, ID: guid(1), Grow: true}, {Type: ESP, ID: guid(2), Grow: true}},
		make([]Request, 129),
	} {
		if _, err := MinSize(requests); err == nil {
			t.Errorf("MinSize(%v): no error", requests)
		}
		if _, err := Plan(guid(9), tib, 512, requests); err == nil {
			t.Errorf("Plan(%v): no error", requests)
		}
	}
	if _, err := Plan(guid(9), tib, 512, []Request{{Size: mib}}); err == nil {
		t.Error("a request without type: no error")
	}
}
