package pipeline

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"imgbuild/disk"
	"imgbuild/formats/bmap"
	"imgbuild/formats/compressed"
	"imgbuild/formats/containerdisk"
	"imgbuild/formats/gce"
	"imgbuild/formats/ova"
	"imgbuild/formats/pieces"
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
	media   map[Type]product // in place of the disk, of types that are media

	container *containerdisk.Image // once it is written
}

// write writes all files under their temporary names, side by side.
func (e *emission) write(ctx context.Context, files *artefacts, p Progress) error {
	total := int64(0)
	for _, n := range e.image.Data(1) {
		total += n
	}
	total *= int64(len(e.types) - len(e.media))
	for _, m := range e.media {
		n, err := m.size()
		if err != nil {
			return err
		}
		total += n
	}
	p.Stage("write "+joinTypes(e.types), total)
	path := func(t Type) string { return filepath.Join(e.output, e.formats.path(t)) }
	var shared []pieces.Format
	var others []int
	for i, t := range e.types {
		f, err := e.ofPieces(t, files.files[i])
		if err != nil {
			stopAll(shared)
			return fmt.Errorf("%s: %w", path(t), outputError(err))
		}
		if f == nil {
			others = append(others, i)
		} else {
			shared = append(shared, &named{f, path(t)})
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, i := range others {
		g.Go(func() error {
			if err := e.encode(gctx, e.types[i], files.files[i], p); err != nil {
				return fmt.Errorf("%s: %w", path(e.types[i]), outputError(err))
			}
			return nil
		})
	}
	if len(shared) > 0 {
		progress := deltas(p, len(shared))
		g.Go(func() error { return pieces.Write(gctx, e.image, shared, progress) })
	}
	if files.bmap != nil {
		g.Go(func() error { return bmap.Write(gctx, e.image, files.bmap.file, bmap.Options{}) })
	}
	return g.Wait()
}

// ofPieces returns what writes the artefact of a type from pieces that are read, and
// compressed where that is wanted, once for all types; or nil when it is not made of
// such.
func (e *emission) ofPieces(t Type, a *artefact) (pieces.Format, error) {
	uuid := e.id.guid("image " + string(t))
	f := e.formats
	size := e.image.Size()
	switch {
	case (t == Raw || t == AMI) && f.Compress != nil && *f.Compress == Compress{Compression: compressed.Gzip}:
		return compressed.NewGzipWriter(a.file, nil, size, 0)
	case t == QCOW2 && f.QCOW2.Compression == qcow2.Zlib:
		return qcow2.NewWriter(size, a.file, f.QCOW2)
	case t == ContainerDisk && f.QCOW2.Compression == qcow2.Zlib:
		w, err := e.newContainer(a)
		if err != nil {
			return nil, err
		}
		return &containerWriter{w, e}, nil
	case t == VMDK:
		return vmdk.NewWriter(size, a.file, vmdk.Options{UUID: uuid})
	case t == GCE:
		return gce.NewWriter(size, a.file, gce.Options{Time: e.time})
	case t == OVA:
		opt := f.OVA
		opt.UUID, opt.Time = uuid, e.time
		opt.DigestLast = slices.Contains(e.types, ContainerDisk)
		return ova.NewWriter(size, a.file, opt)
	case (t == Raw || t == AMI) && f.Compress == nil:
		return raw.NewWriter(size, a.file)
	case t == VHD:
		return vhd.NewWriter(size, a.file, vhd.Options{Subformat: f.VHD, UUID: uuid, Time: e.time})
	case t == VHDX:
		return vhdx.NewWriter(size, a.file, vhdx.Options{UUID: uuid})
	case t == VDI:
		return vdi.NewWriter(size, a.file, vdi.Options{UUID: uuid})
	}
	return nil, nil
}

// named says in errors which file they are about.
type named struct {
	pieces.Format
	path string
}

func (n *named) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", n.path, outputError(err))
}

// Add implements pieces.Format.
func (n *named) Add(ctx context.Context, b *pieces.Batch) error {
	return n.wrap(n.Format.Add(ctx, b))
}

// Finish implements pieces.Format.
func (n *named) Finish(ctx context.Context) error { return n.wrap(n.Format.Finish(ctx)) }

func stopAll(list []pieces.Format) {
	for _, f := range list {
		f.Stop()
	}
}

func (e *emission) containerOptions() containerdisk.Options {
	q := e.formats.QCOW2
	return containerdisk.Options{Arch: e.arch, Compression: q.Compression, Level: q.Level, Time: e.time}
}

func (e *emission) newContainer(a *artefact) (*containerdisk.Writer, error) {
	if e.formats.ContainerLayout {
		return containerdisk.NewLayout(e.image.Size(), a.temp, e.containerOptions())
	}
	return containerdisk.NewArchive(e.image.Size(), a.file, e.containerOptions())
}

// containerWriter keeps what it wrote, to be pushed.
type containerWriter struct {
	*containerdisk.Writer
	e *emission
}

// Finish implements pieces.Format.
func (w *containerWriter) Finish(ctx context.Context) error {
	err := w.Writer.Finish(ctx)
	w.e.container = w.Writer.Image()
	return err
}

// encode writes one artefact under its temporary name.
func (e *emission) encode(ctx context.Context, t Type, a *artefact, p Progress) (err error) {
	progress := deltas(p, 1)
	f := e.formats
	if m := e.media[t]; m != nil {
		return m.write(ctx, a, progress)
	}
	switch t {
	case Raw, AMI:
		c := f.Compress
		return compressed.Write(ctx, e.image, a.file, compressed.Options{Compression: c.Compression, Level: c.Level, Progress: progress})
	case QCOW2:
		opt := f.QCOW2
		opt.Progress = progress
		return qcow2.Write(ctx, e.image, a.file, opt)
	case ContainerDisk:
		opt := e.containerOptions()
		opt.Progress = progress
		if f.ContainerLayout {
			e.container, err = containerdisk.WriteLayout(ctx, e.image, a.temp, opt)
		} else {
			e.container, err = containerdisk.WriteArchive(ctx, e.image, a.file, opt)
		}
		return err
	}
	return fmt.Errorf("no encoder for type %s", t)
}
