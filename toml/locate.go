package toml

import (
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// Position is a place in a text: a line and a character of it, both counted
// from 1.
type Position struct{ Line, Column int }

// After returns the place behind a text that begins at p.
func (p Position) After(text string) Position {
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		p.Line += strings.Count(text, "\n")
		p.Column, text = 1, text[i+1:]
	}
	p.Column += utf8.RuneCountInString(text)
	return p
}

// Node says where a key and its value stand. Key is the zero Position in an
// element of an array; where a table is made by several headers, Key is the
// first. At most one of Table and Array is set.
type Node struct {
	Key, Value Position
	Table      map[string]*Node
	Array      []*Node
}

// Locate returns the places of all keys and values of a text that Decode has
// decoded.
func Locate(text string) *Node {
	l := &locator{text: strings.TrimPrefix(text, "\ufeff"), place: Position{1, 1}}
	root := &Node{Key: Position{1, 1}, Value: Position{1, 1}, Table: map[string]*Node{}}
	table := root
	for l.skip(true); l.pos < len(l.text); l.skip(true) {
		before := l.pos
		switch {
		case strings.HasPrefix(l.text[l.pos:], "[["):
			table = l.header(root, 2)
		case l.text[l.pos] == '[':
			table = l.header(root, 1)
		default:
			l.pair(table)
		}
		if l.pos == before {
			break // not TOML
		}
	}
	return root
}

// locator walks a text. It trusts the text to be TOML for its result, not for its
// safety.
type locator struct {
	text string
	pos  int

	counted int // offset that place is of
	place   Position
}

// here returns the current place.
func (l *locator) here() Position {
	l.place = l.place.After(l.text[l.counted:l.pos])
	l.counted = l.pos
	return l.place
}

// skip passes blanks, and with lines also newlines and comments.
func (l *locator) skip(lines bool) {
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; {
		case c == ' ' || c == '\t':
			l.pos++
		case lines && (c == '\n' || c == '\r'):
			l.pos++
		case lines && c == '#':
			l.pos += lineEnd(l.text[l.pos:])
		default:
			return
		}
	}
}

// eat passes c, and tells whether it was there.
func (l *locator) eat(c byte) bool {
	if l.pos < len(l.text) && l.text[l.pos] == c {
		l.pos++
		return true
	}
	return false
}

// part is one component of a dotted key.
type part struct {
	name string
	at   Position
}

// key reads a dotted key.
func (l *locator) key() []part {
	var parts []part
	for {
		l.skip(false)
		p := part{at: l.here()}
		start := l.pos
		if l.pos < len(l.text) && (l.text[l.pos] == '"' || l.text[l.pos] == '\'') {
			l.pos += quotedEnd(l.text[l.pos:])
			p.name = unquote(l.text[start:l.pos])
		} else {
			for l.pos < len(l.text) && !strings.ContainsRune(" \t\r\n.=]#", rune(l.text[l.pos])) {
				l.pos++
			}
			p.name = l.text[start:l.pos]
		}
		parts = append(parts, p)
		l.skip(false)
		if !l.eat('.') {
			return parts
		}
	}
}

// unquote returns the key that a quoted key stands for.
func unquote(quoted string) string {
	var v struct{ K string }
	if _, err := toml.Decode("K = "+quoted, &v); err != nil {
		return quoted
	}
	return v.K
}

// child returns the node of a key in a table, made where there is none.
func (n *Node) child(p part) *Node {
	if n.Table == nil {
		n.Table = map[string]*Node{}
	}
	c := n.Table[p.name]
	if c == nil {
		c = &Node{Key: p.at, Value: p.at}
		n.Table[p.name] = c
	}
	return c
}

// header reads the header of a table, or with two brackets of an element of an
// array of tables, and returns its node.
func (l *locator) header(root *Node, brackets int) *Node {
	at := l.here()
	l.pos += brackets
	parts := l.key()
	for range brackets {
		l.eat(']')
	}
	n := root
	for i, p := range parts {
		c := n.child(p)
		if last := i == len(parts)-1; last && brackets == 2 {
			c.Array = append(c.Array, &Node{Value: at, Table: map[string]*Node{}})
		}
		if k := len(c.Array); k > 0 {
			c = c.Array[k-1]
		}
		n = c
	}
	if n.Table == nil {
		n.Table = map[string]*Node{}
	}
	return n
}

// pair reads a key and its value.
func (l *locator) pair(table *Node) {
	n := table
	for _, p := range l.key() {
		n = n.child(p)
	}
	l.skip(false)
	if !l.eat('=') {
		return
	}
	l.skip(false)
	l.value(n)
}

// value reads a value.
func (l *locator) value(n *Node) {
	n.Value = l.here()
	if l.pos == len(l.text) {
		return
	}
	switch l.text[l.pos] {
	case '[':
		l.pos++
		for l.skip(true); l.pos < len(l.text) && !l.eat(']'); l.skip(true) {
			before := l.pos
			item := &Node{}
			l.value(item)
			n.Array = append(n.Array, item)
			l.skip(true)
			l.eat(',')
			if l.pos == before {
				return
			}
		}
	case '{':
		l.pos++
		n.Table = map[string]*Node{}
		for l.skip(true); l.pos < len(l.text) && !l.eat('}'); l.skip(true) {
			before := l.pos
			l.pair(n)
			l.skip(true)
			l.eat(',')
			if l.pos == before {
				return
			}
		}
	case '"', '\'':
		l.pos += quotedEnd(l.text[l.pos:])
	default:
		for l.pos < len(l.text) && !strings.ContainsRune(",]}#\r\n", rune(l.text[l.pos])) {
			l.pos++
		}
	}
}
