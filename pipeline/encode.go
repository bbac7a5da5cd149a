package pipeline

import (
	"context"
	"fmt"

	"imgbuild/formats/compressed"
	"imgbuild/formats/gce"
	"imgbuild/formats/ova"
	"imgbuild/formats/qcow2"
	"imgbuild/formats/raw"
	"imgbuild/formats/vdi"
	"imgbuild/formats/vhd"
	"imgbuild/formats/vhdx"
	"imgbuild/formats/vmdk"
)

// encode writes one artefact under its temporary name.
func (b *build) encode(ctx context.Context, t Type, a *artefact, o *Options, p Progress) error {
	progress := deltas(p)
	uuid := b.id.guid("image " + string(t))
	switch t {
	case Raw, AMI:
		if c := o.Compress; c != nil {
			return compressed.Write(ctx, b.image, a.file, compressed.Options{Compression: c.Compression, Level: c.Level, Progress: progress})
		}
		return raw.Write(ctx, b.image, a.file, raw.Options{Progress: progress})
	case QCOW2:
		opt := o.QCOW2
		opt.Progress = progress
		return qcow2.Write(ctx, b.image, a.file, opt)
	case VMDK:
		return vmdk.Write(ctx, b.image, a.file, vmdk.Options{UUID: uuid, Progress: progress})
	case VHD:
		return vhd.Write(ctx, b.image, a.file, vhd.Options{Subformat: o.VHD, UUID: uuid, Time: b.time, Progress: progress})
	case VHDX:
		return vhdx.Write(ctx, b.image, a.file, vhdx.Options{UUID: uuid, Progress: progress})
	case VDI:
		return vdi.Write(ctx, b.image, a.file, vdi.Options{UUID: uuid, Progress: progress})
	case GCE:
		return gce.Write(ctx, b.image, a.file, gce.Options{Time: b.time, Progress: progress})
	case OVA:
		return ova.Write(ctx, b.image, a.file, ova.Options{UUID: uuid, Time: b.time, Progress: progress})
	}
	return fmt.Errorf("no encoder for type %s", t)
}
