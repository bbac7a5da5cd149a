package layouts

import (
	"slices"
	"strings"

	"imgbuild/blueprints"
	"imgbuild/fault"
)

// custom returns the layout of customizations.disk: its partitions behind those
// that booting takes, and with a root. Of the base there remain the kind of the
// table, the size of the ESP and what mounts the file systems.
func (r *Request) custom() (*Layout, error) {
	base, d := r.base(), r.Disk
	if err := refuseLVM(d); err != nil {
		return nil, err
	}
	l := &Layout{
		Table: base.Table, SectorSize: 512, Grain: DefaultGrain, Size: int64(d.MinSize), Compact: true,
		StartOffset: int64(d.StartOffset), Mounts: MountsUnits,
	}
	if r.Base != nil {
		l.Mounts = base.Mounts
	}
	if d.Type != "" {
		l.Table = Table(d.Type)
	}
	if d.SectorSize > 0 {
		l.SectorSize = d.SectorSize
	}
	r.addFirmware(l, base)
	if needsBoot(d) {
		// As image-builder: what is no good for /boot becomes xfs.
		fs := r.RootFS
		if fs != Ext4 {
			fs = XFS
		}
		l.add(bootPartition(l, fs))
	}
	for _, p := range d.Partitions {
		l.add(r.customPartition(l, p))
	}
	r.ensureRoot(l)
	return l, nil
}

// addFirmware adds the partitions of what the image boots by.
func (r *Request) addFirmware(l, base *Layout) {
	if r.Firmware.BIOS && l.Table == GPT && l.SectorSize == 512 {
		l.add(biosBoot())
	}
	if r.Firmware.PReP {
		l.add(prep(l.Table))
	}
	own := slices.ContainsFunc(r.Disk.Partitions, func(p blueprints.Partition) bool { return p.Mountpoint == "/boot/efi" })
	if r.Firmware.UEFI && !own {
		size := int64(customESP)
		if i := base.Find(RoleESP); i >= 0 && base.Partitions[i].Size > 0 {
			size = base.Partitions[i].Size
		}
		l.add(esp(l.Table, size))
	}
}

// needsBoot tells whether an automatic /boot is due: root is on btrfs, and there
// is no other.
func needsBoot(d *blueprints.Disk) bool {
	btrfs := false
	for _, p := range d.Partitions {
		if p.Mountpoint == "/" || p.Mountpoint == "/boot" {
			return false
		}
		root, boot := false, false
		for _, s := range p.Subvolumes {
			root = root || s.Mountpoint == "/"
			boot = boot || s.Mountpoint == "/boot"
		}
		if root && boot {
			return false
		}
		btrfs = btrfs || p.Type == blueprints.PartitionBtrfs
	}
	return btrfs
}

// customPartition returns a partition as a user asks for it.
func (r *Request) customPartition(l *Layout, c blueprints.Partition) Partition {
	p := Partition{
		Name: c.PartLabel, Type: strings.ToLower(c.PartType), ID: strings.ToLower(c.PartUUID), Size: int64(c.MinSize),
	}
	fs := c.FSType
	if fs == "" {
		fs = r.RootFS
	}
	switch {
	case c.Type == blueprints.PartitionBtrfs:
		p.FS = &FileSystem{Type: Btrfs}
		for _, s := range c.Subvolumes {
			p.FS.Subvolumes = append(p.FS.Subvolumes, Subvolume{Name: s.Name, Mount: s.Mountpoint})
		}
	case fs == "none":
	default:
		p.FS = &FileSystem{Type: fs, Label: c.Label, Mount: c.Mountpoint, Options: "defaults"}
		if c.Mountpoint == "/boot/efi" {
			p.FS.Options = espOptions
		}
	}
	if p.Type == "" && c.Mountpoint == "/" {
		p.Type = rootType(l.Table, r.Arch)
	}
	return p
}

// ensureRoot adds a root where there is none: a subvolume of a btrfs, else a
// partition.
func (r *Request) ensureRoot(l *Layout) {
	if l.At("/") >= 0 {
		return
	}
	for i := range l.Partitions {
		f := l.Partitions[i].FS
		if f == nil || f.Type != Btrfs {
			continue
		}
		name := unique("root", func(s string) bool {
			return slices.ContainsFunc(f.Subvolumes, func(v Subvolume) bool { return v.Name == s })
		})
		f.Subvolumes = append(f.Subvolumes, Subvolume{Name: name, Mount: "/"})
		return
	}
	fs := r.RootFS
	p := Partition{Type: rootType(l.Table, r.Arch), FS: &FileSystem{Type: fs, Label: l.freeLabel("root"), Mount: "/", Options: "defaults"}}
	l.add(p)
	if fs == Btrfs {
		l.ensureSubvolume(len(l.Partitions)-1, r.Arch)
	}
}

// refuseLVM returns an error that names every volume group.
func refuseLVM(d *blueprints.Disk) error {
	var problems Problems
	for i, p := range d.Partitions {
		if p.Type == blueprints.PartitionLVM {
			problems.add("customizations.disk.partitions[%d]: type lvm: %s", i, whyNot("lvm"))
		}
	}
	return problems.err(fault.Unsupported, hintLVM)
}
