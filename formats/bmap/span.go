package bmap

import (
	"cmp"
	"slices"
	"sort"

	"imgbuild/disk"
)

// span is the bytes from up to to.
type span struct{ from, to int64 }

// spans are ascending, not empty and do not overlap, once normal has made them so.
type spans []span

// normal sorts the spans and joins those that touch.
func (list spans) normal() spans {
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out spans
	for _, s := range list {
		if s.from >= s.to {
			continue
		}
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// subtract returns what of list is not in other. Both are normal.
func (list spans) subtract(other spans) (out spans) {
	for _, s := range list {
		for len(other) > 0 && other[0].to <= s.from {
			other = other[1:]
		}
		for _, o := range other {
			if o.from >= s.to {
				break
			}
			if o.from > s.from {
				out = append(out, span{s.from, o.from})
			}
			s.from = min(max(s.from, o.to), s.to)
		}
		if s.from < s.to {
			out = append(out, s)
		}
	}
	return out
}

// holes returns a function that tells whether a span is known to be zero.
func holes(img *disk.Image) func(span) bool {
	var data spans
	for off, n := range img.Data(blockSize) {
		data = append(data, span{off, off + n})
	}
	return func(s span) bool {
		i := sort.Search(len(data), func(i int) bool { return data[i].to > s.from })
		return i == len(data) || data[i].from >= s.to
	}
}
