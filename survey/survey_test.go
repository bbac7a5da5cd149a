package survey

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/filesystem/ext4"
	"imgbuild/filesystem/fat"
	"imgbuild/partition"
	"imgbuild/tree"
)

const (
	mib      = 1 << 20
	entry    = "title Test (ostree:%d)\nversion %d\nlinux /ostree/k\ninitrd /ostree/i\noptions root=UUID=x ostree=/ostree/boot.1/x\n"
	bootSize = 16 * mib
)

// file is one of a tree that is made.
type file struct{ path, text string }

func treeOf(t testing.TB, files ...file) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	for _, f := range files {
		i := tree.NewFile(0o644, content.String(f.text))
		if to, ok := strings.CutPrefix(f.text, "-> "); ok {
			i = tree.NewLink(to)
		}
		if err := tree.Put(root, f.path, i); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// image makes a disk with an EFI system partition of a size and a /boot.
func image(t testing.TB, espSize int64, sectorSize int) *disk.Image {
	t.Helper()
	vfat, err := fat.Write(context.Background(), treeOf(t,
		file{"EFI/BOOT/BOOTX64.EFI", "shim"}, file{"EFI/BOOT/BOOTAA64.EFI", "shim, too"}, file{"EFI/BOOT/BOOTX64.CSV", "no program"},
		file{"EFI/test/grubx64.efi", "GRUB"}, file{"EFI/Linux/a long name of a kernel.efi", "UKI"},
		file{"loader/entries/other.conf", "linux /EFI/Linux/x\n"}, file{"loader/entries/readme", "no entry"},
	), espSize, fat.Options{VolumeID: 1, Label: "ESP", SectorSize: sectorSize, FAT16: espSize < 34*mib})
	if err != nil {
		t.Fatal(err)
	}
	boot, err := ext4.Write(context.Background(), treeOf(t,
		file{"loader", "-> loader.1"}, file{"loader.0/entries/ostree-9.conf", "linux /old\n"},
		file{"loader.1/entries/ostree-1.conf", fmt.Sprintf(entry, 0, 1)}, file{"loader.1/entries/ostree-2.conf", fmt.Sprintf(entry, 1, 2)},
	), bootSize, ext4.Options{Label: "boot"})
	if err != nil {
		t.Fatal(err)
	}
	size := espSize + bootSize + 3*mib
	table, err := partition.Plan(partition.GUID{1}, size, sectorSize, []partition.Request{
		{Name: "EFI-SYSTEM", Type: partition.ESP, ID: partition.GUID{2}, Size: espSize},
		{Name: "boot", Type: partition.LinuxData, ID: partition.GUID{3}, Size: bootSize},
	})
	if err != nil {
		t.Fatal(err)
	}
	parts, err := table.Parts([]byte("boot code"))
	if err != nil {
		t.Fatal(err)
	}
	for i, extents := range [][]disk.Extent{vfat, boot} {
		p := table.Partitions[i]
		parts = append(parts, disk.Part{Off: p.Start, Size: p.Size, Extents: extents})
	}
	d, err := disk.Compose(size, parts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// want is what there is to find on the disk of image.
func want(espSize int64, sectorSize int) *Report {
	e := func(n int) Entry {
		return Entry{fmt.Sprintf("loader.1/entries/ostree-%d.conf", n), fmt.Sprintf("Test (ostree:%d)", n-1), fmt.Sprint(n), "/ostree/k", []string{"/ostree/i"}, "root=UUID=x ostree=/ostree/boot.1/x"}
	}
	return &Report{
		Size: espSize + bootSize + 3*mib, SectorSize: sectorSize, Table: "gpt", BIOS: true, Firmware: []string{"amd64", "arm64"},
		Partitions: []Partition{
			{1, mib, espSize, "EFI-SYSTEM", partition.GUID{2}.String(), "EFI system", "vfat", "ESP"},
			{2, mib + espSize, bootSize, "boot", partition.GUID{3}.String(), "", "ext4", "boot"},
		},
		Programs: []File{{"EFI/BOOT/BOOTAA64.EFI", 9}, {"EFI/BOOT/BOOTX64.EFI", 4}, {"EFI/Linux/a long name of a kernel.efi", 3}, {"EFI/test/grubx64.efi", 4}},
		Entries:  []Entry{{File: "loader/entries/other.conf", Linux: "/EFI/Linux/x"}, e(2), e(1)},
	}
}

// FAT16 and FAT32, on sectors of either size.
func TestDisk(t *testing.T) {
	for _, test := range []struct {
		espSize    int64
		sectorSize int
	}{{3 * mib, 512}, {20 * mib, 512}, {30 * mib, 512}, {64 * mib, 512}, {300 * mib, 4096}} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			d := image(t, test.espSize, test.sectorSize)
			got, err := Disk(d, d.Size())
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(got.Programs, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
			slices.Sort(got.Firmware)
			if diff := cmp.Diff(want(test.espSize, test.sectorSize), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FAT12, as mkfs.vfat and mcopy make it.
func TestFAT12(t *testing.T) {
	name := filepath.Join(t.TempDir(), "fat.img")
	program := filepath.Join(t.TempDir(), "x.efi")
	if err := os.WriteFile(program, []byte("program"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"mkfs.vfat", "-F", "12", "-C", name, "2048"}, {"mmd", "-i", name, "::EFI", "::EFI/BOOT"},
		{"mcopy", "-i", name, program, "::EFI/BOOT/BOOTAA64.EFI"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := Disk(f, 2*mib)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Programs) != 1 || got.Programs[0] != (File{"EFI/BOOT/BOOTAA64.EFI", 7}) || !slices.Equal(got.Firmware, []string{"arm64"}) || len(got.Notes) != 0 {
		t.Errorf("%+v", got)
	}
}

// A file system without a table, with /boot in it; and none at all.
func TestWhole(t *testing.T) {
	extents, err := ext4.Write(context.Background(), treeOf(t, file{"boot/loader/entries/a.conf", "linux /k\n"}), bootSize, ext4.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := disk.New(bootSize, extents)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Disk(d, d.Size())
	if err != nil {
		t.Fatal(err)
	}
	if got.FileSystem != "ext4" || len(got.Entries) != 1 || got.Entries[0].File != "boot/loader/entries/a.conf" || got.BIOS || len(got.Notes) != 0 {
		t.Errorf("%+v", got)
	}
	for _, size := range []int64{0, 1, 512, mib} {
		got, err := Disk(strings.NewReader(strings.Repeat("\x00", int(size))), size)
		if err != nil || !got.Empty {
			t.Errorf("%d zeros: %+v, %v", size, got, err)
		}
	}
}

// patched is a disk with other bytes in some places.
type patched struct {
	io.ReaderAt
	bytes map[int64]byte
}

func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	for at, v := range p.bytes {
		if at >= off && at < off+int64(n) {
			b[at-off] = v
		}
	}
	return n, err
}

// sum puts the checksum of the superblock at off right: CRC-32C without a final
// inversion.
func (p *patched) sum(t testing.TB, off int64) {
	t.Helper()
	b := make([]byte, 0x3fc)
	if _, err := p.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	for i, v := range binary.LittleEndian.AppendUint32(nil, ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) {
		p.bytes[off+0x3fc+int64(i)] = v
	}
}

// What would take memory or read for ever is noted.
func TestHostile(t *testing.T) {
	const espSize = 64 * mib
	d := image(t, espSize, 512)
	const esp, super = int64(mib), mib + espSize + 1024
	for _, test := range []struct {
		name  string
		at    int64
		value any
		want  string
	}{
		{"sectors of the table", esp + 36, uint32(1 << 30), "partition 1: FAT: its tables are larger than it is"},
		{"sectors", esp + 32, uint32(1 << 31), "partition 1: FAT: of 1099511627776 bytes"},
		{"sector size", esp + 11, uint16(3), "partition 1: FAT: boot sector"},
		{"blocks", super + 4, uint32(1 << 31), "partition 2: ext4: 2147483648 blocks"},
		{"more blocks", super + 0x150, uint32(1 << 31), "partition 2: ext4: it is too large"},
		{"block size", super + 0x18, uint32(6), "partition 2: ext4: blocks of more than"},
		{"group size", super + 0x20, uint32(0), "partition 2: ext4: groups"},
		{"inodes", super + 0x28, uint32(1), "partition 2: "},
		{"checksums", super + 0x175, uint8(0), "partition 2: ext4: without checksums it is not read"},
	} {
		b, err := binary.Append(nil, binary.LittleEndian, test.value)
		if err != nil {
			t.Fatal(err)
		}
		p := &patched{d, map[int64]byte{}}
		for i, v := range b {
			p.bytes[test.at+int64(i)] = v
		}
		p.sum(t, super)
		got, err := Disk(p, d.Size())
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if len(got.Notes) != 1 || !strings.HasPrefix(got.Notes[0], test.want) {
			t.Errorf("%s: %q, want %q", test.name, got.Notes, test.want)
		}
	}
}

// What go-diskfs reads is counted.
func TestBudget(t *testing.T) {
	s := &storage{r: io.NewSectionReader(image(t, 10*mib, 512), 0, bootSize)}
	if _, err := s.ReadAt(make([]byte, mib), 0); err != nil {
		t.Error(err)
	}
	if _, err := s.ReadAt(make([]byte, maxRead), 0); err == nil {
		t.Error("reads without an end")
	}
}

// The input is a list of patches: an offset in the interesting parts of the disk, a
// count, and so many bytes. The superblock's checksum is put right.
func FuzzDisk(f *testing.F) {
	const espSize = 10 * mib
	d := image(f, espSize, 512)
	place := func(n uint32) int64 {
		starts := []int64{0, mib, mib + espSize, mib + espSize + 1024, mib + 16384}
		return starts[n>>28%5] + int64(n&0x1ffff)
	}
	f.Add([]byte{})
	f.Add([]byte{36, 0, 0, 0x10, 4, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{4, 0, 0, 0x30, 2, 0, 0x10, 0x28, 0, 0, 0x30, 2, 8, 0})
	f.Add([]byte("\x04\x02\x00\x1c\x04\x02\x00\x06")) // a chain of clusters that bites its tail
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &patched{d, map[int64]byte{}}
		for len(b) > 5 && len(p.bytes) < 200 {
			at, n := place(binary.LittleEndian.Uint32(b)), min(int(b[4]), len(b)-5)
			for i, v := range b[5 : 5+n] {
				p.bytes[at+int64(i)] = v
			}
			b = b[5+n:]
		}
		p.sum(t, mib+espSize+1024)
		_, _ = Disk(p, d.Size())
	})
}
