package disk

import "slices"

// Overlay returns the image of size bytes that holds the parts, and img where
// there are none. What of img is beyond the size is left out.
func Overlay(img *Image, size int64, parts []Part) (*Image, error) {
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b Part) int {
		switch {
		case a.Off < b.Off:
			return -1
		case a.Off > b.Off:
			return 1
		}
		return 0
	})
	var kept []Extent
	for _, e := range img.extents {
		pos := e.Off
		keep := func(to int64) {
			if to = min(to, e.End(), size); to > pos {
				kept = append(kept, Extent{pos, e.Data.Slice(pos-e.Off, to-pos)})
			}
		}
		for _, p := range parts {
			keep(p.Off)
			pos = max(pos, p.Off+p.Size)
		}
		keep(size)
	}
	return Compose(size, append(parts, Part{Size: size, Extents: kept}))
}
