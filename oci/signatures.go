package oci

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"imgbuild/fault"
	"imgbuild/trust"
)

// signedSource is a source that may have signatures of what it has.
type signedSource interface {
	// identity returns what a policy knows the image as.
	identity() (*trust.Image, error)
	// signatures returns the signatures of the manifest or index with a digest.
	signatures(ctx context.Context, digest string, want trust.Want) (signatures, error)
}

// signatures are those of one manifest or index.
type signatures struct {
	list []trust.Signature
	hint string // where others could be that were not looked for
	size int    // of all of them, in bytes
}

// Bounds of the signatures of one manifest or index, which anybody can attach who
// may write to its repository.
const (
	maxSignatures     = 128 // that of containers/image
	maxSignature      = 4 << 20
	maxSignatureBytes = 32 << 20 // of all together
)

func (s *signatures) add(sig *trust.Signature) error {
	if sig == nil {
		return nil
	}
	s.size += len(sig.Payload)
	if len(s.list) == maxSignatures || s.size > maxSignatureBytes {
		return fault.New(fault.Untrusted, fmt.Errorf("there are more than %d signatures, or they have more than %d bytes", maxSignatures, maxSignatureBytes), "")
	}
	s.list = append(s.list, *sig)
	return nil
}

// authorize checks the image by the policy of the options, before anything but
// its manifest is looked at. The digests are those of the manifest and of the
// indexes that led to it, the manifest's first.
func authorize(ctx context.Context, src source, ref Reference, opt Options, digests []string) ([]string, error) {
	if opt.Policy == nil {
		return nil, nil
	}
	s, ok := src.(signedSource)
	if !ok {
		return nil, fmt.Errorf("image %s: the transport is not known to policies", ref)
	}
	img, err := s.identity()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	hint := ""
	signed, err := opt.Policy.Check(ctx, img, digests, func(ctx context.Context, digest string, want trust.Want) ([]trust.Signature, error) {
		got, err := s.signatures(ctx, digest, want)
		if err != nil {
			return nil, fmt.Errorf("signatures of %s: %w", digest, err)
		}
		if got.hint != "" {
			hint = got.hint
		}
		return got.list, nil
	})
	if err != nil {
		if fault.ClassOf(err) == fault.Untrusted && fault.HintOf(err) == "" {
			err = fault.New(fault.Untrusted, err, hint)
		}
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	return signed, nil
}

// pathIdentity is the identity of an image in a file or directory.
func pathIdentity(transport, path string) (*trust.Image, error) {
	path, err := filepath.Abs(path)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return nil, fault.New(fault.NotFound, err, "")
	}
	return trust.InPath(transport, filepath.ToSlash(path)), nil
}

// signatureTag returns the tag that cosign gives the signatures of a manifest.
func signatureTag(digest string) string { return referrersTag(digest) + ".sig" }

// referrersTag returns the tag of the index of what refers to a manifest, in
// registries without the API for it: distribution specification 1.1, "Referrers
// Tag Schema".
func referrersTag(digest string) string { return strings.Replace(digest, ":", "-", 1) }

// Types of artifacts that hold signatures.
const (
	mediaEmpty        = "application/vnd.oci.empty.v1+json"
	artifactCosign    = "application/vnd.dev.cosign.artifact.sig.v1+json"
	annotationSubject = "dev.sigstore.bundle.predicateType"
)

// mayBeSignature tells whether an artifact that refers to an image may hold
// signatures. Registries do not always say what it is, or name the type of its
// config.
func mayBeSignature(d descriptor) bool {
	kind := d.ArtifactType
	if p := d.Annotations[annotationSubject]; p != "" && p != trust.PredicateSignedBy {
		return false
	}
	if _, known := trust.IsPayload(kind); known {
		return true
	}
	switch kind {
	case "", mediaEmpty, mediaConfig, mediaDockerConfig, artifactCosign:
		return true
	}
	return false
}

// isArtifact tells whether a descriptor of an index is of something attached to
// an image, and not an image itself.
func isArtifact(d descriptor) bool {
	if _, known := trust.IsPayload(d.ArtifactType); known || d.ArtifactType == artifactCosign {
		return true
	}
	// What "cosign save" writes.
	if kind := d.Annotations["kind"]; strings.HasPrefix(kind, "dev.cosignproject.cosign/") && !strings.HasPrefix(kind, "dev.cosignproject.cosign/image") {
		return true
	}
	tag := d.Annotations[annotationRefName]
	tag = tag[strings.LastIndexByte(tag, ':')+1:]
	rest, ok := strings.CutPrefix(tag, "sha256-")
	return ok && len(rest) >= 64 && reDigest.MatchString("sha256:"+rest[:64])
}

// addManifest adds the signatures that are the layers of a manifest, read through
// src.
func (s *signatures) addManifest(ctx context.Context, src source, raw []byte, mediaType string, cache *Cache) error {
	doc, err := parseDocument(raw, mediaType)
	if err != nil {
		return err
	}
	for _, l := range doc.Layers {
		kind, ok := trust.IsPayload(l.MediaType)
		if !ok {
			continue
		}
		payload, err := readDocument(ctx, src, l, maxSignature, cache)
		if err != nil {
			return err
		}
		if err := s.add(&trust.Signature{Kind: kind, Payload: payload, Annotations: l.Annotations}); err != nil {
			return err
		}
	}
	return nil
}

// addReferrers adds the signatures among what an index says refers to an image.
func (s *signatures) addReferrers(ctx context.Context, src source, list []descriptor, cache *Cache) error {
	list = slices.DeleteFunc(slices.Clone(list), func(d descriptor) bool { return !mayBeSignature(d) })
	if len(list) > maxSignatures {
		return fault.New(fault.Untrusted, fmt.Errorf("%d artifacts may be signatures, more than %d", len(list), maxSignatures), "")
	}
	for _, d := range list {
		raw, err := readDocument(ctx, src, d, maxManifest, cache)
		if err != nil {
			return err
		}
		if err := s.addManifest(ctx, src, raw, d.MediaType, cache); err != nil {
			return err
		}
	}
	return nil
}
