package sshd

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"imgbuild/customize"
	"imgbuild/tree"
)

// Bounds on what is read of the configuration.
const (
	maxConf    = 1 << 20
	maxFiles   = 1000
	maxInclude = 16 // SERVCONF_MAX_DEPTH
)

// setting is the line that decides about a keyword.
type setting struct {
	value string
	file  string
	line  int // from 1
}

// reader reads sshd_config as the server does: of each keyword the first line
// counts, and lines after Match count for some connections only.
type reader struct {
	sys   *customize.System
	found map[string]setting // by keyword in lower case
	files []string           // those read, for messages and for Include
	// dropIn tells whether an Include outside of Match reads ours.
	dropIn bool
}

// read reads the configuration from its main file.
func read(sys *customize.System) (*reader, error) {
	r := &reader{sys: sys, found: map[string]setting{}}
	return r, r.file(mainConf, 0, false)
}

// file reads a file. in is whether it is included inside a Match block.
func (r *reader) file(name string, depth int, in bool) error {
	if depth > maxInclude {
		return fmt.Errorf("%s: includes are nested too deeply", name)
	}
	if len(r.files) == maxFiles {
		return fmt.Errorf("more than %d files are included", maxFiles)
	}
	r.files = append(r.files, name)
	text, err := r.sys.ReadFile(name, maxConf)
	if err != nil {
		return err
	}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		keyword, args, err := parseLine(string(line))
		if err != nil {
			return fmt.Errorf("%s line %d: %w", name, number, err)
		}
		switch keyword {
		case "":
		case "match":
			in = true
		case "include":
			for _, pattern := range args {
				if err := r.include(pattern, depth, in); err != nil {
					return err
				}
			}
		default:
			if alias, ok := aliases[keyword]; ok {
				keyword = alias
			}
			if _, set := r.found[keyword]; !set && !in && len(args) > 0 {
				r.found[keyword] = setting{args[0], name, number}
			}
		}
	}
	return nil
}

// aliases are other names of keywords that are set here.
var aliases = map[string]string{
	"challengeresponseauthentication": "kbdinteractiveauthentication",
	"skeyauthentication":              "kbdinteractiveauthentication",
}

// include reads the files of a pattern in the order of their names.
func (r *reader) include(pattern string, depth int, in bool) error {
	if !path.IsAbs(pattern) {
		pattern = path.Join(confDir, pattern)
	}
	if ok, err := path.Match(path.Clean(pattern), dropIn); err == nil && ok && !in {
		r.dropIn = true
	}
	for _, name := range r.glob(path.Clean(pattern)) {
		if i := r.sys.Lookup(name); i == nil || !i.IsFile() {
			continue
		}
		if err := r.file(name, depth+1, in); err != nil {
			return err
		}
	}
	return nil
}

// glob is glob(3) on the system: patterns in any component.
func (r *reader) glob(pattern string) []string {
	found := []string{"/"}
	for part := range strings.SplitSeq(strings.TrimPrefix(pattern, "/"), "/") {
		var next []string
		for _, dir := range found {
			if !strings.ContainsAny(part, `*?[\`) {
				next = append(next, path.Join(dir, part))
				continue
			}
			i := r.sys.Lookup(dir)
			if i == nil {
				continue
			}
			next = append(next, matches(i, dir, part)...)
		}
		if found = next; len(found) > maxFiles {
			return nil
		}
	}
	slices.Sort(found)
	return found
}

// matches lists the entries of a directory that a pattern matches. Names with a dot
// in front need one in the pattern.
func matches(dir *tree.Inode, at, pattern string) (found []string) {
	for _, e := range dir.Entries() {
		if ok, err := path.Match(pattern, e.Name); err == nil && ok && (e.Name[0] != '.' || pattern[0] == '.') {
			found = append(found, path.Join(at, e.Name))
		}
	}
	return found
}

// parseLine returns the keyword of a line in lower case and its arguments, "" where
// it has none: process_server_config_line.
func parseLine(line string) (keyword string, args []string, err error) {
	line = strings.Trim(line, " \t\r\n\f")
	if line == "" || line[0] == '#' {
		return "", nil, nil
	}
	end := strings.IndexAny(line, " \t=\"")
	if end < 0 {
		return strings.ToLower(line), nil, nil
	}
	keyword, line = line[:end], strings.TrimLeft(line[end:], " \t")
	if strings.HasPrefix(line, "=") {
		line = line[1:]
	}
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			return strings.ToLower(keyword), args, nil
		}
		var b strings.Builder
		quote := byte(0)
		i := 0
		for ; i < len(line); i++ {
			c := line[i]
			switch {
			case c == '\\' && i+1 < len(line) && strings.IndexByte(`'"\`, line[i+1]) >= 0:
				i++
				b.WriteByte(line[i])
			case quote != 0 && c == quote:
				quote = 0
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case quote == 0 && (c == ' ' || c == '\t'):
				goto done
			default:
				b.WriteByte(c)
			}
		}
	done:
		if quote != 0 {
			return "", nil, fmt.Errorf("a quote is not closed")
		}
		args = append(args, b.String())
		line = line[i:]
	}
}
