package accounts

import (
	"errors"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"imgbuild/customize"
)

// maxSettings is the size of the largest settings file that is read.
const maxSettings = 1 << 20

// loginDefs are the settings of login.defs(5), as getdef.c of shadow reads them.
type loginDefs map[string]string

// parseLoginDefs takes a line as a name, blanks, and a value that may stand
// between quotes. The last of several counts.
func parseLoginDefs(text string) loginDefs {
	d := loginDefs{}
	for s := range strings.Lines(text) {
		s = strings.Trim(s, " \t\n")
		i := strings.IndexAny(s, " \t")
		if i < 0 || strings.HasPrefix(s, "#") {
			continue
		}
		value, _, _ := strings.Cut(strings.TrimLeft(s[i:], " \"\t"), `"`)
		d[s[:i]] = value
	}
	return d
}

// yes returns a switch, which is off by default.
func (d loginDefs) yes(name string) bool { return strings.EqualFold(d[name], "yes") }

// number returns a number between least and math.MaxInt32, and byDefault where
// there is none, or none that shadow understands.
func (d loginDefs) number(name string, least, byDefault int64) int64 {
	n, ok := parseNumber(d[name])
	if !ok || n < least || n > math.MaxInt32 {
		return byDefault
	}
	return n
}

// id returns a uid, gid or count of them.
func (d loginDefs) id(name string, byDefault uint32) uint32 {
	n, ok := parseNumber(d[name])
	if !ok || n < 0 || n > math.MaxUint32 {
		return byDefault
	}
	return uint32(n)
}

// parseNumber reads a number as strtol(3) with base 0 does: 010 is octal, 0x10
// hexadecimal.
func parseNumber(s string) (int64, bool) {
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 {
		return 0, false
	}
	base := 10
	switch {
	case strings.HasPrefix(digits, "0x") || strings.HasPrefix(digits, "0X"):
		base, digits = 16, digits[2:]
	case len(digits) > 1 && digits[0] == '0':
		base, digits = 8, digits[1:]
	}
	n, err := strconv.ParseUint(digits, base, 63)
	if err != nil {
		return 0, false
	}
	if strings.HasPrefix(s, "-") {
		return -int64(n), true
	}
	return int64(n), true
}

// useraddDefaults are those of /etc/default/useradd, and of the program where the
// file says nothing.
type useraddDefaults struct {
	group     string // name or number
	groups    string
	home      string
	shell     string
	skel      string
	usrSkel   string
	inactive  string // days, or ""
	expire    string
	mailSpool bool
}

// parseUseraddDefaults reads the file over the defaults that d has.
func (d *useraddDefaults) parse(text string) {
	for s := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSuffix(s, "\n"), "=")
		if !ok {
			continue
		}
		switch key {
		case "GROUP":
			d.group = value
		case "GROUPS":
			d.groups = value
		case "HOME":
			d.home = value
		case "SHELL":
			d.shell = value
		case "INACTIVE":
			if n, ok := parseNumber(value); ok && n >= 0 {
				d.inactive = strconv.FormatInt(n, 10)
			} else {
				d.inactive = ""
			}
		case "EXPIRE":
			d.expire = value
		case "SKEL":
			d.skel = orDefault(value, "/etc/skel")
		case "USRSKEL":
			d.usrSkel = orDefault(value, "/usr/etc/skel")
		case "CREATE_MAIL_SPOOL":
			d.mailSpool = strings.EqualFold(value, "yes")
		}
	}
}

func orDefault(s, byDefault string) string {
	if s == "" {
		return byDefault
	}
	return s
}

// builtinDefaults are those of useradd without a file. Debian's is patched.
func builtinDefaults(debian bool) useraddDefaults {
	d := useraddDefaults{group: "1000", home: "/home", shell: "/bin/bash", skel: "/etc/skel", usrSkel: "/usr/etc/skel", mailSpool: true}
	if debian {
		d.group, d.shell, d.mailSpool = "100", "/bin/sh", false
	}
	return d
}

// parseSwitch returns the services of each database of nsswitch.conf(5), without
// what stands in brackets.
func parseSwitch(text string) map[string][]string {
	all := map[string][]string{}
	for s := range strings.Lines(text) {
		s, _, _ = strings.Cut(s, "#")
		name, services, ok := strings.Cut(s, ":")
		if !ok {
			continue
		}
		var list []string
		depth := 0
		for word := range strings.FieldsSeq(strings.NewReplacer("[", " [ ", "]", " ] ").Replace(services)) {
			switch {
			case word == "[":
				depth++
			case word == "]":
				depth = max(0, depth-1)
			case depth == 0:
				list = append(list, word)
			}
		}
		all[strings.TrimSpace(name)] = list
	}
	return all
}

// isDebian tells a system of Debian's family by its os-release(5).
func isDebian(osRelease string) bool {
	for s := range strings.Lines(osRelease) {
		key, value, _ := strings.Cut(strings.TrimSpace(s), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for id := range strings.FieldsSeq(strings.Trim(value, `"'`)) {
			if id == "debian" || id == "ubuntu" {
				return true
			}
		}
	}
	return false
}

// readText returns a file, or "" where it does not exist.
func readText(sys *customize.System, path string, limit int64) (string, error) {
	b, err := sys.ReadFile(path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}
