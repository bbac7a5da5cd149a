package toml

import "strings"

// maxNesting bounds the depth of brackets and of dotted keys. The TOML parser's
// memory grows with the cube of it: 16 KiB of "{a={a=" take a gigabyte.
const maxNesting = 16

// nestedTooDeep returns the line, counted from 1, in which a TOML text nests
// deeper than maxNesting, or 0. In a text that is not TOML it is right up to
// the first error.
func nestedTooDeep(text string) int {
	depth, dots := 0, 0
	for i := 0; i < len(text); {
		switch text[i] {
		case '#':
			i += lineEnd(text[i:])
			continue
		case '"', '\'':
			i += quotedEnd(text[i:])
			continue
		case '[', '{':
			depth++
			dots = 0
		case ']', '}':
			depth = max(depth-1, 0)
			dots = 0
		case '.':
			dots++
		case '=', ',', '\n':
			dots = 0
		}
		if depth > maxNesting || dots > maxNesting {
			return 1 + strings.Count(text[:i], "\n")
		}
		i++
	}
	return 0
}

// lineEnd returns the offset of the next newline, or of the end.
func lineEnd(s string) int {
	if n := strings.IndexByte(s, '\n'); n >= 0 {
		return n
	}
	return len(s)
}

// quotedEnd returns the length of the string, of any of the four kinds, that s
// begins with.
func quotedEnd(s string) int {
	q := s[:1]
	if triple := strings.Repeat(q, 3); strings.HasPrefix(s, triple) {
		for i := 3; i < len(s); i++ {
			switch {
			case s[i] == '\\' && q == `"`:
				i++
			case strings.HasPrefix(s[i:], triple):
				// Up to two more quotes belong to the content.
				for end := i + 5; i+3 < len(s) && i+3 < end && s[i+3] == q[0]; i++ {
				}
				return i + 3
			}
		}
		return len(s)
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\n':
			return i
		case '\\':
			if q == `"` {
				i++
			}
		case q[0]:
			return i + 1
		}
	}
	return len(s)
}
