// Package disk is the virtual disk: a size and the places where it is not zero.
//
// File system writers return [Extent]s relative to their partition; [Compose]
// puts partitions, tables and boot code together into one [Image], which the
// format encoders stream or read at random. Nothing is ever held as a whole.
package disk

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"sort"

	"imgbuild/content"
)

// Extent is content at a byte offset. What no extent covers is zero.
type Extent struct {
	Off  int64
	Data content.Ref
}

// End returns the offset behind the extent.
func (e Extent) End() int64 { return e.Off + e.Data.Size() }

// Image is a virtual disk, read-only and safe for concurrent use.
type Image struct {
	size    int64
	extents []Extent // ascending, not overlapping, not empty
}

// New returns the image of size bytes that holds the extents, in any order. It
// is an error when two overlap or one lies beyond the size.
func New(size int64, extents []Extent) (*Image, error) {
	extents = slices.DeleteFunc(slices.Clone(extents), func(e Extent) bool { return e.Data.Size() == 0 })
	ascending := func(a, b Extent) int {
		switch {
		case a.Off < b.Off:
			return -1
		case a.Off > b.Off:
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(extents, ascending) {
		slices.SortFunc(extents, ascending)
	}
	pos := int64(0)
	for _, e := range extents {
		n := e.Data.Size()
		switch {
		case e.Off < 0 || n > size || e.Off > size-n:
			return nil, fmt.Errorf("disk: extent of %d bytes at %d beyond the size of %d", n, e.Off, size)
		case e.Off < pos:
			return nil, fmt.Errorf("disk: extent at %d overlaps one that ends at %d", e.Off, pos)
		}
		pos = e.End()
	}
	return &Image{size: size, extents: extents}, nil
}

// Part is a range of a disk that has extents of its own: a partition, or a
// place for a table or boot code.
type Part struct {
	Off, Size int64
	Extents   []Extent // offsets relative to Off
}

// Compose returns the image of size bytes made of the parts.
func Compose(size int64, parts []Part) (*Image, error) {
	n := 0
	for _, p := range parts {
		n += len(p.Extents)
	}
	all := make([]Extent, 0, n)
	for _, p := range parts {
		if p.Off < 0 || p.Size < 0 || p.Size > size || p.Off > size-p.Size {
			return nil, fmt.Errorf("disk: part of %d bytes at %d beyond the size of %d", p.Size, p.Off, size)
		}
		for _, e := range p.Extents {
			if n := e.Data.Size(); e.Off < 0 || n > p.Size || e.Off > p.Size-n {
				return nil, fmt.Errorf("disk: extent of %d bytes at %d outside its part of %d bytes at %d", n, e.Off, p.Size, p.Off)
			}
			all = append(all, Extent{p.Off + e.Off, e.Data})
		}
	}
	return New(size, all)
}

// Size returns the size of the disk in bytes.
func (d *Image) Size() int64 { return d.size }

// Extents returns the extents, ascending. The slice must not be modified.
func (d *Image) Extents() []Extent { return d.extents }

// find returns the index of the first extent that ends after off.
func (d *Image) find(off int64) int {
	return sort.Search(len(d.extents), func(i int) bool { return d.extents[i].End() > off })
}

// ReadAt implements io.ReaderAt.
func (d *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("disk: negative offset %d", off)
	}
	if off >= d.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), d.size-off))
	clear(p[:n])
	end := off + int64(n)
	for i := d.find(off); i < len(d.extents) && d.extents[i].Off < end; i++ {
		e := d.extents[i]
		from, to := max(e.Off, off), min(e.End(), end)
		if _, err := e.Data.ReadAt(p[from-off:to-off], from-e.Off); err != nil && err != io.EOF {
			return 0, fmt.Errorf("disk: read at %d: %w", from, err)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Data yields the ranges (offset, length) that may hold anything but zeros, in
// ascending order and never overlapping. Ranges are widened to multiples of
// grain, a power of two, and those that then touch are joined; the last one
// ends at the size of the disk at most.
func (d *Image) Data(grain int64) iter.Seq2[int64, int64] {
	return func(yield func(off, n int64) bool) {
		start, end := int64(0), int64(0)
		for _, e := range d.extents {
			for off, n := range e.Data.Data() {
				from := (e.Off + off) &^ (grain - 1)
				to := min((e.Off+off+n+grain-1)&^(grain-1), d.size)
				if from <= end && end > start {
					end = max(end, to)
					continue
				}
				if end > start && !yield(start, end-start) {
					return
				}
				start, end = from, to
			}
		}
		if end > start {
			yield(start, end-start)
		}
	}
}
