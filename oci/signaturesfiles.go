package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"imgbuild/fault"
	"imgbuild/trust"
)

func (s *layoutSource) identity() (*trust.Image, error) {
	return pathIdentity(s.ref.transport, s.ref.place)
}

// signatures returns those in a layout: under the tag of cosign, among what refers
// to the image, and what "cosign save" wrote.
func (s *layoutSource) signatures(ctx context.Context, digest string, want trust.Want) (got signatures, err error) {
	if !want.Sigstore {
		return got, nil
	}
	raw, err := s.read("index.json", maxManifest)
	if err != nil {
		return got, err
	}
	doc, err := parseDocument(raw, "")
	if err != nil {
		return got, fmt.Errorf("index.json: %w", err)
	}
	var attached []descriptor
	for _, d := range doc.Manifests {
		switch tag := d.Annotations[annotationRefName]; {
		case d.Digest == digest || !isArtifact(d):
		case tag == referrersTag(digest):
			raw, err := readDocument(ctx, s, d, maxManifest, nil)
			if err != nil {
				return got, err
			}
			list, err := parseReferrers(raw)
			if err != nil {
				return got, err
			}
			attached = append(attached, list...)
		case strings.HasPrefix(tag, "sha256-") && tag != signatureTag(digest):
			// of another image
		default:
			attached = append(attached, d)
		}
	}
	return got, got.addReferrers(ctx, s, attached, nil)
}

func (s *dirSource) identity() (*trust.Image, error) { return pathIdentity(trust.Dir, s.ref.place) }

// signatures returns those of containers/image: the files signature-1 and so on
// are of the directory's manifest, and HEX.signature-1 of one that it names.
func (s *dirSource) signatures(_ context.Context, digest string, _ trust.Want) (got signatures, err error) {
	raw, err := s.read("manifest.json", maxManifest)
	if err != nil {
		return got, missing(err)
	}
	prefix := "signature-"
	if sum(raw) != digest {
		prefix = hexOf(digest) + ".signature-"
	}
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s%d", prefix, n)
		raw, err := s.read(name, maxSignature)
		if errors.Is(err, fs.ErrNotExist) {
			return got, nil
		} else if err != nil {
			return got, err
		}
		sig, err := trust.ParseBlob(raw)
		if err == nil {
			err = got.add(sig)
		}
		if err != nil {
			return got, fault.New(fault.Untrusted, fmt.Errorf("%s: %w", name, err), "")
		}
	}
}

func (s *dockerArchive) identity() (*trust.Image, error) {
	return trust.InDockerArchive(s.ref.tag), nil
}

// signatures returns none: such archives have no place for them.
func (s *dockerArchive) signatures(context.Context, string, trust.Want) (signatures, error) {
	return signatures{hint: "archives of docker save have no signatures; oci-archive and dir have"}, nil
}

func (s *storageSource) identity() (*trust.Image, error) {
	name, id := "", ""
	if s.ref.place != "" {
		name = s.ref.registry + "/" + s.ref.place
	}
	if s.ref.id != "" {
		id = s.image.ID()
	}
	driver, root := s.image.Store()
	return trust.InStorage(driver, root, name, s.ref.tag, s.ref.digest, id), nil
}

// signatures returns those that came with the image when it was pulled.
func (s *storageSource) signatures(_ context.Context, digest string, _ trust.Want) (got signatures, err error) {
	list, err := s.image.Signatures(digest, maxSignatureBytes)
	if errors.Is(err, fs.ErrPermission) {
		return got, fault.New(fault.NotFound, fmt.Errorf("local store: %w", err), unshareHint())
	} else if err != nil {
		return got, badImage(fmt.Errorf("local store: %w", err))
	}
	for _, raw := range list {
		sig, err := trust.ParseBlob(raw)
		if err == nil {
			err = got.add(sig)
		}
		if err != nil {
			return got, fault.New(fault.Untrusted, fmt.Errorf("local store: signature: %w", err), "")
		}
	}
	return got, nil
}

var _ = []signedSource{(*mirrored)(nil), (*layoutSource)(nil), (*dirSource)(nil), (*dockerArchive)(nil), (*storageSource)(nil)}
