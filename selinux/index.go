package selinux

import "strings"

// maxStems is the number of leading directories that libselinux sorts its
// specifications by (SPEC_NODE_MAX_DEPTH in label_file.h).
const maxStems = 3

// index finds the regular expressions whose literal prefix a path has, without
// going through all of them: a policy has thousands, of which a handful can
// match a path. It is a radix tree; a node stands for the text on the way to it.
type index struct {
	text string // from the parent to here
	// specs are those with this prefix, by the number of their stems.
	specs    [maxStems + 1][]*spec
	children []*index
}

// add adds a spec, behind all those that were added before.
func (x *index) add(prefix string, s *spec) {
	for prefix != "" {
		child := x.child(prefix[0])
		if child == nil {
			child = &index{text: prefix}
			x.children = append(x.children, child)
		}
		n := 0
		for n < len(child.text) && n < len(prefix) && child.text[n] == prefix[n] {
			n++
		}
		if n < len(child.text) {
			lower := *child
			lower.text = child.text[n:]
			*child = index{text: child.text[:n], children: []*index{&lower}}
		}
		x, prefix = child, prefix[n:]
	}
	x.specs[s.stems] = append(x.specs[s.stems], s)
}

func (x *index) child(c byte) *index {
	for _, child := range x.children {
		if child.text[0] == c {
			return child
		}
	}
	return nil
}

// find returns the spec that libselinux finds for the path, or nil.
//
// That is the last in the policy of those that match, with one exception: the
// directories that specs are sorted by are gone through from the deepest up, and
// where the last match so far says <<none>>, that is the answer, even if a spec
// of a directory further up stands later in the policy. (Until libselinux 3.7
// the last one counted there, too.)
func (x *index) find(path string, typ uint32) *spec {
	var room [64]*index
	nodes := room[:0]
	for rest := path; ; {
		nodes = append(nodes, x)
		if rest == "" {
			break
		}
		if x = x.child(rest[0]); x == nil || !strings.HasPrefix(rest, x.text) {
			break
		}
		rest = rest[len(x.text):]
	}
	var best *spec
	for stems := maxStems; stems >= 0; stems-- {
		// Longer prefixes usually stand later in a policy. When one matches,
		// most of the others are out before they are tried.
		for i := len(nodes) - 1; i >= 0; i-- {
			specs := nodes[i].specs[stems]
			for k := len(specs) - 1; k >= 0 && (best == nil || specs[k].order > best.order); k-- {
				if specs[k].matches(path, typ) {
					best = specs[k]
					break
				}
			}
		}
		if best != nil && best.label == noLabel {
			return best
		}
	}
	return best
}
