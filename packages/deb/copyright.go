package deb

import (
	"bufio"
	"io"
	"slices"
	"strings"
)

// MaxCopyright is the largest copyright file that is read, in bytes.
const MaxCopyright = 2 << 20

// maxLicense is the longest licence that is made of one, in bytes.
const maxLicense = 16 << 10

// License returns the licences of a machine-readable copyright file
// (copyright-format 1.0) as one expression of SPDX, and "" for any other file, or
// where there are too many.
func License(r io.Reader) string {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4<<10), maxLine)
	var found []string
	seen := map[string]bool{}
	first, size := true, 0
	for s.Scan() {
		line := s.Text()
		key, value, ok := strings.Cut(line, ":")
		if first && strings.TrimSpace(line) != "" {
			first = false
			// "Format-Specification" is that of drafts.
			if !ok || !strings.EqualFold(key, "Format") && !strings.EqualFold(key, "Format-Specification") {
				return ""
			}
		}
		if value = strings.TrimSpace(value); !ok || !strings.EqualFold(key, "License") || value == "" {
			continue
		}
		if e := expression(value); !seen[e] {
			seen[e] = true
			found = append(found, e)
			if size += len(e); size > maxLicense {
				return ""
			}
		}
	}
	slices.Sort(found)
	if s.Err() != nil {
		return ""
	}
	if len(found) > 1 {
		for i, e := range found {
			if strings.Contains(e, " ") {
				found[i] = "(" + e + ")"
			}
		}
	}
	return strings.Join(found, " AND ")
}

// expression turns the short names and operators of the format into those of SPDX.
func expression(text string) string {
	var out []string
	var words []string
	flush := func() {
		if len(words) > 0 {
			out = append(out, shortName(words))
			words = nil
		}
	}
	for word := range strings.FieldsSeq(strings.ReplaceAll(text, ",", " ")) {
		switch strings.ToLower(word) {
		case "and", "or":
			flush()
			out = append(out, strings.ToUpper(word))
		default:
			words = append(words, word)
		}
	}
	flush()
	return strings.Join(out, " ")
}

// shortName returns the identifier of SPDX of a short name of the format with its
// exception: "GPL-2+ with OpenSSL exception".
func shortName(words []string) string {
	name := words[0]
	base, later := strings.CutSuffix(name, "+")
	known := map[string]string{"expat": "MIT", "bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause",
		"artistic": "Artistic-1.0", "apache-2": "Apache-2.0", "zope-2.1": "ZPL-2.1", "psf-2": "PSF-2.0", "cc0": "CC0-1.0"}
	if id, ok := known[strings.ToLower(base)]; ok {
		name = id
		if later {
			name += "+"
		}
	} else if family, version, ok := strings.Cut(base, "-"); ok && slices.Contains([]string{"GPL", "LGPL", "AGPL", "GFDL"}, family) && version != "" && strings.Trim(version, "0123456789.") == "" {
		if !strings.Contains(version, ".") {
			version += ".0"
		}
		if family == "GFDL" {
			version = strings.TrimSuffix(version, ".0")
		}
		name = family + "-" + version + map[bool]string{true: "-or-later", false: "-only"}[later]
	}
	if len(words) == 1 {
		return name
	}
	// Exceptions have no short names: all of it together is another licence.
	return strings.Join(append([]string{name}, words[1:]...), "-")
}
