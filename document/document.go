// Package document reads configuration files that people write, in TOML 1.0 or in
// JSON (RFC 8259), into one kind of tree in which every key and every value knows
// where it stands, and fills Go structs from it. What is wrong is collected, not
// only the first, and both syntaxes get the same verdict. Structs are written as JSON
// that is read as the same struct.
//
// Stricter than RFC 8259: an object has no key twice.
package document

import (
	"fmt"
	"slices"
)

// MaxSize is the largest text that is read, in bytes. A bundle with all certificate
// authorities that browsers trust takes a quarter of it.
const MaxSize = 1 << 20

// maxNesting bounds the depth of objects and arrays.
const maxNesting = 32

// Position is a place in a file: a line and a character of it, both counted from
// 1, or 0 where they are not known.
type Position struct {
	File         string
	Line, Column int
}

// String returns file:line:column.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problem is what is wrong at a place.
type Problem struct {
	At      Position
	Path    string // of the key it is about, as user[0].name, or ""
	Message string
}

// Error returns file:line:column: path: message.
func (p Problem) Error() string {
	if p.Path == "" {
		return fmt.Sprintf("%s: %s", p.At, p.Message)
	}
	return fmt.Sprintf("%s: %s: %s", p.At, p.Path, p.Message)
}

// Kind is a kind of value.
type Kind int

// The kinds.
const (
	Null Kind = iota // JSON only
	Table
	Array
	String
	Integer
	Float // or an integer beyond 64 bits
	Boolean
	Date // TOML only: dates, times and both
)

// String names the kind with an article, as messages do.
func (k Kind) String() string {
	return [...]string{"null", "a table", "a list", "a string", "an integer", "a number with a fraction", "a boolean", "a date"}[k]
}

// Value is a value with all below it.
type Value struct {
	Kind    Kind
	At      Position
	Text    string // of a String its content
	Integer int64
	Boolean bool
	Items   []*Value // of an Array
	Fields  []Field  // of a Table, in the order of the file
}

// Field is a key of a table and its value.
type Field struct {
	Name  string
	At    Position
	Value *Value
}

// Field returns the value of a key, nil without.
func (v *Value) Field(name string) *Value {
	if i := v.index(name); i >= 0 {
		return v.Fields[i].Value
	}
	return nil
}

func (v *Value) index(name string) int {
	return slices.IndexFunc(v.Fields, func(f Field) bool { return f.Name == name })
}
