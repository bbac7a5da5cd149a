// Package apk reads the database of installed packages of Alpine's apk, version 2
// and 3 as far as they write lib/apk/db/installed: apk-package(5) and
// apk-list(8) of apk-tools 2.14.
package apk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"imgbuild/packages"
)

// maxLine is the longest line of a database, in bytes.
const maxLine = packages.MaxField

// Parse parses a file "installed": packages with a line for each field, a letter,
// a colon and the value, and an empty line after each.
func Parse(r io.Reader) ([]*packages.Package, error) {
	var list packages.List
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxLine)
	var p *packages.Package
	number := 0
	end := func() error {
		if p == nil {
			return nil
		}
		if p.Name == "" {
			return fmt.Errorf("line %d: a package without a name", number)
		}
		err := list.Add(p)
		p = nil
		return err
	}
	for s.Scan() {
		number++
		line := strings.TrimSuffix(s.Text(), "\r")
		if line == "" {
			if err := end(); err != nil {
				return nil, err
			}
			continue
		}
		if len(line) < 2 || line[1] != ':' {
			return nil, fmt.Errorf("line %d: no field", number)
		}
		if p == nil {
			p = &packages.Package{Type: packages.APK}
		}
		field(p, line[0], line[2:])
		if len(p.Provides)+len(p.Requires) > packages.MaxRelations {
			return nil, packages.ErrTooMany
		}
	}
	if err := s.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, fmt.Errorf("line %d: longer than %d bytes", number+1, maxLine)
		}
		return nil, err
	}
	err := end()
	return list.Packages, err
}

// field sets what a line says. The lines of files are of no interest.
func field(p *packages.Package, key byte, value string) {
	switch key {
	case 'P':
		p.Name = value
	case 'V':
		p.Version = value
	case 'A':
		p.Arch = value
	case 'T':
		p.Summary = value
	case 'U':
		p.Homepage = value
	case 'L':
		p.License = value
	case 'o':
		p.Source = value
	case 'm':
		p.Supplier = value
	case 'p':
		for word := range strings.FieldsSeq(value) {
			p.Provides = append(p.Provides, capability(word))
		}
	case 'D':
		for word := range strings.FieldsSeq(value) {
			if !strings.HasPrefix(word, "!") { // a conflict
				p.Requires = append(p.Requires, packages.Requirement{capability(word)})
			}
		}
	}
}

// capability returns a dependency without its version and the repository it is
// pinned to.
func capability(word string) string {
	if k := strings.IndexAny(word, "<>=~@"); k > 0 {
		return word[:k]
	}
	return word
}
