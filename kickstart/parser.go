package kickstart

import (
	"fmt"
	"slices"
	"strings"
)

// parser reads a file.
type parser struct {
	report   *Report
	out      *File
	commands []spec
	seen     map[string]int // lines of commands and of what may be there once
}

func newParser(name string) *parser {
	return &parser{report: &Report{Name: name}, out: &File{Name: name}, commands: commands(), seen: map[string]int{}}
}

func (p *parser) add(problem Problem) { p.report.Problems = append(p.report.Problems, problem) }

func (p *parser) syntax(line int, command, format string, args ...any) {
	p.add(Problem{Line: line, Command: command, Kind: Syntax, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) refuse(line int, command, why, hint string) {
	p.add(Problem{Line: line, Command: command, Kind: Unsupported, Message: "not applied: " + why, Hint: hint})
}

// file reads all lines.
func (p *parser) file(text string) {
	all := lines(text)
	for i := 0; i < len(all); i++ {
		line, number := all[i], i+1
		if blank(line) {
			continue
		}
		if strings.ContainsRune(line, 0) {
			p.syntax(number, "", "a NUL byte")
			continue
		}
		args, err := words(line, true)
		if err != nil {
			p.syntax(number, "", "%v", err)
			continue
		}
		switch {
		case len(args) == 0 || args[0] == "":
			p.syntax(number, "", "no command")
		case args[0] == "%include", args[0] == "%ksappend":
			p.include(number, args)
		case args[0][0] == '%':
			i = p.section(all, i, args)
		case len(p.out.Commands) == maxCommands:
			p.add(Problem{Line: number, Kind: Value, Message: fmt.Sprintf("more than %d commands", maxCommands)})
			return
		default:
			p.command(number, args)
		}
	}
}

// blank tells whether a line says nothing.
func blank(line string) bool {
	line = strings.TrimFunc(line, isSpace)
	return line == "" || line[0] == '#'
}

// include refuses other files.
func (p *parser) include(line int, args []string) {
	if len(args) == 1 || args[1] == "" {
		p.syntax(line, args[0], "names no file")
		return
	}
	p.refuse(line, args[0], "a kickstart stands for itself: what the file will hold cannot be checked when the medium is made", "put the lines of the file in its place")
}

// command reads a line.
func (p *parser) command(line int, args []string) {
	i := slices.IndexFunc(p.commands, func(s spec) bool { return s.name == args[0] || slices.Contains(s.aliases, args[0]) })
	if i < 0 {
		p.unknown(line, args[0])
		return
	}
	s := &p.commands[i]
	c := Command{Name: args[0], Line: line}
	for _, other := range s.conflicts {
		if first := p.seen[other]; first > 0 {
			p.syntax(line, args[0], "cannot stand beside %s in line %d", other, first)
		}
	}
	first := p.seen[s.name]
	if first == 0 {
		p.seen[s.name] = line
	}
	if s.why != "" {
		p.refuse(line, args[0], s.why, s.hint)
		return
	}
	if first > 0 && s.once {
		p.add(Problem{Line: line, Command: args[0], Kind: Value, Message: fmt.Sprintf("is in line %d already", first)})
		return
	}
	if !p.arguments(&c, args[1:], s.options) {
		return
	}
	for _, o := range s.options {
		if o.required && !c.has(o.names[0]) {
			p.syntax(line, args[0], "%s is missing", o.names[0])
			return
		}
	}
	if len(c.Args) > s.args {
		p.syntax(line, args[0], "%s is one word too many", quoteShort(c.Args[s.args]))
		return
	}
	if message := s.check.of(p, &c); message != "" {
		p.syntax(line, args[0], "%s", message)
		return
	}
	p.out.Commands = append(p.out.Commands, c)
}

// unknown reports a command that pykickstart has no syntax for.
func (p *parser) unknown(line int, name string) {
	problem := Problem{Line: line, Kind: Syntax, Message: "no command " + quoteShort(name)}
	var names []string
	for _, s := range p.commands {
		names = append(append(names, s.name), s.aliases...)
	}
	for _, n := range names {
		if strings.EqualFold(n, name) {
			problem.Hint = n + " is one"
		}
	}
	p.add(problem)
}

// section reads a section up to its %end and returns the index of its last line.
func (p *parser) section(all []string, start int, args []string) int {
	name, number := args[0], start+1
	i := slices.IndexFunc(sections(), func(s sectionSpec) bool { return s.name == name })
	if i < 0 {
		p.syntax(number, "", "no section %s", quoteShort(name))
	}
	body, last, ended := p.body(all, start)
	if !ended {
		p.syntax(number, name, "has no %%end")
	}
	if i < 0 {
		return last
	}
	s := &sections()[i]
	c := Command{Name: name, Line: number}
	sound := true
	if s.options != nil {
		if sound = p.arguments(&c, args[1:], s.options); sound && len(c.Args) > 0 {
			p.syntax(number, name, "%s is one word too many", quoteShort(c.Args[0]))
			sound = false
		}
	}
	if sound && s.why != "" && (!s.harmless || !blankAll(body)) {
		p.refuse(number, name, s.why, s.hint)
	}
	if !sound || s.why != "" || blankAll(body) && strings.TrimSpace(strings.Join(body, "")) == "" {
		return last
	}
	p.script(&c, s.stage, strings.Join(body, ""))
	return last
}

// script adds a script.
func (p *parser) script(c *Command, stage Stage, body string) {
	script := Script{
		Stage: stage, Line: c.Line, Interpreter: "/bin/sh", Log: c.text("--log"),
		ErrorOnFail: c.has("--erroronfail"), NoChroot: c.has("--nochroot"), Body: body,
	}
	if c.has("--interpreter") {
		script.Interpreter = c.text("--interpreter")
	}
	wrong := func(option, message string) {
		p.add(Problem{Line: c.Line, Command: c.Name, Option: option, Kind: Value, Message: message})
	}
	if !strings.HasPrefix(script.Interpreter, "/") {
		wrong("--interpreter", quoteShort(script.Interpreter)+" is not an absolute path")
	}
	if c.has("--log") && !strings.HasPrefix(script.Log, "/") {
		wrong("--log", quoteShort(script.Log)+" is not an absolute path")
	}
	if strings.ContainsRune(body, 0) {
		wrong("", "a NUL byte in the script")
	}
	p.out.Scripts = append(p.out.Scripts, script)
}

// body returns the lines of a section without its %end, and the index of the last
// line that belongs to it.
func (p *parser) body(all []string, start int) (body []string, last int, ended bool) {
	for i := start + 1; i < len(all); i++ {
		line := all[i]
		stripped := strings.TrimLeftFunc(line, isSpace)
		if !strings.HasPrefix(stripped, "%") {
			body = append(body, line)
			continue
		}
		word := strings.FieldsFunc(stripped, isSpace)[0]
		other := slices.ContainsFunc(sections(), func(s sectionSpec) bool { return s.name == word })
		if word != "%end" && word != "%include" && word != "%ksappend" && !other {
			body = append(body, line)
			continue
		}
		args, err := words(line, false)
		switch {
		case err != nil:
			p.syntax(i+1, word, "%v", err)
		case word == "%end":
			return body, i, true
		case !other:
			p.include(i+1, args)
		default:
			return body, i - 1, false
		}
	}
	return body, len(all) - 1, false
}

func blankAll(body []string) bool {
	return !slices.ContainsFunc(body, func(l string) bool { return !blank(l) })
}
