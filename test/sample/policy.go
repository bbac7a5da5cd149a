package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/bzip2"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// modulesDir holds SELinux policies as Debian ships them: a directory of modules
// for each type, of which semodule makes the policy when the package is set up.
const modulesDir = "usr/share/selinux"

// maxPolicyModule is the size in bytes of the largest module. Debian's base.pp has 3 MB.
const maxPolicyModule = 64 << 20

// addFileContexts writes the file_contexts and file_contexts.homedirs of each
// policy whose modules are in the tree, as semodule does but for local users,
// and removes the modules.
func addFileContexts(root rootfs) error {
	lines := map[string][]string{} // by type of policy
	for _, name := range root.paths() {
		if n := root[name]; n.typ != tar.TypeReg || !under(name, modulesDir) || !strings.HasSuffix(name, ".pp.bz2") {
			continue
		}
		module, err := io.ReadAll(io.LimitReader(bzip2.NewReader(bytes.NewReader(root[name].data)), maxPolicyModule))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		text, err := moduleContexts(module)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		typ := path.Base(path.Dir(name))
		lines[typ] = append(lines[typ], strings.Split(text, "\n")...)
	}
	for typ, list := range lines {
		contexts, homedirs := splitContexts(list)
		file := "etc/selinux/" + typ + "/contexts/files/file_contexts"
		root.text(file, contexts)
		root.text(file+".homedirs", homedirs)
	}
	root.remove(modulesDir)
	return nil
}

// The parts of a module package (libsepol's module.c): the magic number, a
// version, the number of sections and their offsets, in little-endian 32 bits.
// Each section begins with a magic number of its own.
const (
	packageMagic  = 0xf97cff8f
	contextsMagic = 0xf97cff90
)

// moduleContexts returns the section of a module with its file contexts, or "".
func moduleContexts(b []byte) (string, error) {
	word := func(at int) int {
		if at < 0 || at+4 > len(b) {
			return -1
		}
		return int(binary.LittleEndian.Uint32(b[at:]))
	}
	if word(0) != packageMagic {
		return "", fmt.Errorf("no module package")
	}
	n := word(8)
	for i := range max(0, min(n, len(b)/4)) {
		start, end := word(12+4*i), len(b)
		if i+1 < n {
			end = word(12 + 4*(i+1))
		}
		if start < 0 || end < start+4 || end > len(b) {
			return "", fmt.Errorf("section %d of %d outside of the module", i, n)
		}
		if word(start) == contextsMagic {
			return string(b[start+4 : end]), nil
		}
	}
	return "", nil
}

// contextLine is a line with what libsemanage sorts it by (semanage_fc_sort).
type contextLine struct {
	text   string
	stem   int // length before the first metacharacter, -1 without one
	length int
	typed  bool
}

// splitContexts sorts lines from the least to the most specific. Those for home
// directories, which are templates, become the second text.
func splitContexts(lines []string) (contexts, homedirs string) {
	var list []contextLine
	for _, text := range lines {
		fields := strings.Fields(text)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		l := contextLine{stem: -1, length: len(fields[0]), typed: len(fields) > 2}
		escapes := 0
		for i := 0; i < len(fields[0]); i++ {
			if c := fields[0][i]; c == '\\' {
				i++
				escapes++
			} else if strings.IndexByte(".^$?*+|[({", c) >= 0 && l.stem < 0 {
				l.stem = i - escapes
			}
		}
		l.length -= escapes
		l.text = strings.Join(fields, "\t") + "\n"
		list = append(list, l)
	}
	slices.SortStableFunc(list, func(a, b contextLine) int {
		if (a.stem < 0) != (b.stem < 0) {
			return cmp.Compare(b.stem, a.stem)
		}
		typed := 0
		if a.typed != b.typed {
			typed = 1
			if b.typed {
				typed = -1
			}
		}
		return cmp.Or(cmp.Compare(a.stem, b.stem), cmp.Compare(a.length, b.length), typed)
	})
	homes := []*strings.Replacer{
		strings.NewReplacer("HOME_DIR", "/home/[^/]+", "HOME_ROOT", "/home", "ROLE", "user", "USER", "[^/]+", "system_u:", "user_u:"),
		strings.NewReplacer("HOME_DIR", "/root", "HOME_ROOT", "/", "ROLE", "sysadm", "USER", "root", "system_u:", "root:"),
	}
	var b, home strings.Builder
	for i, r := range homes {
		for _, l := range list {
			switch template := strings.HasPrefix(l.text, "HOME_") || strings.Contains(l.text, "ROLE") || strings.Contains(l.text, "USER"); {
			case !template && i == 0:
				b.WriteString(l.text)
			case template && (i == 0 || strings.Contains(l.text, "HOME_DIR")):
				home.WriteString(r.Replace(l.text))
			}
		}
	}
	return b.String(), home.String()
}
