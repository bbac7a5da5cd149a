// Package layouts plans disks: which partitions there are, what is in them, where
// they are mounted and where they begin. It knows nothing of their content.
//
// A layout is imgbuild's own ([Default]), or that of a file disk.yaml as
// image-builder has it (osbuild/image-builder, pkg/disk and
// doc/20-advanced/20-bootc/05-sources-of-configuration.md), in an image or given by
// hand ([Parse]); customizations.filesystem and customizations.disk of a blueprint
// are applied on top ([Resolve]), with image-builder's precedence and automatic
// partitions. [Layout.Check] finds what cannot be written or would not boot,
// [Layout.Place] the offsets, [Layout.Units] and [Layout.Fstab] what mounts the file
// systems.
//
// LVM and LUKS are refused by name.
package layouts

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"imgbuild/partition"
)

// Table is a kind of partition table.
type Table string

// The kinds of partition tables.
const (
	GPT Table = "gpt"
	DOS Table = "dos" // of an MBR, with primary partitions only
)

// MountConfig says what mounts the file systems of a layout.
type MountConfig string

const (
	// MountsBootc is what bootc install leaves: a line for /boot in fstab.
	// Everything else is the kernel's and the boot loader's business.
	MountsBootc MountConfig = ""
	// MountsUnits are units of systemd in /etc.
	MountsUnits MountConfig = "units"
	// MountsFstab are lines in /etc/fstab.
	MountsFstab MountConfig = "fstab"
	// MountsNone leaves it to systemd-gpt-auto-generator, or to the image.
	MountsNone MountConfig = "none"
)

// Sizes in bytes.
const (
	MiB = 1 << 20
	GiB = 1 << 30

	// DefaultGrain is what partitions are multiples of unless a layout says
	// otherwise.
	DefaultGrain = MiB
	// DefaultSize is that of image-builder's disks.
	DefaultSize = 10 * GiB
	// defaultESP and customESP are the sizes of image-builder's ESP, with its own
	// partition table and with one that has none.
	defaultESP  = 501 * MiB
	customESP   = 200 * MiB
	bootSize    = 1 * GiB
	biosSize    = 1 * MiB
	prepSize    = 4 * MiB
	maxDiskSize = 1 << 50
)

// Layout is a disk whose partitions have least sizes, and no places yet.
type Layout struct {
	Table Table  // "" is the default layout with other Mounts
	ID    string // GUID of a GPT disk; "" derives one
	Size  int64  // least size of the disk in bytes; 0 is [DefaultSize]
	// Compact does without [DefaultSize]: the disk is as large as its
	// partitions.
	Compact    bool
	SectorSize int64 // 512 or 4096 bytes
	Grain      int64 // bytes; a multiple of the sector size
	// StartOffset moves the first partition, in bytes: behind the table by so
	// much, or with AbsoluteStart not in front of that offset of the disk.
	StartOffset   int64
	AbsoluteStart bool
	Padding       int64 // bytes left free at the end of the disk
	// FixedRoot keeps root from taking the room that is left on the disk.
	FixedRoot bool
	// NoXBOOTLDR keeps a file system /boot from being added where GRUB could do
	// better with one.
	NoXBOOTLDR bool
	// AddFirmware adds the partitions that the image boots by and that are missing.
	AddFirmware bool
	Mounts      MountConfig
	Partitions  []Partition
}

// Partition is a partition of a layout, in the order of the disk.
type Partition struct {
	Name       string // GPT only, at most 36 UTF-16 units
	Type       string // GUID in lower case; on DOS two hexadecimal digits
	ID         string // GUID, GPT only; "" derives one
	Size       int64  // least size in bytes; 0 is what the content needs
	Bootable   bool   // for the BIOS; on DOS: active
	Attributes partition.Attributes
	FS         *FileSystem // nil for none
	Source     string      // path of a file of the image that the partition begins with, or ""
}

// FileSystem is what a partition is formatted with.
type FileSystem struct {
	Type  string // ext4, xfs, btrfs, vfat or swap
	UUID  string // as blkid shows it; "" derives one
	Label string
	Mount string // "" for none; of a btrfs without subvolumes

	Options      string // of the mount, as in fstab
	Freq, PassNo int    // of fstab

	Verity                 bool // ext4: files may have fs-verity
	Heads, SectorsPerTrack int  // vfat: geometry in the boot sector, 0 for the default
	AGCount                int  // xfs: allocation groups, 0 for the default

	Subvolumes []Subvolume // of btrfs
}

// Subvolume is a subvolume of a btrfs.
type Subvolume struct {
	Name     string // path in the file system
	Mount    string // "" for none
	Compress string // as the mount option has it: zstd:1; "" for none
	ReadOnly bool
}

// Types of file systems.
const (
	Ext4  = "ext4"
	XFS   = "xfs"
	Btrfs = "btrfs"
	VFAT  = "vfat"
	Swap  = "swap"
)

// Types of partitions of an MBR.
const (
	dosLinux    = "83"
	dosSwap     = "82"
	dosESP      = "ef"
	dosFAT16    = "06"
	dosPReP     = "41"
	dosBIOSBoot = "00" // image-builder's; the gap behind the MBR serves as well
)

// Role is what a partition does for booting.
type Role int

// The roles.
const (
	RoleData Role = iota
	RoleBIOS      // core image of GRUB for BIOS
	RolePReP      // … for Open Firmware
	RoleESP
	RoleBoot // /boot
	RoleRoot // /
)

// Role returns what the partition does for booting.
func (p *Partition) Role() Role {
	switch {
	case p.FS.mounts("/"):
		return RoleRoot
	case p.FS.mounts("/boot"):
		return RoleBoot
	case p.FS.mounts("/boot/efi"), p.Type == partition.ESP.String(), p.Type == dosESP:
		return RoleESP
	case p.Type == partition.BIOSBoot.String():
		return RoleBIOS
	case p.Type == partition.PReP.String(), p.Type == dosPReP:
		return RolePReP
	}
	return RoleData
}

// mounts tells whether the file system, or a subvolume of it, is mounted there.
func (f *FileSystem) mounts(where string) bool {
	return f != nil && slices.ContainsFunc(f.Mounts(), func(m Mount) bool { return m.Where == where })
}

// Mount is one place where a file system is seen.
type Mount struct {
	Where     string
	Subvolume string // of btrfs, or ""
	Options   string // of the mount, "" for none
}

// Mounts returns the places where the file system is mounted, in its order.
func (f *FileSystem) Mounts() []Mount {
	if f == nil || f.Type == Swap {
		return nil
	}
	var list []Mount
	if f.Mount != "" {
		list = append(list, Mount{Where: f.Mount, Options: f.Options})
	}
	for _, s := range f.Subvolumes {
		if s.Mount == "" {
			continue
		}
		list = append(list, Mount{Where: s.Mount, Subvolume: s.Name, Options: s.Options()})
	}
	return list
}

// Options returns how the subvolume is mounted.
func (s Subvolume) Options() string {
	options := "subvol=" + s.Name
	if s.Compress != "" {
		options += ",compress=" + s.Compress
	}
	if s.ReadOnly {
		options += ",ro"
	}
	return options
}

// Find returns the index of the partition that has the role, -1 without one.
func (l *Layout) Find(r Role) int {
	return slices.IndexFunc(l.Partitions, func(p Partition) bool { return p.Role() == r })
}

// At returns the index of the partition that is mounted at a path, or -1.
func (l *Layout) At(where string) int {
	return slices.IndexFunc(l.Partitions, func(p Partition) bool { return p.FS.mounts(where) })
}

// RootFS returns the type of the root file system, "" where the layout has none
// or leaves it open.
func (l *Layout) RootFS() string {
	if l == nil {
		return ""
	}
	if i := l.At("/"); i >= 0 {
		return l.Partitions[i].FS.Type
	}
	return ""
}

// RootMount returns how root is mounted.
func (l *Layout) RootMount() Mount {
	if i := l.At("/"); i >= 0 {
		for _, m := range l.Partitions[i].FS.Mounts() {
			if m.Where == "/" {
				return m
			}
		}
	}
	return Mount{}
}

// Clone returns a copy that shares nothing with l.
func (l *Layout) Clone() *Layout {
	c := *l
	c.Partitions = slices.Clone(l.Partitions)
	for i := range c.Partitions {
		if f := c.Partitions[i].FS; f != nil {
			copied := *f
			copied.Subvolumes = slices.Clone(f.Subvolumes)
			c.Partitions[i].FS = &copied
		}
	}
	return &c
}

// sort puts the partition of root last, as image-builder does, so that it can
// grow.
func (l *Layout) sort() {
	i := l.At("/")
	if i < 0 {
		return
	}
	root := l.Partitions[i]
	l.Partitions = append(slices.Delete(l.Partitions, i, i+1), root)
}

// Title names the partition numbered i, from 0, for people.
func (l *Layout) Title(i int) string {
	p := &l.Partitions[i]
	what := p.Name
	switch {
	case p.Role() == RoleRoot:
		what = "/"
	case p.FS != nil && p.FS.Type == Swap:
		what = "swap"
	case len(p.FS.Mounts()) > 0:
		what = p.FS.Mounts()[0].Where
	case p.Role() == RoleBIOS:
		what = "BIOS boot"
	case p.Role() == RolePReP:
		what = "PReP"
	case p.Role() == RoleESP:
		what = "EFI system partition"
	}
	if what == "" {
		return fmt.Sprintf("partition %d", i+1)
	}
	return fmt.Sprintf("partition %d (%s)", i+1, what)
}

// Below tells whether a path is dir or below it.
func Below(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// clean tells whether a path is absolute and has nothing to tidy up.
func clean(p string) bool { return path.IsAbs(p) && path.Clean(p) == p }
