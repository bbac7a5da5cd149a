package oci

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"imgbuild/fault"
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
	// Path is the length in bytes of a path; at most that of Linux.
	Path int
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
	Path:      maxPath - 1, // PATH_MAX with its NUL
	Ratio:     1100,        // the most that deflate can do is 1032
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
	if l.Path != 0 {
		d.Path = min(l.Path, d.Path)
	}
	return d
}

// Limit is a limit as users name it.
type Limit struct {
	Name  string
	About string // what it bounds
	Bytes bool   // a size
	Set   func(l *Limits, n int64)
	Value int64 // the default
}

// LimitNames lists the limits that users can set.
func LimitNames() []Limit {
	d := defaultLimits
	return []Limit{
		{"layers", "number of layers", false, func(l *Limits, n int64) { l.Layers = clampInt(n) }, int64(d.Layers)},
		{"entries", "entries of a layer", false, func(l *Limits, n int64) { l.Entries = clampInt(n) }, int64(d.Entries)},
		{"path", "length of a path", true, func(l *Limits, n int64) { l.Path = clampInt(n) }, int64(d.Path)},
		{"metadata", "names, link targets and extended attributes together", true, func(l *Limits, n int64) { l.Metadata = n }, d.Metadata},
		{"ratio", "plain bytes for each compressed byte of a layer larger than 32 GiB", false, func(l *Limits, n int64) { l.Ratio = n }, d.Ratio},
		{"size", "all layers together, unpacked", true, func(l *Limits, n int64) { l.Bytes = n }, d.Bytes},
	}
}

func clampInt(n int64) int { return int(min(n, math.MaxInt32)) }

// errLimit marks errors of images that are too big, which are not looked at any
// further.
var errLimit = errors.New("limit exceeded")

// limitError says which limit an image exceeds, and how.
func limitError(name, format string, args ...any) error {
	return fault.New(fault.BadImage, fmt.Errorf("%w: %s", errLimit, fmt.Sprintf(format, args...)),
		"if you trust the image, --limit "+name+"=N raises the limit")
}

// budget is what is left of the limits of an image. Layers share it.
type budget struct {
	limits          Limits
	bytes, metadata atomic.Int64 // used
}

func (b *budget) addBytes(n int64) error {
	// The first comparison keeps the sum from overflowing.
	if n > b.limits.Bytes || b.bytes.Add(n) > b.limits.Bytes {
		return limitError("size", "the layers have more than %d bytes", b.limits.Bytes)
	}
	return nil
}

func (b *budget) addMetadata(n int64) error {
	if b.metadata.Add(n) > b.limits.Metadata {
		return limitError("metadata", "names and attributes have more than %d bytes", b.limits.Metadata)
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

// layerLimit names the limit that layerBytes comes from.
func (b *budget) layerLimit(bytes int64) string {
	if bytes == b.limits.Bytes {
		return "size"
	}
	return "ratio"
}

// addEntry counts an entry against the limits.
func (b *budget) addEntry(e *entry) error {
	if len(e.path) > b.limits.Path {
		return fmt.Errorf("entry %s: %w", clip("/"+e.path), limitError("path", "a path of %d bytes, more than %d", len(e.path), b.limits.Path))
	}
	return b.addMetadata(e.cost())
}
