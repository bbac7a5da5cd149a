package selinux

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// kind is what a node of a parsed pattern stands for.
type kind uint8

const (
	kindEmpty     kind = iota // nothing
	kindByte                  // the byte c
	kindSet                   // one byte of set
	kindConcat                // subs, one after the other
	kindAlternate             // one of subs, the first that fits
	kindRepeat                // subs[0], min to max times
	kindAtomic                // subs[0], without going back into it
	kindAhead                 // subs[0] follows
	kindNotAhead              // subs[0] does not follow
	kindBehind                // subs[0] precedes
	kindNotBehind             // subs[0] does not precede
	kindBegin                 // the begin of the path
	kindEnd                   // its end
	kindEndLine               // its end, or the newline that it ends with
	kindWord                  // between a word character and another
	kindNotWord               // elsewhere
	kindBack                  // min bytes back: how a look-behind is compiled
)

// node is a part of a parsed pattern.
type node struct {
	kind     kind
	c        byte
	set      charset
	min, max int // max is unlimited for none
	lazy     bool
	subs     []*node
}

// unlimited is the max of a repeat that has none.
const unlimited = -1

// maxCount is the largest count in braces, as PCRE2 has it.
const maxCount = 65535

// maxParens is the number of parentheses that may be open, as PCRE2 has it.
const maxParens = 250

// maxName is the length of the longest group name in PCRE2 before 10.44.
const maxName = 32

// errUnsupported is wrapped where PCRE2 knows what a pattern says, or some of
// its versions do, and this package does not.
var errUnsupported = errors.New("not supported")

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errUnsupported)
}

// parsePattern parses what libselinux makes of a pattern: it puts ^ before it
// and $ behind, without a group, and has PCRE2 compile the result with the
// option that the dot matches a newline.
//
// It is the language of pcre2pattern(3) without back references, recursion,
// conditions, callouts, verbs, Unicode properties (\p \X \R) and the options
// other than i and s: none is in a known policy.
func parsePattern(pattern string) (*node, error) {
	p := &parser{s: "^" + pattern + "$", names: map[string]bool{}}
	n, err := p.alternatives()
	if err == nil && p.i < len(p.s) {
		err = errors.New("unmatched )")
	}
	return n, err
}

// parser goes through a pattern once.
type parser struct {
	options
	s      string
	i      int             // of the next byte
	quoted bool            // behind \Q
	groups int             // capturing groups so far
	open   int             // parentheses
	names  map[string]bool // of groups
}

func (p *parser) rest() string { return p.s[p.i:] }

// accept goes past prefix if it is next.
func (p *parser) accept(prefix string) bool {
	if !strings.HasPrefix(p.rest(), prefix) {
		return false
	}
	p.i += len(prefix)
	return true
}

// alternatives parses up to the end or the ) of the group. An option set in one
// alternative holds for the next ones.
func (p *parser) alternatives() (*node, error) {
	var subs []*node
	for {
		n, err := p.concatenation()
		if err != nil {
			return nil, err
		}
		subs = append(subs, n)
		if !p.accept("|") {
			break
		}
	}
	if len(subs) == 1 {
		return subs[0], nil
	}
	return &node{kind: kindAlternate, subs: subs}, nil
}

func (p *parser) concatenation() (*node, error) {
	list := &node{kind: kindConcat}
	for {
		if err := p.skip(); err != nil {
			return nil, err
		}
		if !p.quoted && p.accept(`\Q`) {
			p.quoted = true
			continue
		}
		if p.i == len(p.s) || !p.quoted && (p.s[p.i] == '|' || p.s[p.i] == ')') {
			break
		}
		n, repeatable, err := p.item()
		if err == nil && repeatable {
			n, err = p.quantified(n)
		}
		if err != nil {
			return nil, err
		}
		switch n.kind {
		case kindEmpty:
		case kindConcat:
			list.subs = append(list.subs, n.subs...)
		default:
			list.subs = append(list.subs, n)
		}
	}
	return list, nil
}

// skip goes past what stands for nothing wherever it is, be it within a
// quantifier: comments, \E and an empty quotation.
func (p *parser) skip() error {
	for {
		switch {
		case p.accept(`\E`):
			p.quoted = false
		case p.quoted:
			return nil
		case p.accept(`\Q\E`):
		case p.accept("(?#"):
			end := strings.IndexByte(p.rest(), ')')
			if end < 0 {
				return errors.New("missing ) after (?#")
			}
			p.i += end + 1
		default:
			return nil
		}
	}
}

// item parses what a quantifier may follow, if repeatable.
func (p *parser) item() (n *node, repeatable bool, err error) {
	c := p.s[p.i]
	if p.quoted {
		p.i++
		return p.literal(c), true, nil
	}
	switch c {
	case '^':
		p.i++
		return &node{kind: kindBegin}, false, nil
	case '$':
		p.i++
		return &node{kind: kindEndLine}, false, nil
	case '.':
		p.i++
		set := anyByte()
		if p.noDotAll {
			set = setOf("\n\n").negated()
		}
		return &node{kind: kindSet, set: set}, true, nil
	case '[':
		n, err = p.class()
		return n, true, err
	case '(':
		return p.group()
	case '\\':
		return p.escape()
	case '*', '+', '?':
		return nil, false, fmt.Errorf("%c does not follow what can be repeated", c)
	case '{':
		if _, _, ok, err := p.count(); ok || err != nil {
			if err == nil {
				err = errors.New("{ does not follow what can be repeated")
			}
			return nil, false, err
		}
	}
	p.i++
	return p.literal(c), true, nil
}

func (p *parser) literal(c byte) *node {
	if p.fold {
		var s charset
		s.add(c)
		return newSet(s.folded())
	}
	return &node{kind: kindByte, c: c}
}

func newSet(s charset) *node {
	if c, ok := s.single(); ok {
		return &node{kind: kindByte, c: c}
	}
	return &node{kind: kindSet, set: s}
}

// quantified returns n with the quantifier that follows, if any.
func (p *parser) quantified(n *node) (*node, error) {
	if err := p.skip(); err != nil || p.quoted || p.i == len(p.s) {
		return n, err
	}
	r := &node{kind: kindRepeat, max: unlimited, subs: []*node{n}}
	switch p.s[p.i] {
	case '*':
		p.i++
	case '+':
		r.min = 1
		p.i++
	case '?':
		r.max = 1
		p.i++
	case '{':
		var ok bool
		var err error
		if r.min, r.max, ok, err = p.count(); err != nil || !ok {
			return n, err
		}
	default:
		return n, nil
	}
	if err := p.skip(); err != nil {
		return nil, err
	}
	switch {
	case p.accept("?"):
		r.lazy = true
	case p.accept("+"):
		return p.atomic(r)
	}
	return r, nil
}

// atomic returns what a possessive quantifier or (?> makes of n.
func (p *parser) atomic(n *node) (*node, error) {
	if n.repeatsNothing() {
		return nil, unsupported("an atomic group that repeats what may be empty")
	}
	return &node{kind: kindAtomic, subs: []*node{n}}, nil
}

// count parses a quantifier in braces. ok is false, and nothing is read, where
// the brace stands for itself.
func (p *parser) count() (lo, hi int, ok bool, err error) {
	text := p.rest()[1:]
	end := len(text) - len(strings.TrimLeft(text, "0123456789,"))
	if !strings.HasPrefix(text[end:], "}") {
		return 0, 0, false, nil
	}
	text = text[:end]
	from, to, comma := strings.Cut(text, ",")
	if strings.Contains(to, ",") || from == "" && to == "" {
		return 0, 0, false, nil
	}
	if from == "" {
		// Itself until PCRE2 10.42, a quantifier since.
		return 0, 0, false, unsupported("{%s}", text)
	}
	if lo, err = number(from); err != nil {
		return 0, 0, false, err
	}
	switch {
	case !comma:
		hi = lo
	case to == "":
		hi = unlimited
	default:
		if hi, err = number(to); err != nil {
			return 0, 0, false, err
		}
		if hi < lo {
			return 0, 0, false, fmt.Errorf("{%s}: numbers out of order", text)
		}
	}
	p.i += len("{}") + end
	return lo, hi, true, nil
}

func number(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n > maxCount {
		return 0, fmt.Errorf("{%s}: number too big", s)
	}
	return n, nil
}

// repeatsNothing tells whether in n something that may be empty is repeated
// without limit. PCRE2 ends such a loop by a rule that decides what an atomic
// group matches, though not whether a pattern does.
func (n *node) repeatsNothing() bool {
	if n.kind == kindRepeat && n.max == unlimited && n.subs[0].nullable() {
		return true
	}
	for _, sub := range n.subs {
		if sub.repeatsNothing() {
			return true
		}
	}
	return false
}

// nullable tells whether n may match the empty string.
func (n *node) nullable() bool {
	switch n.kind {
	case kindByte, kindSet:
		return false
	case kindRepeat:
		return n.min == 0 || n.subs[0].nullable()
	case kindAtomic:
		return n.subs[0].nullable()
	case kindConcat:
		for _, sub := range n.subs {
			if !sub.nullable() {
				return false
			}
		}
	case kindAlternate:
		for _, sub := range n.subs {
			if sub.nullable() {
				return true
			}
		}
		return false
	}
	return true
}

// width returns the number of bytes that n matches, if that is fixed.
func (n *node) width() (int, bool) {
	switch n.kind {
	case kindByte, kindSet:
		return 1, true
	case kindAtomic:
		return n.subs[0].width()
	case kindRepeat:
		w, ok := n.subs[0].width()
		return w * n.min, ok && n.min == n.max && w*n.min <= maxCount
	case kindConcat:
		total := 0
		for _, sub := range n.subs {
			w, ok := sub.width()
			if total += w; !ok || total > maxCount {
				return 0, false
			}
		}
		return total, true
	case kindAlternate:
		first, ok := n.subs[0].width()
		for _, sub := range n.subs[1:] {
			w, same := sub.width()
			ok = ok && same && w == first
		}
		return first, ok
	}
	return 0, true
}
