// Package selinux looks up file labels in the policy of an image, as libselinux
// does for setfiles and restorecon.
//
// The format is that of file_contexts(5): file_contexts, file_contexts.homedirs
// and file_contexts.local are read in this order, and a path is first rewritten
// by file_contexts.subs and file_contexts.subs_dist. A pattern without
// metacharacters beats a regular expression; of equals the last one wins. The
// compiled file_contexts.bin is not read: it holds the same.
package selinux

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"imgbuild/fault"
	"imgbuild/tree"
)

// maxFile is the size in bytes of the largest policy file that is read.
const maxFile = 64 << 20

// Policy is a set of file contexts. It is safe for concurrent use.
type Policy struct {
	typ           string
	literals      map[string][]*spec // by path, the last of a file first
	index         trie               // of the regular expressions, by prefix
	subs, distSub []substitution
}

// Type returns the name of the policy, as in SELINUXTYPE.
func (p *Policy) Type() string { return p.typ }

// Load reads the policy of the OS tree root, which has its configuration in
// /etc or, as in an ostree commit, in /usr/etc. It returns nil when the image
// has none or switches SELinux off.
func Load(root *tree.Inode) (*Policy, error) {
	for _, etc := range []string{"usr/etc", "etc"} {
		config, err := tree.ReadFile(root, etc+"/selinux/config", maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		typ, enabled := parseConfig(string(config))
		if !enabled || typ == "" {
			return nil, nil
		}
		if strings.Contains(typ, "/") || !tree.ValidName(typ) {
			return nil, fault.New(fault.BadImage, fmt.Errorf("%s/selinux/config: SELINUXTYPE %q is no name", etc, typ), "")
		}
		return load(root, etc+"/selinux/"+typ+"/contexts/files/", typ)
	}
	return nil, nil
}

// parseConfig reads SELINUXTYPE and whether SELINUX is not disabled.
func parseConfig(text string) (typ string, enabled bool) {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "SELINUXTYPE":
			typ = value
		case "SELINUX":
			enabled = value == "enforcing" || value == "permissive"
		}
	}
	return typ, enabled
}

func load(root *tree.Inode, dir, typ string) (*Policy, error) {
	var specs []*spec
	for i, name := range []string{"file_contexts", "file_contexts.homedirs", "file_contexts.local"} {
		text, err := tree.ReadFile(root, dir+name, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			if i == 0 {
				return nil, nil
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		more, err := parseContexts("/"+dir+name, text)
		if err != nil {
			return nil, fault.New(fault.BadImage, err, "correct the policy in the image, or build with --disable-selinux")
		}
		specs = append(specs, more...)
	}
	p := newPolicy(specs)
	p.typ = typ
	for name, subs := range map[string]*[]substitution{"file_contexts.subs": &p.subs, "file_contexts.subs_dist": &p.distSub} {
		text, err := tree.ReadFile(root, dir+name, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			*subs, err = parseSubstitutions("/"+dir+name, text)
		}
		if err != nil {
			return nil, fault.New(fault.BadImage, err, "")
		}
	}
	return p, nil
}

func newPolicy(specs []*spec) *Policy {
	p := &Policy{literals: map[string][]*spec{}}
	for i, s := range specs {
		s.order = i
		if s.literal {
			p.literals[s.path] = slices.Insert(p.literals[s.path], 0, s)
		} else {
			p.index.add(prefix(s.pattern), s)
		}
	}
	return p
}

// Lookup returns the label of what is at the absolute path. mode is the file's
// st_mode, of which the type counts; without type bits the file type column is
// not looked at. ok is false where the policy wants no label.
func (p *Policy) Lookup(path string, mode uint32) (label string, ok bool) {
	path = p.canonical(path)
	typ := mode & tree.TypeMask
	for _, s := range p.literals[path] {
		if s.fits(typ) {
			return s.label, s.label != noLabel
		}
	}
	if s := p.index.last(path, typ); s != nil {
		return s.label, s.label != noLabel
	}
	return "", false
}

// canonical returns the path that is looked up: without trailing or repeated
// slashes, and with the policy's substitutions.
func (p *Policy) canonical(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	return substitute(substitute(path, p.subs), p.distSub)
}

func (s *spec) fits(typ uint32) bool { return typ == 0 || s.mode == 0 || s.mode == typ }

// trie finds the specs whose literal prefix a path has, without going through
// all of them: a policy has thousands, of which a handful can match a path.
type trie struct {
	specs []*spec
	edges []edge
}

type edge struct {
	label byte
	next  *trie
}

func (t *trie) add(prefix string, s *spec) {
	for i := 0; i < len(prefix); i++ {
		next := t.next(prefix[i])
		if next == nil {
			next = &trie{}
			t.edges = append(t.edges, edge{prefix[i], next})
		}
		t = next
	}
	t.specs = append(t.specs, s)
}

func (t *trie) next(c byte) *trie {
	for _, e := range t.edges {
		if e.label == c {
			return e.next
		}
	}
	return nil
}

// last returns the last spec of the policy that matches the path, or nil. Longer
// prefixes usually stand later in a policy, so they are tried first: most of the
// others are then out by their order, before their expression is run.
func (t *trie) last(path string, typ uint32) *spec {
	var room [64]*trie
	nodes := append(room[:0], t)
	for i := 0; i < len(path); i++ {
		if t = t.next(path[i]); t == nil {
			break
		}
		if len(t.specs) > 0 {
			nodes = append(nodes, t)
		}
	}
	var best *spec
	for i := len(nodes) - 1; i >= 0; i-- {
		specs := nodes[i].specs
		for k := len(specs) - 1; k >= 0 && (best == nil || specs[k].order > best.order); k-- {
			if specs[k].matches(path, typ) {
				best = specs[k]
				break
			}
		}
	}
	return best
}

// matches tells whether a regular expression matches the path. Its end is
// compared first, as running it costs far more.
func (s *spec) matches(path string, typ uint32) bool {
	return s.fits(typ) && strings.HasSuffix(path, s.suffix) && s.re.MatchString(path)
}
