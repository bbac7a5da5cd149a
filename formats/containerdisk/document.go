package containerdisk

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// Media types of the image specification.
const (
	MediaManifest = "application/vnd.oci.image.manifest.v1+json"
	MediaConfig   = "application/vnd.oci.image.config.v1+json"
	MediaLayer    = "application/vnd.oci.image.layer.v1.tar"
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
)

// descriptor is descriptor.md.
type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	Platform  *platform `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// config is config.md.
type config struct {
	Created string `json:"created"`
	platform
	Config struct{} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []history `json:"history"`
}

type history struct {
	Created   string `json:"created"`
	CreatedBy string `json:"created_by"`
}

// manifest is manifest.md.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

// index is image-index.md.
type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

// describe returns the image with the layer, which is its own plain tar.
func describe(layer Blob, opt Options) *Image {
	created := time.Unix(max(opt.Time.Unix(), 0), 0).UTC().Format(time.RFC3339)
	c := config{
		Created:  created,
		platform: platform{opt.Arch, "linux"},
		History:  []history{{created, "imgbuild /" + diskName}},
	}
	c.RootFS.Type = "layers"
	c.RootFS.DiffIDs = []string{layer.Digest}
	image := &Image{Config: encode(c), Layer: layer, platform: c.platform}
	image.Manifest = encode(manifest{
		SchemaVersion: 2,
		MediaType:     MediaManifest,
		Config:        describeBlob(MediaConfig, image.Config),
		Layers:        []descriptor{{MediaType: MediaLayer, Digest: layer.Digest, Size: layer.Size}},
	})
	return image
}

func describeBlob(mediaType string, b []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: digestOf(b), Size: int64(len(b))}
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// file is a small file of the layout.
type file struct {
	name    string
	content []byte
}

// files returns everything but the layer, the index last.
func (i *Image) files() []file {
	d := describeBlob(MediaManifest, i.Manifest)
	d.Platform = &i.platform
	return []file{
		{BlobPath(digestOf(i.Config)), i.Config},
		{BlobPath(d.Digest), i.Manifest},
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", encode(index{SchemaVersion: 2, MediaType: mediaIndex, Manifests: []descriptor{d}})},
	}
}

// encode returns v, one of the structures above, as JSON.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("containerdisk: internal error: " + err.Error())
	}
	return b
}
