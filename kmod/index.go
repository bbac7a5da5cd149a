package kmod

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Index finds the modules for devices. It stands beside the modules in an
// initramfs, as JSON.
type Index struct {
	Modules []Entry  `json:"modules"` // ascending by name
	Always  []string `json:"always"`  // names of modules to load whatever devices there are

	byName  map[string]*Entry
	byStart map[string][]alias // by what comes before the first ":" or special character
}

// Entry is a module in an index.
type Entry struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"` // below lib/modules/VERSION
	Depends []string `json:"depends,omitempty"`
	Pre     []string `json:"pre,omitempty"`
	Post    []string `json:"post,omitempty"`
	Aliases []string `json:"aliases,omitempty"`
}

type alias struct {
	pattern string
	module  *Entry
}

func newIndex(modules []*Module) *Index {
	x := &Index{}
	for _, m := range modules {
		x.Modules = append(x.Modules, Entry{Name: m.Name, Path: m.Path, Depends: m.Depends, Pre: m.Pre, Post: m.Post, Aliases: m.Aliases})
	}
	for _, name := range always() {
		if slices.ContainsFunc(x.Modules, func(e Entry) bool { return e.Name == name }) {
			x.Always = append(x.Always, name)
		}
	}
	x.prepare()
	return x
}

// ParseIndex reads what [Index.Encode] returned.
func ParseIndex(text []byte) (*Index, error) {
	x := &Index{}
	if err := json.Unmarshal(text, x); err != nil {
		return nil, fmt.Errorf("index of kernel modules: %w", err)
	}
	x.prepare()
	return x, nil
}

// Encode returns the index as JSON.
func (x *Index) Encode() ([]byte, error) { return json.Marshal(x) }

func (x *Index) prepare() {
	x.byName, x.byStart = map[string]*Entry{}, map[string][]alias{}
	for i := range x.Modules {
		m := &x.Modules[i]
		x.byName[m.Name] = m
		for _, a := range m.Aliases {
			x.byStart[start(a)] = append(x.byStart[start(a)], alias{a, m})
		}
	}
}

// start returns the bus that an alias is for: what comes before the first colon,
// or nothing where a pattern begins earlier.
func start(s string) string {
	n := strings.IndexAny(s, ":*?[\\")
	if n < 0 || s[n] != ':' {
		return ""
	}
	return s[:n]
}

// Match returns the names of the modules for a device with that modalias, or with
// that other name.
func (x *Index) Match(modalias string) (names []string) {
	if e := x.byName[underscores(modalias)]; e != nil {
		return []string{e.Name}
	}
	keys := []string{start(modalias)}
	if keys[0] != "" {
		keys = append(keys, "")
	}
	for _, key := range keys {
		for _, a := range x.byStart[key] {
			if match(a.pattern, modalias) && !slices.Contains(names, a.module.Name) {
				names = append(names, a.module.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Order returns the module called name after all that has to be loaded before it,
// and before what should come after it. Names that the index does not have are
// built in, or not needed.
func (x *Index) Order(name string) (list []*Entry) {
	done := map[string]bool{}
	var visit func(name string)
	soft := func(names []string) {
		for _, n := range names {
			for _, m := range x.Match(n) {
				visit(m)
			}
		}
	}
	visit = func(name string) {
		e := x.byName[name]
		if e == nil || done[name] {
			return
		}
		done[name] = true
		for _, d := range e.Depends {
			visit(d)
		}
		soft(e.Pre)
		list = append(list, e)
		soft(e.Post)
	}
	visit(name)
	return list
}
