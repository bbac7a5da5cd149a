package accounts

import (
	"strings"

	"imgbuild/customize"
)

// readSysusers reads the users and groups that systemd-sysusers(8) makes when the
// system starts, unless they exist by then (sysusers.d(5)). Specifiers are left as
// they are, and a number that stands for the owner of a path is open.
func (k *known) readSysusers(sys *customize.System) error {
	files, err := dropIns(sys, ".conf", "/etc/sysusers.d", "/usr/local/lib/sysusers.d", "/usr/lib/sysusers.d")
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := sys.ReadFile(file, maxRecord)
		if err != nil {
			continue // masked by a link to /dev/null
		}
		k.parseSysusers(file, string(text))
	}
	return nil
}

func (k *known) parseSysusers(file, text string) {
	for s := range strings.Lines(text) {
		f := splitQuoted(strings.TrimSpace(s))
		if len(f) < 2 || strings.HasPrefix(f[0], "#") || len(k.users)+len(k.groups) > 2*maxRecords {
			continue
		}
		for len(f) < 6 {
			f = append(f, "-")
		}
		for i := range f {
			if i > 0 && f[i] == "-" {
				f[i] = ""
			}
		}
		switch kind, locked := strings.CutSuffix(f[0], "!"); kind {
		case "u":
			a := &account{source: file, name: f[1], gecos: f[3], home: orDefault(f[4], "/"), sh: f[5], locked: locked}
			id, primary, hasGroup := strings.Cut(f[2], ":")
			a.uid, a.fixed = parseID(id)
			a.gid, a.fixedGroup = a.uid, a.fixed
			if hasGroup {
				if a.gid, a.fixedGroup = parseID(primary); !a.fixedGroup {
					a.group = primary
				}
			}
			if a.sh == "" {
				a.sh = "/usr/sbin/nologin"
				if a.fixed && a.uid == 0 {
					a.sh = "/bin/sh"
				}
			}
			k.addUser(a)
			if !hasGroup {
				k.addGroup(&group{source: file, name: a.name, gid: a.gid, fixed: a.fixedGroup, late: true})
			}
		case "g":
			g := &group{source: file, name: f[1], late: true}
			g.gid, g.fixed = parseID(f[2])
			k.addGroup(g)
		}
	}
}

// splitQuoted splits at blanks outside quotes, with backslashes, as systemd does.
func splitQuoted(s string) []string {
	var words []string
	var word strings.Builder
	var quote byte
	inWord := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			i++
			word.WriteByte(s[i])
			inWord = true
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case c == ' ' || c == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}
