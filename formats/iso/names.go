package iso

import (
	"fmt"
	"strings"
	"unicode/utf16"
)

// maxISOName is the length of a name with its extension (ECMA-119 7.5.1), and
// of a directory's name. The dot and the version come on top.
const (
	maxISOName = 30
	maxISODir  = 31
	maxISOExt  = 10 // of ours, when both are too long
)

// isoName returns name as an identifier of ISO 9660: capitals, digits and
// underscores, with an extension if it is that of a file. It is what systems see
// that read neither Rock Ridge nor Joliet.
func isoName(name string, dir bool) (base, ext string) {
	base = name
	if !dir {
		if dot := strings.LastIndexByte(name, '.'); dot > 0 {
			base, ext = name[:dot], name[dot+1:]
		}
	}
	base, ext = dCharacters(base), dCharacters(ext)
	if dir {
		return base[:min(len(base), maxISODir)], ""
	}
	if len(base)+len(ext) > maxISOName {
		ext = ext[:min(len(ext), maxISOExt)]
		base = base[:min(len(base), maxISOName-len(ext))]
	}
	return base, ext
}

// dCharacters replaces what is no d-character (ECMA-119 7.4.1).
func dCharacters(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}

// maxJolietName is the length of a Joliet name in characters of UCS-2.
const maxJolietName = 64

// jolietName returns name as Joliet has it. What is not
// UTF-8, not in the basic plane or not allowed becomes an underscore.
func jolietName(name string) []uint16 {
	var out []uint16
	for _, r := range name {
		switch {
		case r < 0x20, r > 0xFFFF, utf16.IsSurrogate(r), r == '\uFFFD', strings.ContainsRune(`*/:;?\`, r):
			r = '_'
		}
		out = append(out, uint16(r))
	}
	if len(out) <= maxJolietName {
		return out
	}
	// The end of a name says what a file is.
	dot := len(out)
	for i, c := range out[1:] {
		if c == '.' {
			dot = i + 1
		}
	}
	ext := out[dot:]
	if len(ext) > maxJolietName/4 {
		ext = nil
	}
	return append(append([]uint16(nil), out[:maxJolietName-len(ext)]...), ext...)
}

// unique returns the first candidate that is not in used, and adds it there.
// Candidates are made by put, which is given "" and then numbers to end the name
// with. Asking with the names in a fixed order gives fixed results.
func unique(used map[string]bool, next map[string]int, key string, put func(number string) string) string {
	id := put("")
	for used[id] {
		// Where the names counted so far end is remembered, so that a thousand
		// names that look alike do not take a million attempts.
		id = put(fmt.Sprintf("%03d", next[key]))
		next[key]++
	}
	used[id] = true
	return id
}

// tail replaces the end of s by number, so that it has no more than n characters.
func tail[S ~[]E, E any](s, number S, n int) S {
	keep := min(len(s), n-len(number))
	return append(append(S(nil), s[:keep]...), number...)
}

// isoIDs returns the identifiers of names in one directory; dir tells which are
// directories.
func isoIDs(names []string, dir func(i int) bool) []string {
	used, next := map[string]bool{}, map[string]int{}
	out := make([]string, len(names))
	for i, name := range names {
		base, ext := isoName(name, dir(i))
		limit := maxISODir
		if !dir(i) {
			limit = maxISOName - len(ext)
		}
		out[i] = unique(used, next, base+"."+ext, func(number string) string {
			id := string(tail([]byte(base), []byte(number), limit))
			if dir(i) {
				return id
			}
			return id + "." + ext + ";1"
		})
	}
	return out
}

// jolietIDs returns the identifiers of names in one directory, big-endian. Like
// xorriso's they have no version.
func jolietIDs(names []string) []string {
	used, next := map[string]bool{}, map[string]int{}
	out := make([]string, len(names))
	for i, name := range names {
		base := jolietName(name)
		out[i] = unique(used, next, string(ucs2(base)), func(number string) string {
			return string(ucs2(tail(base, utf16.Encode([]rune(number)), maxJolietName)))
		})
	}
	return out
}

// ucs2 returns the characters big-endian.
func ucs2(s []uint16) []byte {
	b := make([]byte, 0, 2*len(s))
	for _, c := range s {
		b = append(b, byte(c>>8), byte(c))
	}
	return b
}

// ucs2Text returns s big-endian, cut or padded with blanks to n bytes.
func ucs2Text(s string, n int) []byte {
	b := ucs2(utf16.Encode([]rune(s)))
	for len(b) < n {
		b = append(b, 0, ' ')
	}
	return b[:n]
}
