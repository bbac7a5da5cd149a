package document

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"imgbuild/toml"
)

// ParseTOML reads a TOML text. The error is a Problem.
func ParseTOML(file, text string) (*Value, error) {
	if err := checkText(file, text); err != nil {
		return nil, err
	}
	top, err := toml.Decode(text)
	var at *toml.Error
	if errors.As(err, &at) {
		return nil, Problem{Position{file, at.Line, at.Column}, "", at.Message}
	} else if err != nil {
		return nil, Problem{Position{File: file}, "", err.Error()}
	}
	return fromTOML(file, top, toml.Locate(text)), nil
}

// checkText refuses what is no text of a size to be read.
func checkText(file, text string) error {
	if len(text) > MaxSize {
		return Problem{Position{File: file}, "", fmt.Sprintf("larger than %d KiB", MaxSize>>10)}
	}
	if utf8.ValidString(text) {
		return nil
	}
	line, column := 1, 1
	for _, r := range text {
		if r == utf8.RuneError {
			break
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	return Problem{Position{file, line, column}, "", "not UTF-8"}
}

// fromTOML joins what a TOML text says with where it says it.
func fromTOML(file string, v any, n *toml.Node) *Value {
	if n == nil {
		n = &toml.Node{}
	}
	out := &Value{At: position(file, n.Value)}
	switch v := v.(type) {
	case map[string]any:
		out.Kind = Table
		for name, item := range v {
			c := n.Table[name]
			f := Field{Name: name, Value: fromTOML(file, item, c)}
			if c != nil {
				f.At = position(file, c.Key)
			}
			out.Fields = append(out.Fields, f)
		}
		slices.SortFunc(out.Fields, func(a, b Field) int {
			switch {
			case a.At.Line != b.At.Line:
				return a.At.Line - b.At.Line
			case a.At.Column != b.At.Column:
				return a.At.Column - b.At.Column
			}
			return strings.Compare(a.Name, b.Name)
		})
	case []map[string]any:
		out.Kind = Array
		for i, item := range v {
			out.Items = append(out.Items, fromTOML(file, item, element(n, i)))
		}
	case []any:
		out.Kind = Array
		for i, item := range v {
			out.Items = append(out.Items, fromTOML(file, item, element(n, i)))
		}
	case string:
		out.Kind, out.Text = String, v
	case int64:
		out.Kind, out.Integer, out.Text = Integer, v, fmt.Sprint(v)
	case float64:
		out.Kind, out.Text = Float, fmt.Sprint(v)
		if math.IsInf(v, 0) || math.IsNaN(v) {
			out.Text = strings.ToLower(out.Text)
		}
	case bool:
		out.Kind, out.Boolean, out.Text = Boolean, v, fmt.Sprint(v)
	case time.Time:
		out.Kind, out.Text = Date, v.Format(time.RFC3339)
	default:
		out.Kind = Null
	}
	return out
}

// element returns the i-th element of a node, nil without.
func element(n *toml.Node, i int) *toml.Node {
	if i < len(n.Array) {
		return n.Array[i]
	}
	return nil
}

func position(file string, p toml.Position) Position { return Position{file, p.Line, p.Column} }
