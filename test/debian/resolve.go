package debian

import (
	"fmt"
	"slices"
	"strings"
)

// Resolve returns the packages named in want and all that they depend on,
// ascending by name. Packages named in drop are left out, and with them what
// only they need. Of alternatives the first that is wanted, chosen already or
// known is taken; a virtual package is provided by one that is chosen already,
// else by the first of the index.
func (a *Archive) Resolve(want, drop []string) ([]*Package, error) {
	return a.index.resolve(want, drop)
}

// Lookup returns the package called name, or nil.
func (a *Archive) Lookup(name string) *Package { return a.index.packages[name] }

func (x *index) resolve(want, drop []string) ([]*Package, error) {
	chosen := make(map[string]*Package)
	dropped := make(map[string]bool)
	for _, name := range drop {
		dropped[name] = true
	}
	var queue []*Package
	add := func(p *Package) {
		if chosen[p.Name] == nil {
			chosen[p.Name] = p
			queue = append(queue, p)
		}
	}
	for _, name := range want {
		p := x.packages[name]
		if p == nil {
			return nil, fmt.Errorf("no package %q", name)
		}
		add(p)
	}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		for _, alternatives := range relations(p.Depends) {
			q, ok := x.choose(alternatives, chosen, dropped)
			if !ok {
				return nil, fmt.Errorf("package %s: nothing provides %s", p.Name, strings.Join(alternatives, " or "))
			}
			if q != nil {
				add(q)
			}
		}
	}
	list := make([]*Package, 0, len(chosen))
	for _, p := range chosen {
		list = append(list, p)
	}
	slices.SortFunc(list, func(p, q *Package) int { return strings.Compare(p.Name, q.Name) })
	return list, nil
}

// choose picks the package for a dependency: nil when it is one to drop.
func (x *index) choose(alternatives []string, chosen map[string]*Package, dropped map[string]bool) (*Package, bool) {
	for _, name := range alternatives {
		if chosen[name] != nil {
			return chosen[name], true
		}
	}
	for _, name := range alternatives {
		if dropped[name] {
			return nil, true
		}
		if p := x.packages[name]; p != nil {
			return p, true
		}
		providers := x.providers[name]
		for _, provider := range providers {
			if chosen[provider] != nil {
				return chosen[provider], true
			}
		}
		for _, provider := range providers {
			if dropped[provider] {
				return nil, true
			}
		}
		if len(providers) > 0 {
			return x.packages[providers[0]], true
		}
	}
	return nil, false
}
