package blueprints

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"imgbuild/document"
)

// remove takes what the paths name out of a blueprint: keys, and elements of
// lists.
func (b *Blueprint) remove(paths []string) {
	// Of a list, the last elements first.
	paths = slices.Clone(paths)
	slices.SortFunc(paths, func(x, y string) int { return -comparePaths(x, y) })
	for _, p := range slices.Compact(paths) {
		if p != "" {
			removePath(reflect.ValueOf(b).Elem(), strings.Split(p, "."))
		}
	}
}

// removePath takes what the names lead to out of a struct.
func removePath(v reflect.Value, names []string) {
	name, index, indexed := cutIndex(names[0])
	for _, k := range document.Keys(v.Type()) {
		if k.Name != name {
			continue
		}
		f := v.Field(k.Index)
		switch {
		case len(names) == 1 && !indexed:
			f.SetZero()
			return
		case indexed && (f.Kind() != reflect.Slice || index >= f.Len()):
			return
		case len(names) == 1:
			// A list that others may share stays as it is.
			f.Set(reflect.AppendSlice(reflect.AppendSlice(reflect.MakeSlice(f.Type(), 0, f.Len()), f.Slice(0, index)), f.Slice(index+1, f.Len())))
			return
		case indexed:
			f = f.Index(index)
		}
		if f.Kind() == reflect.Pointer {
			if f.IsNil() {
				return
			}
			f = f.Elem()
		}
		if f.Kind() == reflect.Struct {
			removePath(f, names[1:])
		}
	}
}

// cutIndex splits name[index].
func cutIndex(s string) (name string, index int, ok bool) {
	name, rest, ok := strings.Cut(s, "[")
	if !ok {
		return s, 0, false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(rest, "]"))
	return name, n, err == nil && n >= 0
}

// comparePaths orders paths by their components, indices by number.
func comparePaths(x, y string) int {
	return slices.CompareFunc(strings.Split(x, "."), strings.Split(y, "."), func(a, b string) int {
		an, ai, _ := cutIndex(a)
		bn, bi, _ := cutIndex(b)
		if c := strings.Compare(an, bn); c != 0 {
			return c
		}
		return ai - bi
	})
}
