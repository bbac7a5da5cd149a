// Package selinux looks up file labels in the policy of an image as libselinux
// does for libostree, bootc, setfiles and restorecon.
//
// The format is that of file_contexts(5), in text form: file_contexts,
// file_contexts.homedirs and file_contexts.local, of which a later one has
// precedence, and file_contexts.subs and file_contexts.subs_dist, by which a
// path is rewritten first. The compiled file_contexts.bin is not read: it holds
// the same. A pattern without metacharacters beats a regular expression; of
// regular expressions the last one wins. They are those of PCRE2, and are
// matched by a matcher of this package, as Go's regexp has another language and
// matches UTF-8.
//
// Where versions of libselinux differ it is as in 3.9 and later; comments say
// where that is. With the policies of Debian and Fedora, versions up to 3.7 only
// differ for a path that ends in a newline (their literals match before it) and
// for a look-up without a file type where literals of several types have the same
// path. 3.8 alone has the order of substitutions the other way round.
package selinux

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"imgbuild/fault"
	"imgbuild/tree"
)

// maxFile is the size in bytes of the largest policy file that is read. Fedora's
// largest has 430 KB.
const maxFile = 16 << 20

// Policy is a set of file contexts. It is safe for concurrent use.
type Policy struct {
	typ            string
	literals       map[string][]*spec // by path, the first to be tried first
	index          index              // of the regular expressions
	subs, distSubs []substitution
}

// Type returns the name of the policy, as in SELINUXTYPE.
func (p *Policy) Type() string { return p.typ }

// Load reads the policy of the OS tree root, which has its configuration in
// /etc or, as in an ostree commit, in /usr/etc. It returns nil when the image
// has no configuration or switches SELinux off. It is an error when libostree
// or libselinux would not read the policy, or a pattern cannot be understood.
func Load(root *tree.Inode) (*Policy, error) {
	dir := "etc/selinux"
	if _, err := tree.Resolve(root, dir); errors.Is(err, fs.ErrNotExist) {
		dir = "usr/etc/selinux"
	}
	config, err := tree.ReadFile(root, dir+"/config", maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	typ, enabled := parseConfig(string(config))
	if !enabled {
		return nil, nil
	}
	if !tree.ValidName(typ) {
		return nil, fault.New(fault.BadImage, fmt.Errorf("/%s/config: SELINUXTYPE %q is not the name of a policy", dir, typ), "")
	}
	return load(root, dir+"/"+typ+"/contexts/files/file_contexts", typ)
}

// parseConfig reads the name of the policy and whether it is to be used, as
// libostree does (ostree-sepolicy.c, initable_init): the last SELINUXTYPE
// counts, and any SELINUX that begins with enforcing or permissive.
func parseConfig(text string) (typ string, enabled bool) {
	for line := range strings.SplitSeq(text, "\n") {
		if v, ok := strings.CutPrefix(line, "SELINUXTYPE="); ok {
			typ = strings.TrimSpace(v)
		} else if v, ok := strings.CutPrefix(line, "SELINUX="); ok {
			for _, mode := range []string{"enforcing", "permissive"} {
				enabled = enabled || len(v) >= len(mode) && strings.EqualFold(v[:len(mode)], mode)
			}
		}
	}
	return typ, enabled
}

// load reads the policy whose first file is at path.
func load(root *tree.Inode, path, typ string) (*Policy, error) {
	r := newReader()
	for i, suffix := range []string{"", ".homedirs", ".local"} {
		text, err := readFile(root, path+suffix)
		if errors.Is(err, fs.ErrNotExist) && i > 0 {
			continue
		}
		if err != nil {
			return nil, fault.New(fault.BadImage, err, "install the policy in the image, or build with --disable-selinux")
		}
		if err := r.read("/"+path+suffix, text); err != nil {
			class := fault.BadImage
			if errors.Is(err, errUnsupported) {
				class = fault.Unsupported
			}
			return nil, fault.New(class, err, "correct the policy in the image, or build with --disable-selinux")
		}
	}
	p := newPolicy(r.specs)
	p.typ = typ
	for _, f := range []struct {
		suffix string
		subs   *[]substitution
	}{{".subs", &p.subs}, {".subs_dist", &p.distSubs}} {
		text, err := tree.ReadFile(root, path+f.suffix, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fault.New(fault.BadImage, err, "")
		}
		*f.subs = parseSubstitutions(text)
	}
	if _, ok := p.Lookup("/", 0); !ok {
		// libostree makes sure of it, too.
		return nil, fault.New(fault.BadImage, fmt.Errorf("/%s: no label for /", path),
			"correct the policy in the image, or build with --disable-selinux")
	}
	return p, nil
}

// readFile reads a file of contexts. To libselinux it is there if only its
// compiled form is.
func readFile(root *tree.Inode, path string) ([]byte, error) {
	text, err := tree.ReadFile(root, path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := tree.Resolve(root, path+".bin"); e == nil {
			return nil, fmt.Errorf("/%s: only the compiled form is there, which is not read", path)
		}
	}
	return text, err
}

// newPolicy makes a policy of the specs of its files.
func newPolicy(specs []*spec) *Policy {
	p := &Policy{literals: map[string][]*spec{}}
	// Of literals with the same path those of the last file are tried first, and
	// those of a file in their order. (Until libselinux 3.7 the last of all was,
	// in 3.8 those with a file type were.)
	for end := len(specs); end > 0; {
		start := end
		for start > 0 && specs[start-1].file == specs[end-1].file {
			start--
		}
		for _, s := range specs[start:end] {
			if s.program == nil {
				p.literals[s.path] = append(p.literals[s.path], s)
			}
		}
		end = start
	}
	for _, s := range specs {
		if s.program != nil {
			p.index.add(s.program.prefix, s)
		}
	}
	return p
}

// Lookup returns the label of what is at the absolute path. mode is the file's
// st_mode, of which the type counts; without type bits the file type column is
// not looked at. ok is false where the policy wants no label.
//
// It answers what libostree's ostree_sepolicy_get_label does, which all labels
// of an installation come from. That is libselinux's selabel_lookup_raw but for
// /proc: policies have <<none>> for the mount point, and libostree takes the
// label of /mnt (https://github.com/ostreedev/ostree/pull/768).
func (p *Policy) Lookup(path string, mode uint32) (label string, ok bool) {
	if path == "/proc" {
		path = "/mnt"
	}
	s := p.find(path, mode&tree.TypeMask)
	if s == nil || s.label == noLabel {
		return "", false
	}
	return s.label, true
}

// find returns the spec for a path, or nil: libselinux's lookup_all.
func (p *Policy) find(path string, typ uint32) *spec {
	path = p.canonical(path)
	for _, s := range p.literals[path] {
		if s.fits(typ) {
			return s
		}
	}
	return p.index.find(path, typ)
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
	return substitute(substitute(path, p.subs), p.distSubs)
}
