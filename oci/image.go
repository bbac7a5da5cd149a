package oci

import (
	"context"
	"time"

	"imgbuild/fault"
)

// Options say how to reach an image and which one to take.
type Options struct {
	// Arch is the architecture to take, as GOARCH. An empty one takes an image
	// that is there for one architecture only.
	Arch string
	// Insecure allows a registry plain HTTP and TLS certificates that nobody
	// vouches for. Loopback registries may always use plain HTTP.
	Insecure bool
	// AuthFile is the credentials file of Podman or Docker to use. An empty one
	// stands for the look-up order of [DefaultAuthFiles].
	AuthFile string
	// Getenv and Home say where credentials are looked up without an AuthFile.
	// A nil Getenv is an empty environment.
	Getenv func(string) string
	Home   string
	// UserAgent is sent to registries.
	UserAgent string
	// IdleTimeout is how long a registry may stay silent. Zero is a minute.
	IdleTimeout time.Duration
	// Cache, which may be nil, answers for manifests and configs that are
	// pinned by digest and keeps those that were read.
	Cache *Cache
	Access
}

// LayerInfo is a layer as the manifest and the config name it.
type LayerInfo struct {
	Digest    string // of the blob, "sha256:…"
	DiffID    string // of the plain tar, "sha256:…"
	Size      int64  // of the blob in bytes
	MediaType string
}

// Image is an image whose manifest and config were read and verified. Close it
// when the content of its layers is no longer needed.
type Image struct {
	Reference      Reference
	ManifestDigest string // of the platform's manifest, "sha256:…"
	ConfigDigest   string
	Chain          []string          // digests of the manifest and of the indexes that led to it, outermost last
	Manifest       []byte            // as it is in the source, verified
	Config         []byte            // likewise
	MediaType      string            // of the manifest
	Arch           string            // GOARCH
	Labels         map[string]string // of the config
	Annotations    map[string]string // of the manifest
	Layers         []LayerInfo       // lowest first
	// Signed says who signed the image, in words, one for each signature that the
	// policy asks for.
	Signed []string

	src      source
	cache    *Cache       // of what is read later, or nil
	attested []descriptor // attestations of images in the indexes that led to it
	state    unpackState
}

// Open resolves the reference, picks the image of the architecture where there
// are several, and reads and verifies its manifest and config.
//
// Errors are of the class NotFound when there is no such image or its source
// cannot be reached, Auth when the registry refuses, BadImage when what was
// read is damaged or hostile, Unsupported when it is of a kind not supported,
// Untrusted when the policy does not allow it.
func Open(ctx context.Context, ref Reference, opt Options) (*Image, error) {
	src, err := openSource(ctx, ref, opt)
	if err != nil {
		return nil, err
	}
	img, err := resolve(ctx, src, ref, opt)
	if err != nil {
		src.Close()
		return nil, err
	}
	return img, nil
}

// Close releases what the image holds: open files, spools and temporary files.
// Content references into its layers fail afterwards.
func (i *Image) Close() error {
	err := i.state.close()
	if cerr := i.src.Close(); err == nil {
		err = cerr
	}
	return fault.Default(fault.Output, err)
}
