package grub

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/tree"
)

// ModDep is the content of moddep.lst: the modules of a platform and what each
// of them needs.
type ModDep map[string][]string

// ParseModDep parses moddep.lst: a line "name: dependency dependency …" per
// module.
func ParseModDep(text []byte) (ModDep, error) {
	deps := make(ModDep)
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		name, rest, ok := strings.Cut(line, ":")
		if !ok || !validModule(name) {
			return nil, fmt.Errorf("line %d: not \"module: dependencies\"", number)
		}
		if _, ok := deps[name]; ok {
			return nil, fmt.Errorf("line %d: module %s again", number, name)
		}
		if len(deps) == maxModuleCount {
			return nil, fmt.Errorf("more than %d modules", maxModuleCount)
		}
		needs := strings.Fields(rest)
		for _, n := range needs {
			if !validModule(n) {
				return nil, fmt.Errorf("line %d: module name %q", number, n)
			}
		}
		deps[name] = needs
	}
	if len(deps) == 0 {
		return nil, errors.New("no modules")
	}
	return deps, nil
}

// validModule tells whether name can be that of a module: part of a file name,
// without the blanks that separate names.
func validModule(name string) bool {
	return name != "" && tree.ValidName(name+".mod") && !strings.HasPrefix(name, ".") && !strings.ContainsAny(name, " \t\r\v\f:") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r >= 0x7f })
}

// Closure returns the modules wanted and all they need, every module behind
// those it needs: grub-mkimage's order, which takes dependencies in the reverse
// order of the list.
func (d ModDep) Closure(wanted []string) ([]string, error) {
	var order, path []string
	state := make(map[string]bool, len(d)) // false while what it needs is being added
	var add func(name string) error
	add = func(name string) error {
		if done, seen := state[name]; done {
			return nil
		} else if seen {
			return fmt.Errorf("modules need each other: %s", strings.Join(append(path, name), ", "))
		}
		needs, ok := d[name]
		if !ok {
			if len(path) > 0 {
				return fmt.Errorf("module %s, needed by %s, is not in moddep.lst", name, path[len(path)-1])
			}
			return fmt.Errorf("module %s is not in moddep.lst", name)
		}
		state[name] = false
		path = append(path, name)
		for _, n := range slices.Backward(needs) {
			if err := add(n); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		state[name] = true
		order = append(order, name)
		return nil
	}
	for _, name := range wanted {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}
