// Package deb reads dpkg's database of installed packages: the status file, and the
// directory status.d that images without dpkg have in its place. It follows
// deb822(5), dpkg-query(1) and deb-control(5) of dpkg 1.22.
//
// Of licences dpkg knows nothing; those of the machine-readable copyright files
// (DEP 5) are read.
package deb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"imgbuild/packages"
)

// maxLine is the longest line of a status file, in bytes: one with all dependencies
// of a metapackage.
const maxLine = packages.MaxField

// Parse parses a status file and returns what of it is installed. Packages of which
// only configuration files are left are not.
func Parse(r io.Reader) ([]*packages.Package, error) {
	var list packages.List
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxLine)
	fields := map[string]string{}
	number, name := 0, ""
	end := func() error {
		if len(fields) == 0 {
			return nil
		}
		p, err := stanza(fields)
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if p != nil {
			if err := list.Add(p); err != nil {
				return err
			}
		}
		clear(fields)
		name = ""
		return nil
	}
	for s.Scan() {
		number++
		line := strings.TrimRight(s.Text(), " \t\r")
		switch {
		case line == "":
			if err := end(); err != nil {
				return nil, err
			}
		case line[0] == ' ' || line[0] == '\t':
			if name == "" {
				return nil, fmt.Errorf("line %d: goes on with no field", number)
			}
			// Only what dpkg folds is wanted, the long description is not.
			if wanted(name) && name != "Description" && len(fields[name])+len(line) <= packages.MaxField {
				fields[name] += " " + strings.TrimSpace(line)
			}
		default:
			key, value, ok := strings.Cut(line, ":")
			if !ok {
				return nil, fmt.Errorf("line %d: no field", number)
			}
			if name = canonical(key); wanted(name) {
				fields[name] = strings.TrimSpace(value)
			}
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

// canonical returns the name of a field, of which the case does not count.
func canonical(key string) string {
	for _, name := range names() {
		if strings.EqualFold(name, key) {
			return name
		}
	}
	return key
}

func names() []string {
	return []string{"Package", "Status", "Version", "Architecture", "Source", "Maintainer", "Homepage", "Description",
		"Pre-Depends", "Depends", "Provides"}
}

func wanted(name string) bool {
	for _, n := range names() {
		if n == name {
			return true
		}
	}
	return false
}

// stanza returns the package of a stanza, nil where it is not installed.
func stanza(f map[string]string) (*packages.Package, error) {
	if f["Package"] == "" {
		return nil, errors.New("a package without a name")
	}
	if status, ok := f["Status"]; ok {
		words := strings.Fields(status)
		if len(words) != 3 {
			return nil, fmt.Errorf("%.80s: status %.80q", f["Package"], status)
		}
		switch words[2] {
		case "not-installed", "config-files":
			return nil, nil
		}
	}
	p := &packages.Package{
		Type: packages.Deb, Name: f["Package"], Version: f["Version"], Arch: f["Architecture"],
		Summary: f["Description"], Supplier: f["Maintainer"], Homepage: f["Homepage"],
		Source: f["Package"], SourceVersion: f["Version"],
	}
	if source := f["Source"]; source != "" {
		name, version, ok := strings.Cut(source, " ")
		p.Source = name
		if ok {
			p.SourceVersion = strings.Trim(version, " ()")
		}
	}
	for _, field := range []string{"Pre-Depends", "Depends"} {
		p.Requires = append(p.Requires, relations(f[field])...)
	}
	for _, r := range relations(f["Provides"]) {
		p.Provides = append(p.Provides, r...)
	}
	return p, nil
}

// relations parses the syntax of relationship fields: what has to be there,
// separated by commas, each with its alternatives. Versions and qualifiers are left
// out: what is installed meets them.
func relations(text string) (list []packages.Requirement) {
	for part := range strings.SplitSeq(text, ",") {
		var r packages.Requirement
		for alternative := range strings.SplitSeq(part, "|") {
			name := strings.TrimSpace(alternative)
			if k := strings.IndexAny(name, " (:[<"); k >= 0 {
				name = name[:k]
			}
			if name != "" {
				r = append(r, name)
			}
		}
		if len(r) > 0 {
			list = append(list, r)
		}
	}
	return list
}
