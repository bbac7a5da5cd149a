package document

import (
	"reflect"
	"slices"
	"strings"
)

// Merge returns what two documents for a struct of type t say together, b being
// the later one: tables are merged key by key, lists are joined, and of anything
// else the later one counts. The tag `merge` of a field says otherwise:
//
//	replace  the later value counts as a whole
//	join     texts are joined by a blank
//	by=KEY   elements of a list of tables with equal KEYs are merged
//	last=KEY of elements of a list of tables with equal KEYs the later one counts
//
// Neither is changed. Where one is of another kind than the type, the later one
// counts.
func Merge(t reflect.Type, a, b *Value) *Value { return merge(t, "", a, b) }

func merge(t reflect.Type, rule string, a, b *Value) *Value {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case b.Kind == Null:
		return a
	case a.Kind != b.Kind || rule == "replace":
		return b
	case a.Kind == Table && t.Kind() == reflect.Struct:
		return mergeTables(t, a, b)
	case a.Kind == Array && t.Kind() == reflect.Slice:
		return mergeLists(t.Elem(), rule, a, b)
	case a.Kind == String && rule == "join":
		c := *b
		c.Text = strings.TrimSpace(a.Text + " " + b.Text)
		return &c
	}
	return b
}

func mergeTables(t reflect.Type, a, b *Value) *Value {
	c := *a
	c.Fields = slices.Clone(a.Fields)
	for _, f := range b.Fields {
		i := c.index(f.Name)
		if i < 0 {
			c.Fields = append(c.Fields, f)
			continue
		}
		for _, k := range Keys(t) {
			if k.Name == f.Name {
				c.Fields[i] = Field{f.Name, f.At, merge(k.Type, k.Merge, c.Fields[i].Value, f.Value)}
			}
		}
	}
	return &c
}

func mergeLists(t reflect.Type, rule string, a, b *Value) *Value {
	c := *a
	c.Items = slices.Clone(a.Items)
	how, key, _ := strings.Cut(rule, "=")
	for _, item := range b.Items {
		i := slices.IndexFunc(a.Items, func(old *Value) bool { return same(old, item, key) })
		switch {
		case i < 0:
			c.Items = append(c.Items, item)
		case how == "by":
			c.Items[i] = merge(t, "", c.Items[i], item)
			c.Items[i].At = item.At
		case how == "last":
			c.Items[i] = item
		}
	}
	return &c
}

// same tells whether two elements of a list are about the same: plain values that
// are equal, or tables with an equal key.
func same(a, b *Value, key string) bool {
	if a.Kind == Table && b.Kind == Table && key != "" {
		if a, b = a.Field(key), b.Field(key); a == nil || b == nil {
			return false
		}
	}
	return a.Kind == b.Kind && a.Kind >= String && a.Text == b.Text
}
