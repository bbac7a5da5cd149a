package blueprints

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// disk checks the partitioning as upstream does (disk_customizations.go: Validate,
// ValidateLayoutConstraints and the decoders of the kinds of partition), but says
// everything that is wrong.
func (k checker) disk() {
	d := k.config.Blueprint.Customizations.Disk
	if d == nil {
		return
	}
	if d.Type == "dos" && len(d.Partitions) > 4 {
		k.addf("disk.partitions", "\"dos\" partition table type only supports up to 4 partitions: got %d", len(d.Partitions))
	}
	if d.SectorSize != 0 && (d.SectorSize < 0 || d.SectorSize&(d.SectorSize-1) != 0) {
		k.addf("disk.sector_size", "sector_size must be a power of 2, got %d", d.SectorSize)
	}
	t := diskChecker{k, d, map[string]bool{}}
	kinds := map[string]int{}
	for i := range d.Partitions {
		p := &d.Partitions[i]
		at := fmt.Sprintf("disk.partitions[%d]", i)
		kinds[p.Type]++
		t.identifiers(p, at)
		if !t.foreign(p, at) {
			continue
		}
		switch p.Type {
		case PartitionPlain:
			t.plain(p, at)
		case PartitionLVM:
			t.lvm(p, at)
		case PartitionBtrfs:
			t.btrfs(p, at)
		}
	}
	switch {
	case kinds[PartitionLVM] > 0 && kinds[PartitionBtrfs] > 0:
		k.addf("disk.partitions", "btrfs and lvm partitioning cannot be combined")
	case kinds[PartitionBtrfs] > 1:
		k.addf("disk.partitions", "multiple btrfs volumes are not yet supported")
	case kinds[PartitionLVM] > 1:
		k.addf("disk.partitions", "multiple LVM volume groups are not yet supported")
	}
}

// diskChecker remembers the mountpoints of a disk.
type diskChecker struct {
	checker
	disk        *Disk
	mountpoints map[string]bool
}

// identifiers checks the keys of the partition table.
func (t diskChecker) identifiers(p *Partition, at string) {
	dos := t.disk.Type == "dos"
	if s := p.PartType; s != "" {
		guid, short := isUUID(s), len(s) == 2 && isHex(s)
		switch {
		case t.disk.Type == "gpt" && !guid:
			t.addf(at+".part_type", "invalid partition part_type %q for partition table type %q (must be a valid UUID)", s, "gpt")
		case dos && !short:
			t.addf(at+".part_type", "invalid partition part_type %q for partition table type %q (must be a 2-digit hex number)", s, "dos")
		case t.disk.Type == "" && !guid && !short:
			t.addf(at+".part_type", "invalid part_type %q: must be a valid UUID for GPT partition tables or a 2-digit hex number for DOS partition tables", s)
		}
	}
	switch s := p.PartUUID; {
	case s == "":
	case dos:
		t.addf(at+".part_uuid", "part_uuid is not supported for dos partition tables")
	case !isUUID(s):
		t.addf(at+".part_uuid", "invalid partition part_uuid %q (must be a valid UUID)", s)
	}
	switch s := p.PartLabel; {
	case s == "":
	case dos:
		t.addf(at+".part_label", "part_label is not supported for dos partition tables")
	case len(utf16.Encode([]rune(s))) > 36:
		t.addf(at+".part_label", "part_label is not a valid GPT label, it is too long")
	}
}

// foreign checks that a partition has only the keys of its kind, and returns
// whether its kind is known.
func (t diskChecker) foreign(p *Partition, at string) bool {
	kinds := map[string][]string{
		PartitionPlain: {"mountpoint", "label", "fs_type"},
		PartitionLVM:   {"name", "logical_volumes"},
		PartitionBtrfs: {"subvolumes"},
	}
	own, ok := kinds[p.Type]
	if !ok {
		return false // said by the reader
	}
	for _, key := range []string{"mountpoint", "label", "fs_type", "name", "logical_volumes", "subvolumes"} {
		if t.config.has("customizations."+at+"."+key) && !slices.Contains(own, key) {
			t.addf(at+"."+key, "not a key of partitions of type %q", p.Type)
		}
	}
	return true
}

// mount checks a mountpoint, and that it is the first of its name.
func (t diskChecker) mount(mountpoint, at, prefix string) bool {
	if err := checkMountpoint(mountpoint); err != nil {
		t.addf(at, "%s%w", prefix, err)
		return false
	}
	if t.mountpoints[mountpoint] {
		t.addf(at, "duplicate mountpoint %q in partitioning customizations", mountpoint)
		return false
	}
	t.mountpoints[mountpoint] = true
	return true
}

func (t diskChecker) plain(p *Partition, at string) {
	if p.FSType == "none" || p.FSType == "swap" {
		if p.Mountpoint != "" {
			t.addf(at+".mountpoint", "mountpoint for %s partition must be empty (got %q)", p.FSType, p.Mountpoint)
		}
		return
	}
	t.mount(p.Mountpoint, at+".mountpoint", "")
	if p.FSType == "" {
		t.addf(at+".fs_type", "unknown or invalid filesystem type (fs_type) for mountpoint %q", p.Mountpoint)
	} else if p.Mountpoint == "/boot" && p.FSType == "vfat" || p.Mountpoint == "/boot/efi" && p.FSType != "vfat" {
		t.addf(at+".fs_type", "unsupported filesystem type for %q: %s", p.Mountpoint, p.FSType)
	}
}

func (t diskChecker) lvm(p *Partition, at string) {
	names := map[string]bool{}
	for i, lv := range p.LogicalVolumes {
		at := fmt.Sprintf("%s.logical_volumes[%d]", at, i)
		if lv.Name != "" && names[lv.Name] {
			t.addf(at+".name", "duplicate LVM logical volume name %q in volume group %q in partitioning customizations", lv.Name, p.Name)
		}
		names[lv.Name] = true
		if lv.FSType == "swap" {
			if lv.Mountpoint != "" {
				t.addf(at+".mountpoint", "mountpoint for swap logical volume with name %q in volume group %q must be empty", lv.Name, p.Name)
			}
			continue
		}
		if t.mount(lv.Mountpoint, at+".mountpoint", "invalid logical volume customization: ") &&
			(lv.Mountpoint == "/boot" || lv.Mountpoint == "/boot/efi") {
			t.addf(at+".mountpoint", "invalid mountpoint %q for logical volume", lv.Mountpoint)
		}
		if lv.FSType == "" {
			t.addf(at+".fs_type", "unknown or invalid filesystem type (fs_type) for logical volume with mountpoint %q", lv.Mountpoint)
		}
	}
}

func (t diskChecker) btrfs(p *Partition, at string) {
	if len(p.Subvolumes) == 0 {
		t.add(at+".subvolumes", errors.New("btrfs volume requires subvolumes"))
	}
	names := map[string]bool{}
	for i, s := range p.Subvolumes {
		at := fmt.Sprintf("%s.subvolumes[%d]", at, i)
		given := t.config.has("customizations." + at + ".name")
		switch {
		case s.Name == "" && given:
			t.addf(at+".name", "btrfs subvolume with empty name in partitioning customizations")
		case names[s.Name] && given:
			t.addf(at+".name", "duplicate btrfs subvolume name %q in partitioning customizations", s.Name)
		}
		names[s.Name] = true
		if !t.config.has("customizations." + at + ".mountpoint") {
			continue // said by the reader
		}
		if t.mount(s.Mountpoint, at+".mountpoint", "invalid btrfs subvolume customization: ") && s.Mountpoint == "/boot/efi" {
			t.addf(at+".mountpoint", "invalid mountpoint %q for btrfs subvolume", s.Mountpoint)
		}
	}
}

func isHex(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'f') && (r < 'A' || r > 'F')
	})
}

// isUUID tells whether a text is a UUID in the usual form of 8-4-4-4-12 digits.
func isUUID(s string) bool {
	parts := strings.Split(s, "-")
	if len(parts) != 5 {
		return false
	}
	for i, n := range []int{8, 4, 4, 4, 12} {
		if len(parts[i]) != n || !isHex(parts[i]) {
			return false
		}
	}
	return true
}
