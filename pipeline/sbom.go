package pipeline

import (
	"context"
	"fmt"
	"path"
	"strconv"

	"imgbuild/oci"
	"imgbuild/packages"
	"imgbuild/sbom"
)

// readPackages reads what is installed, where SBOMs are asked for. What the image
// says is left as it is: packages are of the image, not of its configuration.
func (sys *system) readPackages(ctx context.Context, o *Options, p Progress) (*packages.Inventory, error) {
	if len(o.Records.SBOMs) == 0 {
		return nil, nil
	}
	p.Stage("read package databases", 0)
	inv, err := sbom.Read(ctx, sys.merged, sys.facts.OSRelease)
	if err == nil && len(inv.Packages) == 0 {
		p.Warn("the image has no package database that is known; the SBOM lists no packages")
	}
	return inv, err
}

// writeSBOMs writes the SBOMs.
func (b *build) writeSBOMs(files *artefacts, o *Options) error {
	if len(o.Records.SBOMs) == 0 {
		return nil
	}
	image := b.source.image
	d := &packages.Document{
		Name: o.Image.Name(), Digest: image.ManifestDigest, Arch: image.Arch, PURL: imagePURL(o.Image, image),
		Tool: "imgbuild", Version: Version(), Created: b.time.Unix(), Inventory: *b.inventory,
	}
	if o.Records.Epoch != "" {
		n, err := strconv.ParseInt(o.Records.Epoch, 10, 64)
		if err != nil {
			return usage(fmt.Errorf("SOURCE_DATE_EPOCH: %w", err), "")
		}
		d.Created = n
	}
	for i, f := range o.Records.SBOMs {
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
