package pipeline

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"imgbuild/attest"
	"imgbuild/sbom"
)

// Records say what is written beside the results about them.
type Records struct {
	Record bool // write a record of the build
	// Parameters, Inputs and Epoch go into the record as they are: what the user
	// said, the files that flags name, and SOURCE_DATE_EPOCH as it was set.
	Parameters attest.Parameters
	Inputs     []attest.Resource
	Epoch      string
	Signer     *attest.PrivateKey // signs the record; nil leaves it unsigned
	SBOMs      []sbom.Format      // software bills of materials of the image
}

// validateRecords checks what is asked for about records.
func (o *Options) validateRecords() error {
	if o.Records.Signer != nil && !o.Records.Record {
		return usage(errors.New("a key to sign with, and no record to sign"), "add --record")
	}
	if o.Records.Record && o.NoOutput {
		return usage(errors.New("a record of files, and no file is written"), "drop one of --record and --no-output")
	}
	if len(o.Records.SBOMs) > 0 && o.NoOutput {
		return usage(errors.New("SBOMs beside files, and no file is written"), "drop one of --sbom and --no-output")
	}
	slices.Sort(o.Records.SBOMs)
	o.Records.SBOMs = slices.Compact(o.Records.SBOMs)
	return nil
}

// recordPath returns where the record goes: named as the manifest is, with the
// extensions that SLSA recommends for statements and for lines of envelopes.
func recordPath(o *Options) string {
	ext := ".intoto.json"
	if o.Records.Signer != nil {
		ext = ".intoto.jsonl"
	}
	return besidePath(o, "record", ext)
}

// besidePath names a file about the results, after their types.
func besidePath(o *Options, what, ext string) string {
	name := strings.TrimPrefix(filepath.Base(manifestPath(o)), "manifest")
	return filepath.Join(o.Output, what+strings.TrimSuffix(name, ".json")+ext)
}

// createRecords opens the files about the results.
func (a *artefacts) createRecords(o *Options) (err error) {
	if o.Records.Record {
		a.record, err = createArtefact(recordPath(o))
	}
	for _, f := range o.Records.SBOMs {
		if err != nil {
			break
		}
		if f == sbom.Attached {
			continue // how many there are is known when the image is
		}
		var file *artefact
		if file, err = createArtefact(besidePath(o, "sbom", f.Extension())); err == nil {
			a.sboms = append(a.sboms, file)
		}
	}
	return err
}

// writeRecord writes the record of all files that are complete by now.
func (b *build) writeRecord(ctx context.Context, files *artefacts, sums *diskSums, o *Options, p Progress) error {
	if !o.Records.Record {
		return nil
	}
	subjects, byproducts, err := files.hash(ctx, sums, o, p)
	if err != nil {
		return err
	}
	s, err := b.statement(ctx, o)
	if err != nil {
		return err
	}
	s.Subject, s.Predicate.RunDetails.Byproducts = subjects, byproducts
	text, err := s.Encode()
	if err == nil && o.Records.Signer != nil {
		text, err = attest.Sign(o.Records.Signer, attest.PayloadType, text)
	}
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if _, err := files.record.file.Write(text); err != nil {
		return outputError(err)
	}
	return nil
}

// statement says of what, by what and how the disk is made.
func (b *build) statement(ctx context.Context, o *Options) (*attest.Statement, error) {
	image := b.source.image
	deps := []attest.Resource{
		{Name: attest.DependencyManifest, URI: o.Image.ImageRef(), Digest: attest.OfDigest(image.ManifestDigest), MediaType: image.MediaType},
		{Name: attest.DependencyConfig, Digest: attest.OfDigest(image.ConfigDigest)},
	}
	for _, d := range image.Chain[min(1, len(image.Chain)):] {
		deps = append(deps, attest.Resource{Name: attest.DependencyIndex, Digest: attest.OfDigest(d)})
	}
	for _, l := range image.Layers {
		deps = append(deps, attest.Resource{
			Name: attest.DependencyLayer, Digest: attest.OfDigest(l.Digest), MediaType: l.MediaType,
			Annotations: map[string]string{"diff_id": l.DiffID},
		})
	}
	if b.payload != nil {
		deps = append(deps, attest.Resource{
			Name: attest.DependencyPayload, URI: o.Media.Payload.ImageRef(), Digest: attest.OfDigest(b.payload.image.ManifestDigest), MediaType: b.payload.image.MediaType,
		})
	}
	deps = append(deps, o.Records.Inputs...)
	fetched, err := b.source.fetched.resources(ctx, o)
	if err != nil {
		return nil, err
	}
	return &attest.Statement{
		Type: attest.StatementType, PredicateType: attest.ProvenanceV1,
		Predicate: attest.Provenance{
			BuildDefinition: attest.BuildDefinition{
				BuildType: attest.BuildType, ExternalParameters: o.Records.Parameters,
				InternalParameters:   attest.InternalParameters{SourceDateEpoch: o.Records.Epoch},
				ResolvedDependencies: append(deps, fetched...),
			},
			RunDetails: attest.RunDetails{
				Builder: attest.BuilderID{ID: attest.Builder, Version: map[string]string{"imgbuild": Version()}},
			},
		},
	}, nil
}

// resources lists the files that the configuration names by URI, as they were.
func (f *fetched) resources(ctx context.Context, o *Options) (list []attest.Resource, err error) {
	if o.Config == nil {
		return nil, nil
	}
	for _, file := range o.Config.Blueprint.Customizations.Files {
		if file.URI == "" || slices.ContainsFunc(list, func(r attest.Resource) bool { return r.URI == file.URI }) {
			continue
		}
		ref, _, err := f.Fetch(ctx, file.URI, file.SHA256)
		if err != nil {
			continue // the build has told, or did without
		}
		h := sha256.New()
		if _, err := io.Copy(h, ref.Reader()); err != nil {
			return nil, err
		}
		list = append(list, attest.Resource{Name: attest.DependencyFile, URI: file.URI, Digest: attest.SHA256([32]byte(h.Sum(nil)))})
	}
	return list, nil
}
