package packages

import (
	_ "embed" // the lists
	"strings"
)

//go:embed licenses.txt
var licenseList string

//go:embed exceptions.txt
var exceptionList string

// Licenses knows the identifiers of SPDX.
type Licenses struct {
	ids, exceptions map[string]string // by their lower case
}

// NewLicenses returns the licences of the SPDX licence list.
func NewLicenses() *Licenses {
	return &Licenses{lines(licenseList), lines(exceptionList)}
}

func lines(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		m[strings.ToLower(line)] = line
	}
	return m
}

// maxExpression bounds the expressions that are parsed, in bytes, and with it how
// deep they nest.
const maxExpression = 16 << 10

// maxDepth is how deep parentheses may nest.
const maxDepth = 64

// Expression is a licence as SPDX has it.
type Expression struct {
	Text string // the expression, or "" where the licence is none
	ID   bool   // it is a single identifier of the list
	// Refs are what is in the expression and not on the list: texts of the
	// database by their LicenseRef.
	Refs map[string]string
}

// Parse reads the licence of a package as an SPDX expression. What is not on the
// list becomes a LicenseRef; a text that is no expression becomes one as a whole.
func (l *Licenses) Parse(text string) Expression {
	text = strings.Join(strings.Fields(text), " ")
	if text == "" || !printable(text) {
		return Expression{}
	}
	if len(text) <= maxExpression {
		p := &parser{licenses: l, tokens: tokens(text), refs: map[string]string{}}
		if out, ok := p.or(0); ok && len(p.tokens) == 0 {
			_, id := l.ids[strings.ToLower(out)]
			return Expression{Text: out, ID: id, Refs: p.refs}
		}
	}
	refs := map[string]string{}
	return Expression{Text: ref(text, refs), Refs: refs}
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd })
}

// tokens splits an expression into words and parentheses.
func tokens(text string) []string {
	return strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text))
}

// parser parses Annex D.2 of SPDX 2.3: or-expressions of and-expressions of simple
// ones. Operators may be in lower case, as RPMs and older tools have them.
type parser struct {
	licenses *Licenses
	tokens   []string
	refs     map[string]string
}

func (p *parser) next(word string) bool {
	if len(p.tokens) > 0 && strings.EqualFold(p.tokens[0], word) {
		p.tokens = p.tokens[1:]
		return true
	}
	return false
}

func (p *parser) or(depth int) (string, bool) { return p.list(" OR ", depth, p.and) }

func (p *parser) and(depth int) (string, bool) { return p.list(" AND ", depth, p.simple) }

func (p *parser) list(operator string, depth int, item func(int) (string, bool)) (string, bool) {
	var texts []string
	for {
		text, ok := item(depth)
		if !ok {
			return "", false
		}
		if texts = append(texts, text); !p.next(strings.TrimSpace(operator)) {
			return strings.Join(texts, operator), true
		}
	}
}

func (p *parser) simple(depth int) (string, bool) {
	if p.next("(") {
		if depth == maxDepth {
			return "", false
		}
		text, ok := p.or(depth + 1)
		return "(" + text + ")", ok && p.next(")")
	}
	if len(p.tokens) == 0 {
		return "", false
	}
	word := p.tokens[0]
	switch strings.ToUpper(word) {
	case ")", "AND", "OR", "WITH":
		return "", false
	}
	p.tokens = p.tokens[1:]
	text, listed := p.licenses.id(word)
	if !listed {
		text = ref(word, p.refs)
	}
	if !p.next("WITH") {
		return text, true
	}
	if len(p.tokens) == 0 {
		return "", false
	}
	exception := p.tokens[0]
	p.tokens = p.tokens[1:]
	if known, ok := p.licenses.exceptions[strings.ToLower(exception)]; ok && listed {
		return text + " WITH " + known, true
	}
	return ref(word+" WITH "+exception, p.refs), true
}

// id returns an identifier of the list as it is written there, and with "+" that of
// later versions.
func (l *Licenses) id(word string) (string, bool) {
	if id, ok := l.ids[strings.ToLower(word)]; ok {
		return id, true
	}
	base, plus := strings.CutSuffix(word, "+")
	id, ok := l.ids[strings.ToLower(base)]
	return id + "+", ok && plus
}

// ref returns the LicenseRef of a text, and notes it. Fedora's licences that are not
// on the list are LicenseRefs already, and stay what they are.
func ref(text string, refs map[string]string) string {
	id := "LicenseRef-" + Idstring(text)
	if name, ok := strings.CutPrefix(text, "LicenseRef-"); ok && Idstring(name) == name {
		id = text
	}
	refs[id] = text
	return id
}
