package bootc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// KargSpec is where the arguments of a kernel command line come from. Each
// string may hold several arguments; quotes are kept as they are.
type KargSpec struct {
	Root []string // root=, rootflags=, rw
	Boot []string // boot=

	CLI        []string // of the user
	SELinuxOff bool     // selinux=0
	Install    []string // InstallConfig.Kargs
	KargsD     []string // Image.Kargs
	Deletes    []string // InstallConfig.KargDeletes
	CLIDeletes []string // of the user

	// Defaults go before CLI and are treated like it, except that one that
	// is to be deleted is left out, and so is a console where the user or
	// the image names one.
	Defaults []string

	// CLILast puts Defaults and CLI only after the deletions, as
	// "bootc install to-filesystem" does; "to-disk" also has them before the
	// image's own arguments. The last console= becomes /dev/console.
	CLILast bool
}

// Kargs returns the arguments of the kernel command line, one each, in the order
// in which bootc puts them, without ostree=. An argument that is there already
// is not added again; in keys, dash and underscore are the same.
func Kargs(s KargSpec) []string {
	cli := append(s.defaults(), s.CLI...)
	var c cmdline
	c.add(s.Root...)
	c.add(s.Boot...)
	if !s.CLILast {
		c.add(cli...)
	}
	if s.SELinuxOff {
		c.add("selinux=0")
	}
	c.add(s.Install...)
	c.add(s.KargsD...)
	c.remove(s.Deletes...)
	c.remove(s.CLIDeletes...)
	// What the user asks for survives deletions.
	c.add(cli...)
	list := make([]string, len(c))
	for i := range c {
		list[i] = c[i].text
	}
	return list
}

// defaults returns the defaults that nothing speaks against.
func (s *KargSpec) defaults() []string {
	var named, c cmdline
	for _, list := range [][]string{s.Root, s.Boot, s.CLI, s.Install, s.KargsD, s.Deletes, s.CLIDeletes} {
		named.add(list...)
	}
	c.add(s.Defaults...)
	if slices.ContainsFunc(named, func(a karg) bool { return a.key == "console" }) {
		c.remove("console")
	}
	c.remove(s.Deletes...)
	c.remove(s.CLIDeletes...)
	list := make([]string, len(c))
	for i := range c {
		list[i] = c[i].text
	}
	return list
}

// karg is one argument.
type karg struct {
	text     string // as written
	key      string // with underscores
	value    string // without quotes
	hasValue bool
}

func (a karg) equal(b karg) bool {
	return a.key == b.key && a.value == b.value && a.hasValue == b.hasValue
}

// parseKarg parses one argument. Of the quotes, only those around the whole and
// around the value are left out.
func parseKarg(text string) karg {
	s := strings.TrimSuffix(strings.TrimPrefix(text, `"`), `"`)
	key, value, ok := strings.Cut(s, "=")
	return karg{
		text:     text,
		key:      strings.ReplaceAll(key, "-", "_"),
		value:    strings.TrimPrefix(value, `"`),
		hasValue: ok,
	}
}

// cmdline is a kernel command line.
type cmdline []karg

// add appends the arguments that are not there yet.
func (c *cmdline) add(args ...string) {
	for _, line := range args {
		for _, text := range SplitKargs(line) {
			a := parseKarg(text)
			if !slices.ContainsFunc(*c, a.equal) {
				*c = append(*c, a)
			}
		}
	}
}

// remove takes out the arguments that equal one of args, where that has a
// value, or have its key. As in bootc, only the first argument of each string
// counts.
func (c *cmdline) remove(args ...string) {
	for _, line := range args {
		list := SplitKargs(line)
		if len(list) == 0 {
			continue
		}
		gone := parseKarg(list[0])
		*c = slices.DeleteFunc(*c, func(a karg) bool {
			return a.equal(gone) || !gone.hasValue && a.key == gone.key
		})
	}
}

// SplitKargs splits a command line at the white space outside double quotes.
func SplitKargs(line string) []string {
	const space = " \t\n\f\r"
	var list []string
	for line = strings.TrimLeft(line, space); line != ""; line = strings.TrimLeft(line, space) {
		quoted := false
		end := strings.IndexFunc(line, func(c rune) bool {
			if c == '"' {
				quoted = !quoted
			}
			return !quoted && strings.ContainsRune(space, c)
		})
		if end < 0 {
			end = len(line)
		}
		list = append(list, line[:end])
		line = line[end:]
	}
	return list
}

// CheckKarg returns an error where a string of kernel arguments would damage the
// command line or the boot entry that it goes into.
func CheckKarg(args string) error {
	switch {
	case hasControl(args):
		return fmt.Errorf("control character in kernel argument %q", args)
	case strings.Count(args, `"`)%2 != 0:
		return fmt.Errorf("quote without its partner in kernel argument %q", args)
	case strings.TrimSpace(args) == "":
		return errors.New("empty kernel argument")
	}
	return nil
}
