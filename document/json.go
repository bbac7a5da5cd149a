package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"imgbuild/toml"
)

// ParseJSON reads a JSON text. The error is a Problem.
func ParseJSON(file, text string) (*Value, error) {
	if err := checkText(file, text); err != nil {
		return nil, err
	}
	text = strings.TrimPrefix(text, "\ufeff")
	p := &jsonParser{file: file, text: text, decoder: json.NewDecoder(strings.NewReader(text)), place: toml.Position{Line: 1, Column: 1}}
	p.decoder.UseNumber()
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if rest := p.start(); rest < len(text) {
		return nil, p.problem(rest, "data after the end of the %s", strings.TrimPrefix(v.Kind.String(), "a "))
	}
	return v, nil
}

// jsonParser turns the tokens of encoding/json into a tree. Offsets are in bytes.
type jsonParser struct {
	file, text string
	decoder    *json.Decoder

	counted int // offset that place is of
	place   toml.Position
}

// start returns the offset of the token to come.
func (p *jsonParser) start() int {
	i := int(p.decoder.InputOffset())
	for i < len(p.text) && strings.IndexByte(" \t\r\n,:", p.text[i]) >= 0 {
		i++
	}
	return i
}

// position returns the place at an offset. They are asked for in ascending order
// but for errors.
func (p *jsonParser) position(offset int) Position {
	offset = min(offset, len(p.text))
	if offset < p.counted {
		p.counted, p.place = 0, toml.Position{Line: 1, Column: 1}
	}
	p.place = p.place.After(p.text[p.counted:offset])
	p.counted = offset
	return position(p.file, p.place)
}

func (p *jsonParser) problem(offset int, format string, args ...any) error {
	return Problem{p.position(offset), "", fmt.Sprintf(format, args...)}
}

// token reads a token, and returns the place where it begins.
func (p *jsonParser) token() (json.Token, int, error) {
	at := p.start()
	t, err := p.decoder.Token()
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return t, at, nil
	case errors.As(err, &syntax):
		return nil, at, p.problem(at, "%v", err) // its own offset is that of a buffer
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, at, p.problem(len(p.text), "the file ends too early")
	}
	return nil, at, p.problem(at, "%v", err)
}

// value reads a value at a depth.
func (p *jsonParser) value(depth int) (*Value, error) {
	t, at, err := p.token()
	if err != nil {
		return nil, err
	}
	if depth > maxNesting {
		return nil, p.problem(at, "nested too deep")
	}
	v := &Value{At: p.position(at)}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			err = p.object(v, depth)
		} else {
			err = p.array(v, depth)
		}
	case string:
		v.Kind, v.Text = String, t
	case bool:
		v.Kind, v.Boolean, v.Text = Boolean, t, fmt.Sprint(t)
	case json.Number:
		v.number(string(t))
	}
	return v, err
}

// maxDigits bounds what is spent on the value of one number.
const maxDigits = 64

// number sets a number. 1.0 and 1e3 are integers, as in JSON Schema.
func (v *Value) number(text string) {
	v.Kind, v.Text = Float, text
	if len(text) > maxDigits {
		return
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 && len(text)-i > 4 {
		return
	}
	if r, ok := new(big.Rat).SetString(text); ok && r.IsInt() && r.Num().IsInt64() {
		v.Kind, v.Integer = Integer, r.Num().Int64()
	}
}

func (p *jsonParser) object(v *Value, depth int) error {
	v.Kind = Table
	seen := map[string]Position{}
	for p.decoder.More() {
		t, at, err := p.token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		f := Field{Name: name, At: p.position(at)}
		if first, ok := seen[name]; ok {
			return p.problem(at, "key %q is already there, on line %d", name, first.Line)
		}
		seen[name] = f.At
		if f.Value, err = p.value(depth + 1); err != nil {
			return err
		}
		v.Fields = append(v.Fields, f)
	}
	_, _, err := p.token()
	return err
}

func (p *jsonParser) array(v *Value, depth int) error {
	v.Kind = Array
	for p.decoder.More() {
		item, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		v.Items = append(v.Items, item)
	}
	_, _, err := p.token()
	return err
}

// LooksLikeJSON tells whether a text of unknown syntax is to be read as JSON.
func LooksLikeJSON(text []byte) bool {
	trimmed := bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff")))
	return len(trimmed) > 0 && trimmed[0] == '{'
}
