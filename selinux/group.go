package selinux

import (
	"errors"
	"fmt"
	"strings"
)

// options are those that a pattern can set: (?i) and (?-s).
type options struct {
	fold     bool // letters stand for both cases
	noDotAll bool // the dot does not match a newline
}

// group parses what begins with a parenthesis.
func (p *parser) group() (n *node, repeatable bool, err error) {
	outer := p.options
	p.i++
	k := kindEmpty // an ordinary group
	switch {
	case strings.HasPrefix(p.rest(), "*"):
		return nil, false, unsupported("a verb (*")
	case !p.accept("?"):
		p.groups++
	default:
		var alone bool
		if k, alone, err = p.groupKind(); err != nil || alone {
			return &node{}, false, err
		}
	}
	if p.open++; p.open > maxParens {
		return nil, false, errors.New("parentheses nest too deeply")
	}
	if n, err = p.alternatives(); err != nil {
		return nil, false, err
	}
	if !p.accept(")") {
		return nil, false, errors.New("missing )")
	}
	p.open--
	p.options = outer
	switch k {
	case kindEmpty:
		return n, true, nil
	case kindAtomic:
		n, err = p.atomic(n)
		return n, true, err
	case kindBehind, kindNotBehind:
		for _, sub := range n.branches() {
			if _, ok := sub.width(); !ok {
				return nil, false, unsupported("a look-behind of no fixed length")
			}
		}
	}
	return &node{kind: k, subs: []*node{n}}, true, nil
}

// branches returns the alternatives of n.
func (n *node) branches() []*node {
	if n.kind == kindAlternate {
		return n.subs
	}
	return []*node{n}
}

// groupKind parses what follows a parenthesis and a question mark. alone is true
// for options that are a group to themselves.
func (p *parser) groupKind() (k kind, alone bool, err error) {
	for _, start := range []struct {
		text string
		kind kind
	}{
		{":", kindEmpty}, {">", kindAtomic}, {"=", kindAhead}, {"!", kindNotAhead}, {"<=", kindBehind}, {"<!", kindNotBehind},
	} {
		if p.accept(start.text) {
			return start.kind, false, nil
		}
	}
	for _, start := range []string{"<", "P<", "'"} {
		if p.accept(start) {
			return kindEmpty, false, p.groupName(strings.ReplaceAll(start[len(start)-1:], "<", ">"))
		}
	}
	for on := true; ; p.i++ {
		switch {
		case p.accept(")"):
			return kindEmpty, true, nil
		case p.accept(":"):
			return kindEmpty, false, nil
		case strings.HasPrefix(p.rest(), "-") && on:
			on = false
		case strings.HasPrefix(p.rest(), "i"):
			p.fold = on
		case strings.HasPrefix(p.rest(), "s"):
			p.noDotAll = !on
		default:
			return kindEmpty, false, unsupported("a group that begins with (?%.1s", p.rest())
		}
	}
}

// groupName parses a name up to end. References to it are not supported, so it
// only counts as a group.
func (p *parser) groupName(end string) error {
	name, _, ok := strings.Cut(p.rest(), end)
	bad := !ok || name == "" || len(name) > maxName || name[0] >= '0' && name[0] <= '9' || p.names[name]
	for i := 0; i < len(name) && !bad; i++ {
		bad = !wordByte(name[i])
	}
	if bad {
		return fmt.Errorf("group name %.40q is empty, long, taken or no name", name)
	}
	p.names[name] = true
	p.groups++
	p.i += len(name) + len(end)
	return nil
}
