package pipeline

import (
	"cmp"
	"context"
	"fmt"

	"imgbuild/bootc"
	"imgbuild/customize/fetch"
	"imgbuild/fault"
	"imgbuild/oci"
	"imgbuild/ostree"
	"imgbuild/tree"
)

// source is the image with its layers unpacked.
type source struct {
	image  *oci.Image
	layers []*oci.Layer
	base   int        // how many of the layers are an encapsulated commit
	cache  *oci.Cache // nil without one
	closes []func()   // what else close has to do

	fetched fetched // for the configuration
}

// pull opens the image, checks what can be checked without its layers, and
// unpacks them.
func pull(ctx context.Context, o *Options, p Progress) (_ *source, err error) {
	s, unpack, err := open(ctx, o, p)
	if err != nil {
		return nil, err
	}
	if err := bootc.CheckLabels(s.image.Labels); err != nil {
		s.close()
		return nil, fmt.Errorf("%s: %w", o.Image, err)
	}
	if o.unpackAt != nil {
		dir, err := o.unpackAt(ctx, s.image, p)
		if err != nil {
			s.close()
			return nil, err
		}
		if dir != "" {
			o.TempDir, unpack.TempDir, s.fetched.source.Dir = dir, dir, dir
		}
	}
	if err := s.unpack(ctx, unpack, p); err != nil {
		s.close()
		return nil, err
	}
	s.trim(o, p)
	return s, nil
}

// open resolves the image and reads its manifest and config.
func open(ctx context.Context, o *Options, p Progress) (s *source, unpack oci.UnpackOptions, err error) {
	p.Stage("resolve "+o.Image.String(), 0)
	s = &source{fetched: fetched{source: fetch.Source{Dir: o.TempDir}}}
	unpack = oci.UnpackOptions{TempDir: o.TempDir, FileHash: ostree.FileHash, LinkHash: ostree.LinkSum, HashID: "ostree", Limits: o.Limits}
	if !o.NoCache {
		if unpack.Cache, err = oci.OpenCache(o.Cache); err != nil {
			return nil, unpack, outputError(err)
		}
		s.cache = unpack.Cache
	}
	access := o.registry()
	access.Arch, access.Cache = o.Arch, unpack.Cache
	s.image, err = oci.Open(ctx, o.Image.Pin(cmp.Or(o.PinRoot, o.Pin)), access)
	if err != nil {
		return nil, unpack, err
	}
	if got := s.image.ManifestDigest; o.Pin != "" && got != o.Pin {
		s.close()
		return nil, unpack, fault.New(fault.BadImage, fmt.Errorf("%s: has the digest %s, not %s", o.Image, got, o.Pin), "")
	}
	for _, text := range s.image.Signed {
		p.Note("signed: " + text)
	}
	if s.base, err = baseLayers(s.image); err != nil {
		s.close()
		return nil, unpack, fmt.Errorf("%s: %w", o.Image, err)
	}
	return s, unpack, nil
}

// unpack reads the layers.
func (s *source) unpack(ctx context.Context, opt oci.UnpackOptions, p Progress) (err error) {
	total := int64(0)
	for _, l := range s.image.Layers {
		total += l.Size
	}
	p.Stage("unpack layers", total)
	done := make([]int64, len(s.image.Layers))
	opt.Progress = func(e oci.Event) {
		p.Advance(e.Done - done[e.Layer])
		done[e.Layer] = e.Done
	}
	if s.layers, err = s.image.Unpack(ctx, opt); err != nil {
		return outputError(err)
	}
	return nil
}

// baseLayers returns how many layers of the image are its encapsulated base.
func baseLayers(image *oci.Image) (int, error) {
	var diffIDs, digests []string
	for _, l := range image.Layers {
		diffIDs = append(diffIDs, l.DiffID)
		digests = append(digests, l.Digest)
	}
	return ostree.BaseLayers(image.Labels, diffIDs, digests)
}

// close gives back what the source holds on the host.
func (s *source) close() {
	for _, fn := range s.closes {
		fn()
	}
	s.closes = nil
	if s.image != nil {
		s.image.Close()
	}
	// What it cannot remove is in the directory for temporary files.
	_ = s.fetched.source.Close()
}

// system is the operating system of the image, as ostree sees it.
type system struct {
	repo   *ostree.Repo  // with the base, if there is one
	base   *ostree.Base  // nil without one
	layers []*tree.Inode // tree of each layer above the base, by bootc's import rules
	merged *tree.Inode   // the tree of the commit
	facts  *bootc.Image
	labels labeler // nil without a policy
}

// flatten makes the commit's tree of the layers, and labels it.
func flatten(ctx context.Context, s *source, o *Options, p Progress) (*system, error) {
	sys := &system{repo: ostree.NewRepo()}
	if err := sys.importLayers(ctx, s, p); err != nil {
		return nil, err
	}
	if err := sys.merge(o); err != nil {
		return nil, err
	}
	for _, w := range sys.facts.Warnings {
		p.Warn(w)
	}
	if err := sys.label(o, p); err != nil {
		return nil, err
	}
	p.Stage("checksum objects", 0)
	if err := ostree.Checksum(ctx, append(sys.layers, sys.merged)...); err != nil {
		return nil, err
	}
	return sys, nil
}

// importLayers imports the base, if there is one, and the layers above it.
func (sys *system) importLayers(ctx context.Context, s *source, p Progress) error {
	var raw []*tree.Inode
	for _, l := range s.layers {
		raw = append(raw, l.Tree)
	}
	opt := ostree.ImportOptions{KeepTopLevel: true, StripSELinux: true}
	if s.base == 0 {
		if err := ostree.CheckEtc(raw...); err != nil {
			return err
		}
	} else {
		p.Stage("verify base", 0)
		var err error
		sys.base, err = sys.repo.AddBase(ctx, raw[:s.base], s.image.Labels[ostree.LabelCommit])
		if err != nil {
			return err
		}
		if opt.KeepTopLevel, err = bootc.OverlayRoot(sys.base.Tree); err != nil {
			return err
		}
	}
	p.Stage("flatten layers", 0)
	for i, l := range raw[s.base:] {
		imported, dropped, err := ostree.ImportLayer(l, opt)
		if err != nil {
			return fmt.Errorf("layer %d (%s): %w", s.base+i+1, s.layers[s.base+i].Digest, err)
		}
		if len(dropped) > 0 {
			p.Note(fmt.Sprintf("layer %d: left out what an ostree system cannot hold: %s", s.base+i+1, summary(dropped, 5)))
		}
		sys.layers = append(sys.layers, imported)
	}
	return nil
}

// merge lays the layers over the base, and reads what the image says of itself.
func (sys *system) merge(o *Options) (err error) {
	var base *tree.Inode
	if sys.base != nil {
		base = sys.base.Tree
	}
	if sys.merged, err = ostree.MergeBase(base, sys.layers...); err != nil {
		return err
	}
	sys.facts, err = bootc.Inspect(sys.merged, o.Arch)
	return err
}

// summary joins up to n names, and counts the rest.
func summary(names []string, n int) string {
	text := ""
	for i, name := range names {
		if i == n {
			return fmt.Sprintf("%s and %d more", text, len(names)-n)
		}
		if i > 0 {
			text += ", "
		}
		text += name
	}
	return text
}
