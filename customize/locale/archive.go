package locale

import (
	"encoding/binary"
	"errors"
	"path"
	"strings"

	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/tree"
)

// The header of glibc's locale-archive, locale/locarchive.h, in the byte order of
// the system, which is little for all that imgbuild builds but s390x.
const (
	archiveMagic = 0xde020109
	sizeHead     = 14 * 4
	sizeEntry    = 3 * 4 // hash, offset of the name, offset of the locale
	maxEntries   = 1 << 20
	maxNameLen   = 256
)

// archiveNames returns the names of the locales in a locale-archive.
func archiveNames(f content.Ref) (map[string]bool, error) {
	head := make([]byte, sizeHead)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint32(head) != archiveMagic {
		if order = binary.BigEndian; order.Uint32(head) != archiveMagic {
			return nil, errors.New("not a locale archive")
		}
	}
	// serial, namehash_offset, namehash_used, namehash_size
	offset, size := order.Uint32(head[8:]), order.Uint32(head[16:])
	if size > maxEntries || int64(offset)+int64(size)*sizeEntry > f.Size() {
		return nil, errors.New("the table of names is outside of the file")
	}
	table := make([]byte, int(size)*sizeEntry)
	if _, err := f.ReadAt(table, int64(offset)); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for ; len(table) > 0; table = table[sizeEntry:] {
		if order.Uint32(table[8:]) == 0 {
			continue // no locale
		}
		at := int64(order.Uint32(table[4:]))
		if at >= f.Size() {
			return nil, errors.New("a name is outside of the file")
		}
		name := make([]byte, min(maxNameLen, f.Size()-at))
		if _, err := f.ReadAt(name, at); err != nil {
			return nil, err
		}
		if text, _, ok := strings.Cut(string(name), "\x00"); ok {
			names[text] = true
		}
	}
	return names, nil
}

// normalize writes the codeset of a locale as glibc does to compare it: only
// letters and digits, in lower case.
func normalize(name string) string {
	rest, modifier, hasModifier := strings.Cut(name, "@")
	lang, codeset, hasCodeset := strings.Cut(rest, ".")
	if hasCodeset {
		var b strings.Builder
		digits := true
		for _, c := range strings.ToLower(codeset) {
			if c >= 'a' && c <= 'z' {
				digits = false
			}
			if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
				b.WriteRune(c)
			}
		}
		codeset = b.String()
		if digits {
			codeset = "iso" + codeset
		}
		lang += "." + codeset
	}
	if hasModifier {
		lang += "@" + modifier
	}
	return lang
}

// installed tells whether the system has a locale: built into its C library, as a
// directory, or in the archive.
func installed(sys *customize.System, name string) (bool, error) {
	want := normalize(name)
	switch want {
	case "C", "POSIX", "C.utf8":
		return true, nil
	}
	const dir = "/usr/lib/locale"
	var entries []tree.Entry
	if i := sys.Lookup(dir); i != nil {
		entries = i.Entries()
	}
	for _, e := range entries {
		if normalize(e.Name) == want && sys.Lookup(path.Join(dir, e.Name, "LC_CTYPE")) != nil {
			return true, nil
		}
	}
	f := sys.Lookup(dir + "/locale-archive")
	if f == nil || !f.IsFile() || f.Content.Size() == 0 {
		return false, nil
	}
	names, err := archiveNames(f.Content)
	if err != nil {
		return false, err
	}
	for n := range names {
		if normalize(n) == want {
			return true, nil
		}
	}
	return false, nil
}
