package bootc

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"imgbuild/toml"
)

// document is a TOML file whose keys are taken out one by one, so that what is
// left is unknown. The first error sticks.
type document struct {
	path string
	text string
	err  error
}

// section is a table of a document. Keys are matched by case, as bootc does.
type section struct {
	doc  *document
	name []string // of the table
	keys map[string]any
}

// parseTOML returns the top table of a file.
func parseTOML(p, text string) (*section, error) {
	doc := &document{path: p, text: text}
	s := &section{doc: doc}
	var err error
	if s.keys, err = toml.Decode(text); err != nil {
		var at *toml.Error
		if errors.As(err, &at) {
			return nil, bad(fmt.Errorf("%s:%d: %s", p, at.Line, at.Message), "")
		}
		return nil, bad(fmt.Errorf("%s: %w", p, err), "")
	}
	return s, nil
}

// fail records an error about a key of the section.
func (s *section) fail(key, format string, args ...any) {
	if s.doc.err != nil {
		return
	}
	full := append(slices.Clone(s.name), key)
	at := s.doc.path
	if line := keyLine(s.doc.text, full); line > 0 {
		at = fmt.Sprintf("%s:%d", at, line)
	}
	s.doc.err = bad(fmt.Errorf("%s: %s: %s", at, strings.Join(full, "."), fmt.Sprintf(format, args...)), "")
}

// take removes a key from the section and returns its value, which must be of
// the type T, called want. ok is false where there is no such key.
func take[T any](s *section, key, want string) (value T, ok bool) {
	if s == nil {
		return value, false
	}
	v, ok := s.keys[key]
	if !ok {
		return value, false
	}
	delete(s.keys, key)
	if value, ok = v.(T); !ok {
		s.fail(key, "not %s", want)
	}
	return value, ok
}

// table takes a table, or returns nil.
func (s *section) table(key string) *section {
	keys, ok := take[map[string]any](s, key, "a table")
	if !ok {
		return nil
	}
	return &section{doc: s.doc, name: append(slices.Clone(s.name), key), keys: keys}
}

// string takes a string without control characters, or returns nil.
func (s *section) string(key string) *string {
	v, ok := take[string](s, key, "a string")
	if !ok {
		return nil
	}
	if hasControl(v) {
		s.fail(key, "control character in %q", v)
	}
	return &v
}

// choice takes one of the words, or returns nil.
func (s *section) choice(key string, words ...string) *string {
	v := s.string(key)
	if v != nil && !slices.Contains(words, *v) {
		s.fail(key, "%q is none of %s", *v, strings.Join(words, ", "))
	}
	return v
}

// bool takes a boolean, or returns nil.
func (s *section) bool(key string) *bool {
	v, ok := take[bool](s, key, "true or false")
	if !ok {
		return nil
	}
	return &v
}

// strings takes a list of strings. It is nil, and not empty, where there is no
// such key.
func (s *section) strings(key string) []string {
	values, ok := take[[]any](s, key, "a list of strings")
	if !ok {
		return nil
	}
	list := make([]string, 0, len(values))
	for _, v := range values {
		str, ok := v.(string)
		if !ok {
			s.fail(key, "not a list of strings")
		}
		list = append(list, str)
	}
	return list
}

// kargs takes a list of kernel arguments.
func (s *section) kargs(key string) []string {
	list := s.strings(key)
	for _, arg := range list {
		if err := CheckKarg(arg); err != nil {
			s.fail(key, "%v", err)
		}
	}
	return list
}

// matches takes match-architectures and tells whether the file is for arch.
func (s *section) matches(arch string) bool {
	list := s.strings("match-architectures")
	return list == nil || slices.Contains(list, arch)
}

// end reports the first key that was not taken.
func (s *section) end() {
	if s == nil {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		s.fail(key, "unknown key")
	}
}

// keyLine returns the line in which a key is set, counted from 1, or 0 where it
// is written in a way that this does not see: it is there for messages only.
func keyLine(text string, key []string) int {
	var table []string
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if header, ok := strings.CutPrefix(line, "["); ok {
			header, _, _ = strings.Cut(strings.TrimPrefix(header, "["), "]")
			table = keyParts(header)
			if slices.Equal(table, key) {
				return n
			}
			continue
		}
		left, right, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		full := append(slices.Clone(table), keyParts(left)...)
		switch k := min(len(full), len(key)); {
		case !slices.Equal(full[:k], key[:k]):
		case len(full) >= len(key), strings.Contains(right, key[len(key)-1]):
			return n
		}
	}
	return 0
}

// keyParts splits a dotted key.
func keyParts(key string) []string {
	parts := strings.Split(key, ".")
	for i := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(parts[i]), `"'`)
	}
	return parts
}
