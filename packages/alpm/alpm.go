// Package alpm reads the local database of pacman: a directory for each package
// with a file desc, alpm-db-desc(5) versions 1 and 2.
package alpm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"imgbuild/packages"
)

// MaxDesc is the largest file desc that is read, in bytes.
const MaxDesc = 4 << 20

// Parse parses a file desc: sections, each a name between percent signs, its values
// a line each, and an empty line.
func Parse(r io.Reader) (*packages.Package, error) {
	p := &packages.Package{Type: packages.ALPM}
	s := bufio.NewScanner(io.LimitReader(r, MaxDesc))
	s.Buffer(make([]byte, 0, 4<<10), MaxDesc)
	section := ""
	var licenses []string
	for number := 1; s.Scan(); number++ {
		line := strings.TrimSuffix(s.Text(), "\r")
		switch {
		case line == "":
			section = ""
		case section == "":
			name, ok := strings.CutSuffix(line, "%")
			if name, ok = strings.CutPrefix(name, "%"); !ok || name == "" {
				return nil, fmt.Errorf("line %d: no section", number)
			}
			section = name
		default:
			if section == "LICENSE" {
				licenses = append(licenses, line)
			} else {
				value(p, section, line)
			}
		}
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if p.Name == "" {
		return nil, errors.New("a package without a name")
	}
	p.License = license(licenses)
	return p, nil
}

func value(p *packages.Package, section, line string) {
	switch section {
	case "NAME":
		p.Name = line
	case "VERSION":
		p.Version = line
	case "BASE":
		p.Source = line
	case "DESC":
		p.Summary = line
	case "URL":
		p.Homepage = line
	case "ARCH":
		p.Arch = line
	case "PACKAGER":
		p.Supplier = line
	case "PROVIDES":
		p.Provides = append(p.Provides, withoutVersion(line))
	case "DEPENDS":
		p.Requires = append(p.Requires, packages.Requirement{withoutVersion(line)})
	}
}

// license joins several licences: all of them hold.
func license(list []string) string {
	if len(list) > 1 {
		for i, l := range list {
			if strings.Contains(l, " ") {
				list[i] = "(" + l + ")"
			}
		}
	}
	return strings.Join(list, " AND ")
}

func withoutVersion(s string) string {
	if k := strings.IndexAny(s, "<>=:"); k > 0 && !strings.Contains(s[:k], "://") {
		// "name: description" is that of optional dependencies.
		return s[:k]
	}
	return s
}
