package selinux

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"imgbuild/tree"
)

// spec is one line of a file_contexts file.
type spec struct {
	typ   uint32 // type bits that a file must have, 0 for any
	label string // noLabel for <<none>>
	order int    // position in the policy
	file  int    // which of its files, the first is 0

	// A literal has the path that it stands for, other patterns a program.
	path    string
	program *program
	// stems is the number of leading directories, up to maxStems, that the
	// pattern names without metacharacters, and stem their path with a slash at
	// the end. libselinux takes them for fixed without a look at what follows:
	// "/usr/?x" matches "/usr/x" and not "/usrx". stem is empty where the
	// program's prefix implies it.
	stems int
	stem  string
}

// noLabel is what <<none>> is kept as: no label can be empty.
const noLabel = ""

// maxEntry is the length in bytes of the longest pattern or context, as
// libselinux has it.
const maxEntry = 1<<16 - 2

// maxSpecs is the number of lines that a policy may have. Fedora's has 7,100.
const maxSpecs = 1 << 18

// reader reads the files of a policy one after the other.
type reader struct {
	specs  []*spec
	files  int
	insts  int
	labels map[string]string
	sets   map[charset]*charset
}

func newReader() *reader {
	return &reader{labels: map[string]string{}, sets: map[charset]*charset{}}
}

// read reads a file of lines as file_contexts(5) has them: a pattern, optionally
// a file type, and a context. What is wrong with a line for libselinux, which
// then takes nothing of the policy, is an error here as well; what it does not
// look at, such as further fields or the form of a context, is not looked at.
func (r *reader) read(name string, text []byte) error {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		fields := split(line, 3)
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		s, err := r.spec(fields)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
		s.order, s.file = len(r.specs), r.files
		r.specs = append(r.specs, s)
	}
	r.files++
	return nil
}

// split returns the first n fields of a line, which ends at a NUL as a string of
// C does.
func split(line []byte, n int) (fields [][]byte) {
	line, _, _ = bytes.Cut(line, []byte{0})
	for len(fields) < n {
		line = bytes.TrimLeft(line, spaces)
		if len(line) == 0 {
			break
		}
		end := bytes.IndexAny(line, spaces)
		if end < 0 {
			end = len(line)
		}
		fields, line = append(fields, line[:end]), line[end:]
	}
	return fields
}

// spaces are the characters of isspace(3) in the C locale.
const spaces = " \t\n\v\f\r"

func (r *reader) spec(fields [][]byte) (*spec, error) {
	for _, f := range fields {
		if len(f) > maxEntry {
			return nil, fmt.Errorf("%.40q and so on: longer than %d bytes", f, maxEntry)
		}
		for _, c := range f {
			if c >= 0x80 {
				return nil, fmt.Errorf("%.80q: not ASCII", f)
			}
		}
	}
	if len(r.specs) == maxSpecs {
		return nil, fmt.Errorf("more than %d lines", maxSpecs)
	}
	s := &spec{}
	switch len(fields) {
	case 1:
		return nil, fmt.Errorf("%.80q without a context", fields[0])
	case 3:
		var ok bool
		if s.typ, ok = fileType(string(fields[1])); !ok {
			return nil, fmt.Errorf("unknown file type %.80q", fields[1])
		}
	}
	s.label = r.label(string(fields[len(fields)-1]))
	pattern := string(fields[0])
	if path, ok := simplified(pattern); ok {
		s.path = path
		return s, nil
	}
	var err error
	if s.program, err = compile(pattern, r.sets); err != nil {
		return nil, err
	}
	if r.insts += len(s.program.code); r.insts > maxPrograms {
		return nil, fmt.Errorf("pattern %q: more than %d instructions in all", pattern, maxPrograms)
	}
	s.stems, s.stem = stem(pattern)
	if strings.HasPrefix(s.program.prefix, s.stem) {
		s.stem = ""
	}
	return s, nil
}

// label returns one string for all lines with the same context.
func (r *reader) label(context string) string {
	if context == "<<none>>" {
		return noLabel
	}
	if l, ok := r.labels[context]; ok {
		return l
	}
	r.labels[context] = context
	return context
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

const (
	// metacharacters are those that make a pattern a regular expression.
	metacharacters = ".^$?*+|[({])}"
	// escapable are those that a backslash makes literal outside of one.
	escapable = metacharacters + "-_,"
)

// simplified returns the text that a pattern, or a part of one, stands for if it
// is no regular expression: libselinux's regex_simplify. (Until libselinux 3.7
// ] ) and } were no metacharacters and any character could be escaped.)
func simplified(pattern string) (text string, ok bool) {
	if !strings.ContainsAny(pattern, metacharacters+`\`) {
		return pattern, true
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' {
			if i++; i == len(pattern) || strings.IndexByte(escapable, pattern[i]) < 0 {
				return "", false
			}
		} else if strings.IndexByte(metacharacters, pattern[i]) >= 0 {
			return "", false
		}
		b.WriteByte(pattern[i])
	}
	return b.String(), true
}

// stem returns the leading directories of a pattern: the way through the tree
// that libselinux's insert_spec goes.
func stem(pattern string) (n int, path string) {
	path = "/"
	for pattern = pattern[1:]; n < maxStems; {
		dir, rest, ok := strings.Cut(pattern, "/")
		if !ok {
			break
		}
		if dir != "" {
			if dir, ok = simplified(dir); !ok {
				break
			}
			path += dir + "/"
			n++
		}
		pattern = rest
	}
	return n, path
}

// matches tells whether the spec is for the path, which has the program's prefix,
// and the type. What is cheap to compare comes before the program is run.
func (s *spec) matches(path string, typ uint32) bool {
	return s.fits(typ) && s.program.possible(path) && strings.HasPrefix(path, s.stem) && s.program.match(path)
}

func (s *spec) fits(typ uint32) bool { return typ == 0 || s.typ == 0 || s.typ == typ }

// substitution makes paths at and below from look like paths at and below to.
type substitution struct{ from, to string }

// maxSubstitution is the number of bytes of a line that libselinux reads at
// once; what follows is another line to it. (Until libselinux 3.10 it was 1022.)
const maxSubstitution = 1023

// parseSubstitutions reads a file_contexts.subs file: two paths a line. Lines
// that libselinux skips are skipped. The last line comes first, as it is the one
// that libselinux tries first. (In libselinux 3.8 it was the first.)
func parseSubstitutions(text []byte) []substitution {
	var subs []substitution
	for line := range bytes.Lines(text) {
		for len(line) > 0 {
			part := line[:min(maxSubstitution, len(line))]
			line = line[len(part):]
			if fields := split(part, 2); len(fields) == 2 && fields[0][0] != '#' {
				subs = append(subs, substitution{string(fields[0]), string(fields[1])})
			}
		}
	}
	slices.Reverse(subs)
	return subs
}

// substitute applies the first substitution that fits, if any.
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
