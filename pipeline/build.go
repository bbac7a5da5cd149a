package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"imgbuild/blueprints"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/packages"
)

// Result is what a build made.
type Result struct {
	Plan      *Plan
	Types     []Type   // of the files
	Artefacts []string // their paths
	Record    string   // path of the record of the build, if there is one
	SBOMs     []string // paths of the SBOMs
	Pushed    string   // the reference and digest of a container disk that was pushed
}

// build is a disk that is planned to the last byte, and not written yet.
type build struct {
	source *source
	plan   *Plan
	image  *disk.Image
	id     identity
	time   time.Time

	// For media, which are made of the image as well.
	sys     *system
	disks   *disks
	minimum int64            // the smallest disk for the content, bytes
	media   map[Type]product // that are written
	payload *source          // another image that is on a medium, else nil
	// inventory is what is installed, where SBOMs are asked for.
	inventory *packages.Inventory
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
	if err := o.checkPush(ctx); err != nil {
		return nil, err
	}
	if err := o.checkUpload(ctx); err != nil {
		return nil, err
	}
	if o.hasAnaconda() {
		b, err := prepareAnaconda(ctx, &o, true, p)
		if err != nil {
			return nil, err
		}
		defer b.source.close()
		for _, w := range b.plan.Warnings {
			p.Warn(w)
		}
		return b.emit(ctx, files, &o, p)
	}
	asked := freeze(&o)
	b, err := prepare(ctx, &o, p)
	if err != nil {
		return nil, err
	}
	defer b.source.close()
	if err := b.addMedia(ctx, asked, p); err != nil {
		return nil, err
	}
	for _, w := range b.plan.Warnings {
		p.Warn(w)
	}
	return b.emit(ctx, files, &o, p)
}

// prepare runs all stages up to the virtual disk.
func prepare(ctx context.Context, o *Options, p Progress) (*build, error) {
	b, l, err := arrange(ctx, o, p)
	if err != nil {
		return nil, err
	}
	if !o.disks() {
		// Whoever installs from a medium lays the disk out anew.
		b.image, err = disk.New(l.size, nil)
	} else {
		b.image, err = l.write(ctx)
	}
	if err != nil {
		b.source.close()
		return nil, badImage(err, o)
	}
	return b, nil
}

// arrange runs all stages up to the layout, in which every size is decided. The
// build has no image yet.
func arrange(ctx context.Context, o *Options, p Progress) (_ *build, _ *layout, err error) {
	if err := o.validate(); err != nil {
		return nil, nil, err
	}
	if o, err = o.rehearsed(p); err != nil {
		return nil, nil, err
	}
	s, err := pull(ctx, o, p)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	sys, err := flatten(ctx, s, o, p)
	if err != nil {
		return nil, nil, badImage(nameSealed(err, o.Config), o)
	}
	inventory, err := sys.readPackages(ctx, o, p)
	if err != nil {
		return nil, nil, badImage(err, o)
	}
	if err := sys.readConfig(o, p); err != nil {
		return nil, nil, err
	}
	config, err := s.fetched.digest(ctx, o.Config)
	if err != nil {
		return nil, nil, err
	}
	id, err := newIdentity(o.Seed, identityInput{
		Manifest: s.image.ManifestDigest, Arch: o.Arch, Target: o.Target, Stateroot: o.Stateroot, RootFS: o.RootFS,
		Kargs: append(o.kargs(), o.KargDelete...), Config: config, Sizes: o.Sizes, SELinuxOff: o.SELinuxOff,
		NoDefaults: o.NoDefaults, SigPolicy: o.SigPolicy, Layout: o.Layout.layout(),
	})
	if err != nil {
		return nil, nil, err
	}
	d, err := deploy(ctx, s, sys, o, id, p)
	if err != nil {
		return nil, nil, badImage(err, o)
	}
	l, err := layOut(ctx, s, d, o, id, p)
	if err != nil {
		return nil, nil, badImage(err, o)
	}
	minimum, err := l.minimum()
	if err != nil {
		return nil, nil, badImage(err, o)
	}
	return &build{
		source: s, plan: describe(s, sys, d, l, o), id: id, time: time.Unix(d.time, 0).UTC(),
		sys: sys, disks: d, minimum: minimum, inventory: inventory,
	}, l, nil
}

// badImage names the image in an error that is about its content.
func badImage(err error, o *Options) error {
	if errors.Is(err, context.Canceled) || errors.As(err, new(*blueprints.Report)) {
		return err
	}
	return fault.Default(fault.BadImage, fmt.Errorf("%s: %w", o.Image, err))
}

// emit writes all artefacts from the one disk, side by side.
func (b *build) emit(ctx context.Context, files *artefacts, o *Options, p Progress) (*Result, error) {
	e := &emission{image: b.image, id: b.id, time: b.time, arch: o.Arch, output: o.Output, types: o.Types, formats: &o.Formats, media: b.media}
	if o.NoOutput {
		r := &Result{Plan: b.plan}
		return r, b.upload(ctx, o, r, p)
	}
	sums := hashDisk(ctx, b.image, o)
	defer sums.close()
	if err := e.write(ctx, files, p); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(b.plan, "", "  ")
	if err != nil {
		return nil, err
	}
	if _, err := files.manifest.file.Write(append(text, '\n')); err != nil {
		return nil, outputError(err)
	}
	if err := b.writeSBOMs(ctx, files, o, p); err != nil {
		return nil, err
	}
	if err := b.writeRecord(ctx, files, sums, o, p); err != nil {
		return nil, err
	}
	r := &Result{Plan: b.plan, Types: o.Types}
	if files.record != nil {
		r.Record = files.record.path
	}
	for _, f := range files.sboms {
		r.SBOMs = append(r.SBOMs, f.path)
	}
	if r.Artefacts, err = files.commit(ctx, o.Chown); err != nil {
		return nil, err
	}
	if r.Pushed, err = e.push(ctx, o, p); err != nil {
		return r, err
	}
	return r, b.upload(ctx, o, r, p)
}

// deltas turns a count of bytes done into steps of progress, of so many files at
// once.
func deltas(p Progress, files int) func(done int64) {
	last := int64(0)
	return func(done int64) {
		p.Advance((done - last) * int64(files))
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
