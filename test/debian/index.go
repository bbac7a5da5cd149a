package debian

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxLine bounds a line of an index; the longest in Debian are some 40 kB.
const maxLine = 1 << 20

// Package is a binary package as the index describes it.
type Package struct {
	Name, Version string
	Filename      string // path of the .deb below the mirror
	Size          int64  // of the .deb, in bytes
	SHA256        string // of the .deb, lower-case hexadecimal
	Depends       string // Pre-Depends and Depends, comma-separated
	Provides      string
}

// index is the packages of one suite and architecture.
type index struct {
	packages  map[string]*Package
	providers map[string][]string // of a virtual package, in the order of the index
}

// parseIndex reads a Packages file. Of several versions the newest counts.
func parseIndex(r io.Reader) (*index, error) {
	x := &index{packages: make(map[string]*Package), providers: make(map[string][]string)}
	err := stanzas(r, func(f map[string]string) error {
		p := &Package{Name: f["Package"], Version: f["Version"], Filename: f["Filename"], SHA256: f["SHA256"],
			Provides: f["Provides"], Depends: joinNonEmpty(f["Pre-Depends"], f["Depends"])}
		size, err := strconv.ParseInt(f["Size"], 10, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("package %q: size %q", p.Name, f["Size"])
		}
		if p.Size = size; p.Name == "" || p.Filename == "" || !isSHA256(p.SHA256) {
			return fmt.Errorf("package %q: no name, file name or SHA256", p.Name)
		}
		old := x.packages[p.Name]
		if old != nil && compareVersions(old.Version, p.Version) >= 0 {
			return nil
		}
		x.packages[p.Name] = p
		if old == nil {
			for _, v := range relations(p.Provides) {
				x.providers[v[0]] = append(x.providers[v[0]], p.Name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return x, nil
}

// indexFields are the fields of a stanza that anything here looks at.
var indexFields = map[string]bool{"Package": true, "Version": true, "Filename": true, "Size": true, "SHA256": true,
	"Depends": true, "Pre-Depends": true, "Provides": true}

// stanzas calls fn with the fields of each paragraph (deb822(5)).
func stanzas(r io.Reader, fn func(fields map[string]string) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	fields, last := make(map[string]string), ""
	flush := func() error {
		if len(fields) == 0 {
			return nil
		}
		err := fn(fields)
		clear(fields)
		last = ""
		return err
	}
	for s.Scan() {
		line := s.Bytes()
		switch {
		case len(bytes.TrimSpace(line)) == 0:
			if err := flush(); err != nil {
				return err
			}
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				fields[last] += " " + string(bytes.TrimSpace(line))
			}
		default:
			name, value, ok := bytes.Cut(line, []byte(":"))
			if !ok {
				return fmt.Errorf("line %q is no field", line[:min(len(line), 80)])
			}
			last = ""
			if indexFields[string(name)] {
				last = string(name)
				fields[last] = string(bytes.TrimSpace(value))
			}
		}
	}
	if err := s.Err(); err != nil {
		return err
	}
	return flush()
}

// relations splits a dependency field: for each comma-separated part, the names
// of its alternatives without versions and architectures.
func relations(field string) [][]string {
	var all [][]string
	for part := range strings.SplitSeq(field, ",") {
		var names []string
		for alt := range strings.SplitSeq(part, "|") {
			alt = strings.TrimSpace(alt)
			if i := strings.IndexAny(alt, " (:[<"); i >= 0 {
				alt = alt[:i]
			}
			if alt != "" {
				names = append(names, alt)
			}
		}
		if len(names) > 0 {
			all = append(all, names)
		}
	}
	return all
}

func joinNonEmpty(parts ...string) string {
	var some []string
	for _, p := range parts {
		if p != "" {
			some = append(some, p)
		}
	}
	return strings.Join(some, ", ")
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32
}

// release is what InRelease says about files: size and SHA-256 by their path.
type release map[string]fileSum

type fileSum struct {
	size   int64
	sha256 string
}

// parseRelease reads the SHA256 section of a Release or InRelease file.
func parseRelease(text []byte) (release, error) {
	r, inside := make(release), false
	for line := range bytes.Lines(text) {
		if line[0] != ' ' {
			inside = bytes.HasPrefix(line, []byte("SHA256:"))
			continue
		}
		f := strings.Fields(string(line))
		if !inside || len(f) != 3 {
			continue
		}
		size, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || size < 0 || !isSHA256(f[0]) {
			return nil, fmt.Errorf("release: line %q", strings.TrimSpace(string(line)))
		}
		r[f[2]] = fileSum{size: size, sha256: f[0]}
	}
	if len(r) == 0 {
		return nil, fmt.Errorf("release: no SHA256 section")
	}
	return r, nil
}
