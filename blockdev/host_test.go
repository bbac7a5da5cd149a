package blockdev

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
)

// machine is a tree as sysfs, /dev and /proc of some machine.
type machine struct {
	Host
	t *testing.T
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{Host{filepath.Join(dir, "sys"), filepath.Join(dir, "dev"), filepath.Join(dir, "proc")}, t}
	for _, d := range []string{m.sys("block"), m.sys("class/block"), m.dev(), m.proc("self")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.file(m.proc("self/mountinfo"), "22 1 0:20 / /proc rw - proc proc rw\n")
	m.file(m.proc("swaps"), "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
	return m
}

func (m *machine) file(path, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// disk adds a disk below the path of a device, with attributes relative to its
// directory, and a node that is a sparse file of size bytes.
func (m *machine) disk(parent, name string, size int64, attributes map[string]string) string {
	m.t.Helper()
	dir := m.sys("devices", parent, "block", name)
	m.file(filepath.Join(dir, "size"), itoa(size/512)+"\n")
	m.file(filepath.Join(dir, "ro"), "0\n")
	m.file(filepath.Join(dir, "removable"), "0\n")
	m.file(filepath.Join(dir, "queue/logical_block_size"), "512\n")
	for k, v := range attributes {
		m.file(filepath.Join(dir, k), v)
	}
	for _, link := range []string{m.sys("block", name), m.sys("class/block", name)} {
		if err := os.Symlink(dir, link); err != nil {
			m.t.Fatal(err)
		}
	}
	m.node(name, size)
	return dir
}

func (m *machine) node(name string, size int64) {
	m.t.Helper()
	m.file(m.dev(name), "")
	if err := os.Truncate(m.dev(name), size); err != nil {
		m.t.Fatal(err)
	}
}

// part adds a partition that the kernel knows.
func (m *machine) part(disk, name, number, dev string) string {
	m.t.Helper()
	real, err := filepath.EvalSymlinks(m.sys("block", disk))
	if err != nil {
		m.t.Fatal(err)
	}
	dir := filepath.Join(real, name)
	m.file(filepath.Join(dir, "partition"), number+"\n")
	m.file(filepath.Join(dir, "dev"), dev+"\n")
	if err := os.Symlink(dir, m.sys("class/block", name)); err != nil {
		m.t.Fatal(err)
	}
	m.node(name, 0)
	return dir
}

func itoa(n int64) string {
	return strings.TrimSpace(string(appendInt(nil, n)))
}

func appendInt(b []byte, n int64) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

// identify returns page 0x89 with the strings of an ATA disk.
func identifyPage(model, serial string) string {
	b := make([]byte, 60+512)
	b[1] = 0x89
	swap := func(off, n int, s string) {
		s += strings.Repeat(" ", n-len(s))
		for i := 0; i < n; i += 2 {
			b[60+off+i], b[60+off+i+1] = s[i+1], s[i]
		}
	}
	swap(20, 20, serial)
	swap(54, 40, model)
	return string(b)
}

// page83 returns device identification with designators of codeset, type, data.
func page83(designators ...[3]string) string {
	var b []byte
	for _, d := range designators {
		b = append(b, d[0][0], d[1][0], 0, byte(len(d[2])))
		b = append(b, d[2]...)
	}
	head := []byte{0, 0x83, 0, 0}
	binary.BigEndian.PutUint16(head[2:], uint16(len(b)))
	return string(append(head, b...))
}

const gib = 1 << 30

// fullMachine has a disk of every kind.
func fullMachine(t *testing.T) *machine {
	m := newMachine(t)
	m.disk("pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0", "sda", 100*gib, map[string]string{
		"dev": "8:0\n", "device/vendor": "ATA     \n", "device/model": "Samsung SSD 870 \n",
		"device/vpd_pg89": identifyPage("Samsung SSD 870 EVO 500GB", "S62ANJ0R100000X"),
		"device/vpd_pg80": "\x00\x80\x00\x14     S62ANJ0R100000X",
		"device/vpd_pg83": page83([3]string{"\x02", "\x00", "S62ANJ0R100000X     "}, [3]string{"\x01", "\x03", "\x50\x02\x53\x8f\x41\x12\x34\x56"}),
	})
	m.disk("pci0000:00/0000:00:04.0/virtio1/host2/target2:0:0/2:0:0:0", "sdb", 20*gib, map[string]string{
		"dev": "8:16\n", "device/vendor": "QEMU    \n", "device/model": "QEMU HARDDISK   \n", "queue/rotational": "1\n",
		"device/vpd_pg83": page83([3]string{"\x02", "\x00", "drive-scsi0"}),
	})
	m.disk("pci0000:00/0000:03:00.0/host5/port-5:0/end_device-5:0/target5:0:0/5:0:0:0", "sde", 40*gib, map[string]string{
		"dev": "8:64\n", "device/vendor": "ATA     \n", "device/model": "ST4000NM0035-1V4\n",
		"device/vpd_pg89": identifyPage("ST4000NM0035-1V4107", "ZC100000"),
	})
	m.disk("pci0000:00/0000:03:00.0/host5/port-5:1/end_device-5:1/target5:0:1/5:0:1:0", "sdf", 40*gib, map[string]string{
		"dev": "8:80\n", "device/vendor": "SEAGATE \n", "device/model": "ST600MM0069     \n",
		"device/vpd_pg80": "\x00\x80\x00\x14S0M00000            ",
		"device/vpd_pg83": page83([3]string{"\x01", "\x03", "\x50\x00\xc5\x00\x12\x34\x56\x78"}),
	})
	m.disk("pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host3/target3:0:0/3:0:0:0", "sdc", 30*gib, map[string]string{
		"dev": "8:32\n", "device/vendor": "SanDisk \n", "device/model": "Ultra Fit       \n", "removable": "1\n",
	})
	m.file(m.sys("devices/pci0000:00/0000:00:14.0/usb1/1-2/serial"), "4C530001234567\n")
	m.file(m.sys("devices/pci0000:00/0000:00:14.0/usb1/1-2/idVendor"), "0781\n")
	m.disk("pci0000:00/0000:00:01.0/nvme/nvme0", "nvme0n1", 50*gib, map[string]string{
		"dev": "259:0\n", "device/model": "WD_BLACK SN770 1TB                      \n", "device/serial": "22334X800001        \n",
		"wwid": "eui.e8238fa6bf530001001b448b4a000001\n", "queue/logical_block_size": "4096\n", "nsid": "1\n",
	})
	m.disk("pci0000:00/0000:00:05.0/virtio2", "vda", 20*gib, map[string]string{
		"dev": "253:0\n", "serial": "root-1\n", "device/vendor": "0x1af4\n",
	})
	m.disk("platform/mmc0/mmc0:0001", "mmcblk0", 15*gib, map[string]string{
		"dev": "179:0\n", "device/name": "SC16G\n", "device/serial": "0x12345678\n", "ro": "1\n",
	})
	m.disk("platform/mmc0/mmc0:0001x", "mmcblk0boot0", 4<<20, map[string]string{"dev": "179:8\n"})
	m.disk("virtual", "loop0", gib, map[string]string{"dev": "7:0\n", "loop/backing_file": "/srv/disk.img\n"})
	m.disk("virtual", "loop1", gib, map[string]string{"dev": "7:1\n"})
	m.disk("virtual", "zram0", gib, map[string]string{"dev": "252:0\n"})
	m.disk("pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0", "sr0", gib, map[string]string{"dev": "11:0\n"})
	m.disk("pci0000:00/0000:00:14.0/usb1/1-3/host4/target4:0:0/4:0:0:0", "sdd", 0, map[string]string{"dev": "8:48\n"})
	return m
}

func TestList(t *testing.T) {
	m := fullMachine(t)
	disks, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		name, model, serial string
		transport           Transport
		sector              int
		ids                 string
	}
	want := []row{
		{"loop0", "loop device of /srv/disk.img", "", Loop, 512, ""},
		{"mmcblk0", "SC16G", "12345678", MMC, 512, "mmc-SC16G_0x12345678"},
		{"nvme0n1", "WD_BLACK SN770 1TB", "22334X800001", NVMe, 4096, "nvme-WD_BLACK_SN770_1TB_22334X800001 nvme-WD_BLACK_SN770_1TB_22334X800001_1 nvme-eui.e8238fa6bf530001001b448b4a000001"},
		{"sda", "Samsung SSD 870 EVO 500GB", "S62ANJ0R100000X", SATA, 512, "ata-Samsung_SSD_870_EVO_500GB_S62ANJ0R100000X wwn-0x5002538f41123456"},
		{"sdb", "QEMU HARDDISK", "", SCSI, 512, "scsi-0QEMU_QEMU_HARDDISK_drive-scsi0"},
		{"sdc", "SanDisk Ultra Fit", "4C530001234567", USB, 512, "usb-SanDisk_Ultra_Fit_4C530001234567-0:0"},
		{"sde", "ST4000NM0035-1V4107", "ZC100000", SCSI, 512, "ata-ST4000NM0035-1V4107_ZC100000"},
		{"sdf", "SEAGATE ST600MM0069", "S0M00000", SCSI, 512, "scsi-SSEAGATE_ST600MM0069_S0M00000 scsi-35000c50012345678 wwn-0x5000c50012345678"},
		{"vda", "virtio disk", "root-1", Virtio, 512, "virtio-root-1"},
	}
	if len(disks) != len(want) {
		t.Fatalf("%d disks: %v", len(disks), disks)
	}
	for i, w := range want {
		d := disks[i]
		got := row{d.Name, d.Model, d.Serial, d.Transport, d.SectorSize, strings.Join(d.ByID, " ")}
		if got != w {
			t.Errorf("got  %+v\nwant %+v", got, w)
		}
		if !d.Content.Empty || len(d.Uses) > 0 || d.Path != m.dev(d.Name) {
			t.Errorf("%s: content %v, uses %v, path %s", d.Name, d.Content, d.Uses, d.Path)
		}
	}
	if !disks[0].Virtual || disks[3].Virtual || !disks[1].ReadOnly || !disks[4].Rotational || !disks[5].Removable {
		t.Error("attributes differ")
	}
}

func TestNamesOrder(t *testing.T) {
	names := []string{"sdaa", "nvme10n1", "sdb", "nvme2n1", "vdz", "mmcblk0", "sda", "vdaa", "nvme2n10"}
	slices.SortFunc(names, compareNames)
	if got := strings.Join(names, " "); got != "mmcblk0 nvme2n1 nvme2n10 nvme10n1 sda sdb sdaa vdz vdaa" {
		t.Error(got)
	}
}

func TestUses(t *testing.T) {
	m := fullMachine(t)
	m.part("sda", "sda1", "1", "8:1")
	m.part("sda", "sda2", "2", "8:2")
	part := m.part("sda", "sda3", "3", "8:3")
	m.part("nvme0n1", "nvme0n1p1", "1", "259:1")
	dm := m.disk("virtual", "dm-0", gib, map[string]string{"dev": "252:0\n", "dm/name": "vg-root\n"})
	m.file(filepath.Join(part, "holders/dm-0"), "")
	_ = dm
	m.file(m.proc("self/mountinfo"), `22 1 0:20 / /proc rw - proc proc rw
23 1 252:0 / / rw shared:1 - ext4 /dev/mapper/vg-root rw
24 23 8:1 / /boot\040dir rw - ext4 /dev/sda1 rw
25 23 0:40 /sub /srv rw - btrfs `+m.dev("nvme0n1p1")+` rw
`)
	m.file(m.proc("swaps"), "Filename Type Size Used Priority\n"+m.dev("sda2")+" partition 1 0 -2\n/swapfile file 1 0 -3\n")
	disks, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"sda":     "sda1 is mounted at /boot dir; sda2 is in use as swap; sda3 is part of vg-root; sda3 is part of vg-root, which is mounted at /",
		"nvme0n1": "nvme0n1p1 is mounted at /srv",
		"vda":     "",
	} {
		i := slices.IndexFunc(disks, func(d Disk) bool { return d.Name == name })
		var texts []string
		for _, u := range disks[i].Uses {
			texts = append(texts, u.String())
		}
		if got := strings.Join(texts, "; "); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestFind(t *testing.T) {
	m := fullMachine(t)
	m.part("sda", "sda1", "1", "8:1")
	m.file(m.dev("null"), "")
	m.file(filepath.Join(t.TempDir(), "disk.img"), "")
	if err := os.MkdirAll(m.dev("disk/by-id"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../vda", m.dev("disk/by-id/virtio-other")); err != nil {
		t.Fatal(err)
	}
	// What udev would give to one of two disks is no name for either.
	for _, n := range []string{"1", "2"} {
		m.disk("pci0000:00/0000:00:02.0/nvme/nvme1", "nvme1n"+n, gib, map[string]string{"device/model": "MODEL\n", "device/serial": "S\n", "nsid": n + "\n"})
		m.disk("pci0000:00/0000:00:14.0/usb1/1-"+n+"9/host9/target9:0:0/9:0:0:0", "sdy"+n, gib, map[string]string{"device/vendor": "Generic\n", "device/model": "Flash Disk\n"})
	}
	for path, want := range map[string]string{
		m.dev("disk/by-id/nvme-MODEL_S"):               "nvme-MODEL_S: could be nvme1n1 or nvme1n2",
		m.dev("disk/by-id/nvme-MODEL_S_2"):             "nvme1n2",
		m.dev("disk/by-id/usb-Generic_Flash_Disk-0:0"): "usb-Generic_Flash_Disk-0:0: could be sdy1 or sdy2",
		m.dev("sda"):                     "sda",
		m.dev("disk/by-id/virtio-other"): "vda",
		m.dev("disk/by-id/nvme-WD_BLACK_SN770_1TB_22334X800001"): "nvme0n1",
		m.dev("disk/by-id/ata-gone"):                             "no such file",
		m.dev("sda1"):                                            "partition 1 of sda, not a disk",
		m.dev("null"):                                            "not a disk",
		m.dev("sdd"):                                             "no medium",
	} {
		d, err := m.Find(path)
		switch {
		case err == nil && d.Name != want:
			t.Errorf("%s: %s, want %s", path, d.Name, want)
		case err != nil && (!strings.Contains(err.Error(), want) || fault.ClassOf(err) != fault.Device):
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	// The link of udev comes first of the names.
	d, err := m.Find(m.dev("vda"))
	if err != nil || !slices.Equal(d.ByID, []string{"virtio-other", "virtio-root-1"}) {
		t.Errorf("%v, %v", d.ByID, err)
	}
}

func TestSelect(t *testing.T) {
	data := Content{Type: "ext4"}
	empty := Content{Empty: true}
	disks := []Disk{
		{Name: "sda", Path: "/dev/sda", Size: 20 * gib, Content: data, Serial: "A"},
		{Name: "sdb", Path: "/dev/sdb", Size: 40 * gib, Content: empty, Serial: "B"},
		{Name: "sdc", Path: "/dev/sdc", Size: 80 * gib, Content: data, Uses: []Use{{"sdc1", "mounted at /"}}, Serial: "C"},
		{Name: "sdd", Path: "/dev/sdd", Size: 2 * gib, Content: empty, Removable: true, Serial: "D"},
		{Name: "sde", Path: "/dev/sde", Size: 60 * gib, Content: empty, Serial: "E"},
		{Name: "sdf", Path: "/dev/sdf", Size: 60 * gib, Content: empty, Serial: "F", ReadOnly: true},
		{Name: "sdg", Path: "/dev/sdg", Size: 10 * gib, Content: empty, Serial: "F"},
	}
	for _, c := range []struct {
		s         Selection
		want, err string
	}{
		{Selection{Spec: "first-empty"}, "sdb", ""},
		{Selection{Spec: "first-empty", Except: []string{"sdb"}}, "sde", ""},
		{Selection{Spec: "first-empty", Need: 50 * gib}, "sde", ""},
		{Selection{Spec: "first-empty", Need: 500 * gib}, "", "no such disk"},
		{Selection{Spec: "smallest"}, "sdg", ""},
		{Selection{Spec: "smallest", Except: []string{"sdg"}}, "", "holds data: ext4"},
		{Selection{Spec: "smallest", Except: []string{"sdg"}, Wipe: true}, "sda", ""},
		{Selection{Spec: "largest"}, "sde", ""},
		{Selection{Spec: "serial=a", Wipe: true}, "sda", ""},
		{Selection{Spec: "serial=A"}, "", "holds data"},
		{Selection{Spec: "serial=C", Wipe: true}, "", "in use: sdc1 is mounted at /"},
		{Selection{Spec: "serial=D"}, "sdd", ""},
		{Selection{Spec: "serial=F"}, "", "2 disks are that"},
		{Selection{Spec: "serial=Z"}, "", "no such disk"},
		{Selection{Spec: "serial=B", Except: []string{"sdb"}}, "", "the medium that this runs from"},
		{Selection{Spec: "serial=B", Need: 41 * gib}, "", "40 GiB, and the installation needs 41 GiB"},
		{Selection{Spec: "any"}, "", "not a disk"},
		{Selection{Spec: "serial="}, "", "not a disk"},
		{Selection{Spec: "serial= "}, "", "not a disk"}, // many virtual disks have none
		{Selection{Spec: "sda"}, "", "not a disk"},
	} {
		d, err := Host{}.Select(disks, c.s)
		switch {
		case c.err == "" && (err != nil || d.Name != c.want):
			t.Errorf("%+v: %s, %v", c.s, d.Name, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%+v: %v, want %s", c.s, err, c.err)
		}
	}
	twins := []Disk{{Name: "sda", Path: "/dev/sda", Size: gib, Content: empty}, {Name: "sdb", Path: "/dev/sdb", Size: gib, Content: empty}}
	if _, err := (Host{}).Select(twins, Selection{Spec: "smallest"}); err == nil || !strings.Contains(err.Error(), "2 disks are that: /dev/sda, 1 GiB; /dev/sdb") {
		t.Errorf("twins: %v", err)
	}
}

func TestListCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fullMachine(t).List(ctx); err == nil {
		t.Error("no error")
	}
}
