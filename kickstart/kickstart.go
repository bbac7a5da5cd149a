// Package kickstart reads kickstart files (Anaconda's, as pykickstart 3.78 parses
// them at its newest syntax) and says what they ask of an installation.
//
// [Parse] knows the syntax: words as Python's shlex splits them, comments, options
// with = or a blank and abbreviated as argparse allows, sections up to %end. What it
// refuses as syntax pykickstart refuses, too; what is sound and cannot be done is
// refused with the reason. All that is wrong is said at once, by lines.
//
// Understood are user, group, rootpw, sshkey, lang, keyboard, timezone, timesource,
// network --hostname, ignoredisk, clearpart, zerombr, autopart, part, bootloader,
// services, firewall, selinux, reboot, poweroff, shutdown, halt, and the sections %pre
// and %post. They become [Settings]: customizations of a blueprint, a layout, and what
// an installer has to know.
package kickstart

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"imgbuild/document"
	"imgbuild/fault"
)

// Bounds of a file; what is beyond them is no kickstart of a person.
const (
	// MaxSize is the largest file that is read, in bytes.
	MaxSize     = document.MaxSize
	maxCommands = 10000
)

// Kind says why something is refused.
type Kind int

// The kinds.
const (
	Syntax      Kind = iota // pykickstart does not take it either
	Value                   // it reads well, and makes no sense
	Unsupported             // it makes sense, and is not done here
)

// Problem is what is wrong with a line.
type Problem struct {
	Line    int
	Command string // "user", "%post", or "" where the line is none
	Option  string // "--uid", or ""
	Kind    Kind
	Message string
	Hint    string // what to write instead, or ""
}

// Error returns "line N: command --option: message (hint)".
func (p Problem) Error() string {
	text := fmt.Sprintf("line %d: ", p.Line)
	switch {
	case p.Command != "" && p.Option != "":
		text += p.Command + " " + p.Option + ": "
	case p.Command != "":
		text += p.Command + ": "
	}
	text += p.Message
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return text
}

// Report is all that is wrong with a file, in the order of its lines.
type Report struct {
	Name     string // of the file
	Problems []Problem
}

// Error is one line.
func (r *Report) Error() string {
	if len(r.Problems) == 1 {
		return r.Name + ": " + r.Problems[0].Error()
	}
	return fmt.Sprintf("%s: %d problems in the kickstart", r.Name, len(r.Problems))
}

// Details are the problems, one a line.
func (r *Report) Details() []string {
	var lines []string
	if len(r.Problems) > 1 {
		for _, p := range r.Problems {
			lines = append(lines, p.Error())
		}
	}
	return lines
}

// err returns the report as an error with its class, nil where it is empty.
func (r *Report) err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.Problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	class := fault.Unsupported
	for _, p := range r.Problems {
		if p.Kind != Unsupported {
			class = fault.Config
		}
	}
	return fault.New(class, r, "")
}

// File is a kickstart whose syntax is sound and whose commands can all be carried
// out.
type File struct {
	Name     string
	Commands []Command
	Scripts  []Script
	Settings *Settings
}

// Command is one line of a kickstart.
type Command struct {
	Name string
	Line int
	Args []string // without options

	options map[string]value
}

// Stage says when a script runs.
type Stage int

// The stages.
const (
	Pre  Stage = iota // in the installer, before the disk is touched
	Post              // in the installed system, or with NoChroot in the installer
)

// Script is a section %pre or %post.
type Script struct {
	Stage       Stage
	Line        int    // of its header
	Interpreter string // a program with its arguments; "/bin/sh" without --interpreter
	Log         string // path of the file that gets what the script prints, or ""
	ErrorOnFail bool   // whether a failure ends the installation
	NoChroot    bool   // whether a %post runs in the installer
	Body        string
}

// Section returns the name of the script's section.
func (s *Script) Section() string {
	if s.Stage == Post {
		return "%post"
	}
	return "%pre"
}

// Parse reads a kickstart. name is for messages. The error is a *Report of all that
// is wrong with it, of class fault.Config, or fault.Unsupported where all of it is
// sound and not supported.
func Parse(name string, text []byte) (*File, error) {
	p := newParser(name)
	switch {
	case len(text) > MaxSize:
		return nil, fault.New(fault.Config, fmt.Errorf("%s: larger than %d bytes", name, MaxSize), "")
	case !utf8.Valid(text):
		return nil, fault.New(fault.Config, fmt.Errorf("%s: not UTF-8", name), "")
	case strings.TrimSpace(string(text)) == "":
		return nil, fault.New(fault.Config, errors.New(name+": empty"), "")
	}
	p.file(string(text))
	p.out.Settings = p.settings()
	if err := p.report.err(); err != nil {
		return nil, err
	}
	return p.out, nil
}
