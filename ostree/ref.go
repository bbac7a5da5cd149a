package ostree

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"imgbuild/tree"
)

// Prefixes of the refs that ostree-ext keeps.
const (
	blobRefs  = "ostree/container/blob/"
	imageRefs = "ostree/container/image/"
)

// EscapeRef returns s in the form in which ostree-ext makes it part of the name
// of a ref: ASCII letters, digits and '-' stand for themselves, '_' is doubled,
// '/' stays where it follows a letter or digit and is not the last character.
// Everything else becomes its code point in hexadecimal between underscores.
func EscapeRef(s string) string {
	var b strings.Builder
	alnum := false // whether the last character was a letter or digit
	for k, c := range s {
		now := isAlnum(c)
		switch {
		case now, c == '-', c == '/' && alnum && k+1 < len(s):
			b.WriteRune(c)
		case c == '_':
			b.WriteString("__")
		default:
			fmt.Fprintf(&b, "_%02X_", c)
		}
		alnum = now
	}
	return b.String()
}

func isAlnum(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// BlobRef returns the ref of a layer by the digest of its blob in the manifest.
func BlobRef(digest string) string { return blobRefs + EscapeRef(digest) }

// ImageRef returns the ref of an image by its reference, "docker://…".
func ImageRef(ref string) string { return imageRefs + EscapeRef(ref) }

// SetRef makes name, a path without "heads", a ref to a commit.
func (r *Repo) SetRef(name string, commit tree.Sum) error {
	if err := checkRef(name); err != nil {
		return fmt.Errorf("set ref: %w", err)
	}
	if r.Commit(commit) == nil {
		return fmt.Errorf("set ref %s: commit %s is missing", name, Hex(commit))
	}
	r.refs[name] = commit
	return nil
}

// Ref returns the commit of a ref.
func (r *Repo) Ref(name string) (commit tree.Sum, ok bool) {
	commit, ok = r.refs[name]
	return commit, ok
}

// checkRef tells whether libostree accepts the name: fragments of letters,
// digits, '-', '.' and '_' that begin with a letter, digit or '_'.
func checkRef(name string) error {
	if !utf8.ValidString(name) {
		return fmt.Errorf("ref %q is not UTF-8", name)
	}
	for fragment := range strings.SplitSeq(name, "/") {
		if !tree.ValidName(fragment) {
			return fmt.Errorf("ref %q has an invalid component", name)
		}
		for k, c := range fragment {
			if !isAlnum(c) && c != '_' && (k == 0 || c != '-' && c != '.') {
				return fmt.Errorf("ref %q has an invalid character %q", name, c)
			}
		}
	}
	return nil
}

// refDir returns the directory refs.
func (r *Repo) refDir(time int64) (*tree.Inode, error) {
	refs, heads := newDir(0o755, time), newDir(0o755, time)
	refs.Set("heads", heads)
	refs.Set("mirrors", newDir(0o755, time))
	refs.Set("remotes", newDir(0o755, time))
	for name, commit := range r.refs {
		dir := heads
		parts := strings.Split(name, "/")
		for _, part := range parts[:len(parts)-1] {
			sub := dir.Child(part)
			if sub == nil {
				sub = newDir(0o755, time)
				dir.Set(part, sub)
			}
			if !sub.IsDir() {
				return nil, fmt.Errorf("ref %s is below another ref", name)
			}
			dir = sub
		}
		last := parts[len(parts)-1]
		if dir.Child(last) != nil {
			return nil, fmt.Errorf("ref %s is above another ref", name)
		}
		dir.Set(last, newFile(0o644, Hex(commit)+"\n", time))
	}
	return refs, nil
}

// keyfileValue escapes a string as GKeyFile writes it.
func keyfileValue(s string) string {
	var b strings.Builder
	leading := true
	for _, c := range s {
		switch {
		case c == ' ' && leading:
			b.WriteString(`\s`)
			continue
		case c == '\t' && leading:
			b.WriteString(`\t`)
			continue
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\\':
			b.WriteString(`\\`)
		default:
			b.WriteRune(c)
		}
		leading = false
	}
	return b.String()
}
