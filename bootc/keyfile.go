package bootc

import (
	"fmt"
	"strings"
)

// keyfile holds the values of a GKeyFile, the INI format of the Desktop Entry
// Specification as GLib reads it, by group and key.
type keyfile map[[2]string]string

// parseKeyfile parses a file. A later value replaces an earlier one; values are
// raw, without escapes resolved.
func parseKeyfile(p, content string) (keyfile, error) {
	kf := keyfile{}
	group, n := "", 0
	for line := range strings.Lines(content) {
		n++
		line = strings.TrimSpace(line)
		key, value, isKey := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[' && line[len(line)-1] == ']' && len(line) > 2:
			group = line[1 : len(line)-1]
		case isKey && group != "" && strings.TrimSpace(key) != "":
			kf[[2]string{group, strings.TrimSpace(key)}] = strings.TrimSpace(value)
		case isKey && group == "":
			return nil, bad(fmt.Errorf("%s:%d: key before the first group", p, n), "")
		default:
			return nil, bad(fmt.Errorf("%s:%d: neither a group nor a key", p, n), "")
		}
	}
	return kf, nil
}
