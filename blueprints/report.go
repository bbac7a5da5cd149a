package blueprints

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/customize"
	"imgbuild/customize/accounts"
	"imgbuild/document"
	"imgbuild/fault"
)

// Problem is what is wrong with a key, or what cannot be applied.
type Problem struct {
	At      document.Position
	Path    string // of the key: customizations.user[0].name
	Message string
	Hint    string      // what to do instead, or ""
	Lines   []string    // of a Containerfile, to do the same there
	Class   fault.Class // Config, or Unsupported
}

// Error returns file:line:column: key: message.
func (p Problem) Error() string {
	text := document.Problem{At: p.At, Path: p.Path, Message: p.Message}.Error()
	if p.At.File == "" {
		text = strings.TrimPrefix(p.Path+": "+p.Message, ": ")
	}
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return text
}

// Report is everything that is wrong with a configuration.
type Report struct {
	Problems []Problem

	unread map[string]bool // paths of keys that could not be read
}

// Error is one line.
func (r *Report) Error() string {
	if len(r.Problems) == 1 {
		return r.Problems[0].Error()
	}
	return fmt.Sprintf("%d problems in the configuration", len(r.Problems))
}

// Details are the problems in the order of the files, one a line, each followed by
// the lines of a Containerfile that do the same, indented.
func (r *Report) Details() []string {
	var lines []string
	for _, p := range r.Problems {
		if len(r.Problems) > 1 {
			lines = append(lines, p.Error())
		}
		for _, l := range p.Lines {
			lines = append(lines, "    "+l)
		}
	}
	return lines
}

// add adds an error of reading a file.
func (r *Report) add(err error) {
	var p document.Problem
	if errors.As(err, &p) {
		if r.unread == nil {
			r.unread = map[string]bool{}
		}
		r.unread[p.Path] = true
		r.Problems = append(r.Problems, Problem{At: p.At, Path: p.Path, Message: p.Message, Class: fault.Config})
		return
	}
	r.Problems = append(r.Problems, Problem{Message: err.Error(), Hint: fault.HintOf(err), Class: fault.Config})
}

// addAt adds what a customization says, with its place.
func (r *Report) addAt(c *Config, err error) {
	var list customize.Problems
	var users accounts.Problems
	var key *KeyError
	switch {
	case errors.As(err, &key):
		r.Problems = append(r.Problems, c.problem(key.Path, key.Err))
	case errors.As(err, &list):
		for _, p := range list {
			r.addValue(c.problem("customizations."+p.Field, p.Err))
		}
	case errors.As(err, &users):
		for _, p := range users {
			r.addValue(c.problem(c.accountPath(p), p.Err))
		}
	default:
		r.Problems = append(r.Problems, Problem{Message: err.Error(), Hint: fault.HintOf(err), Class: fault.ClassOf(err)})
	}
}

// addValue adds a problem with a value, unless there is none as its key could not be
// read, which is said already.
func (r *Report) addValue(p Problem) {
	if !r.unread[p.Path] {
		r.Problems = append(r.Problems, p)
	}
}

// err returns the report on files as an error, nil where it is empty.
func (r *Report) err(files []string) error {
	if len(r.Problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		return cmp.Or(slices.Index(files, a.At.File)-slices.Index(files, b.At.File), a.At.Line-b.At.Line, a.At.Column-b.At.Column)
	})
	r.Problems = slices.CompactFunc(r.Problems, func(a, b Problem) bool { return a.Error() == b.Error() })
	class := fault.Unsupported
	hint := "--ignore-unsupported builds without it"
	for _, p := range r.Problems {
		switch p.Class {
		case fault.Unsupported:
		case fault.Config:
			if class == fault.Unsupported {
				class, hint = fault.Config, ""
			}
		default:
			class, hint = p.Class, ""
		}
	}
	return fault.New(class, r, hint)
}
