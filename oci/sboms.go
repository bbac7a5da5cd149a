package oci

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"imgbuild/fault"
)

// SBOM is a software bill of materials that is attached to an image. It is what its
// digest says, and no more: nobody vouches for what is in it.
type SBOM struct {
	Digest    string // of the document, "sha256:…"
	MediaType string // of the document
	Of        string // digest of the manifest or index that it is attached to
	Content   []byte
}

// Bounds of the SBOMs of an image, which anybody can attach who may write to its
// repository.
const (
	maxSBOMs     = 32
	maxSBOM      = 32 << 20
	maxSBOMBytes = 128 << 20 // of all together
	maxArtifacts = 512       // that are looked into
)

// Statements about an image, of which some are SBOMs: plain as BuildKit attaches
// them, and signed as "cosign attest" does, in a bundle or in an envelope.
const (
	mediaInToto        = "application/vnd.in-toto+json"
	annotationInToto   = "in-toto.io/predicate-type"
	mediaBundle        = "application/vnd.dev.sigstore.bundle" // and a version
	mediaDSSE          = "application/vnd.dsse.envelope.v1+json"
	annotationDSSE     = "predicateType"
	predicateSPDX      = "https://spdx.dev/Document"
	predicateCycloneDX = "https://cyclonedx.org/bom"
)

// sbomTypes lists the media types of SBOMs, as cosign, ORAS, syft and trivy attach
// them, and the end of the names of files with them.
func sbomTypes() [][2]string {
	return [][2]string{
		{"application/spdx+json", ".spdx.json"},
		{"text/spdx+json", ".spdx.json"}, // cosign's
		{"spdx+json", ".spdx.json"},
		{"application/vnd.cyclonedx+json", ".cdx.json"},
		{"application/vnd.cyclonedx+xml", ".cdx.xml"},
		{"application/vnd.cyclonedx", ".cdx"},
		{"application/vnd.syft+json", ".syft.json"},
		{"text/spdx", ".spdx"},
	}
}

// Extension returns the end of the names of files with such documents.
func (s *SBOM) Extension() string {
	for _, t := range sbomTypes() {
		if t[0] == s.MediaType {
			return t[1]
		}
	}
	switch {
	case strings.HasPrefix(s.MediaType, mediaBundle):
		return ".sigstore.json"
	case s.MediaType == mediaDSSE:
		return ".dsse.json"
	}
	return ".intoto.json"
}

// isPredicate tells whether a statement is an SBOM by the type of its predicate.
func isPredicate(p string) bool {
	for _, known := range []string{predicateSPDX, predicateCycloneDX} {
		if p == known || strings.HasPrefix(p, known+"/") {
			return true
		}
	}
	return false
}

// isSBOM tells whether a layer of an artifact is an SBOM.
func isSBOM(d descriptor, artifact map[string]string) bool {
	for _, t := range sbomTypes() {
		if t[0] == d.MediaType {
			return true
		}
	}
	switch {
	case d.MediaType == mediaInToto:
		return isPredicate(d.Annotations[annotationInToto])
	case d.MediaType == mediaDSSE:
		return isPredicate(d.Annotations[annotationDSSE])
	case strings.HasPrefix(d.MediaType, mediaBundle):
		return isPredicate(artifact[annotationSubject])
	}
	return false
}

// mayBeSBOM tells whether an artifact that refers to an image may be one, by what
// the list of such says of it.
func mayBeSBOM(d descriptor) bool {
	kind := d.ArtifactType
	if kind == "" || kind == mediaEmpty || kind == mediaInToto {
		return true
	}
	if strings.HasPrefix(kind, mediaBundle) {
		p := d.Annotations[annotationSubject]
		return p == "" || isPredicate(p)
	}
	return isSBOM(descriptor{MediaType: kind}, nil)
}

// annotationOf is the digest of the image that an attestation of BuildKit is about.
const annotationOf = "vnd.docker.reference.digest"

// attestations returns what BuildKit adds to an index beside images.
func attestations(list []descriptor) (found []descriptor) {
	for _, d := range list {
		if d.Annotations[annotationAttestation] == "attestation-manifest" {
			found = append(found, d)
		}
	}
	return found
}

// attachedSource is a source that may have artifacts that refer to what it has.
type attachedSource interface {
	// attached returns the manifests of the artifacts that refer to a manifest or
	// index, and what their layers are read through.
	attachedTo(ctx context.Context, digest string) (list []descriptor, src source, cache *Cache, err error)
}

// SBOMs returns the software bills of materials that are attached to the image, or to
// the indexes that led to it: by the API or the tag of the distribution
// specification 1.1, under the tags of cosign, and as BuildKit has them in the index.
// Each is there once.
func (i *Image) SBOMs(ctx context.Context) ([]SBOM, error) {
	var got sboms
	for _, a := range i.attested {
		if a.Annotations[annotationOf] != i.ManifestDigest {
			continue
		}
		if err := got.add(ctx, i.src, a, i.ManifestDigest, i.cache); err != nil {
			return nil, fmt.Errorf("attestation %s: %w", a.Digest, err)
		}
	}
	s, ok := i.src.(attachedSource)
	if !ok {
		return got.list, nil
	}
	for _, digest := range i.Chain {
		artifacts, src, cache, err := s.attachedTo(ctx, digest)
		if err != nil {
			return nil, fmt.Errorf("what refers to %s: %w", digest, err)
		}
		for _, a := range artifacts {
			if err := got.add(ctx, src, a, digest, cache); err != nil {
				return nil, fmt.Errorf("artifact %s: %w", a.Digest, err)
			}
		}
	}
	return got.list, nil
}

// sboms are the SBOMs of an image, within their bounds.
type sboms struct {
	list   []SBOM
	total  int64 // in bytes
	looked int   // artifacts
}

// add adds those of an artifact that is attached to a manifest or index.
func (s *sboms) add(ctx context.Context, src source, a descriptor, of string, cache *Cache) error {
	if s.looked++; s.looked > maxArtifacts {
		return badImage(fmt.Errorf("more than %d artifacts may be SBOMs", maxArtifacts))
	}
	layers, err := sbomLayers(ctx, src, a, of, cache)
	if err != nil {
		return err
	}
	for _, l := range layers {
		if slices.ContainsFunc(s.list, func(o SBOM) bool { return o.Digest == l.Digest }) {
			continue
		}
		if s.total += l.Size; len(s.list) == maxSBOMs || s.total > maxSBOMBytes {
			return fault.New(fault.BadImage, fmt.Errorf("more than %d SBOMs are attached, or they have more than %d bytes", maxSBOMs, maxSBOMBytes), "")
		}
		raw, err := readDocument(ctx, src, l, maxSBOM, cache)
		if err != nil {
			return fmt.Errorf("sbom: %w", err)
		}
		s.list = append(s.list, SBOM{Digest: l.Digest, MediaType: l.MediaType, Of: of, Content: raw})
	}
	return nil
}

// sbomLayers returns the SBOMs among the layers of an artifact.
func sbomLayers(ctx context.Context, src source, a descriptor, of string, cache *Cache) (layers []descriptor, err error) {
	raw, err := readDocument(ctx, src, a, maxManifest, cache)
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(raw, a.MediaType)
	if err != nil {
		return nil, err
	}
	// The tag of cosign says of what it is; artifacts say it themselves.
	if doc.Subject != nil && doc.Subject.Digest != of {
		return nil, nil
	}
	for _, l := range doc.Layers {
		if isSBOM(l, doc.Annotations) {
			layers = append(layers, l)
		}
	}
	return layers, nil
}

// attachedTo implements attachedSource: of the place that the image was read from.
func (m *mirrored) attachedTo(ctx context.Context, digest string) ([]descriptor, source, *Cache, error) {
	at := m.list[m.chosen.Load()]
	src := &onePlace{m, at}
	all, err := m.referrers(ctx, at, digest)
	if err != nil {
		return nil, nil, nil, err
	}
	var list []descriptor
	for _, d := range all {
		if mayBeSBOM(d) {
			list = append(list, d)
		}
	}
	here := &given{source: src, raw: map[string][]byte{}}
	for _, tag := range sbomTags(digest) {
		raw, mediaType, err := m.tagged(ctx, at, tag)
		if err != nil {
			return nil, nil, nil, err
		}
		if raw != nil {
			d := descriptor{MediaType: mediaType, Digest: sum(raw), Size: int64(len(raw))}
			list, here.raw[d.Digest] = append(list, d), raw
		}
	}
	return list, here, m.cache, nil
}

// given is a source of which some documents are at hand, by their digests.
type given struct {
	source
	raw map[string][]byte
}

func (g *given) document(ctx context.Context, d descriptor, limit int64) ([]byte, error) {
	if raw, ok := g.raw[d.Digest]; ok {
		return raw, nil
	}
	return g.source.document(ctx, d, limit)
}

// attachedTo implements attachedSource: what index.json has that refers to the
// image, or has the tags for it.
func (s *layoutSource) attachedTo(ctx context.Context, digest string) ([]descriptor, source, *Cache, error) {
	raw, err := s.read("index.json", maxManifest)
	if err != nil {
		return nil, nil, nil, err
	}
	doc, err := parseDocument(raw, "")
	if err != nil {
		return nil, nil, nil, fmt.Errorf("index.json: %w", err)
	}
	var list, untagged []descriptor
	for _, d := range doc.Manifests {
		switch tag := d.Annotations[annotationRefName]; {
		case d.Digest == digest || d.MediaType == mediaDockerManifest:
		case slices.Contains(sbomTags(digest), tag):
			list = append(list, d)
		case tag == referrersTag(digest):
			raw, err := readDocument(ctx, s, d, maxManifest, nil)
			if err != nil {
				return nil, nil, nil, err
			}
			more, err := parseReferrers(raw)
			if err != nil {
				return nil, nil, nil, err
			}
			list = append(list, more...)
		case tag == "" && d.MediaType == mediaManifest && mayBeSBOM(d):
			untagged = append(untagged, d)
		}
	}
	if len(untagged) > maxUntagged {
		return nil, nil, nil, badImage(fmt.Errorf("index.json: %d manifests without a tag, more than %d", len(untagged), maxUntagged))
	}
	for _, d := range untagged {
		raw, err := readDocument(ctx, s, d, maxManifest, nil)
		if err != nil {
			return nil, nil, nil, err
		}
		var artifact struct {
			Subject *descriptor `json:"subject"`
		}
		if err := unmarshal(raw, &artifact); err == nil && artifact.Subject != nil && artifact.Subject.Digest == digest {
			list = append(list, d)
		}
	}
	return list, s, nil, nil
}

// maxUntagged is how many manifests without a tag a layout may have: images of other
// architectures, and what is attached.
const maxUntagged = 512

// sbomTags returns the tags under which "cosign attach sbom" puts the SBOM of a
// manifest, and "cosign attest" what is said of it.
func sbomTags(digest string) []string {
	return []string{referrersTag(digest) + ".sbom", referrersTag(digest) + ".att"}
}

// Short returns the beginning of a digest, for the names of files.
func (s *SBOM) Short() string {
	b, err := hex.DecodeString(strings.TrimPrefix(s.Digest, "sha256:"))
	if err != nil {
		return ""
	}
	return hex.EncodeToString(b[:min(len(b), 6)])
}
