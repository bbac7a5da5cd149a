package oci

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Limits bound what an image may cost. Zero fields stand for the defaults.
type Limits struct {
	// Layers is the number of layers. Container runtimes stop at 127.
	Layers int
	// Entries is the number of tar entries of a layer.
	Entries int
	// Bytes is the sum of the plain layers, and of the holes of sparse files.
	Bytes int64
	// Metadata is the sum of names, link targets, extended attributes and
	// sparse maps.
	Metadata int64
	// Ratio is how many bytes a layer may have for each of its blob, beyond
	// RatioFree bytes. Zeros compress without bound, and big files of zeros are
	// honest; their spools take no room.
	Ratio, RatioFree int64
}

var defaultLimits = Limits{
	Layers:    512,
	Entries:   4 << 20,
	Bytes:     256 << 30,
	Metadata:  1 << 30,
	Ratio:     1100, // the most that deflate can do is 1032
	RatioFree: 32 << 30,
}

func (l Limits) withDefaults() Limits {
	d := defaultLimits
	for _, f := range []struct{ to, from *int64 }{
		{&d.Bytes, &l.Bytes}, {&d.Metadata, &l.Metadata}, {&d.Ratio, &l.Ratio}, {&d.RatioFree, &l.RatioFree},
	} {
		if *f.from != 0 {
			*f.to = *f.from
		}
	}
	if l.Layers != 0 {
		d.Layers = l.Layers
	}
	if l.Entries != 0 {
		d.Entries = l.Entries
	}
	return d
}

// errLimit marks errors of images that are too big, which are not looked at any
// further.
var errLimit = errors.New("limit exceeded")

func limitError(format string, args ...any) error {
	return badImage(fmt.Errorf("%w: %s", errLimit, fmt.Sprintf(format, args...)))
}

// budget is what is left of the limits of an image. Layers share it.
type budget struct {
	limits          Limits
	bytes, metadata atomic.Int64 // used
}

func (b *budget) addBytes(n int64) error {
	// The first comparison keeps the sum from overflowing.
	if n > b.limits.Bytes || b.bytes.Add(n) > b.limits.Bytes {
		return limitError("the layers have more than %d bytes", b.limits.Bytes)
	}
	return nil
}

func (b *budget) addMetadata(n int64) error {
	if b.metadata.Add(n) > b.limits.Metadata {
		return limitError("names and attributes have more than %d bytes", b.limits.Metadata)
	}
	return nil
}

// layerBytes returns how many bytes the plain form of a blob of size bytes may
// have.
func (b *budget) layerBytes(size int64) int64 {
	if size > (b.limits.Bytes-b.limits.RatioFree)/b.limits.Ratio {
		return b.limits.Bytes
	}
	return min(b.limits.Bytes, b.limits.RatioFree+b.limits.Ratio*size)
}
