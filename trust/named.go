package trust

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// named is a Docker-like image name, as signatures and policies have them. The
// grammar is that of the distribution project.
type named struct {
	name   string // host[:port]/path
	tag    string // or ""
	digest string // or ""
}

var (
	reName   = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	reDomain = regexp.MustCompile(`^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?$`)
	reTag    = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}$`)
	reDigest = regexp.MustCompile(`^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-fA-F0-9]{32,128}$`)
)

// maxName is longer than any name with tag and digest, in bytes.
const maxName = 1 << 10

// parseNamed parses a name and completes it: one without a host is of
// docker.io, and one there without a namespace of library.
func parseNamed(s string) (named, error) {
	bad := errors.New("not the name of an image")
	if len(s) > maxName {
		return named{}, bad
	}
	n := named{}
	s, digest, has := strings.Cut(s, "@")
	if has && !reDigest.MatchString(digest) {
		return named{}, bad
	}
	n.digest = digest
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.Contains(s[i:], "/") {
		if n.tag = s[i+1:]; !reTag.MatchString(n.tag) {
			return named{}, bad
		}
		s = s[:i]
	}
	host, path, ok := strings.Cut(s, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" && strings.ToLower(host) == host {
		host, path = "docker.io", s
	}
	if host == "index.docker.io" {
		host = "docker.io"
	}
	if host == "docker.io" && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	if !reDomain.MatchString(host) || !reName.MatchString(path) {
		return named{}, bad
	}
	n.name = host + "/" + path
	return n, nil
}

func (n named) nameOnly() bool { return n.tag == "" && n.digest == "" }

func (n named) String() string {
	s := n.name
	if n.tag != "" {
		s += ":" + n.tag
	}
	if n.digest != "" {
		s += "@" + n.digest
	}
	return s
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
