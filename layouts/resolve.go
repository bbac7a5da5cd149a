package layouts

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/partition"
)

// Request is what a layout follows from.
type Request struct {
	Arch     string // GOARCH name
	Firmware Firmware
	// RootFS is the type of a root file system that has none in the layout.
	RootFS string
	// Base is the layout that is changed, nil for [Default].
	Base        *Layout
	FileSystems []blueprints.Filesystem // customizations.filesystem
	Disk        *blueprints.Disk        // customizations.disk
}

// Least sizes of file systems in customizations.filesystem, image-builder's.
const (
	leastBoot = 500 * MiB
	leastSize = 1 * GiB
)

// defaultCompress is what image-builder compresses a btrfs root with.
const defaultCompress = "zstd:1"

// Resolve returns the layout of a disk: the base with the customizations applied.
// All partitions have types, and all file systems but swap a type. What is wrong
// with the customizations is fault.Config, all problems in one error; the layout
// itself is not checked.
func Resolve(r *Request) (*Layout, error) {
	var l *Layout
	var err error
	switch {
	case r.Disk != nil && len(r.FileSystems) > 0:
		return nil, fault.New(fault.Config, errors.New("customizations.disk and customizations.filesystem exclude each other"),
			"write the file systems as partitions of customizations.disk")
	case r.Disk != nil:
		l, err = r.custom()
	default:
		l, err = r.resized()
	}
	if err != nil {
		return nil, err
	}
	l.finish()
	return l, nil
}

// base returns a copy of the base whose file systems all have types.
func (r *Request) base() *Layout {
	if r.Base == nil {
		return Default(r.Arch, r.Firmware, r.RootFS)
	}
	if r.Base.Table == "" {
		l := Default(r.Arch, r.Firmware, r.RootFS)
		l.Mounts = r.Base.Mounts
		return l
	}
	l := r.Base.Clone()
	if l.AddFirmware {
		r.addMissing(l)
	}
	for i := range l.Partitions {
		f := l.Partitions[i].FS
		if f == nil || f.Type != "" {
			continue
		}
		f.Type = r.RootFS
		if f.Mount == "/boot/efi" {
			f.Type = VFAT
		} else if f.Type == Btrfs && f.Mount != "/" {
			f.Type = Ext4
		}
	}
	return l
}

// addMissing puts the partitions that the image boots by, and the layout does not
// have, before the others.
func (r *Request) addMissing(l *Layout) {
	own := l.Partitions
	l.Partitions = nil
	has := func(role Role) bool {
		return slices.ContainsFunc(own, func(p Partition) bool { return p.Role() == role })
	}
	if r.Firmware.BIOS && l.Table == GPT && l.SectorSize == 512 && !has(RoleBIOS) {
		l.add(biosBoot())
	}
	if r.Firmware.PReP && !has(RolePReP) {
		l.add(prep(l.Table))
	}
	if r.Firmware.UEFI && !has(RoleESP) {
		l.add(esp(l.Table, defaultESP))
	}
	l.Partitions = append(l.Partitions, own...)
}

// resized returns the base with the sizes and file systems of
// customizations.filesystem.
func (r *Request) resized() (*Layout, error) {
	l := r.base()
	root := l.At("/")
	btrfs := root >= 0 && l.Partitions[root].FS.Type == Btrfs
	if err := checkMountpoints(r.FileSystems, btrfs); err != nil {
		return nil, err
	}
	if btrfs {
		l.ensureSubvolume(root, r.Arch)
	}
	for _, c := range r.FileSystems {
		least := int64(leastSize)
		if c.Mountpoint == "/boot" {
			least = leastBoot
		}
		size := max(int64(c.MinSize), least)
		if i := l.At(c.Mountpoint); i >= 0 {
			l.Partitions[i].Size = max(l.Partitions[i].Size, size)
			continue
		}
		typ := pick(l.Table, partition.LinuxData, dosLinux)
		fs := r.RootFS
		if c.Mountpoint == "/boot" {
			typ = pick(l.Table, partition.XBOOTLDR, dosLinux)
			if btrfs {
				fs = Ext4
			}
		}
		l.add(Partition{Type: typ, Size: size, FS: &FileSystem{Type: fs, Mount: c.Mountpoint, Options: "defaults"}})
		if r.Base == nil {
			l.Mounts = MountsUnits
		}
	}
	return l, nil
}

// ensureSubvolume makes a btrfs root a subvolume, as image-builder does, and adds
// a /boot that any GRUB reads.
func (l *Layout) ensureSubvolume(root int, arch string) {
	p := &l.Partitions[root]
	if len(p.FS.Subvolumes) == 0 {
		options := strings.Split(p.FS.Options, ",")
		p.FS = &FileSystem{Type: Btrfs, UUID: p.FS.UUID, Label: "root", Subvolumes: []Subvolume{{
			Name: "root", Mount: "/", Compress: defaultCompress,
			ReadOnly: slices.Contains(options, "ro") && !slices.Contains(options, "rw"),
		}}}
		p.Type = rootType(l.Table, arch)
	}
	if l.At("/boot") < 0 && !l.NoXBOOTLDR {
		l.add(bootPartition(l, Ext4))
	}
}

// bootPartition returns an automatic /boot.
func bootPartition(l *Layout, fs string) Partition {
	return Partition{
		Type: pick(l.Table, partition.XBOOTLDR, dosLinux), Size: bootSize,
		FS: &FileSystem{Type: fs, Label: l.freeLabel("boot"), Mount: "/boot", Options: "defaults"},
	}
}

// freeLabel returns the label, numbered where a file system has it already.
func (l *Layout) freeLabel(label string) string {
	return unique(label, func(s string) bool {
		return slices.ContainsFunc(l.Partitions, func(p Partition) bool { return p.FS != nil && p.FS.Label == s })
	})
}

// unique returns base, or with two digits behind it where it is taken.
func unique(base string, taken func(string) bool) string {
	name := base
	for i := 0; taken(name); i++ {
		name = fmt.Sprintf("%s%02d", base, i)
	}
	return name
}

// checkMountpoints returns all that is wrong with the paths of
// customizations.filesystem, by image-builder's rules for bootable containers.
func checkMountpoints(list []blueprints.Filesystem, btrfs bool) error {
	var problems Problems
	seen := map[string]bool{}
	for _, c := range list {
		p := c.Mountpoint
		switch {
		case !clean(p):
			problems.add("path %q must be absolute and canonical", p)
		case seen[p]:
			problems.add("path %q is there twice", p)
		case btrfs && p != "/" && p != "/boot":
			problems.add("path %q is not allowed: with a btrfs root only / and /boot are", p)
		case !blueprints.MountpointAllowed(p):
			problems.add("path %q is not allowed: only /, /boot and most paths below /var are", p)
		}
		seen[p] = true
	}
	if len(problems) > 0 {
		return fault.New(fault.Config, fmt.Errorf("customizations.filesystem: %w", problems),
			"customizations.disk and --layout take any mount point that works")
	}
	return nil
}

// finish gives partitions what follows from the others: the order, names of those
// that tools look for, fs-verity on root.
func (l *Layout) finish() {
	l.sort()
	for i := range l.Partitions {
		p := &l.Partitions[i]
		p.Type = l.typeOf(p)
		role := p.Role()
		if role == RoleRoot && p.FS.Type == Ext4 {
			p.FS.Verity = true
		}
		if p.Name == "" && l.Table == GPT {
			// bootupd looks for the ESP by its name.
			p.Name = map[Role]string{
				RoleBIOS: "BIOS-BOOT", RolePReP: "PowerPC-PReP-boot", RoleESP: "EFI-SYSTEM", RoleBoot: "boot", RoleRoot: "root",
			}[role]
		}
	}
}
