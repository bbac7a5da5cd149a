package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/bmap"
)

// Result is what a build made.
type Result struct {
	Plan      *Plan
	Artefacts []string // paths of the files, in the order of the types
}

// build is a disk that is planned to the last byte, and not written yet.
type build struct {
	source *source
	plan   *Plan
	image  *disk.Image
	id     identity
	time   time.Time
}

// Build makes the artefacts. They get their final names together at the end,
// complete and durable; a build that fails before leaves nothing behind.
func Build(ctx context.Context, o Options, p Progress) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	// Before anything is fetched: can the results be written at all?
	files, err := createArtefacts(&o)
	if err != nil {
		return nil, err
	}
	defer files.discard()
	b, err := prepare(ctx, &o, p)
	if err != nil {
		return nil, err
	}
	defer b.source.close()
	for _, w := range b.plan.Warnings {
		p.Warn(w)
	}
	return b.emit(ctx, files, &o, p)
}

// prepare runs all stages up to the virtual disk.
func prepare(ctx context.Context, o *Options, p Progress) (_ *build, err error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	s, err := pull(ctx, o, p)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	sys, err := flatten(ctx, s, o, p)
	if err != nil {
		return nil, badImage(err, o)
	}
	id, err := newIdentity(o.Seed, identityInput{
		Manifest: s.image.ManifestDigest, Arch: o.Arch, Target: o.Target, Stateroot: o.Stateroot, RootFS: o.RootFS,
		Kargs: append(append([]string{}, o.Kargs...), o.KargDelete...), Sizes: o.Sizes, SELinuxOff: o.SELinuxOff,
		NoDefaults: o.NoDefaults, SigPolicy: o.SigPolicy,
	})
	if err != nil {
		return nil, err
	}
	d, err := deploy(ctx, s, sys, o, id, p)
	if err != nil {
		return nil, badImage(err, o)
	}
	p.Stage("lay out", 0)
	l, err := layOut(d, o, id, p)
	if err != nil {
		return nil, badImage(err, o)
	}
	image, err := l.write(ctx)
	if err != nil {
		return nil, badImage(err, o)
	}
	return &build{source: s, plan: describe(s, sys, d, l, o), image: image, id: id, time: time.Unix(d.time, 0).UTC()}, nil
}

// badImage names the image in an error that is about its content.
func badImage(err error, o *Options) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fault.Default(fault.BadImage, fmt.Errorf("%s: %w", o.Image, err))
}

// artefacts are the files of a build.
type artefacts struct {
	files    []*artefact // one a type
	bmap     *artefact   // beside a compressed raw disk, else nil
	manifest *artefact
}

func createArtefacts(o *Options) (_ *artefacts, err error) {
	a := &artefacts{}
	defer func() {
		if err != nil {
			a.discard()
		}
	}()
	for _, t := range o.Types {
		f, err := createArtefact(filepath.Join(o.Output, o.path(t)))
		if err != nil {
			return nil, err
		}
		a.files = append(a.files, f)
		if o.path(t) != t.path() {
			// What is compressed is likely to be flashed by bmaptool.
			if a.bmap, err = createArtefact(filepath.Join(o.Output, t.path()+".bmap")); err != nil {
				return nil, err
			}
		}
	}
	a.manifest, err = createArtefact(manifestPath(o))
	return a, err
}

func (a *artefacts) discard() {
	if a.manifest != nil {
		a.manifest.discard()
	}
	if a.bmap != nil {
		a.bmap.discard()
	}
	for i := len(a.files) - 1; i >= 0; i-- {
		a.files[i].discard()
	}
}

// emit writes all artefacts from the one disk, side by side.
func (b *build) emit(ctx context.Context, files *artefacts, o *Options, p Progress) (*Result, error) {
	total := int64(0)
	for _, n := range b.image.Data(1) {
		total += n
	}
	p.Stage("write "+joinTypes(o.Types), total*int64(len(o.Types)))
	g, gctx := errgroup.WithContext(ctx)
	for i, t := range o.Types {
		g.Go(func() error {
			if err := b.encode(gctx, t, files.files[i], o, p); err != nil {
				return fmt.Errorf("%s: %w", filepath.Join(o.Output, o.path(t)), outputError(err))
			}
			return nil
		})
	}
	all := files.files
	if files.bmap != nil {
		all = append(all, files.bmap)
		g.Go(func() error { return bmap.Write(gctx, b.image, files.bmap.file, bmap.Options{}) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(b.plan, "", "  ")
	if err != nil {
		return nil, err
	}
	if _, err := files.manifest.file.Write(append(text, '\n')); err != nil {
		return nil, outputError(err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &Result{Plan: b.plan}
	for _, f := range append(all, files.manifest) {
		if err := f.commit(o.Chown); err != nil {
			return nil, err
		}
	}
	for _, f := range files.files {
		r.Artefacts = append(r.Artefacts, f.path)
	}
	return r, nil
}

// deltas turns a count of bytes done into steps of progress.
func deltas(p Progress) func(done int64) {
	last := int64(0)
	return func(done int64) {
		p.Advance(done - last)
		last = done
	}
}

func joinTypes(list []Type) string {
	text := ""
	for i, t := range list {
		if i > 0 {
			text += ", "
		}
		text += string(t)
	}
	return text
}
