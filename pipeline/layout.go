package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"imgbuild/blueprints"
	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/filesystem/ext4"
	"imgbuild/filesystem/fat"
	"imgbuild/formats/gce"
	"imgbuild/partition"
)

const (
	sectorSize = 512
	mib        = 1 << 20
	gib        = 1 << 30

	// Sizes of bootc-image-builder's disk.
	defaultDisk = 10 * gib
	biosSize    = 1 * mib
	prepSize    = 4 * mib
	espSize     = 501 * mib
	bootSize    = 1 * gib
	// Head-room on root when nothing is asked for: a quarter of the content, and
	// never less than what the next upgrade of a usual image takes.
	minFree = 2 * gib
	// bytesPerInode is mke2fs' for file systems of 512 MiB and more. A smaller
	// root would get four times as many inodes, and keep that when it grows.
	bytesPerInode = 16 << 10
	// firstPartition and tail are left free at both ends of the disk.
	firstPartition = 1 * mib
	tail           = 1 * mib
)

// role is what a partition is for.
type role int

const (
	roleBIOS role = iota
	rolePReP
	roleESP
	roleBoot
	roleRoot
)

// planned is a partition of the layout: image-builder's, in its order.
type planned struct {
	role       role
	name       string
	typ        partition.GUID
	size       int64 // 0 until it is worked out
	attributes partition.Attributes
	fs         string // "", vfat, ext4, xfs
	label      string
	mount      string
}

// partitions returns the layout of the disk: what the image can boot with
// decides which partitions for boot loaders there are.
func (d *disks) partitions(o *Options) []planned {
	var list []planned
	if d.caps.BIOS {
		list = append(list, planned{role: roleBIOS, name: "BIOS-BOOT", typ: partition.BIOSBoot, size: biosSize,
			attributes: partition.LegacyBIOSBootable})
	}
	if d.caps.PReP {
		list = append(list, planned{role: rolePReP, name: "PowerPC-PReP-boot", typ: partition.PReP, size: prepSize,
			attributes: partition.LegacyBIOSBootable})
	}
	if d.caps.UEFI {
		list = append(list, planned{role: roleESP, name: "EFI-SYSTEM", typ: partition.ESP, size: espSize,
			fs: "vfat", label: "EFI-SYSTEM", mount: "/boot/efi"})
	}
	rootType, ok := partition.RootType(o.Arch)
	if !ok {
		rootType = partition.LinuxData
	}
	return append(list,
		planned{role: roleBoot, name: "boot", typ: partition.XBOOTLDR, size: bootSize, fs: "ext4", label: "boot", mount: "/boot"},
		planned{role: roleRoot, name: "root", typ: rootType, fs: d.rootFS, label: "root", mount: "/"})
}

// number returns the 1-based number of the partition with the role, 0 without.
func (d *disks) number(o *Options, r role) int {
	for i, p := range d.partitions(o) {
		if p.role == r {
			return i + 1
		}
	}
	return 0
}

// layout is a disk whose every size is decided.
type layout struct {
	table    partition.Table
	planned  []planned
	rootNeed int64 // the smallest root that holds the content
}

// layOut works out the sizes of all partitions and of the disk.
func layOut(d *disks, o *Options, id identity) (*layout, error) {
	l := &layout{planned: d.partitions(o)}
	var err error
	for i := range l.planned {
		p := &l.planned[i]
		switch p.role {
		case roleESP:
			err = l.grow(p, func() (int64, error) { return fat.Size(d.boot.ESP, 0, d.fatOptions(id, 0)) })
		case roleBoot:
			err = l.grow(p, func() (int64, error) { return ext4.Size(d.sysroot.Boot, 0, d.bootOptions(id)) })
		case roleRoot:
			p.size, err = l.rootSize(d, o, id)
		}
		if err != nil {
			return nil, fmt.Errorf("partition %s: %w", p.name, err)
		}
	}
	end := int64(firstPartition)
	for i := range l.planned {
		end += align(l.planned[i].size)
	}
	l.table = partition.Table{DiskID: id.guid("disk"), SectorSize: sectorSize, Size: end + tail}
	if err := l.fitDisk(o, end+tail); err != nil {
		return nil, err
	}
	start := int64(firstPartition)
	for _, p := range l.planned {
		l.table.Partitions = append(l.table.Partitions, partition.Partition{
			Name: p.name, Type: p.typ, ID: id.guid("partition " + p.name), Start: start, Size: p.size, Attributes: p.attributes,
		})
		start += align(p.size)
	}
	return l, l.table.Validate()
}

// grow gives a partition its usual size, or what its content needs where that
// is more.
func (l *layout) grow(p *planned, need func() (int64, error)) error {
	n, err := need()
	if err == nil && align(n) > p.size {
		p.size = align(n)
	}
	return err
}

// rootSize returns the size of root by content, or as asked for.
func (l *layout) rootSize(d *disks, o *Options, id identity) (int64, error) {
	root := newRootWriter(d.rootFS, id, d.time)
	need, err := root.size(d.sysroot.Root, 0)
	if err != nil {
		return 0, err
	}
	l.rootNeed = align(need)
	s := o.Sizes
	switch {
	case s.Root > 0 && s.Root < need:
		return 0, fault.New(fault.NoSpace, fmt.Errorf("%s asked for, and the content needs %s",
			blueprints.FormatSize(s.Root), blueprints.FormatSize(l.rootNeed)),
			fmt.Sprintf("--root-size %dMiB is the least", l.rootNeed/mib))
	case s.Root > 0:
		return s.Root &^ (mib - 1), nil
	case s.Free > 0:
		need, err = root.size(d.sysroot.Root, s.Free)
		return align(need), err
	case s.Minimal || s.Disk > 0:
		return l.rootNeed, nil
	}
	need, err = root.size(d.sysroot.Root, max(minFree, need/4))
	return align(need), err
}

// fitDisk sets the size of the disk, of which need bytes are taken, and lets
// root fill it.
func (l *layout) fitDisk(o *Options, need int64) error {
	size := need
	switch {
	case o.Sizes.Disk > 0:
		size = o.Sizes.Disk &^ (sectorSize - 1)
	case o.Sizes.Minimal, o.Sizes.Root > 0:
	default:
		size = max(need, defaultDisk)
	}
	if slices.Contains(o.Types, GCE) {
		// Anything else is padded by the encoder, and the backup table is then
		// not at the end.
		whole := gce.Size(size)
		if o.Sizes.Disk > 0 && whole != size {
			return usage(fmt.Errorf("disk size %s: a gce disk has whole GiB", blueprints.FormatSize(size)), fmt.Sprintf("--size %dGiB", whole/gib))
		}
		size = whole
	}
	if size < need {
		return fault.New(fault.NoSpace, fmt.Errorf("disk size: %s asked for, and the content needs %s",
			blueprints.FormatSize(o.Sizes.Disk), blueprints.FormatSize(need)),
			fmt.Sprintf("--size %dMiB is the least, --size min takes it", need/mib))
	}
	l.table.Size = size
	if o.Sizes.Root == 0 && !o.Sizes.Minimal {
		root := &l.planned[len(l.planned)-1]
		root.size += (size - need) &^ (mib - 1)
	}
	return nil
}

func align(n int64) int64 { return (n + mib - 1) &^ (mib - 1) }

func (d *disks) bootOptions(id identity) ext4.Options {
	return ext4.Options{UUID: id.guid("boot file system"), HashSeed: id.guid("boot hash seed"), Label: "boot", Time: d.time}
}

// fatOptions are those of an ESP that begins at the offset start.
func (d *disks) fatOptions(id identity, start int64) fat.Options {
	return fat.Options{VolumeID: id.volumeID("esp"), Label: "EFI-SYSTEM", HiddenSectors: uint32(start / sectorSize), Time: d.time}
}

// write lays the file systems into the partitions and returns the disk.
func (l *layout) write(ctx context.Context, d *disks, id identity) (*disk.Image, error) {
	var parts []disk.Part
	var bootCode []byte
	for i, p := range l.planned {
		at := l.table.Partitions[i]
		var extents []disk.Extent
		var err error
		switch p.role {
		case roleBIOS, rolePReP:
			bootCode = d.boot.BootCode
			extents = []disk.Extent{{Data: content.Bytes(d.boot.Core)}}
			if int64(len(d.boot.Core)) > at.Size {
				err = errors.New("the boot loader's core image does not fit")
			}
		case roleESP:
			extents, err = fat.Write(ctx, d.boot.ESP, at.Size, d.fatOptions(id, at.Start))
		case roleBoot:
			extents, err = ext4.Write(ctx, d.sysroot.Boot, at.Size, d.bootOptions(id))
		case roleRoot:
			extents, err = newRootWriter(d.rootFS, id, d.time).write(ctx, d.sysroot.Root, at.Size)
		}
		if err != nil {
			return nil, tooSmall(fmt.Errorf("partition %s: %w", p.name, err))
		}
		parts = append(parts, disk.Part{Off: at.Start, Size: at.Size, Extents: extents})
	}
	table, err := l.table.Parts(bootCode)
	if err != nil {
		return nil, err
	}
	return disk.Compose(l.table.Size, append(parts, table...))
}

// tooSmall classes the error of a file system writer.
func tooSmall(err error) error {
	var e *filesystem.TooSmallError
	if errors.As(err, &e) {
		return fault.New(fault.NoSpace, err, "give a larger --size, or leave it to imgbuild")
	}
	return err
}
