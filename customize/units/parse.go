package units

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxUnit bounds a unit file, and maxLine is LONG_LINE_MAX, which bounds a line
// with its continuations.
const (
	maxUnit = 4 << 20
	maxLine = 1 << 20
)

// assignment is a line of the section [Install].
type assignment struct{ key, value string }

const whitespace = " \t\n\r"

// parseInstall returns the assignments of the section [Install] as config_parse
// reads a unit file. Lines that systemd warns about and ignores are left out.
func parseInstall(text []byte) ([]assignment, error) {
	p := installParser{}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	var pending []byte
	for n := 1; len(text) > 0; n++ {
		line := text
		if end := bytes.IndexAny(text, "\n\r\x00"); end >= 0 {
			line, text = text[:end], text[end+eol(text[end:]):]
		} else {
			text = nil
		}
		if len(line) > maxLine {
			return nil, fmt.Errorf("line %d is too long", n)
		}
		line = bytes.TrimLeft(line, whitespace)
		if len(line) > 0 && (line[0] == '#' || line[0] == ';') {
			continue
		}
		if len(pending)+len(line) > maxLine {
			return nil, fmt.Errorf("line %d is too long with its continuation", n)
		}
		pending = append(pending, line...)
		if len(pending) > 0 && continued(pending) {
			pending[len(pending)-1] = ' '
			continue
		}
		if err := p.line(string(pending)); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		pending = pending[:0]
	}
	if err := p.line(string(pending)); err != nil {
		return nil, err
	}
	return p.found, nil
}

// eol returns the length of the end of line that text starts with, as read_line
// has it: any of \n, \r and NUL, and each one of them once.
func eol(text []byte) int {
	seen := map[byte]bool{}
	n := 0
	for n < len(text) && (text[n] == '\n' || text[n] == '\r' || text[n] == 0) && !seen[text[n]] {
		seen[text[n]] = true
		n++
	}
	return n
}

// continued tells whether a line ends in a backslash that is not escaped itself.
func continued(line []byte) bool {
	n := 0
	for n < len(line) && line[len(line)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

type installParser struct {
	install bool // in the section [Install]
	found   []assignment
}

// line is parse_line.
func (p *installParser) line(l string) error {
	l = strings.Trim(l, whitespace)
	if l == "" || !utf8.ValidString(l) {
		return nil
	}
	if l[0] == '[' {
		if len(l) < 2 || l[len(l)-1] != ']' {
			return errors.New("invalid section header")
		}
		name := l[1 : len(l)-1]
		if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`\"'`, r) }) {
			return errors.New("bad characters in section header")
		}
		p.install = name == "Install"
		return nil
	}
	if !p.install {
		return nil
	}
	key, value, ok := strings.Cut(l, "=")
	if !ok || key == "" {
		return nil
	}
	p.found = append(p.found, assignment{strings.Trim(key, whitespace), strings.Trim(value, whitespace)})
	return nil
}

// quotedWords splits a list as config_parse_strv does: quotes are taken off,
// backslashes kept. ok is false where a quote is not closed.
func quotedWords(s string) (words []string, ok bool) {
	for {
		s = strings.TrimLeft(s, whitespace)
		if s == "" {
			return words, true
		}
		var word strings.Builder
		quote := byte(0)
		i := 0
		for ; i < len(s); i++ {
			c := s[i]
			switch {
			case quote != 0 && c == quote:
				quote = 0
			case quote == 0 && (c == '\'' || c == '"'):
				quote = c
			case quote == 0 && strings.IndexByte(whitespace, c) >= 0:
				goto done
			default:
				word.WriteByte(c)
			}
		}
	done:
		if quote != 0 {
			return nil, false
		}
		words = append(words, word.String())
		s = s[i:]
	}
}

// plainWords splits a list as Also= has it: quotes are kept, a backslash stands for
// the byte after it. ok is false where there is none.
func plainWords(s string) (words []string, ok bool) {
	for {
		s = strings.TrimLeft(s, whitespace)
		if s == "" {
			return words, true
		}
		var word strings.Builder
		i := 0
		for ; i < len(s) && strings.IndexByte(whitespace, s[i]) < 0; i++ {
			if s[i] == '\\' {
				if i++; i == len(s) {
					return nil, false
				}
			}
			word.WriteByte(s[i])
		}
		words = append(words, word.String())
		s = s[i:]
	}
}
