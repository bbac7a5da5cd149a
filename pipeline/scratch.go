package pipeline

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"imgbuild/blockdev"
	"imgbuild/blueprints"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem/ext4"
	"imgbuild/filesystem/xfs"
	"imgbuild/formats/bmap"
	"imgbuild/oci"
	"imgbuild/partition"
	"imgbuild/tree"
)

// Scratch says where the layers are kept in plain form while a disk is installed.
// They take as much space as the files of the system, which a machine that has
// little memory and no other disk has in one place only: on the disk that is
// written, behind what goes there.
type Scratch struct {
	// OnTarget is told how many bytes the layers take, and tells whether to keep them
	// on the disk. Otherwise they go to TempDir. It is asked with more than they are
	// likely to take first: when that is no reason to use the disk, the layers need
	// not be read once more to know it.
	OnTarget func(need int64) bool
	// Dir is the directory that a file system on the disk is mounted below for
	// the time; "" is the one for temporary files.
	Dir string
}

// scratch is a file system on the tail of the target.
type scratch struct {
	from    int64
	dir     string
	release func() error // unmounts it
	close   func()       // unmounts it if need be, and removes the directory
}

// scratchSpare is what files other than layers may take, and what a file system
// takes for itself, in bytes.
const scratchSpare = 256 * mib

// maxRatio is how many times as long as their blobs layers hardly ever are.
const maxRatio = 8

// place makes a file system for so many bytes of layers at the end of the disk.
func (o *InstallOptions) place(ctx context.Context, device *blockdev.Device, need int64, p Progress) (_ *scratch, err error) {
	size := need + need/20 + scratchSpare
	// Root, its metadata, the kernel once more, and what else has a partition.
	system := need + need/4 + 2*gib
	const last = mib // of the disk, where tables are
	room := device.Size() - last - system
	if room < size {
		return nil, fault.New(fault.NoSpace, fmt.Errorf("%s has %s, and %s are needed: %s for the system and %s to unpack it",
			o.Disk.Path, blueprints.FormatSize(device.Size()), blueprints.FormatSize(size+system+last), blueprints.FormatSize(system), blueprints.FormatSize(size)),
			"choose a larger disk, or a machine with more memory")
	}
	// A compressed root is kept once more, where there is room for that.
	size = min(2*need+2*scratchSpare, room) / mib * mib
	r := blockdev.Range{Off: (device.Size() - last - size) / mib * mib, Size: size}
	p.Note(fmt.Sprintf("the layers are unpacked on %s itself: %s from %s on", o.Disk.Path, blueprints.FormatSize(r.Size), blueprints.FormatSize(r.Off)))
	kind, extents, err := o.scratchSystem(ctx, device, size)
	if err != nil {
		return nil, err
	}
	empty, err := disk.Compose(device.Size(), []disk.Part{{Off: r.Off, Size: r.Size, Extents: extents}})
	if err != nil {
		return nil, err
	}
	plan := &blockdev.Plan{Content: empty, Zero: append(notFree(empty, r.Off, r.Size), blockdev.Range{Off: r.Off, Size: oldEnds})}
	dir, err := os.MkdirTemp(o.Scratch.Dir, "imgbuild-")
	if err != nil {
		return nil, outputError(err)
	}
	release, err := device.MountScratch(ctx, plan, r, kind, dir)
	if err != nil {
		os.Remove(dir)
		return nil, incomplete(err, o.Disk.Path)
	}
	s := &scratch{from: r.Off, dir: dir}
	mounted := true
	s.release = func() error {
		if !mounted {
			return nil
		}
		mounted = false
		return release()
	}
	s.close = func() {
		if err := s.release(); err != nil {
			p.Warn(err.Error())
		}
		os.Remove(dir)
	}
	return s, nil
}

// scratchSystem returns an empty file system of a kind that the kernel has.
func (o *InstallOptions) scratchSystem(ctx context.Context, device *blockdev.Device, size int64) (kind string, extents []disk.Extent, err error) {
	root, id := tree.NewDir(0o700), partition.DeriveGUID([]byte("imgbuild scratch"), o.Disk.Path)
	known := o.Host.FileSystems()
	if slices.Contains(known, "xfs") && !slices.Contains(known, "ext4") {
		opt := xfs.Options{UUID: id, SectorSize: int64(device.SectorSize())}
		extents, err = xfs.Write(ctx, root, size, opt)
		return "xfs", extents, err
	}
	// The kernel may load it when it is mounted.
	extents, err = ext4.Write(ctx, root, size, ext4.Options{UUID: id, JournalSize: -1, ReservedPercent: -1, BytesPerInode: mib})
	return "ext4", extents, err
}

// unpackTo decides where an image is unpacked; "" is the usual place.
func (o *InstallOptions) unpackTo(device *blockdev.Device, made **scratch) func(ctx context.Context, image *oci.Image, p Progress) (string, error) {
	return func(ctx context.Context, image *oci.Image, p Progress) (string, error) {
		total := int64(0)
		for _, l := range image.Layers {
			total += l.Size
		}
		if !o.Scratch.OnTarget(total * maxRatio) {
			return "", nil
		}
		p.Stage("verify layers", total)
		done := make([]int64, len(image.Layers))
		need, err := image.Verify(ctx, oci.UnpackOptions{Limits: o.Limits, Progress: func(e oci.Event) {
			p.Advance(e.Done - done[e.Layer])
			done[e.Layer] = e.Done
		}})
		if err != nil || !o.Scratch.OnTarget(need) {
			return "", err
		}
		if *made, err = o.place(ctx, device, need, p); err != nil {
			return "", err
		}
		return (*made).dir, nil
	}
}

// hold makes a plan leave the scratch area alone until everything else is written.
func (s *scratch) hold(plan *blockdev.Plan, closeSource func()) {
	plan.Held = &blockdev.Held{From: s.from, Release: func() error {
		closeSource()
		return s.release()
	}}
}

// notFree returns what of a file system on a disk is not free space.
func notFree(content *disk.Image, start, size int64) (list []blockdev.Range) {
	pos := start
	for _, free := range bmap.Free(io.NewSectionReader(content, start, size), size) {
		if from := start + free[0]; from > pos {
			list = append(list, blockdev.Range{Off: pos, Size: from - pos})
		}
		pos = start + free[0] + free[1]
	}
	return append(list, blockdev.Range{Off: pos, Size: start + size - pos})
}
