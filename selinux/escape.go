package selinux

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// escape parses a backslash and what follows, outside a class.
func (p *parser) escape() (n *node, repeatable bool, err error) {
	if p.i+1 == len(p.s) {
		return nil, false, errors.New(`\ at the end`)
	}
	c := p.s[p.i+1]
	if c >= '1' && c <= '9' {
		if err := p.notReference(); err != nil {
			return nil, false, err
		}
	}
	if set, ok := escapeClass(c); ok {
		p.i += 2
		return &node{kind: kindSet, set: set}, true, nil
	}
	var k kind
	switch c {
	case 'A':
		k = kindBegin
	case 'z':
		k = kindEnd
	case 'Z':
		k = kindEndLine
	case 'b':
		k = kindWord
	case 'B':
		k = kindNotWord
	case 'C', 'N':
		p.i += 2
		set := anyByte()
		if c == 'N' {
			set = setOf("\n\n").negated()
			if !p.countNext() {
				return nil, false, unsupported(`\N{`)
			}
		}
		return &node{kind: kindSet, set: set}, true, nil
	default:
		b, err := p.escapedByte()
		return p.literal(b), true, err
	}
	p.i += 2
	return &node{kind: k}, false, nil
}

// countNext tells whether a brace that follows, if any, is a quantifier.
func (p *parser) countNext() bool {
	if !strings.HasPrefix(p.rest(), "{") {
		return true
	}
	ahead := *p
	_, _, ok, err := ahead.count()
	return ok && err == nil
}

// notReference makes sure that a backslash and a digit are not a reference to a
// group: they are an octal number if there are digits enough for one and fewer
// groups.
func (p *parser) notReference() error {
	text := p.s[p.i+1:]
	text = text[:len(text)-len(strings.TrimLeft(text, "0123456789"))]
	if n, err := strconv.Atoi(text); err == nil && (n < 10 || n <= p.groups) || text[0] >= '8' {
		return unsupported(`back reference \%s`, text)
	}
	return nil
}

// escapedByte parses an escape that stands for a byte, in or outside a class.
func (p *parser) escapedByte() (byte, error) {
	if p.i+1 == len(p.s) {
		return 0, errors.New(`\ at the end`)
	}
	c := p.s[p.i+1]
	p.i += 2
	switch {
	case c >= '0' && c <= '7':
		p.i--
		return p.numeral(8, 3)
	case !wordByte(c) || c == '_':
		return c, nil
	}
	switch c {
	case 'a':
		return '\a', nil
	case 'e':
		return 0x1b, nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'c':
		if p.i == len(p.s) || p.s[p.i] < ' ' || p.s[p.i] > '~' {
			return 0, errors.New(`\c without a printable character`)
		}
		c = p.s[p.i]
		p.i++
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		return c ^ 0x40, nil
	case 'o':
		return p.braced(8)
	case 'x':
		if strings.HasPrefix(p.rest(), "{") {
			return p.braced(16)
		}
		return p.numeral(16, 2)
	case 'g', 'k':
		return 0, unsupported(`back reference \%c`, c)
	case 'C', 'G', 'K', 'p', 'P', 'R', 'X', '8', '9':
		return 0, unsupported(`\%c`, c)
	}
	return 0, fmt.Errorf(`\%c is no escape`, c)
}

// numeral parses up to n digits.
func (p *parser) numeral(base, n int) (byte, error) {
	text := p.rest()[:min(n, len(p.rest()))]
	end := strings.IndexFunc(text, func(r rune) bool { return digit(r) >= base })
	if end >= 0 {
		text = text[:end]
	}
	p.i += len(text)
	if text == "" {
		return 0, unsupported(`\x without a digit`) // a NUL until PCRE2 10.44
	}
	v, err := strconv.ParseUint(text, base, 8)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of a byte", text)
	}
	return byte(v), nil
}

func digit(r rune) int {
	switch {
	case r >= '0' && r <= '9':
		return int(r - '0')
	case r|0x20 >= 'a' && r|0x20 <= 'f':
		return int(r|0x20-'a') + 10
	}
	return 16
}

// braced parses a number in braces.
func (p *parser) braced(base int) (byte, error) {
	text, _, ok := strings.Cut(p.rest(), "}")
	if !ok || text == "" || text[0] != '{' || strings.Contains(text, "_") {
		return 0, errors.New("number without braces")
	}
	p.i += len(text) + 1
	v, err := strconv.ParseUint(text[1:], base, 8)
	if err != nil {
		return 0, fmt.Errorf("%s} is no number of a byte", text)
	}
	return byte(v), nil
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// hyphen is what a - would be in a class.
type hyphen uint8

const (
	hyphenLiteral hyphen = iota // itself
	hyphenRange                 // between the ends of a range
	hyphenNow                   // it was the last: the range waits for its end
)

// class parses a class in brackets. The rules are those of PCRE2, which takes
// for an error what Perl warns of.
func (p *parser) class() (*node, error) {
	if p.posixName() != "" {
		return nil, errors.New("a POSIX class outside brackets")
	}
	p.i++
	negate := false
	for p.accept(`\E`) || p.accept(`\Q\E`) || !negate && p.accept("^") {
		negate = negate || p.s[p.i-1] == '^'
	}
	var set charset
	var from byte
	state, quoted := hyphenLiteral, false
	for first := true; ; first = false {
		if p.i == len(p.s) {
			return nil, errors.New("missing ] for a class")
		}
		c := p.s[p.i]
		if quoted || c == '\\' {
			if p.accept(`\E`) {
				quoted = false
				continue
			}
			if !quoted && p.accept(`\Q`) {
				quoted = true
				continue
			}
		}
		if !quoted {
			if c == ']' && !first {
				p.i++
				break
			}
			if c == '-' && state == hyphenRange {
				state = hyphenNow
				p.i++
				continue
			}
			more, ok, err := p.classSet()
			if ok && state == hyphenNow {
				err = errors.New("a range that ends with a class")
			}
			if err != nil {
				return nil, err
			}
			if ok {
				set.addSet(more)
				state = hyphenLiteral
				continue
			}
		}
		c, err := p.classByte(quoted)
		if err != nil {
			return nil, err
		}
		if state != hyphenNow {
			set.add(c)
			from, state = c, hyphenRange
			continue
		}
		if c < from {
			return nil, fmt.Errorf("range %q-%q out of order", from, c)
		}
		set.addRange(from, c)
		state = hyphenLiteral
	}
	if state == hyphenNow {
		set.add('-')
	}
	if p.fold {
		set = set.folded()
	}
	if negate {
		set = set.negated()
	}
	return newSet(set), nil
}

// classByte parses one byte of a class.
func (p *parser) classByte(quoted bool) (byte, error) {
	switch {
	case quoted || p.s[p.i] != '\\':
		p.i++
		return p.s[p.i-1], nil
	case p.accept(`\b`):
		return '\b', nil
	}
	return p.escapedByte()
}

// classSet parses a POSIX class or a class escape in a class.
func (p *parser) classSet() (set charset, ok bool, err error) {
	if name := p.posixName(); name != "" {
		p.i += len(name) + len("[]")
		if name[0] != ':' {
			return set, false, errors.New("a POSIX collating element")
		}
		name = name[1 : len(name)-1]
		if name == "<" || name == ">" {
			return set, false, unsupported("[:%s:]", name)
		}
		name, negate := strings.CutPrefix(name, "^")
		if set, ok = posixClass(name); !ok {
			return set, false, fmt.Errorf("no POSIX class %q", name)
		}
		if p.fold && (name == "lower" || name == "upper") {
			set = set.folded()
		}
		if negate {
			set = set.negated()
		}
	} else if p.s[p.i] == '\\' && p.i+1 < len(p.s) {
		if set, ok = escapeClass(p.s[p.i+1]); !ok {
			return set, false, nil
		}
		p.i += 2
	} else {
		return set, false, nil
	}
	if p.i+1 < len(p.s) && p.s[p.i] == '-' && p.s[p.i+1] != ']' {
		return set, false, errors.New("a range that begins with a class")
	}
	return set, true, nil
}

// posixName returns the inner part of a POSIX class that is next, with its
// colons, or "": PCRE2's check_posix_syntax.
func (p *parser) posixName() string {
	s := p.rest()
	if len(s) < 4 || s[0] != '[' || strings.IndexByte(":.=", s[1]) < 0 {
		return ""
	}
	for i := 2; i+1 < len(s); i++ {
		switch {
		case s[i] == '\\' && (s[i+1] == ']' || s[i+1] == '\\'):
			i++
		case s[i] == '[' && s[i+1] == s[1] || s[i] == ']':
			return ""
		case s[i] == s[1] && s[i+1] == ']':
			return s[1 : i+1]
		}
	}
	return ""
}
