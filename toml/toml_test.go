package toml

import (
	"errors"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	top, err := Decode("a = 1\n[b.c]\nd = ['x', \"[[[[[[[[[[[[[[[[[[[[[\"] # {{{{{{{{{{{{{{{{{{{{{{\n")
	if err != nil || top["a"] != int64(1) {
		t.Errorf("%v, %v", top, err)
	}
	for text, want := range map[string]string{
		"a = 1\nb =":                              "line 2, column",
		"\n\na = " + strings.Repeat("{a=", 17):    "line 3: nested too deep",
		"x = 1\na = " + strings.Repeat("[", 8192): "line 2: nested too deep",
		strings.Repeat("a.", 8192) + "a = 1":      "line 1: nested too deep",
	} {
		_, err := Decode(text)
		var e *Error
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}

// TestNesting has texts that would take the parser gigabytes, next to harmless
// ones that look like them.
func TestNesting(t *testing.T) {
	deep := strings.Repeat("{a=", 5000)
	for _, tt := range []struct {
		text string
		line int
	}{
		{"a = 1", 0},
		{"a = '" + deep + "'", 0},
		{`a = "\"` + deep + `"`, 0},
		{"# " + deep + "\na=1", 0},
		{`a = """` + deep + `"""`, 0},
		{"a = '''\n" + deep + "'''", 0},
		{strings.Repeat("a = [[[1.5, 2.5]]]\n", 100), 0},
		{strings.Repeat("a.b.c = 1\n", 100), 0},
		{"\n\na = " + deep, 3},
		{"a = " + strings.Repeat("[\n", 100), 17},
		{strings.Repeat("a.", 100) + "a = 1", 1},
		{"[" + strings.Repeat("a .", 100) + "a]", 1},
		{`a = ["""x"""", ` + deep, 1},
		{`a = ["""x""""", ` + deep, 1},
		{`a = ['''x'''', ` + deep, 1},
		{`a = ["\\", ` + deep, 1},
		{`a = """\\""", b = ` + deep, 1},
		{`a = ''''''` + "\nb = " + deep, 2},
	} {
		if got := nestedTooDeep(tt.text); got != tt.line {
			t.Errorf("%.40q: line %d, want %d", tt.text, got, tt.line)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("[a]\nb = {c = ['''x''', \"\"\"y\"\"\"]}")
	f.Add(strings.Repeat("{a=", 20))
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := Decode(text); err != nil && err.Error() == "" {
			t.Fatal("an error without a message")
		}
	})
}
