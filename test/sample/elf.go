package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"path"
)

// libraries finds the shared libraries that programs of a tree need, as the
// dynamic loader would.
type libraries struct {
	root  rootfs
	dirs  []string // where libraries are looked for, in order
	found map[string]bool
}

func newLibraries(root rootfs, triplet string) *libraries {
	return &libraries{root: root, dirs: []string{"usr/lib/" + triplet, "usr/lib/" + triplet + "/systemd", "usr/lib"},
		found: make(map[string]bool)}
}

// add records the file called name if it is a library, and whatever it needs.
// Files that are not ELF need nothing.
func (l *libraries) add(name string) error {
	real, ok := l.root.resolve(name)
	if !ok || l.found[name] {
		return nil
	}
	n := l.root[real]
	if n.typ != tar.TypeReg || !bytes.HasPrefix(n.data, []byte(elf.ELFMAG)) {
		return nil
	}
	l.found[name], l.found[real] = true, true
	f, err := elf.NewFile(bytes.NewReader(n.data))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, soname := range needed {
		if err := l.library(soname); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		loader := make([]byte, p.Filesz)
		if _, err := p.ReadAt(loader, 0); err != nil {
			return fmt.Errorf("%s: interpreter: %w", name, err)
		}
		if err := l.path(string(bytes.TrimRight(loader, "\x00"))[1:]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// library records a library by its name.
func (l *libraries) library(soname string) error {
	for _, dir := range l.dirs {
		if p := path.Join(dir, soname); l.root[p] != nil {
			return l.add(p)
		}
	}
	return fmt.Errorf("no library %s", soname)
}

// path records the dynamic loader, which is named by a path with symbolic links.
func (l *libraries) path(name string) error {
	dir, ok := l.root.resolve(path.Dir(name))
	if !ok {
		return fmt.Errorf("no loader /%s", name)
	}
	return l.add(path.Join(dir, path.Base(name)))
}
