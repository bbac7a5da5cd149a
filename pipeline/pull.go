package pipeline

import (
	"context"
	"fmt"
	"time"

	"imgbuild/oci"
)

// Reach says how registries, local stores and the cache are used, further.
type Reach struct {
	Access oci.Access
	// StallTimeout is how long a registry may send next to nothing; 0 is a minute.
	StallTimeout time.Duration
	CacheSize    int64 // what the cache may hold, in bytes; 0 is no limit
}

// FindImage parses an image reference as users type it, see [oci.Find].
func FindImage(ctx context.Context, text string, o *Options) (oci.Reference, error) {
	access := o.registry()
	if access.Arch = o.Arch; access.Arch == "" {
		access.Arch = o.HostArch
	}
	return oci.Find(ctx, text, access)
}

// Pulled is an image whose layers are in the cache.
type Pulled struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
	Arch      string `json:"architecture"`
	Layers    int    `json:"layers"`
}

// Pull reads an image into the cache, so that a build of it need not ask for
// anything: its layers are unpacked and hashed as a build does it.
func Pull(ctx context.Context, o Options, p Progress) (*Pulled, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	s, unpack, err := open(ctx, &o, p)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.unpack(ctx, unpack, p); err != nil {
		return nil, err
	}
	s.trim(&o, p)
	return &Pulled{s.image.Reference.String(), s.image.ManifestDigest, s.image.Arch, len(s.image.Layers)}, nil
}

// trim keeps the cache within its size. What is in use stays readable, so that
// it does not matter when this is done; a cache that cannot be trimmed is no
// reason for a build to fail.
func (s *source) trim(o *Options, p Progress) {
	if s.cache == nil || o.CacheSize <= 0 {
		return
	}
	if err := s.cache.Trim(o.CacheSize); err != nil {
		p.Warn(fmt.Sprintf("the cache is larger than it should be: %v", err))
	}
}
