// Package toml decodes TOML 1.0 from sources that are not trusted: the parser is
// BurntSushi's, whose memory it keeps from growing without bound, and errors say
// where in one form.
package toml

import (
	"errors"
	"fmt"

	"github.com/BurntSushi/toml"
)

// Error is a place in a text, counted from 1, and what is wrong there. Column is
// 0 where it is not known.
type Error struct {
	Line, Column int
	Message      string
}

func (e *Error) Error() string {
	if e.Column == 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Message)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Decode returns the top table of a text. Tables are map[string]any, arrays of
// tables []map[string]any, other arrays []any. An error of the syntax, or a text
// that nests deeper than any configuration does, is an *Error.
func Decode(text string) (map[string]any, error) {
	if line := nestedTooDeep(text); line > 0 {
		return nil, &Error{Line: line, Message: "nested too deep"}
	}
	var top map[string]any
	_, err := toml.Decode(text, &top)
	var at toml.ParseError
	if errors.As(err, &at) {
		return nil, &Error{at.Position.Line, at.Position.Col, at.Message}
	}
	return top, err
}
