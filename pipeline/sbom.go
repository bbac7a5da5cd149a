package pipeline

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"

	"imgbuild/oci"
	"imgbuild/packages"
	"imgbuild/sbom"
)

// readPackages reads what is installed, where SBOMs are asked for. What the image
// says is left as it is: packages are of the image, not of its configuration.
func (sys *system) readPackages(ctx context.Context, o *Options, p Progress) (*packages.Inventory, error) {
	if !slices.ContainsFunc(o.Records.SBOMs, ownFormat) {
		return nil, nil
	}
	p.Stage("read package databases", 0)
	inv, err := sbom.Read(ctx, sys.merged, sys.facts.OSRelease)
	if err == nil && len(inv.Packages) == 0 {
		p.Warn("the image has no package database that is known; the SBOM lists no packages")
	}
	return inv, err
}

// ownFormat tells whether an SBOM is made here.
func ownFormat(f sbom.Format) bool { return f != sbom.Attached }

// attachedTo is the annotation of files that are attached to an image: the digest
// of what they are attached to.
const attachedTo = "attached-to"

// writeAttached writes the SBOMs that are attached to the image, as they are.
func (b *build) writeAttached(ctx context.Context, files *artefacts, o *Options, p Progress) error {
	if !slices.Contains(o.Records.SBOMs, sbom.Attached) {
		return nil
	}
	p.Stage("fetch SBOMs", 0)
	image, ref := b.installed(o)
	list, err := image.SBOMs(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	if len(list) == 0 {
		p.Warn("no SBOM is attached to the image")
	}
	for _, s := range list {
		a, err := createArtefact(besidePath(o, "sbom", ".attached-"+s.Short()+s.Extension()))
		if err != nil {
			return err
		}
		a.attached = s.Of
		files.sboms = append(files.sboms, a)
		if _, err := a.file.Write(s.Content); err != nil {
			return outputError(err)
		}
	}
	return nil
}

// installed returns the image that is installed in the end.
func (b *build) installed(o *Options) (*oci.Image, oci.Reference) {
	if b.payload != nil && o.hasAnaconda() {
		return b.payload.image, o.Media.Payload
	}
	return b.source.image, o.Image
}

// writeSBOMs writes the SBOMs.
func (b *build) writeSBOMs(ctx context.Context, files *artefacts, o *Options, p Progress) error {
	if err := b.writeAttached(ctx, files, o, p); err != nil || b.inventory == nil {
		return err
	}
	image, ref := b.installed(o)
	d := &packages.Document{
		Name: ref.Name(), Digest: image.ManifestDigest, Arch: image.Arch, PURL: imagePURL(ref, image),
		Tool: "imgbuild", Version: Version(), Created: b.time.Unix(), Inventory: *b.inventory,
	}
	if o.Records.Epoch != "" {
		n, err := strconv.ParseInt(o.Records.Epoch, 10, 64)
		if err != nil {
			return usage(fmt.Errorf("SOURCE_DATE_EPOCH: %w", err), "")
		}
		d.Created = n
	}
	own := slices.DeleteFunc(slices.Clone(o.Records.SBOMs), func(f sbom.Format) bool { return !ownFormat(f) })
	for i, f := range own {
		text, err := f.Encode(d)
		if err != nil {
			return fmt.Errorf("sbom %s: %w", f, err)
		}
		if _, err := files.sboms[i].file.Write(text); err != nil {
			return outputError(err)
		}
	}
	return nil
}

// imagePURL returns the package URL of an image in a registry, "" for any other.
func imagePURL(ref oci.Reference, image *oci.Image) string {
	if ref.Transport() != oci.TransportRegistry {
		return ""
	}
	q := [][2]string{{"arch", image.Arch}, {"repository_url", ref.Registry() + "/" + ref.Path()}}
	if t := ref.Tag(); t != "" {
		q = append(q, [2]string{"tag", t})
	}
	return packages.FormatPURL("oci", "", path.Base(ref.Path()), image.ManifestDigest, q)
}
