package selinux

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// patternCase is a pattern with what it matches and what it does not.
type patternCase struct {
	pattern     string
	yes, no     []string
	unsupported bool // in place of matches: PCRE2, or some versions, would take it
	invalid     bool // PCRE2 does not take it
}

func patternCases() []patternCase {
	list := func(s ...string) []string { return s }
	cases := []patternCase{
		{pattern: "a.c", yes: list("abc", "a/c", "a\nc", "a\xffc", "abc\n"), no: list("ac", "abbc", "aéc", "abc\n\n")},
		{pattern: "a..c", yes: list("aéc"), no: list("abc")},
		{pattern: "(/.*)?", yes: list("", "/", "/x", "/x/\n", "\n"), no: list("x", "\nx")},
		{pattern: "/.*", yes: list("/", "/x\n"), no: list("", "x")},
		{pattern: `/.*\.so(\.[^/]*)*`, yes: list("/a.so", "/a/b.so.1.2", "/.so", "/a.so.1\n"), no: list("/a.sox", "/a.so.1/b", "a.so")},
		{pattern: "/[^/]+", yes: list("/a", "/é", "/a\n"), no: list("/", "/a/b")},
		{pattern: "x|y", yes: list("x", "xz"), no: list("z", "ax")},
		{pattern: "a{2}", yes: list("aa"), no: list("a", "aaa", "a{2}")},
		{pattern: "a{2,3}b", yes: list("aab", "aaab"), no: list("ab", "aaaab")},
		{pattern: "a{2,}", yes: list("aa", "aaaaaa"), no: list("a")},
		{pattern: "a{0}b", yes: list("b"), no: list("ab")},
		{pattern: "a{00003}", yes: list("aaa"), no: list("aa")},
		{pattern: "a{}{,}{x}{2", yes: list("a{}{,}{x}{2")},
		{pattern: "a]}", yes: list("a]}"), no: list("a")},
		{pattern: "a*?b+?c??", yes: list("b", "aabbc"), no: list("a", "c")},
		{pattern: "(.*?)/x", yes: list("/x", "a/b/x"), no: list("x")},
		{pattern: "a++b", yes: list("aab"), no: list("b")},
		{pattern: "a*+a", no: list("a", "aaa")},
		{pattern: "(?>a*)ab", no: list("ab", "aab")},
		{pattern: "(?>a|ab)c", yes: list("ac"), no: list("abc")},
		{pattern: "(?>a+?)b", yes: list("ab"), no: list("aab")},
		{pattern: "(?>a??)b", yes: list("b"), no: list("ab")},
		{pattern: "(?>(?:ab)+?)c", yes: list("abc"), no: list("ababc")},
		{pattern: "(?>(?:ab)*?|x)c", yes: list("c"), no: list("abc")},
		{pattern: "(?>(?:ab){1,3})abc", yes: list("abababab" + "c"), no: list("ababc")},
		{pattern: "(?!x).*", yes: list("", "yx"), no: list("x", "xy")},
		{pattern: "(?=.*y)x.*", yes: list("xy", "xay"), no: list("x", "ay")},
		{pattern: ".*(?<!\\.d|ab)", yes: list("", "b", "d", "xd", "a.dx"), no: list("x.d", "ab", ".d")},
		{pattern: ".*(?<=b)c", yes: list("bc", "abc"), no: list("c", "ac")},
		{pattern: "(?!a)*b", yes: list("b"), no: list("ab")},
		{pattern: "(?:a|b)+|(c)", yes: list("ab", "abz", "c", "zc"), no: list("z", "cz")},
		{pattern: "(?<n>a)(?P<m>b)(?'o'c)", yes: list("abc")},
		{pattern: "()(|a)*", yes: list("", "aa"), no: list("b")},
		{pattern: "(a*)*b", yes: list("b", "aab"), no: list(strings.Repeat("a", 100))},
		{pattern: "(a|a)*b", yes: list(strings.Repeat("a", 20) + "b"), no: list(strings.Repeat("a", 12))},
		{pattern: "(?i)ab(?-i)c", yes: list("ABc", "aBc"), no: list("ABC")},
		{pattern: "(a(?i)b|c)C", yes: list("aBC", "cC", "CC"), no: list("ABC", "Cc")},
		{pattern: "(?i:[a-c])(?i)[^x-z]x", yes: list("BaX"), no: list("BYX", "Dax")},
		{pattern: "(?-s).(?s).", yes: list("a\n"), no: list("\na")},
		{pattern: `\d\D\w\W\s\S\v`, yes: list("1x_- x\v"), no: list("xx_- x\v", "1x_--x\v")},
		{pattern: `\N\C\h`, yes: list("a\n\t", "é\xa0"), no: list("\na\t")},
		{pattern: `\a\e\f\n\r\t\cA\cb\c[`, yes: list("\a\x1b\f\n\r\t\x01\x02\x1b")},
		{pattern: `\x41\x{42}\x4\o{103}\104\0105\11`, yes: list("AB\x04CD\b5\t")},
		{pattern: `\.\^\$\?\*\+\|\[\(\{\]\)\}\-\_\,\/\:\@\<\~\"`, yes: list(`.^$?*+|[({])}-_,/:@<~"`)},
		{pattern: `\Qa.*\E+b`, yes: list("a.*b", "a.**b"), no: list("aab")},
		{pattern: `\Qa.`, yes: list("a.$"), no: list("a.")},
		{pattern: `a\E+(?#a)?b\Q\E*`, yes: list("aabb", "a", "abbb"), no: list("b", "")},
		{pattern: `a\`, yes: list("a$", "a$x"), no: list("a")},
		{pattern: `a\bb|a\b/b|a\B/|x\Bx`, yes: list("xx", "axx"), no: list("x/x", "a/")},
		{pattern: `a$\n`, yes: list("a\n"), no: list("a", "ab", "a\n\n")},
		{pattern: `a\z|b\Z`, yes: list("a", "xb", "b\n"), no: list("a\n", "bb\nx")},
		{pattern: `a^b`, no: list("ab")},
		{pattern: "[]a][^]a][a-c][-x][x-]", yes: list("]bb-x", "axc--"), no: list("bbb--", "]]b--")},
		{pattern: `[\d-][\w.-][\]\\][\b][\x41-C]`, yes: list("-.]\bB", "1-\\\bA"), no: list("a.]\bB")},
		{pattern: "[[:alpha:]_][[:^digit:]][[:space:][:upper:]]", yes: list("_x ", "ax\vX"[:3]), no: list("1x ", "a1 ")},
		{pattern: "[[:alpha]x[a[:]", yes: list(":x[", "hx:"), no: list("bx[")},
		{pattern: `[\Qa-c]\E]`, yes: list("-", "]", "c"), no: list("b")},
		{pattern: `[\E^a][^\Q\E]a]`, yes: list("bc"), no: list("b]", "ac")},
		{pattern: "[!--][a\\E-c]", yes: list("#b", "-c"), no: list(".b")},
		{pattern: "[[:punct:]][[:cntrl:]][[:xdigit:]][[:word:]][[:graph:]][[:print:]][[:blank:]][[:ascii:]][[:alnum:]][[:lower:]]",
			yes: list("~\x01f_! \taZz"), no: list("a\x01f_! \taZz", "~\x01f_! \taZZ")},
	}
	for _, p := range []string{"*", "^*a", "a$*", `a\b*`, "a**", "a{2}{3}", "a+++", "{2}", "a|+", "({2})", "(a", "a)", "(?:a", "[a", "[z-a]",
		`[a-\d]`, `[\d-z]`, "[[:alpha:]-z]", "[a-[:digit:]]", "[[:foo:]]", "[[.a.]]", "[:alpha:]", `[\B]`, `\i`, `\u`, `\q`, "a{3,2}", "a{65536}",
		`\x{141}`, `\x{}`, `\400`, `\o`, `\o{8}`, "(?<1>a)", "(?<n>a)(?<n>b)", "(?#a", `[\Q]`, strings.Repeat("(", 251) + strings.Repeat(")", 251)} {
		cases = append(cases, patternCase{pattern: p, invalid: true})
	}
	for _, p := range []string{`(a)\1`, `(a)\g1`, "(?<n>a)\\k<n>", "a{,2}", `\X`, `\R`, `\pL`, `a\K`, `\Ga`, "(?1)(a)", "(?R)?", "(*ACCEPT)a", "(?m)a",
		"(?x)a", "(?|a|b)", "(?(?=a)b|c)", "(?C1)a", "(a|)*+b", "[[:<:]]a", `\x`, "(?", "(?=a*?b)(?<=a|b*)c", `\N{U+41}`, "(?^:a)"} {
		cases = append(cases, patternCase{pattern: p, unsupported: true})
	}
	return cases
}

// matchesPath tells whether a pattern as such, without the rules of stems and
// literals, matches.
func (p *program) matchesPath(path string) bool {
	return strings.HasPrefix(path, p.prefix) && p.possible(path) && p.match(path)
}

func TestPatterns(t *testing.T) {
	for _, c := range patternCases() {
		p, err := compile(c.pattern, map[charset]*charset{})
		switch {
		case c.invalid || c.unsupported:
			if err == nil || errors.Is(err, errUnsupported) != c.unsupported {
				t.Errorf("%.40q: error %v", c.pattern, err)
			}
			continue
		case err != nil:
			t.Error(err)
			continue
		}
		for _, s := range c.yes {
			if !p.matchesPath(s) {
				t.Errorf("%q does not match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if p.matchesPath(s) {
				t.Errorf("%q matches %q", c.pattern, s)
			}
		}
	}
}

func TestPatternLimits(t *testing.T) {
	sets := map[charset]*charset{}
	for _, pattern := range []string{
		strings.Repeat("a", maxProgram) + ".", "(a{1000}){1000}", "((((a|){1000}){1000}){1000}){1000}", "(.{60000}){2}",
		strings.Repeat("(", 200) + "a" + strings.Repeat("{100})", 200),
	} {
		// A literal prefix takes no instructions.
		if _, err := compile(pattern, sets); (err == nil) != (pattern[0] == 'a') {
			t.Errorf("%.40q: error %v", pattern, err)
		}
	}
	for _, pattern := range []string{"(){65535}", "((){65535}){65535}", "(?:(?:a{0}){1,65535}){65535}b*", "(?:){3,}"} {
		if p, err := compile(pattern, sets); err != nil || len(p.code) > 10 {
			t.Errorf("%q: %d instructions, %v", pattern, len(p.code), err)
		}
	}
	// Time does not grow exponentially, and with nested look-arounds it ends.
	long := strings.Repeat("a", 4000)
	for _, pattern := range []string{"(a+)+b", "(a|aa)+b", "(?:(?=(?:(?=(?:a*a*)*b)a|a)*b)a|a)*b", ".*.*.*.*x"} {
		p, err := compile(pattern, sets)
		if err != nil {
			t.Fatal(err)
		}
		if p.match(long) {
			t.Errorf("%q matches", pattern)
		}
	}
}

// Prefix, suffix and inner text are what the patterns are sorted out by.
func TestProgramParts(t *testing.T) {
	for pattern, want := range map[string][3]string{
		`/usr/lib(/.*)?`:         {"/usr/lib", "", ""},
		`/usr/(.*/)?bin(/.*)?`:   {"/usr/", "", "bin"},
		`/a\.b.*\.so`:            {"/a.b", ".so", ""},
		`/a+b[0-9]cc.ddd?e(f)g$`: {"/", "", "efg"},
		`/a*bb[0-9]ccc.dd?e.f`:   {"/", "f", "ccc"},
		`/x|/y`:                  {"", "", ""},
		`(/a)b*/c\x64`:           {"/a", "/cd", ""},
		`\Q/a*\E.`:               {"/a*", "", ""},
		`(?i)/a/b/`:              {"/", "/", "/"},
	} {
		p, err := compile(pattern, map[charset]*charset{})
		if err != nil {
			t.Fatal(err)
		}
		if got := [3]string{p.prefix, p.suffix, p.inner}; got != want {
			t.Errorf("%s: %q, want %q", pattern, got, want)
		}
	}
}

// randomPattern returns a pattern, of the language of Go's regexp if plain.
func randomPattern(r *rand.Rand, depth int, plain bool) string {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	var b strings.Builder
	for range 1 + r.IntN(4) {
		switch n := r.IntN(12); {
		case n < 3 && depth > 0:
			open := pick("(", "(?:")
			if !plain && r.IntN(2) == 0 {
				open = pick("(?>", "(?=", "(?!", "(?<!", "(?i:", "(?-s:", "(?s-i:")
			}
			b.WriteString(open + randomPattern(r, depth-1, plain))
			for r.IntN(3) == 0 {
				b.WriteString("|" + randomPattern(r, depth-1, plain))
			}
			b.WriteString(")")
		case n < 4:
			b.WriteString(pick("^", "$", `\b`, `\B`, `\z`, `\A`))
			continue
		case n < 5 && !plain:
			b.WriteString(pick(`\Z`, `\N`, `\Qa.\E`, `\v`, "]", "}", "{", `[\d-]`, `[]a]`, `[^]a]`, "[[:^digit:]_]", `\H`, "(?#x)a", `\cA`, `\s`))
		case n < 8:
			b.WriteString(pick("a", "b", "/", ".", "A", "1", "_", `\.`, `\n`, `\-`))
		default:
			b.WriteString(pick("[^/]", "[ab]", "[0-9]", `\d`, `\w`, `\W`, "[[:alpha:]]", "[^a-z]", `[\w.-]`, ".*", "[^/]*"))
			continue
		}
		switch n := r.IntN(10); {
		case n < 3:
			b.WriteString(pick("*", "+", "?"))
		case n < 4:
			b.WriteString(pick("{2}", "{0,2}", "{1,}", "*?", "+?", "??", "{0}", "{2,3}?"))
		case n < 5 && !plain:
			b.WriteString(pick("*+", "++", "{1,2}+"))
		}
	}
	return b.String()
}

// randomPath returns a path that the pattern may match.
func randomPath(n *node, r *rand.Rand) string {
	if r.IntN(2) == 0 {
		return mutated(sample(n, r), r)
	}
	alphabet := []string{"a", "b", "/", ".", "1", "_", "-", "\n", "A", "a", "/", "b", "ab", "]", "}", "{2}"}
	var s string
	for range r.IntN(7) {
		s += alphabet[r.IntN(len(alphabet))]
	}
	return s
}

// Go's regexp agrees, as far as its language goes.
func TestPatternsLikeGo(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	matches := 0
	for range 3000 {
		matches += likeGo(t, randomPattern(r, 3, true), r)
	}
	if matches < 3000 {
		t.Errorf("only %d matches", matches)
	}
}

// likeGo compares with Go's regexp for paths made of the pattern. They are ASCII,
// and do not end in a newline, before which Go's $ does not match.
func likeGo(t *testing.T, pattern string, r *rand.Rand) (matches int) {
	t.Helper()
	re, err := regexp.Compile("(?s)^" + pattern + "$")
	p, e := compile(pattern, map[charset]*charset{})
	if err != nil || e != nil {
		if e == nil && !strings.Contains(err.Error(), "invalid repeat count") {
			t.Fatalf("%q: accepted, Go says %v", pattern, err)
		}
		return 0
	}
	n, err := parsePattern(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		path := strings.TrimRight(strings.Map(func(c rune) rune {
			if c >= 0x80 {
				return 'x'
			}
			return c
		}, randomPath(n, r)), "\n")
		if got, want := p.matchesPath(path), re.MatchString(path); got != want {
			t.Fatalf("%q with %q: %v, Go says %v", pattern, path, got, want)
		} else if got {
			matches++
		}
	}
	return matches
}
