package fat

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// checkName returns an error for a name that a long entry cannot hold, or that
// Linux or Windows would not find again.
func checkName(name string) error {
	switch {
	case !utf8.ValidString(name):
		return errors.New("the name is not UTF-8")
	case name == "" || name == "." || name == "..":
		return errors.New("the name is reserved")
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
		return errors.New("FAT names cannot end in a dot or a blank")
	case len(utf16.Encode([]rune(name))) > maxUnits:
		return fmt.Errorf("FAT names have at most %d UTF-16 units", maxUnits)
	}
	for _, r := range name {
		if r < 0x20 || strings.ContainsRune(`"*/:<>?\|`, r) {
			return fmt.Errorf("FAT names cannot hold %q", r)
		}
		// 0xFFFF fills the rest of a long entry.
		if r == 0xFFFF {
			return fmt.Errorf("FAT names cannot hold %U", r)
		}
	}
	return nil
}

// fold returns the form in which names of one directory must differ. Unicode's
// simple folding is at least as coarse as the tables of Windows and UEFI for
// every letter that has two cases.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, name)
}

// isShortChar tells whether c can be in a short name as it is. Bytes above 0x7E
// can, but mean something else in every code page.
func isShortChar(c byte) bool {
	return 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c != 0 && strings.IndexByte("$%'-_@~`!(){}^#&", c) >= 0
}

// upper returns the ASCII letter c in upper case, anything else as it is.
func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

// parseShort returns name as a short name, if it is one but for its case. lower
// tells whether a letter is in lower case.
func parseShort(name string) (short shortName, lower, ok bool) {
	base, ext, dot := strings.Cut(name, ".")
	if base == "" || len(base) > 8 || dot && ext == "" || len(ext) > 3 {
		return short, false, false
	}
	short = newShortName(base, ext)
	for _, part := range []string{base, ext} {
		for i := range len(part) {
			c := upper(part[i])
			if !isShortChar(c) {
				return short, false, false
			}
			lower = lower || c != part[i]
		}
	}
	return short, lower, true
}

// newShortName returns base and ext, which must fit, in upper case.
func newShortName(base, ext string) (n shortName) {
	for i := range n {
		n[i] = ' '
	}
	for i := range len(base) {
		n[i] = upper(base[i])
	}
	for i := range len(ext) {
		n[8+i] = upper(ext[i])
	}
	return n
}

// String returns the short name with its dot.
func (n shortName) String() string {
	base, ext := strings.TrimRight(string(n[:8]), " "), strings.TrimRight(string(n[8:]), " ")
	if ext == "" {
		return base
	}
	return base + "." + ext
}

// basis returns the characters that the alias of a long name is made of, as the
// specification's "Basis-Name Generation Algorithm" has it: without blanks and
// dots, in upper case, with an underscore for each character that short names
// cannot hold.
func basis(name string) (base, ext string) {
	name = strings.TrimLeft(name, ". ")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name, ext = name[:i], name[i+1:]
	}
	return shorten(name, 8), shorten(ext, 3)
}

// shorten returns the first n characters of a part of a basis name.
func shorten(s string, n int) string {
	b := make([]byte, 0, n)
	for _, r := range s {
		if len(b) == n {
			break
		}
		if r == '.' || r == ' ' {
			continue
		}
		c := byte('_')
		if r < utf8.RuneSelf && isShortChar(upper(byte(r))) {
			c = upper(byte(r))
		}
		b = append(b, c)
	}
	return string(b)
}

// namer gives the names of one directory their short names.
type namer struct {
	names map[string]bool // all names, folded
	next  map[tailKey]int // the next tail to try: each is given once
}

// tailKey is what names that may get the same tailed alias have in common.
type tailKey struct {
	base, ext string
	digits    int
}

// newNamer returns the namer of a directory with the folded names. No alias may be
// one of them: it would lead to another file.
func newNamer(names map[string]bool) *namer {
	return &namer{names: names, next: make(map[tailKey]int)}
}

// maxTail is the number of digits of the largest tail. A directory has no more
// than 65,536 entries.
const maxTail = 6

// short returns the short name of name, and whether a long one is needed beside
// it.
func (n *namer) short(name string) (short shortName, long bool, err error) {
	if short, lower, ok := parseShort(name); ok {
		return short, lower, nil
	}
	base, ext := basis(name)
	for digits, low := 1, 1; digits <= maxTail; digits, low = digits+1, low*10 {
		key := tailKey{base[:min(len(base), 8-1-digits)], ext, digits}
		for tail := max(n.next[key], low); tail < low*10; tail++ {
			alias := newShortName(fmt.Sprintf("%s~%d", key.base, tail), ext)
			if !n.names[fold(alias.String())] {
				n.next[key] = tail + 1
				return alias, true, nil
			}
		}
		n.next[key] = low * 10
	}
	return short, false, errors.New("no short name is left for it")
}

// noLabel is what the boot sector of a volume without a label has.
const noLabel = "NO NAME    "

// parseLabel returns the label in its form on disk, or nil for none.
func parseLabel(label string) (*shortName, error) {
	if label == "" {
		return nil, nil
	}
	var n shortName
	if len(label) > len(n) {
		return nil, fmt.Errorf("label %q is longer than %d bytes", label, len(n))
	}
	copy(n[:], strings.Repeat(" ", len(n)))
	for i := range len(label) {
		c := upper(label[i])
		if !isShortChar(c) && (c != ' ' || i == 0) {
			return nil, fmt.Errorf("label %q: FAT labels cannot hold %q there", label, label[i])
		}
		n[i] = c
	}
	return &n, nil
}
