package pipeline

import (
	"context"
	"path/filepath"
)

// artefacts are the files of a run.
type artefacts struct {
	files    []*artefact // one a type
	bmap     *artefact   // beside a compressed raw disk, else nil
	manifest *artefact   // of a build, else nil
	sboms    []*artefact // of a build, one a format that is asked for
	record   *artefact   // of a build where it is asked for, else nil
}

// createArtefacts opens the files of a build.
func createArtefacts(o *Options) (*artefacts, error) {
	if o.NoOutput {
		return &artefacts{}, nil
	}
	a, err := createFiles(o.Output, o.Types, &o.Formats)
	if err != nil {
		return nil, err
	}
	if a.manifest, err = createArtefact(manifestPath(o)); err == nil {
		err = a.createRecords(o)
	}
	if err != nil {
		a.discard()
		return nil, err
	}
	return a, nil
}

// createFiles opens the files of the types.
func createFiles(output string, types []Type, f *Formats) (_ *artefacts, err error) {
	a := &artefacts{}
	defer func() {
		if err != nil {
			a.discard()
		}
	}()
	for _, t := range types {
		create := createArtefact
		if t == ContainerDisk && f.ContainerLayout {
			create = createLayout
		}
		if t == PXE {
			create = createNetboot
		}
		file, err := create(filepath.Join(output, f.path(t)))
		if err != nil {
			return nil, err
		}
		a.files = append(a.files, file)
		if (t == Raw || t == AMI) && f.Compress != nil {
			// What is compressed is likely to be flashed by bmaptool.
			if a.bmap, err = createArtefact(filepath.Join(output, t.path()+".bmap")); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}

// all lists the artefacts that there are, in the order of their making.
func (a *artefacts) all() []*artefact {
	list := append(append([]*artefact{}, a.files...), a.about()...)
	if a.record != nil {
		list = append(list, a.record)
	}
	return list
}

// about lists those that say something of the files of the types.
func (a *artefacts) about() (list []*artefact) {
	for _, f := range []*artefact{a.bmap, a.manifest} {
		if f != nil {
			list = append(list, f)
		}
	}
	return append(list, a.sboms...)
}

// commit gives all files their final names, and returns the paths of those of the
// types.
func (a *artefacts) commit(ctx context.Context, owner *Owner) (paths []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := commit(a.all(), owner); err != nil {
		return nil, err
	}
	for _, f := range a.files {
		paths = append(paths, f.path)
	}
	return paths, nil
}

func (a *artefacts) discard() {
	list := a.all()
	for i := len(list) - 1; i >= 0; i-- {
		list[i].discard()
	}
}
