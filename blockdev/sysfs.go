package blockdev

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sectorUnit is what sysfs counts sizes in, whatever the sectors of the disk.
const sectorUnit = 512

// readLine returns the first line of a file of sysfs without the spaces around
// it, "" when there is no such file.
func readLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.Trim(line, " \t\x00")
}

func readInt(path string) int64 {
	n, err := strconv.ParseInt(readLine(path), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// names returns the names of all whole disks: sda before sdb before sdaa, nvme2n1
// before nvme10n1.
func (h Host) names() ([]string, error) {
	entries, err := os.ReadDir(h.sys("block"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.SortFunc(names, compareNames)
	return names, nil
}

// compareNames orders names as people count: numbers by value, and the letters of
// disks by length first.
func compareNames(a, b string) int {
	for a != "" && b != "" {
		x, restA := token(a)
		y, restB := token(b)
		if x != y {
			numbers := x[0] <= '9' && y[0] <= '9'
			disks := strings.HasPrefix(x, "sd") && strings.HasPrefix(y, "sd") || strings.HasPrefix(x, "vd") && strings.HasPrefix(y, "vd")
			if numbers || disks {
				if c := cmp.Compare(len(x), len(y)); c != 0 {
					return c
				}
			}
			return strings.Compare(x, y)
		}
		a, b = restA, restB
	}
	return cmp.Compare(len(a), len(b))
}

// token cuts the first run of digits, or of anything else, off a name.
func token(s string) (first, rest string) {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	n := 1
	for n < len(s) && digit(s[n]) == digit(s[0]) {
		n++
	}
	return s[:n], s[n:]
}

// candidate tells whether a system can be on a disk of this name.
func (h Host) candidate(name string) bool {
	for _, kind := range []string{"ram", "zram", "sr", "fd", "mtdblock"} {
		if rest, ok := strings.CutPrefix(name, kind); ok && rest != "" && rest[0] <= '9' {
			return false
		}
	}
	if strings.HasPrefix(name, "mmcblk") && (strings.Contains(name, "boot") || strings.Contains(name, "rpmb") || strings.Contains(name, "gp")) {
		return false // hardware partitions of eMMC, which firmware owns
	}
	if readLine(h.sys("block", name, "hidden")) == "1" {
		return false // a path of a multipath NVMe device
	}
	if strings.HasPrefix(name, "loop") {
		_, err := os.Stat(h.sys("block", name, "loop/backing_file"))
		return err == nil
	}
	return true
}

// describe reads what sysfs says of a disk.
func (h Host) describe(name string) Disk {
	dir := h.sys("block", name)
	d := Disk{
		Name: name, Path: h.dev(strings.ReplaceAll(name, "!", "/")),
		Number:     readLine(filepath.Join(dir, "dev")),
		Size:       readInt(filepath.Join(dir, "size")) * sectorUnit,
		SectorSize: int(readInt(filepath.Join(dir, "queue/logical_block_size"))),
		Rotational: readLine(filepath.Join(dir, "queue/rotational")) == "1",
		Removable:  readLine(filepath.Join(dir, "removable")) == "1",
		ReadOnly:   readLine(filepath.Join(dir, "ro")) == "1",
	}
	if d.SectorSize == 0 {
		d.SectorSize = sectorUnit
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		real = dir
	}
	d.Virtual = strings.Contains(real, "/devices/virtual/") && !strings.Contains(real, "/nvme-subsystem/")
	d.Transport = transport(name, real)
	id := h.identify(name, real, d.Transport)
	d.Model, d.Serial = id.title(), id.serial
	if d.Transport == Loop {
		d.Model = "loop device of " + readLine(filepath.Join(dir, "loop/backing_file"))
	}
	d.ByID = h.links(name)
	for _, n := range id.names() {
		if !slices.Contains(d.ByID, n) {
			d.ByID = append(d.ByID, n)
		}
	}
	return d
}

// transport works out from the path of the device how it is attached.
func transport(name, real string) Transport {
	has := func(s string) bool { return strings.Contains(real, s) }
	switch {
	case strings.HasPrefix(name, "loop"):
		return Loop
	case strings.HasPrefix(name, "nvme"):
		return NVMe
	case strings.HasPrefix(name, "mmcblk"):
		return MMC
	case has("/usb"):
		return USB
	case strings.HasPrefix(name, "vd"):
		return Virtio
	case has("/session"):
		return ISCSI
	case has("/ata"):
		return SATA
	case strings.HasPrefix(name, "sd"):
		return SCSI
	}
	return Other
}

// links returns the names that udev made for a disk below /dev/disk/by-id.
func (h Host) links(name string) []string {
	entries, err := os.ReadDir(h.dev("disk/by-id"))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if target, err := os.Readlink(h.dev("disk/by-id", e.Name())); err == nil && filepath.Base(target) == name {
			names = append(names, e.Name())
		}
	}
	// Those made of numbers only say nothing to people.
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(opaque(a), opaque(b)) })
	return names
}

func opaque(name string) int {
	for _, prefix := range []string{"wwn-", "nvme-eui.", "nvme-nvme.", "scsi-3", "scsi-2", "scsi-1", "lvm-pv-"} {
		if strings.HasPrefix(name, prefix) {
			return 1
		}
	}
	return 0
}

// partition returns the disk and the number of a partition.
func (h Host) partition(name string) (disk string, number int64, ok bool) {
	dir := h.sys("class/block", name)
	if number = readInt(filepath.Join(dir, "partition")); number == 0 {
		return "", 0, false
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", 0, false
	}
	return filepath.Base(filepath.Dir(real)), number, true
}

// parts returns the names of the disk and of its partitions, as the kernel has
// them.
func (h Host) parts(name string) []string {
	list := []string{name}
	entries, err := os.ReadDir(h.sys("block", name))
	if err != nil {
		return list
	}
	for _, e := range entries {
		if _, err := os.Stat(h.sys("block", name, e.Name(), "partition")); err == nil {
			list = append(list, e.Name())
		}
	}
	slices.SortFunc(list[1:], compareNames)
	return list
}
