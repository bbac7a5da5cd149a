package selinux

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"imgbuild/tree"
)

// spec is one line of a file_contexts file.
type spec struct {
	pattern string
	mode    uint32 // type bits that a file must have, 0 for any
	label   string // noLabel for <<none>>
	literal bool   // without metacharacters: the pattern is the path
	path    string // of a literal: the pattern without its escapes
	re      *regexp.Regexp
	suffix  string // what every path that matches ends with
	order   int    // position in the order that a look-up goes through, backwards
}

// noLabel is what <<none>> is kept as: no label can be empty.
const noLabel = ""

// maxLine is the length in bytes of the longest line that is read.
const maxLine = 64 << 10

// parseContexts reads the lines of a file_contexts file (file_contexts(5)):
// a pattern, optionally a file type, and a context.
func parseContexts(name string, text []byte) ([]*spec, error) {
	var specs []*spec
	s := bufio.NewScanner(bytes.NewReader(text))
	s.Buffer(nil, maxLine)
	n := 0
	for s.Scan() {
		n++
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		spec, err := parseSpec(strings.Fields(line))
		if err != nil {
			return nil, fmt.Errorf("%s line %d: %w", name, n, err)
		}
		specs = append(specs, spec)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%s line %d: %w", name, n+1, err)
	}
	return specs, nil
}

func parseSpec(fields []string) (*spec, error) {
	s := &spec{}
	switch len(fields) {
	case 2:
		s.pattern, s.label = fields[0], fields[1]
	case 3:
		s.pattern, s.label = fields[0], fields[2]
		mode, ok := fileType(fields[1])
		if !ok {
			return nil, fmt.Errorf("unknown file type %q", fields[1])
		}
		s.mode = mode
	default:
		return nil, fmt.Errorf("%d fields, want a pattern, perhaps a file type, and a context", len(fields))
	}
	if s.label == "<<none>>" {
		s.label = noLabel
	} else if strings.Count(s.label, ":") < 2 {
		return nil, fmt.Errorf("context %q: not user:role:type", s.label)
	}
	var err error
	if s.path, s.literal = literal(s.pattern); !s.literal {
		s.re, err = compile(s.pattern)
		s.suffix = suffix(s.pattern)
	}
	return s, err
}

// fileType returns the type bits that the second column stands for.
func fileType(s string) (uint32, bool) {
	switch s {
	case "--":
		return tree.TypeFile, true
	case "-d":
		return tree.TypeDir, true
	case "-l":
		return tree.TypeLink, true
	case "-c":
		return tree.TypeChar, true
	case "-b":
		return tree.TypeBlock, true
	case "-p":
		return tree.TypeFIFO, true
	case "-s":
		return tree.TypeSock, true
	}
	return 0, false
}

// metacharacters are those that make a pattern a regular expression, by
// libselinux's spec_hasMetaChars.
const metacharacters = ".^$?*+|[({"

// literal returns the path that a pattern without metacharacters stands for.
func literal(pattern string) (path string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\' && i+1 < len(pattern):
			i++
			b.WriteByte(pattern[i])
		case strings.IndexByte(metacharacters, c) >= 0:
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

// compile compiles a pattern as libselinux does: anchored at both ends, and the
// dot matches any byte. PCRE's look-around, possessive quantifiers and back
// references are beyond Go's regexp, so a pattern with one is refused.
func compile(pattern string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(`(?s)\A(?:` + pattern + `)\z`)
	if err != nil {
		var cause = err
		if e := errors.Unwrap(err); e != nil {
			cause = e
		}
		return nil, fmt.Errorf("pattern %q: %w", pattern, cause)
	}
	return re, nil
}

// prefix returns the text that every path matching a pattern begins with.
func prefix(pattern string) string {
	var b []byte
	depth := 0
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			depth--
		case '|':
			if depth == 0 {
				return ""
			}
		}
	}
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		escaped := c == '\\' && i+1 < len(pattern)
		if escaped {
			i++
			c = pattern[i]
			if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
				break // a class such as \d, no character
			}
		} else if strings.IndexByte(metacharacters+")]}\\", c) >= 0 {
			break
		}
		if i+1 < len(pattern) && strings.IndexByte("?*{", pattern[i+1]) >= 0 {
			break // it may be absent
		}
		b = append(b, c)
	}
	return string(b)
}

// suffix returns a text that every path matching a pattern ends with: the letters
// and slashes behind its last other character, but for the first, which an escape
// or a quantifier may belong to.
func suffix(pattern string) string {
	i := len(pattern)
	for i > 0 && (pattern[i-1] >= 'a' && pattern[i-1] <= 'z' || pattern[i-1] == '/') {
		i--
	}
	if i == 0 || i == len(pattern) || strings.ContainsAny(pattern, "|\\") || strings.Contains(pattern, "(?") {
		return ""
	}
	return pattern[i+1:]
}

// substitution makes paths below From look like paths below To.
type substitution struct{ from, to string }

// parseSubstitutions reads a file_contexts.subs file: two paths a line.
func parseSubstitutions(name string, text []byte) ([]substitution, error) {
	var subs []substitution
	s := bufio.NewScanner(bytes.NewReader(text))
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		fields := strings.Fields(s.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("%s line %d: one path, want two", name, n)
		}
		subs = append(subs, substitution{fields[0], fields[1]})
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return subs, nil
}

// substitute applies the first substitution that fits, as libselinux does.
func substitute(path string, subs []substitution) string {
	for _, s := range subs {
		rest, ok := strings.CutPrefix(path, s.from)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		if s.to == "/" && rest != "" {
			rest = rest[1:]
		}
		return s.to + rest
	}
	return path
}
