package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"imgbuild/blueprints"
	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/filesystem/fat"
	"imgbuild/filesystem/swap"
	"imgbuild/filesystem/xfs"
	"imgbuild/formats/gce"
	"imgbuild/layouts"
	"imgbuild/partition"
	"imgbuild/tree"
)

const (
	mib = 1 << 20
	gib = 1 << 30

	// Head-room on root when nothing is asked for: a quarter of the content, and
	// never less than what the next upgrade of a usual image takes.
	minFree = 2 * gib
	// bytesPerInode is mke2fs' for file systems of 512 MiB and more. A smaller
	// root would get four times as many inodes, and keep that when it grows.
	bytesPerInode = 16 << 10
)

// planned is a partition of the layout with what is derived for it.
type planned struct {
	*layouts.Partition
	title       string
	key         string // what its identifiers derive from
	id          partition.GUID
	uuid        string // of the file system, as blkid shows it; "" without
	volumeID    uint32 // of FAT
	xfsFeatures xfs.Features
	tree        *tree.Inode
	source      *tree.Inode // file that the partition begins with, or nil
	size        int64       // bytes, once it is worked out
	need        int64       // the smallest that holds the content
	btrfs       btrfsParts
}

// plan derives the identifiers of a layout's partitions and file systems, which
// are on the kernel command line and in the boot loader's files.
func (d *disks) plan(l *layouts.Layout, id identity) error {
	d.layout, d.diskID = l, id.guid("disk")
	if l.ID != "" {
		g, err := partition.ParseGUID(l.ID)
		if err != nil {
			return err
		}
		d.diskID = g
	}
	for i := range l.Partitions {
		p := planned{Partition: &l.Partitions[i], title: l.Title(i)}
		name := fmt.Sprintf("data %d", i)
		switch p.Role() {
		case layouts.RoleBIOS:
			name = "BIOS-BOOT"
		case layouts.RolePReP:
			name = "PowerPC-PReP-boot"
		case layouts.RoleESP:
			name, p.key = "EFI-SYSTEM", "esp"
		case layouts.RoleBoot:
			name = "boot"
		case layouts.RoleRoot:
			name = "root"
		}
		if p.key == "" {
			p.key = name
		}
		var err error
		if p.id, err = guidOr(p.ID, id.guid("partition "+name)); err != nil {
			return fmt.Errorf("%s: %w", p.title, err)
		}
		if err := p.identify(id); err != nil {
			return fmt.Errorf("%s: %w", p.title, err)
		}
		d.parts = append(d.parts, p)
	}
	return nil
}

// identify sets the identifier of the file system.
func (p *planned) identify(id identity) error {
	switch {
	case p.FS == nil:
	case p.FS.Type == layouts.VFAT:
		p.volumeID = id.volumeID(p.key)
		if p.FS.UUID != "" {
			n, err := layouts.ParseVolumeID(p.FS.UUID)
			if err != nil {
				return err
			}
			p.volumeID = n
		}
		p.uuid = fat.UUID(p.volumeID)
	default:
		g, err := guidOr(p.FS.UUID, id.guid(p.key+" file system"))
		if err != nil {
			return err
		}
		p.uuid = g.String()
	}
	return nil
}

// guidOr parses a GUID where there is one.
func guidOr(text string, derived partition.GUID) (partition.GUID, error) {
	if text == "" {
		return derived, nil
	}
	return partition.ParseGUID(text)
}

// part returns the partition with the role, nil without one.
func (d *disks) part(r layouts.Role) *planned {
	if i := d.layout.Find(r); i >= 0 {
		return &d.parts[i]
	}
	return nil
}

// bootPart returns the partition that holds /boot.
func (d *disks) bootPart() *planned {
	if p := d.part(layouts.RoleBoot); p != nil {
		return p
	}
	return d.part(layouts.RoleRoot)
}

// number returns the 1-based number of the partition with the role, 0 without.
func (d *disks) number(r layouts.Role) int { return d.layout.Find(r) + 1 }

// layout is a disk whose every size is decided.
type layout struct {
	*disks
	id     identity
	size   int64 // of the disk
	places []layouts.Place
}

// layOut works out the sizes of all partitions and of the disk.
func layOut(ctx context.Context, s *source, d *disks, o *Options, id identity, p Progress) (*layout, error) {
	if err := d.pack(ctx, s, o, p); err != nil {
		return nil, err
	}
	p.Stage("lay out", 0)
	l := &layout{disks: d, id: id}
	sizes := make([]int64, len(d.parts))
	for i := range d.parts {
		q := &d.parts[i]
		if err := l.measure(q, o, p); err != nil {
			return nil, fmt.Errorf("%s: %w", q.title, err)
		}
		sizes[i] = q.size
	}
	need, err := d.layout.Need(sizes)
	if err != nil {
		return nil, err
	}
	if l.size, err = l.diskSize(o, need); err != nil {
		return nil, err
	}
	grow := o.Sizes.Root == 0 && !o.Sizes.Minimal && !d.layout.FixedRoot
	if l.places, err = d.layout.Place(sizes, l.size, grow); err != nil {
		return nil, err
	}
	for i := range d.parts {
		d.parts[i].size = l.places[i].Size
	}
	return l, l.placeCore()
}

// minimum returns the size of the smallest disk for the content, to within what a
// file system of that size takes for itself.
func (l *layout) minimum() (int64, error) {
	sizes := make([]int64, len(l.parts))
	for i := range l.parts {
		sizes[i] = l.places[i].Size
		if l.parts[i].Role() == layouts.RoleRoot {
			sizes[i] = l.parts[i].need
		}
	}
	return l.disks.layout.Need(sizes)
}

// placeCore has GRUB's core image for BIOS made anew where it is not where it was
// expected to be, because a partition in front of it has grown.
func (l *layout) placeCore() error {
	i := l.disks.layout.Find(layouts.RoleBIOS)
	if l.boot == nil || l.coreAt == 0 {
		return nil
	}
	if l.disks.layout.Table == layouts.DOS {
		if gap := l.disks.layout.Gap(); int64(len(l.boot.Core)) > gap {
			return fault.New(fault.NoSpace, fmt.Errorf("GRUB's core image for BIOS takes %d bytes, and there are %d between the dos table and the first partition",
				len(l.boot.Core), gap), "a start_offset of 1 MiB is usual")
		}
		return nil
	}
	lba := l.places[i].Start / l.disks.layout.SectorSize
	if lba == l.coreAt {
		return nil
	}
	again, err := l.reinstall(lba)
	if err != nil {
		return err
	}
	l.boot.Core, l.boot.BootCode = again.Core, again.BootCode
	return nil
}

// measure works out the size of a partition: what was asked for, or what its
// content needs where that is more.
func (l *layout) measure(q *planned, o *Options, p Progress) error {
	q.size = l.disks.layout.Align(q.Size)
	switch {
	case q.Role() == layouts.RoleBIOS || q.Role() == layouts.RolePReP:
		if l.boot != nil {
			q.need = int64(len(l.boot.Core))
		}
	case q.FS != nil && q.FS.Type == layouts.Swap:
		q.need = swap.MinSize
	case q.FS != nil:
		w, err := q.newWriter(l.disks.layout, l.id, l.time)
		if err != nil {
			return err
		}
		if q.need, err = w.size(q.tree, 0, 0); err != nil {
			return err
		}
		if q.Role() == layouts.RoleRoot {
			q.size, err = l.rootSize(q, w, o)
		} else {
			q.size, err = l.fitting(q, w, q.size)
		}
		if err != nil {
			return err
		}
	}
	if q.source != nil {
		if q.FS != nil {
			return errors.New("both a file system and a source_path")
		}
		q.need = max(q.need, q.source.Content.Size())
	}
	q.need = l.disks.layout.Align(q.need)
	q.size = max(q.size, q.need)
	if q.Size > 0 && q.size > l.disks.layout.Align(q.Size) {
		why := "its content needs that"
		if q.size > q.need {
			why = "its content, and room for an upgrade; --free-space says how much"
		}
		p.Warn(fmt.Sprintf("%s gets %s in place of %s: %s", q.title, blueprints.FormatSize(q.size), blueprints.FormatSize(q.Size), why))
	}
	return nil
}

// fitting returns the smallest size from least on, in whole grains, that a
// partition can have.
func (l *layout) fitting(q *planned, w writer, least int64) (int64, error) {
	for {
		n, err := w.size(q.tree, least, 0)
		if err != nil {
			return 0, err
		}
		// A little more can be too little again: it may come with a larger journal.
		if n = l.disks.layout.Align(n); n == least {
			return n, nil
		}
		least = n
	}
}

// rootSize returns the size of root by content, or as asked for.
func (l *layout) rootSize(q *planned, w writer, o *Options) (int64, error) {
	grain := l.disks.layout.Grain
	s := o.Sizes
	free := max(minFree, q.need/4)
	switch {
	case s.Root > 0:
		n, err := l.fitting(q, w, s.Root/grain*grain)
		if err == nil && (n > s.Root || s.Root < q.need) {
			err = fault.New(fault.NoSpace, fmt.Errorf("%s asked for, and the content needs %s",
				blueprints.FormatSize(s.Root), blueprints.FormatSize(n)),
				fmt.Sprintf("--root-size %dMiB is the least", (n+mib-1)/mib))
		}
		return n, err
	case s.Free > 0:
		free = s.Free
	case s.Minimal || s.Disk > 0:
		return l.fitting(q, w, q.size)
	}
	n, err := w.size(q.tree, q.size, free)
	if n = l.disks.layout.Align(n); err != nil || free >= minFree {
		return n, err // no journal or log takes that much more
	}
	return l.fitting(q, w, n)
}

// diskSize returns the size of the disk, of which need bytes are taken.
func (l *layout) diskSize(o *Options, need int64) (int64, error) {
	size := need
	switch {
	case o.Sizes.Disk > 0:
		size = o.Sizes.Disk / l.disks.layout.SectorSize * l.disks.layout.SectorSize
	case o.Sizes.Minimal:
	case l.disks.layout.Size > 0:
		size = max(need, l.disks.layout.Align(l.disks.layout.Size))
	case o.Sizes.Root == 0 && !l.disks.layout.Compact:
		size = max(need, layouts.DefaultSize)
	}
	if cloud := wholeGiB(o); cloud != "" {
		// Anything else is padded by the encoder or the cloud, and the backup table
		// is then not at the end.
		whole := gce.Size(size)
		if o.Sizes.Disk > 0 && whole != size {
			return 0, usage(fmt.Errorf("disk size %s: %s disk has whole GiB", blueprints.FormatSize(size), cloud), fmt.Sprintf("--size %dGiB", whole/gib))
		}
		size = whole
	}
	if size < need && o.device != nil {
		return 0, fault.New(fault.NoSpace, fmt.Errorf("%s has %s, and the system needs %s", o.device.Path, blueprints.FormatSize(o.device.Size), blueprints.FormatSize(need)),
			"choose a larger disk")
	}
	if size < need {
		return 0, fault.New(fault.NoSpace, fmt.Errorf("disk size: %s asked for, and the content needs %s",
			blueprints.FormatSize(o.Sizes.Disk), blueprints.FormatSize(need)),
			fmt.Sprintf("--size %dMiB is the least, --size min takes it", (need+mib-1)/mib))
	}
	return size, nil
}

// wholeGiB names the type that wants a disk of whole GiB, "" where none does.
func wholeGiB(o *Options) string {
	switch {
	case slices.Contains(o.Types, GCE):
		return "a gce"
	case slices.Contains(o.Types, AMI), o.Upload != nil:
		return "an ami"
	}
	return ""
}

// write lays the file systems into the partitions and returns the disk.
func (l *layout) write(ctx context.Context) (*disk.Image, error) {
	parts, table, err := l.compose(ctx)
	if err != nil {
		return nil, err
	}
	return disk.Compose(l.size, append(parts, table...))
}

// compose returns what is in the partitions, and what makes them known: the table
// and the boot code.
func (l *layout) compose(ctx context.Context) (parts, table []disk.Part, err error) {
	for i := range l.parts {
		q := &l.parts[i]
		extents, err := l.fill(ctx, q, l.places[i])
		if err != nil {
			return nil, nil, tooSmall(fmt.Errorf("%s: %w", q.title, err))
		}
		parts = append(parts, disk.Part{Off: l.places[i].Start, Size: l.places[i].Size, Extents: extents})
	}
	if table, err = l.table(); err != nil {
		return nil, nil, err
	}
	if l.boot != nil && l.coreAt > 0 && l.disks.layout.Table == layouts.DOS {
		parts = append(parts, disk.Part{Off: l.disks.layout.SectorSize, Size: l.disks.layout.Gap(), Extents: []disk.Extent{{Data: content.Bytes(l.boot.Core)}}})
	}
	return parts, table, nil
}

// fill returns what is in a partition.
func (l *layout) fill(ctx context.Context, q *planned, at layouts.Place) ([]disk.Extent, error) {
	switch {
	case q.Role() == layouts.RoleBIOS || q.Role() == layouts.RolePReP:
		if l.boot == nil {
			return nil, nil
		}
		if int64(len(l.boot.Core)) > at.Size {
			return nil, errors.New("the boot loader's core image does not fit")
		}
		return []disk.Extent{{Data: content.Bytes(l.boot.Core)}}, nil
	case q.source != nil:
		return []disk.Extent{{Data: q.source.Content}}, nil
	case q.FS != nil && q.FS.Type == layouts.Swap:
		uuid, err := partition.ParseGUID(q.uuid)
		if err != nil {
			return nil, err
		}
		return swap.Write(at.Size, swap.Options{UUID: uuid, Label: q.FS.Label})
	case q.FS != nil:
		w, err := q.newWriter(l.disks.layout, l.id, l.time)
		if err != nil {
			return nil, err
		}
		return w.write(ctx, q.tree, at.Start, at.Size)
	}
	return nil, nil
}

// table returns the partition table and the boot code.
func (l *layout) table() ([]disk.Part, error) {
	var bootCode []byte
	if l.boot != nil {
		bootCode = l.boot.BootCode
	}
	if l.disks.layout.Table == layouts.DOS {
		return l.dosTable(bootCode)
	}
	t := partition.Table{DiskID: l.diskID, Size: l.size, SectorSize: int(l.disks.layout.SectorSize)}
	for i := range l.parts {
		q := &l.parts[i]
		typ, err := partition.ParseGUID(q.Type)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.title, err)
		}
		attributes := q.Attributes
		if q.Bootable {
			attributes |= partition.LegacyBIOSBootable
		}
		t.Partitions = append(t.Partitions, partition.Partition{
			Name: q.Name, Type: typ, ID: q.id, Start: l.places[i].Start, Size: l.places[i].Size, Attributes: attributes,
		})
	}
	return t.Parts(bootCode)
}

// dosTable returns the table of an MBR.
func (l *layout) dosTable(bootCode []byte) ([]disk.Part, error) {
	t := partition.DOSTable{Signature: l.signature(), Size: l.size, SectorSize: int(l.disks.layout.SectorSize)}
	for i := range l.parts {
		q := &l.parts[i]
		typ, err := strconv.ParseUint(q.Type, 16, 8)
		if err != nil {
			return nil, fmt.Errorf("%s: type %q", q.title, q.Type)
		}
		t.Partitions = append(t.Partitions, partition.DOSPartition{
			Type: byte(typ), Active: q.Bootable, Start: l.places[i].Start, Size: l.places[i].Size,
		})
	}
	parts, err := t.Parts(bootCode)
	if err != nil {
		return nil, fault.Default(fault.Unsupported, err)
	}
	return parts, nil
}

// signature returns the disk signature of an MBR, never zero.
func (d *disks) signature() uint32 { return binary.BigEndian.Uint32(d.diskID[:4]) | 1 }

// tooSmall classes the error of a file system writer.
func tooSmall(err error) error {
	var e *filesystem.TooSmallError
	if errors.As(err, &e) {
		return fault.New(fault.NoSpace, err, "give a larger --size, or leave it to imgbuild")
	}
	return err
}
