package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"imgbuild/blockdev"
	"imgbuild/bootloader/efivars"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/layouts"
	"imgbuild/partition"
)

// InstallOptions say what to install, and where.
type InstallOptions struct {
	// Options are those of a build. Types, Output and the size of the disk follow
	// from the disk.
	Options
	// Disk is written without further questions: whoever chose it made sure that
	// it may be. It is refused all the same when it is in use.
	Disk blockdev.Disk
	// Generic leaves the firmware of this machine as it is, for a disk that is to
	// be put into another one.
	Generic bool
	// Firmware and Host are where the machine shows itself; the zero values are
	// the usual places.
	Firmware efivars.Store
	Host     blockdev.Host
	// Scratch is nil where there is room for the layers elsewhere.
	Scratch *Scratch
}

// InstallResult is what an installation did.
type InstallResult struct {
	Plan *Plan
	// BootEntry is the variable of the firmware that starts the disk, "" without.
	BootEntry string
}

// Install puts an image on a disk: the bytes of a raw disk of that size.
//
// Everything is fetched, verified and laid out before the disk is touched. Its
// tables come last, so that a disk that is not complete does not boot. From then
// on every error says what has become of the disk.
func Install(ctx context.Context, o InstallOptions, p Progress) (*InstallResult, error) {
	if err := o.prepare(); err != nil {
		return nil, err
	}
	device, err := blockdev.Open(o.Disk)
	if err != nil {
		return nil, err
	}
	defer device.Close()
	var held *scratch
	if o.Scratch != nil {
		o.NoCache = true
		o.unpackAt = o.unpackTo(device, &held)
	}
	// In this order: the source is closed before what it is on.
	defer func() {
		if held != nil {
			held.close()
		}
	}()
	b, l, err := arrange(ctx, &o.Options, p)
	if err != nil {
		return nil, touched(err, held, o.Disk.Path)
	}
	closeSource := sync.OnceFunc(b.source.close)
	defer closeSource()
	b.plan.Artefacts = []string{o.Disk.Path}
	if err := o.checkTwins(ctx, l); err != nil {
		return nil, touched(err, held, o.Disk.Path)
	}
	for _, w := range b.plan.Warnings {
		p.Warn(w)
	}
	// Read before the disk is written: what it is read from may be on that disk.
	loader := o.findLoader(l, b.plan.Image.OS)
	plan, err := l.devicePlan(ctx)
	if err != nil {
		return nil, touched(badImage(err, &o.Options), held, o.Disk.Path)
	}
	if held != nil {
		held.hold(plan, closeSource)
	}
	p.Stage("write "+o.Disk.Path, plan.Bytes())
	if err := blockdev.Write(ctx, device, plan, deltas(p, 1)); err != nil {
		return nil, incomplete(err, o.Disk.Path)
	}
	if err := device.Reread(); err != nil {
		p.Warn(err.Error() + "; the kernel of this machine still has the old one")
	}
	r := &InstallResult{Plan: b.plan}
	if r.BootEntry, err = o.bootEntry(ctx, l, loader, p); err != nil {
		// The removable path starts the disk as well.
		p.Warn(fmt.Sprintf("no boot entry could be written (%v); choose the disk in the firmware's menu", err))
	}
	return r, nil
}

// prepare fills in what follows from the disk.
func (o *InstallOptions) prepare() error {
	if s := o.Sizes; s.Disk != 0 || s.Minimal {
		return usage(errors.New("a size of the disk: it is what it is"), "")
	}
	if o.Disk.Size%int64(o.Disk.SectorSize) != 0 {
		return fault.New(fault.Device, fmt.Errorf("%s: %d bytes are no whole number of sectors of %d", o.Disk.Path, o.Disk.Size, o.Disk.SectorSize), "")
	}
	o.device = &o.Disk
	o.Sizes.Disk = o.Disk.Size
	o.Types = []Type{Raw}
	o.Upload, o.NoOutput, o.Formats = nil, false, Formats{}
	return nil
}

// touched says of an error that came before the system was written what it means
// for a disk that may have layers on it already.
func touched(err error, held *scratch, path string) error {
	if held == nil {
		return err
	}
	return incomplete(err, path)
}

// incomplete says of an error what it means for the disk.
func incomplete(err error, path string) error {
	class := fault.ClassOf(err)
	if errors.Is(err, context.Canceled) {
		return fault.New(fault.Interrupted, fmt.Errorf("interrupted: %s is erased and does not boot", path), "install once more")
	}
	if class == fault.Internal {
		class = fault.Device
	}
	hint := fault.HintOf(err)
	if hint == "" {
		hint = "install once more, or to another disk"
	}
	return fault.New(class, fmt.Errorf("%w; %s is erased and does not boot", err, path), hint)
}

// fitSectors gives the layout the sectors of the disk that is installed to.
func (o *Options) fitSectors(l *layouts.Layout) error {
	if o.device == nil {
		return nil
	}
	have := int64(o.device.SectorSize)
	if l.SectorSize != have && l.SectorSize != 512 {
		return fault.New(fault.Config, fmt.Errorf("the layout is for sectors of %d bytes, and %s has %d", l.SectorSize, o.device.Path, have), "drop sector_size from the layout")
	}
	l.SectorSize = have
	return nil
}

// checkBoot checks imgbuild's own layout, which on disks with sectors of 512 bytes
// needs no check.
func (o *Options) checkBoot(l *layouts.Layout, f layouts.Firmware, bootable bool, p Progress) error {
	if !bootable || l.SectorSize == 512 {
		return nil
	}
	problems, warnings := l.CheckFirmware(f)
	for _, w := range warnings {
		p.Warn(w)
	}
	return problemsOf(o.device.Path, problems, fault.Unsupported)
}

// devicePlan returns what is to be written to a disk that has seen use.
func (l *layout) devicePlan(ctx context.Context) (*blockdev.Plan, error) {
	parts, table, err := l.compose(ctx)
	if err != nil {
		return nil, err
	}
	plan := &blockdev.Plan{}
	if plan.Content, err = disk.Compose(l.size, parts); err != nil {
		return nil, err
	}
	if plan.Tables, err = disk.Compose(l.size, table); err != nil {
		return nil, err
	}
	for i := range l.parts {
		plan.Zero = append(plan.Zero, l.zeros(plan.Content, i)...)
	}
	return plan, nil
}

// oldEnds is where signatures of what used to be in the place of a partition are
// found: at both of its ends, in bytes.
const oldEnds = mib

// zeros returns what of a partition must read as zero where nothing is written.
func (l *layout) zeros(content *disk.Image, i int) []blockdev.Range {
	q, at := &l.parts[i], l.places[i]
	end := min(at.Size, oldEnds)
	list := []blockdev.Range{{Off: at.Start, Size: end}, {Off: at.Start + at.Size - end, Size: end}}
	switch {
	case q.Role() == layouts.RoleBIOS || q.Role() == layouts.RolePReP:
		return append(list, blockdev.Range{Off: at.Start, Size: at.Size})
	case q.FS == nil:
		return list // a file of the image, or room for what is none of ours
	case q.FS.Type == layouts.Btrfs || q.FS.Type == layouts.Swap:
		// All that is read of them is written: btrfs has checksums of every block,
		// and a swap area is its first page.
		return list
	}
	// Inode tables, journals, logs, tables of clusters: the file system does not
	// count them as free.
	return append(list, notFree(content, at.Start, at.Size)...)
}

// findLoader returns what a boot entry would start, or nil where there is nothing.
func (o *InstallOptions) findLoader(l *layout, title string) *efivars.Entry {
	i := l.disks.layout.Find(layouts.RoleESP)
	if i < 0 {
		return nil
	}
	e, ok := efivars.FindLoader(l.parts[i].tree, o.Arch, title)
	if !ok {
		return nil
	}
	return &e
}

// bootEntry makes the firmware of this machine start the disk.
func (o *InstallOptions) bootEntry(ctx context.Context, l *layout, e *efivars.Entry, p Progress) (string, error) {
	i := l.disks.layout.Find(layouts.RoleESP)
	if o.Generic || o.Disk.File || o.Disk.Transport == blockdev.Loop || o.Arch != o.HostArch || i < 0 || l.disks.layout.Table != layouts.GPT || !o.Firmware.Available() {
		return "", nil
	}
	if e == nil {
		p.Note("no boot entry: the firmware starts the disk by its removable path")
		return "", nil
	}
	sector := l.disks.layout.SectorSize
	e.Number, e.ID, e.Start, e.Size = i+1, l.parts[i].id, l.places[i].Start/sector, l.places[i].Size/sector
	others, err := o.others(ctx)
	if err != nil {
		return "", err
	}
	return o.Firmware.Install(*e, func(id partition.GUID) bool { return others[id] == "" })
}

// others returns the partitions of all other disks by their ID, with the disk they
// are on.
func (o *InstallOptions) others(ctx context.Context) (map[partition.GUID]string, error) {
	disks, err := o.Host.List(ctx)
	if err != nil {
		return nil, err
	}
	m := map[partition.GUID]string{}
	for _, d := range disks {
		if d.Number == o.Disk.Number {
			continue
		}
		for _, q := range d.Content.Partitions {
			if !q.ID.IsZero() {
				m[q.ID] = d.Path
			}
		}
	}
	return m, nil
}

// checkTwins returns an error when another disk has partitions with the
// identifiers that this one would get, as an installation of the same image with
// the same settings has: which of the two would be mounted is chance.
func (o *InstallOptions) checkTwins(ctx context.Context, l *layout) error {
	if o.Disk.File {
		return nil
	}
	others, err := o.others(ctx)
	if err != nil {
		return fault.Default(fault.Device, err)
	}
	for i := range l.parts {
		if path := others[l.parts[i].id]; path != "" {
			return fault.New(fault.Device, fmt.Errorf("%s has partitions with the identifiers that %s would get: it is the same system", path, o.Disk.Path),
				"--seed TEXT gives this one identifiers of its own; to an installer the kernel argument imgbuild.seed=TEXT says it")
		}
	}
	return nil
}
