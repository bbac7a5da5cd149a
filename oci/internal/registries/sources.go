package registries

import (
	"fmt"
	"strings"
)

// Source is a place to pull an image from.
type Source struct {
	Name     string // host[:port]/repository
	Insecure bool   // plain HTTP and any certificate will do
	Mirror   bool
}

// BlockedError is the error for a registry that the configuration blocks.
type BlockedError struct{ Prefix string }

func (e *BlockedError) Error() string {
	return fmt.Sprintf("registries.conf blocks %s", e.Prefix)
}

// Sources returns where to look for a repository, "host[:port]/path", in turn:
// the mirrors that may be used, then the registry itself. byDigest tells whether
// the image is pinned by its digest.
func (c *Config) Sources(name string, byDigest bool) ([]Source, error) {
	r, n := c.find(name)
	if r == nil {
		return []Source{{Name: name}}, nil
	}
	if r.Blocked {
		return nil, &BlockedError{r.Prefix}
	}
	var list []Source
	for _, m := range r.Mirrors {
		switch {
		case r.MirrorByDigestOnly && !byDigest,
			m.PullFromMirror == "digest-only" && !byDigest,
			m.PullFromMirror == "tag-only" && byDigest:
			continue
		}
		list = append(list, Source{m.Location + name[n:], m.Insecure, true})
	}
	own := Source{Name: name, Insecure: r.Insecure}
	if r.Location != "" {
		own.Name = r.Location + name[n:]
	}
	return append(list, own), nil
}

// find returns the registry with the longest prefix of name, and how much of the
// name the prefix is.
func (c *Config) find(name string) (*registry, int) {
	var best *registry
	length := -1
	for i := range c.registries {
		r := &c.registries[i]
		n := match(name, r.Prefix)
		if n >= 0 && (best == nil || len(r.Prefix) > len(best.Prefix)) {
			best, length = r, n
		}
	}
	return best, length
}

// match returns how many bytes of name a prefix covers, or -1. A prefix ends
// where a part of a name does; one without a port covers all ports, as in Podman.
func match(name, prefix string) int {
	n := len(prefix)
	if suffix, wild := strings.CutPrefix(prefix, "*"); wild {
		host, _, _ := strings.Cut(name, "/")
		i := strings.Index(host, suffix)
		if i < 0 {
			return -1
		}
		n = i + len(suffix)
	} else if !strings.HasPrefix(name, prefix) {
		return -1
	}
	if n == len(name) || strings.IndexByte(":/@", name[n]) >= 0 {
		return n
	}
	return -1
}

// IsShort tells whether a name, which may have a tag and a digest, has no
// registry.
func IsShort(name string) bool { return !hasHost(name) }

// Candidates returns what a short name, with its tag and digest, can stand for in
// turn: its alias, otherwise the name in each registry to search. Without both
// the list is empty.
func (c *Config) Candidates(name string) (list []string, alias bool) {
	base, rest := split(name)
	if to := c.aliases[base]; to != "" {
		return []string{to + rest}, true
	}
	for _, host := range c.Search {
		list = append(list, host+"/"+name)
	}
	return list, false
}

// split cuts tag and digest from a name.
func split(name string) (base, rest string) {
	base, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(base, ':'); i > strings.LastIndexByte(base, '/') {
		base = base[:i]
	}
	return base, name[len(base):]
}
