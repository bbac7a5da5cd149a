package packages

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Document is what an SBOM is of, beside the packages, whatever its format.
type Document struct {
	Name    string // of the image, without transport
	Digest  string // of its manifest: "sha256:…"
	Arch    string // GOARCH
	PURL    string // of the image, "" where it is in no registry
	Tool    string // name of the program
	Version string // of the program
	Created int64  // seconds since 1970
	Inventory
}

// Timestamp returns when the document was made, RFC 3339 in UTC.
func (d *Document) Timestamp() string {
	return time.Unix(d.Created, 0).UTC().Format("2006-01-02T15:04:05Z")
}

// SystemName returns the name of the operating system.
func (d *Document) SystemName() string {
	if d.OS.ID == "" {
		return "linux"
	}
	return d.OS.ID
}

// Distinct ends those of names that came before with sep and a number, so that each
// is there once.
func Distinct(names []string, sep string) []string {
	used := make(map[string]bool, len(names))
	for _, name := range names {
		used[name] = true
	}
	seen, next := map[string]bool{}, map[string]int{}
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = name
		for again := seen[name]; again; again = used[out[i]] {
			next[name]++
			out[i] = fmt.Sprint(name, sep, next[name])
		}
		seen[name], used[out[i]] = true, true
	}
	return out
}

// Website returns a home page where it is a URL that one can visit, and else "".
func Website(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ftp" || strings.ContainsAny(s, " \"<>\\^`{|}") {
		return ""
	}
	return s
}

// EncodeJSON returns a structure as JSON for people, the same bytes for the same
// structure.
func EncodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}
