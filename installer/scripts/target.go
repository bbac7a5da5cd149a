package scripts

import (
	"cmp"
	"slices"
	"strings"
)

// sort puts file systems before those that are mounted in them.
func (t *Target) sort() {
	slices.SortStableFunc(t.Mounts, func(a, b Mount) int {
		return cmp.Or(strings.Count(strings.TrimSuffix(a.Where, "/"), "/")-strings.Count(strings.TrimSuffix(b.Where, "/"), "/"),
			strings.Compare(a.Where, b.Where))
	})
}
