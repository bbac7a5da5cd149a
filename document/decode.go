package document

import (
	"fmt"
	"reflect"
	"strings"
)

// Decoder is a type that reads itself from a value. The message says what the
// value has to be, "" that it is well.
type Decoder interface {
	DecodeValue(v *Value) (problem string)
}

// Places are the positions of the keys and the elements that a decoded document
// has, by their path: "user[0].name".
type Places map[string]Position

// Of returns the place of a path, or of what it is in where it has none.
func (p Places) Of(path string) Position {
	for {
		if at, ok := p[path]; ok {
			return at
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return p[""]
		}
		path = path[:i]
	}
}

// Decode fills the struct that into points to from a table. A field of the struct
// is set by the key in its tag `key`; after a comma, "required" says that the key
// must be there. The tag `enum` has the words that a string may be; one that is not
// required may be empty as well. Keys without a
// field, values of other kinds and missing keys are problems; all are returned, in
// the order of the file, and places has what was read in any case.
func Decode(v *Value, into any) (places Places, problems []Problem) {
	d := &decoder{places: Places{}, root: reflect.TypeOf(into).Elem()}
	d.decode(v, reflect.ValueOf(into).Elem(), "", v.At)
	return d.places, d.problems
}

type decoder struct {
	places   Places
	problems []Problem
	root     reflect.Type
}

// maxProblems is how many problems a report has; a file of the wrong kind would
// have thousands.
const maxProblems = 100

func (d *decoder) problem(at Position, path, format string, args ...any) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, Problem{at, path, fmt.Sprintf(format, args...)})
	}
}

// decode sets to, the value of path, whose key is at.
func (d *decoder) decode(v *Value, to reflect.Value, path string, at Position) {
	d.places[path] = at
	if to.Kind() == reflect.Pointer {
		if v.Kind == Null {
			return
		}
		fresh := reflect.New(to.Type().Elem())
		d.decode(v, fresh.Elem(), path, at)
		to.Set(fresh)
		return
	}
	if c, ok := to.Addr().Interface().(Decoder); ok {
		if why := c.DecodeValue(v); why != "" {
			d.problem(v.At, path, "%s", why)
		}
		return
	}
	want := kindOf(to.Kind())
	if v.Kind != want {
		d.problem(v.At, path, "%s, where %s belongs", v.Kind, want)
		return
	}
	switch want {
	case Table:
		d.table(v, to, path)
	case Array:
		to.Set(reflect.MakeSlice(to.Type(), len(v.Items), len(v.Items)))
		for i, item := range v.Items {
			d.decode(item, to.Index(i), fmt.Sprintf("%s[%d]", path, i), item.At)
		}
	case String:
		to.SetString(v.Text)
	case Integer:
		to.SetInt(v.Integer)
	case Boolean:
		to.SetBool(v.Boolean)
	}
}

// kindOf returns the kind of value that a kind of field takes.
func kindOf(k reflect.Kind) Kind {
	switch k {
	case reflect.Struct:
		return Table
	case reflect.Slice:
		return Array
	case reflect.String:
		return String
	case reflect.Int64:
		return Integer
	case reflect.Bool:
		return Boolean
	}
	panic("document: no kind of value for a field of type " + k.String())
}

// table sets the fields of a struct.
func (d *decoder) table(v *Value, to reflect.Value, path string) {
	keys := Keys(to.Type())
	for _, f := range v.Fields {
		at := join(path, f.Name)
		i := -1
		for k := range keys {
			if keys[k].Name == f.Name {
				i = k
			}
		}
		if i < 0 {
			d.problem(f.At, at, "unknown key%s", d.suggest(f.Name, path, keys))
			continue
		}
		if f.Value.Kind == Null {
			continue // as if it was not there
		}
		before := len(d.problems)
		d.decode(f.Value, to.Field(keys[i].Index), at, f.At)
		enum := keys[i].Enum
		if f.Value.Text == "" && !keys[i].Required {
			enum = nil // the default
		}
		if len(d.problems) == before && len(enum) > 0 && !contains(enum, f.Value.Text) {
			d.problem(f.Value.At, at, "%q is none of %s%s", f.Value.Text, strings.Join(enum, ", "), didYouMean(nearest(f.Value.Text, enum)))
		}
	}
	for _, k := range keys {
		if f := v.Field(k.Name); k.Required && (f == nil || f.Kind == Null) {
			d.problem(v.At, join(path, k.Name), "missing")
		}
	}
}

// Key is a key of a table, as a field of a struct has it.
type Key struct {
	Name     string
	Index    int // of the field
	Required bool
	Enum     []string
	Merge    string
	Type     reflect.Type
}

// Keys returns the keys of a struct type, in its order.
func Keys(t reflect.Type) []Key {
	var list []Key
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("key"), ",")
		if name != "" {
			list = append(list, Key{name, i, option == "required", strings.Fields(f.Tag.Get("enum")), f.Tag.Get("merge"), f.Type})
		}
	}
	return list
}

// suggest returns what an unknown key may have been meant to be.
func (d *decoder) suggest(name, path string, keys []Key) string {
	var names []string
	for _, k := range keys {
		names = append(names, k.Name)
	}
	if near := nearest(name, names); near != "" {
		return didYouMean(near)
	}
	if elsewhere := find(d.root, "", name, 0); elsewhere != "" {
		return didYouMean(elsewhere)
	}
	if len(names) <= 8 {
		return "; the keys here are " + strings.Join(names, ", ")
	}
	return ""
}

// find returns the path of a key of that name, the shallowest.
func find(t reflect.Type, path, name string, depth int) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || depth > maxNesting {
		return ""
	}
	keys := Keys(t)
	for _, k := range keys {
		if k.Name == name {
			return join(path, name)
		}
	}
	best := ""
	for _, k := range keys {
		at := find(k.Type, join(path, k.Name), name, depth+1)
		if at != "" && (best == "" || strings.Count(at, ".") < strings.Count(best, ".")) {
			best = at
		}
	}
	return best
}

func didYouMean(s string) string {
	if s == "" {
		return ""
	}
	return "; did you mean " + s + "?"
}

func join(path, name string) string {
	if !plain(name) {
		name = fmt.Sprintf("%q", name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// plain tells whether a key needs no quotes in TOML.
func plain(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}
