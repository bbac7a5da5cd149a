package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
)

// maxModule bounds an uncompressed kernel module; the largest have some MiB.
const maxModule = 256 << 20

// module is a kernel module and what its .modinfo section says.
type module struct {
	name    string // with underscores
	path    string // below usr/lib/modules/KVER, as it is in the tree
	plain   []byte // uncompressed
	depends []string
	aliases []string
	softdep []string // "pre: ... post: ..."
}

// moduleName is the name the kernel uses for a module file.
func moduleName(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(base, "-", "_")
}

// loadModules reads the modules in wanted and all that they depend on, in the
// order in which they can be loaded. Names that neither a module has nor
// modules.builtin lists are an error unless they end in "?".
func loadModules(root rootfs, dir string, wanted []string) ([]*module, error) {
	files := make(map[string]string)
	for _, p := range root.paths() {
		if under(p, dir+"/kernel") && strings.Contains(path.Base(p), ".ko") {
			files[moduleName(p)] = p
		}
	}
	builtin, err := root.regular(dir + "/modules.builtin")
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool) // built in, or loaded already
	for line := range strings.Lines(string(builtin)) {
		known[moduleName(strings.TrimSpace(line))] = true
	}
	var list []*module
	var load func(name string, optional bool) error
	load = func(name string, optional bool) error {
		if known[name] {
			return nil
		}
		known[name] = true
		file, ok := files[name]
		if !ok && optional {
			return nil
		}
		if !ok {
			return fmt.Errorf("no kernel module %s in %s", name, dir)
		}
		m, soft, err := readModule(root[file].data, file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		m.path = strings.TrimPrefix(file, dir+"/")
		for _, d := range m.depends {
			if err := load(d, false); err != nil {
				return err
			}
		}
		for _, d := range soft {
			if err := load(d, true); err != nil {
				return err
			}
		}
		list = append(list, m)
		return nil
	}
	for _, w := range wanted {
		name, optional := strings.CutSuffix(w, "?")
		if err := load(name, optional); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// readModule returns a module and the names it would like to have loaded first.
func readModule(data []byte, file string) (m *module, soft []string, err error) {
	if strings.HasSuffix(file, ".xz") {
		r, err := xz.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, nil, err
		}
		if data, err = io.ReadAll(io.LimitReader(r, maxModule)); err != nil {
			return nil, nil, err
		}
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, nil, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, nil, err
	}
	m = &module{name: moduleName(file), plain: data}
	for entry := range strings.SplitSeq(string(info), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		switch key {
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.depends = append(m.depends, strings.ReplaceAll(d, "-", "_"))
				}
			}
		case "alias":
			m.aliases = append(m.aliases, value)
		case "softdep":
			m.softdep = append(m.softdep, value)
			for _, d := range strings.Fields(value) {
				if !strings.HasSuffix(d, ":") {
					soft = append(soft, strings.ReplaceAll(d, "-", "_"))
				}
			}
		}
	}
	return m, soft, nil
}

// aliasName has underscores for dashes, but not within brackets. That is how
// modprobe looks an alias up in the binary index.
func aliasName(s string) string {
	b, inside := []byte(s), false
	for i, c := range b {
		switch {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case c == '-' && !inside:
			b[i] = '_'
		}
	}
	return string(b)
}

// writeModuleIndex adds what depmod would make of the modules: modules.dep and
// modules.alias as text, which busybox reads, and the binary files of libkmod.
func writeModuleIndex(root rootfs, dir string, modules []*module, plain bool) error {
	byName := make(map[string]*module)
	for _, m := range modules {
		byName[m.name] = m
	}
	var deps, aliases, softdeps strings.Builder
	depIndex, aliasIndex := newTrie(), newTrie()
	for i, m := range modules {
		line := m.file(plain) + ":"
		for _, d := range closure(m, byName) {
			line += " " + d.file(plain)
		}
		deps.WriteString(line + "\n")
		depIndex.insert(m.name, line, uint32(i))
		for _, a := range m.aliases {
			fmt.Fprintf(&aliases, "alias %s %s\n", a, m.name)
			aliasIndex.insert(aliasName(a), m.name, uint32(i))
		}
		for _, s := range m.softdep {
			fmt.Fprintf(&softdeps, "softdep %s %s\n", m.name, s)
		}
	}
	builtin, builtinAliases, err := builtinIndex(root, dir)
	if err != nil {
		return err
	}
	root.text(dir+"/modules.dep", deps.String())
	root.text(dir+"/modules.alias", aliases.String())
	for name, index := range map[string]*trie{"dep": depIndex, "alias": aliasIndex, "symbols": newTrie(),
		"builtin": builtin, "builtin.alias": builtinAliases} {
		root.file(dir+"/modules."+name+".bin", 0o644, index.encode())
	}
	root.text(dir+"/modules.softdep", softdeps.String())
	for _, name := range []string{"weakdep", "devname", "symbols"} {
		root.text(dir+"/modules."+name, "")
	}
	return nil
}

// file is the path of a module below usr/lib/modules/KVER, as the package has
// it or as it is called without compression.
func (m *module) file(plain bool) string {
	if !plain {
		return m.path
	}
	base, _, _ := strings.Cut(m.path, ".ko")
	return base + ".ko"
}

// closure returns what must be loaded before m, what comes last to be loaded
// first: modprobe goes through the list from its end.
func closure(m *module, byName map[string]*module) []*module {
	var list []*module
	var visit func(*module)
	visit = func(m *module) {
		for _, name := range m.depends {
			if d := byName[name]; d != nil && !slices.Contains(list, d) {
				visit(d)
				list = append(list, d)
			}
		}
	}
	visit(m)
	slices.Reverse(list)
	return list
}

// builtinIndex indexes the modules that are part of the kernel, whose .modinfo
// entries modules.builtin.modinfo has as module.key=value.
func builtinIndex(root rootfs, dir string) (names, aliases *trie, err error) {
	list, err := root.regular(dir + "/modules.builtin")
	if err != nil {
		return nil, nil, err
	}
	info, err := root.regular(dir + "/modules.builtin.modinfo")
	if err != nil {
		return nil, nil, err
	}
	names, aliases = newTrie(), newTrie()
	for line := range strings.Lines(string(list)) {
		names.insert(moduleName(strings.TrimSpace(line)), "", 0)
	}
	for entry := range strings.SplitSeq(string(info), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		if name, ok := strings.CutSuffix(key, ".alias"); ok {
			aliases.insert(aliasName(value), strings.ReplaceAll(name, "-", "_"), 0)
		}
	}
	return names, aliases, nil
}
