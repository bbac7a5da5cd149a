package pipeline

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"imgbuild/disk"
	"imgbuild/formats/bmap"
	"imgbuild/formats/compressed"
	"imgbuild/formats/containerdisk"
	"imgbuild/formats/gce"
	"imgbuild/formats/ova"
	"imgbuild/formats/qcow2"
	"imgbuild/formats/raw"
	"imgbuild/formats/vdi"
	"imgbuild/formats/vhd"
	"imgbuild/formats/vhdx"
	"imgbuild/formats/vmdk"
)

// emission is a disk that is written, and how.
type emission struct {
	image   *disk.Image
	id      identity
	time    time.Time // when everything was made that says when
	arch    string    // of the system on the disk, as GOARCH
	output  string
	types   []Type
	formats *Formats

	container *containerdisk.Image // once it is written
}

// write writes all files under their temporary names, side by side.
func (e *emission) write(ctx context.Context, files *artefacts, p Progress) error {
	total := int64(0)
	for _, n := range e.image.Data(1) {
		total += n
	}
	p.Stage("write "+joinTypes(e.types), total*int64(len(e.types)))
	g, gctx := errgroup.WithContext(ctx)
	for i, t := range e.types {
		g.Go(func() error {
			if err := e.encode(gctx, t, files.files[i], p); err != nil {
				return fmt.Errorf("%s: %w", filepath.Join(e.output, e.formats.path(t)), outputError(err))
			}
			return nil
		})
	}
	if files.bmap != nil {
		g.Go(func() error { return bmap.Write(gctx, e.image, files.bmap.file, bmap.Options{}) })
	}
	return g.Wait()
}

// encode writes one artefact under its temporary name.
func (e *emission) encode(ctx context.Context, t Type, a *artefact, p Progress) (err error) {
	progress := deltas(p)
	uuid := e.id.guid("image " + string(t))
	f := e.formats
	switch t {
	case Raw, AMI:
		if c := f.Compress; c != nil {
			return compressed.Write(ctx, e.image, a.file, compressed.Options{Compression: c.Compression, Level: c.Level, Progress: progress})
		}
		return raw.Write(ctx, e.image, a.file, raw.Options{Progress: progress})
	case QCOW2:
		opt := f.QCOW2
		opt.Progress = progress
		return qcow2.Write(ctx, e.image, a.file, opt)
	case VMDK:
		return vmdk.Write(ctx, e.image, a.file, vmdk.Options{UUID: uuid, Progress: progress})
	case VHD:
		return vhd.Write(ctx, e.image, a.file, vhd.Options{Subformat: f.VHD, UUID: uuid, Time: e.time, Progress: progress})
	case VHDX:
		return vhdx.Write(ctx, e.image, a.file, vhdx.Options{UUID: uuid, Progress: progress})
	case VDI:
		return vdi.Write(ctx, e.image, a.file, vdi.Options{UUID: uuid, Progress: progress})
	case GCE:
		return gce.Write(ctx, e.image, a.file, gce.Options{Time: e.time, Progress: progress})
	case OVA:
		opt := f.OVA
		opt.UUID, opt.Time, opt.Progress = uuid, e.time, progress
		return ova.Write(ctx, e.image, a.file, opt)
	case ContainerDisk:
		opt := containerdisk.Options{Arch: e.arch, Compression: f.QCOW2.Compression, Level: f.QCOW2.Level, Time: e.time, Progress: progress}
		if f.ContainerLayout {
			e.container, err = containerdisk.WriteLayout(ctx, e.image, a.temp, opt)
		} else {
			e.container, err = containerdisk.WriteArchive(ctx, e.image, a.file, opt)
		}
		return err
	}
	return fmt.Errorf("no encoder for type %s", t)
}
