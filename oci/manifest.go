package oci

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"imgbuild/fault"
)

// Limits of the JSON documents, in bytes. containers/image takes manifests and
// indexes of 4 MiB; configs grow with the history.
const (
	maxManifest = 4 << 20
	maxConfig   = 16 << 20
)

// Media types of the documents.
const (
	mediaIndex          = "application/vnd.oci.image.index.v1+json"
	mediaManifest       = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig         = "application/vnd.oci.image.config.v1+json"
	mediaDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaDockerConfig   = "application/vnd.docker.container.image.v1+json"
)

const (
	annotationRefName = "org.opencontainers.image.ref.name"
	// annotationAttestation marks what BuildKit adds to an index beside images.
	annotationAttestation = "vnd.docker.reference.type"
)

// descriptor is descriptor.md of the image specification.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations"`
	Platform     *platform         `json:"platform"`
	ArtifactType string            `json:"artifactType"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
}

func (p *platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// document is a manifest or an index: image-index.md, manifest.md and their
// Docker counterparts. Which one it is shows in what it has.
type document struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        *descriptor       `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Manifests     []descriptor      `json:"manifests"`
	Annotations   map[string]string `json:"annotations"`
	Subject       *descriptor       `json:"subject"`  // what an artifact refers to
	FSLayers      json.RawMessage   `json:"fsLayers"` // of schema 1
}

// imageConfig is config.md, as far as it is used here.
type imageConfig struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		Labels map[string]string `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// parseDocument parses and checks a manifest or index. mediaType is what the
// source called it, and may be empty.
func parseDocument(raw []byte, mediaType string) (*document, error) {
	var doc document
	if err := unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if doc.SchemaVersion == 1 || len(doc.FSLayers) > 0 {
		return nil, fault.New(fault.Unsupported, errors.New("is a Docker schema 1 manifest"),
			"convert the image with: skopeo copy --format oci")
	}
	if doc.SchemaVersion != 2 {
		return nil, badImage(errors.New("schemaVersion is not 2"))
	}
	// The same bytes must not be a manifest for one reader and an index for
	// another (CVE-2021-41190).
	isIndex := doc.Manifests != nil
	if isIndex == (doc.Config != nil || doc.Layers != nil) {
		return nil, badImage(errors.New("is neither an image manifest nor an index"))
	}
	for _, name := range []string{doc.MediaType, mediaType} {
		switch name {
		case mediaIndex, mediaDockerList:
			if !isIndex {
				return nil, badImage(errors.New("is a manifest with the media type of an index"))
			}
		case mediaManifest, mediaDockerManifest:
			if isIndex {
				return nil, badImage(errors.New("is an index with the media type of a manifest"))
			}
		}
	}
	if isIndex {
		return &doc, checkDescriptors("manifest", doc.Manifests)
	}
	if doc.Config == nil {
		return nil, badImage(errors.New("manifest has no config"))
	}
	if err := checkDescriptors("config", []descriptor{*doc.Config}); err != nil {
		return nil, err
	}
	return &doc, checkDescriptors("layer", doc.Layers)
}

func checkDescriptors(what string, list []descriptor) error {
	for i, d := range list {
		if err := checkDigest(d.Digest); err != nil {
			return fmt.Errorf("%s %d: %w", what, i, err)
		}
		if d.Size < 0 {
			return badImage(fmt.Errorf("%s %d has a size of %d bytes", what, i, d.Size))
		}
	}
	return nil
}

// checkDigest checks the spelling of a digest, which later becomes part of file
// names and URLs.
func checkDigest(s string) error {
	if reDigest.MatchString(s) {
		return nil
	}
	if reOtherDigest.MatchString(s) {
		return fault.New(fault.Unsupported, fmt.Errorf("digest %s: only sha256 is supported", clip(s)), "")
	}
	return badImage(fmt.Errorf("invalid digest %s", clip(s)))
}

// parseConfig parses and checks a config for a manifest with n layers.
func parseConfig(raw []byte, n int) (*imageConfig, error) {
	var c imageConfig
	if err := unmarshal(raw, &c); err != nil {
		return nil, err
	}
	if c.OS != "linux" {
		return nil, badImage(fmt.Errorf("is of an image for the operating system %s, not linux", clip(c.OS)))
	}
	if c.Architecture == "" {
		return nil, badImage(errors.New("names no architecture"))
	}
	if len(c.RootFS.DiffIDs) != n {
		return nil, badImage(fmt.Errorf("has %d diff_ids for %d layers", len(c.RootFS.DiffIDs), n))
	}
	for i, id := range c.RootFS.DiffIDs {
		if err := checkDigest(id); err != nil {
			return nil, fmt.Errorf("diff_id %d: %w", i, err)
		}
	}
	return &c, nil
}

func unmarshal(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(v); err != nil {
		return badImage(fmt.Errorf("invalid JSON: %w", err))
	}
	if _, err := dec.Token(); err != io.EOF {
		return badImage(errors.New("invalid JSON: more than one value"))
	}
	return nil
}

// sum returns the digest of b.
func sum(b []byte) string {
	s := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(s[:])
}

func badImage(err error) error { return fault.New(fault.BadImage, err, "") }
