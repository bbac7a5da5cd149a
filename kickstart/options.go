package kickstart

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// kind is what an option takes.
type kind int

const (
	text    kind = iota
	list         // words between commas
	integer      // as Python's int reads it
	flag         // nothing
	appends      // lists that add up
	boolean      // on, yes, true, 1 and their contraries
)

// option is an option of a command or a section.
type option struct {
	names   []string // with the hyphens, the first for messages
	kind    kind
	choices []string // of a text
	why     string   // why it is refused, "" where it is applied
	hint    string

	required bool
	fold     bool // whether the case of choices does not matter
}

// apply returns options that are applied.
func apply(k kind, names ...string) option { return option{names: names, kind: k} }

// refuse returns options that are known and not applied.
func refuse(why string, k kind, names ...string) option {
	return option{names: names, kind: k, why: why}
}

// among returns an option that takes one of some words.
func among(name string, choices ...string) option {
	return option{names: []string{name}, choices: choices}
}

// value is what an option was given.
type value struct {
	text   string
	list   []string
	number int64
}

// has tells whether a command has an option, named by the first of its names.
func (c *Command) has(name string) bool {
	_, ok := c.options[name]
	return ok
}

// text returns what an option was given, "" where it is not there.
func (c *Command) text(name string) string   { return c.options[name].text }
func (c *Command) list(name string) []string { return c.options[name].list }

// number returns a pointer to a number, nil where the option is not there.
func (c *Command) number(name string) *int64 {
	v, ok := c.options[name]
	if !ok {
		return nil
	}
	return &v.number
}

// arguments reads the words behind a command by argparse's rules: an option may be
// shortened as long as it is the only one that begins so, and a word that begins with
// a hyphen and has no blank in it is an option.
func (p *parser) arguments(c *Command, args []string, known []option) bool {
	c.options = map[string]value{}
	sound := true
	fail := func(option, format string, args ...any) {
		sound = false
		p.add(Problem{Line: c.Line, Command: c.Name, Option: option, Kind: Syntax, Message: fmt.Sprintf(format, args...)})
	}
	for i := 0; i < len(args); i++ {
		word := args[i]
		if word == "--" {
			c.Args = append(c.Args, args[i+1:]...)
			break
		}
		o, given, explicit, err := match(word, known)
		switch {
		case err != nil:
			fail("", "%v", err)
			continue
		case o == nil && !isOption(word, known):
			c.Args = append(c.Args, word)
			continue
		case o == nil:
			fail("", "no option %s", quoteShort(word))
			continue
		case o.kind == flag && explicit:
			fail(o.names[0], "takes no value")
			continue
		case o.kind != flag && !explicit:
			if i+1 == len(args) || args[i+1] == "--" || isOption(args[i+1], known) {
				fail(o.names[0], "needs a value")
				continue
			}
			i++
			given = args[i]
		}
		v, err := o.read(given, c.options[o.names[0]])
		if err != nil {
			fail(o.names[0], "%v", err)
			continue
		}
		c.options[o.names[0]] = v
		if o.why != "" {
			p.add(Problem{Line: c.Line, Command: c.Name, Option: o.names[0], Kind: Unsupported, Message: "not applied: " + o.why, Hint: o.hint})
		}
	}
	return sound
}

// match finds the option that a word names. given is what follows a =.
func match(word string, known []option) (o *option, given string, explicit bool, err error) {
	if !strings.HasPrefix(word, "-") || word == "-" {
		return nil, "", false, nil
	}
	find := func(name string) *option {
		for i := range known {
			if slices.Contains(known[i].names, name) {
				return &known[i]
			}
		}
		return nil
	}
	if o := find(word); o != nil {
		return o, "", false, nil
	}
	name, given, explicit := strings.Cut(word, "=")
	if o := find(name); o != nil {
		return o, given, explicit, nil
	}
	if !strings.HasPrefix(word, "--") {
		return nil, "", false, nil
	}
	var found []*option
	var names []string
	for i := range known {
		for _, n := range known[i].names {
			if strings.HasPrefix(n, name) {
				found, names = append(found, &known[i]), append(names, n)
			}
		}
	}
	switch len(found) {
	case 0:
		return nil, "", false, nil
	case 1:
		return found[0], given, explicit, nil
	}
	return nil, "", false, fmt.Errorf("%s may be any of %s", quoteShort(name), strings.Join(names, ", "))
}

// isOption tells whether argparse takes a word for an option rather than for a value.
func isOption(word string, known []option) bool {
	if !strings.HasPrefix(word, "-") || word == "-" {
		return false
	}
	if o, _, _, err := match(word, known); o != nil || err != nil {
		return true
	}
	return !isNegative(word) && !strings.Contains(word, " ")
}

// isNegative tells whether a word is a negative number to argparse: ^-\d+$|^-\d*\.\d+$.
func isNegative(word string) bool {
	whole, fraction, dot := strings.Cut(word[1:], ".")
	digits := func(s string) bool { return strings.IndexFunc(s, func(c rune) bool { return !unicode.IsDigit(c) }) < 0 }
	if !dot {
		return whole != "" && digits(whole)
	}
	return digits(whole) && fraction != "" && digits(fraction)
}

// read returns the value of an option.
func (o *option) read(s string, before value) (value, error) {
	switch o.kind {
	case list, appends:
		v := value{}
		if o.kind == appends {
			v = before
		}
		for _, word := range strings.Split(s, ",") {
			if word = strings.TrimFunc(word, isSpace); word != "" {
				v.list = append(v.list, word)
			}
		}
		return v, nil
	case integer:
		n, err := parseInt(s)
		return value{number: n}, err
	}
	word := s
	if o.fold {
		word = strings.ToLower(s)
	}
	if o.kind == boolean && !slices.Contains([]string{"on", "yes", "true", "1", "off", "no", "false", "0"}, strings.ToLower(s)) {
		return value{}, fmt.Errorf("%s is neither yes nor no", quoteShort(s))
	}
	if len(o.choices) > 0 && !slices.Contains(o.choices, word) {
		return value{}, fmt.Errorf("%s is none of %s", quoteShort(s), strings.Join(o.choices, ", "))
	}
	return value{text: s}, nil
}

// parseInt reads a number as Python's int does, in decimal, with underscores between
// digits.
func parseInt(s string) (int64, error) {
	digits := strings.TrimFunc(s, isSpace)
	plain := strings.ReplaceAll(digits, "_", "")
	unsigned := strings.TrimLeft(digits, "+-")
	n, err := strconv.ParseInt(plain, 10, 64)
	if err != nil || strings.HasPrefix(unsigned, "_") || strings.HasSuffix(digits, "_") || strings.Contains(digits, "__") {
		return 0, fmt.Errorf("%s is not a whole number", quoteShort(s))
	}
	return n, nil
}

// quoteShort quotes a word for a message.
func quoteShort(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "..."
	}
	return strconv.Quote(s)
}
