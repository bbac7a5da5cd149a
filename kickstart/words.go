package kickstart

import (
	"errors"
	"strings"
	"unicode"
)

// Errors of words, in the words of Python's shlex.
var (
	errQuotation = errors.New("a quotation is not closed")
	errEscape    = errors.New("nothing follows the backslash")
)

// words splits a line, with its line break, as shlex.split of Python does in POSIX
// mode. With comments, a # that is not quoted ends the line, even inside of a word.
func words(line string, comments bool) ([]string, error) {
	const (
		between = iota
		word
		single
		double
		escapeWord
		escapeDouble
	)
	var list []string
	var b strings.Builder
	state, quoted := between, false
	end := func() {
		if b.Len() > 0 || quoted {
			list = append(list, b.String())
		}
		b.Reset()
		state, quoted = between, false
	}
	for _, c := range line {
		switch state {
		case between, word:
			switch {
			case c == ' ' || c == '\t' || c == '\r' || c == '\n':
				end()
			case c == '#' && comments:
				end()
				return list, nil
			case c == '\'':
				state, quoted = single, true
			case c == '"':
				state, quoted = double, true
			case c == '\\':
				state = escapeWord
			default:
				state = word
				b.WriteRune(c)
			}
		case single:
			if c == '\'' {
				state = word
			} else {
				b.WriteRune(c)
			}
		case double:
			switch c {
			case '"':
				state = word
			case '\\':
				state = escapeDouble
			default:
				b.WriteRune(c)
			}
		case escapeWord:
			b.WriteRune(c)
			state = word
		case escapeDouble:
			if c != '"' && c != '\\' {
				b.WriteRune('\\')
			}
			b.WriteRune(c)
			state = double
		}
	}
	switch state {
	case single, double:
		return nil, errQuotation
	case escapeWord, escapeDouble:
		return nil, errEscape
	}
	end()
	return list, nil
}

// lines splits a text as Python's splitlines does; the lines keep their breaks.
func lines(text string) []string {
	var list []string
	for text != "" {
		i := strings.IndexFunc(text, isBreak)
		if i < 0 {
			return append(list, text)
		}
		n := 1
		switch {
		case strings.HasPrefix(text[i:], "\r\n"):
			n = 2
		case text[i] >= 0x80:
			n = len(string([]rune(text[i:min(i+4, len(text))])[0]))
		}
		list = append(list, text[:i+n])
		text = text[i+n:]
	}
	return list
}

// isBreak tells whether Python ends a line at a character.
func isBreak(c rune) bool {
	return c >= '\n' && c <= '\r' || c >= 0x1c && c <= 0x1e || c == 0x85 || c == 0x2028 || c == 0x2029
}

// isSpace is Python's str.isspace of one character.
func isSpace(c rune) bool { return unicode.IsSpace(c) || c >= 0x1c && c <= 0x1f }
