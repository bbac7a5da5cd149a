package customize

import (
	"bytes"
	"strings"
)

// SetVariables returns a file of shell assignments, as /etc/vconsole.conf and
// /etc/default/locale are, with variables set. Lines of the same variables are
// replaced in their place, those of a variable whose value is "" go, and new ones
// come last, in the order given. Comments and other lines stay.
func SetVariables(text []byte, pairs ...[2]string) []byte {
	var b bytes.Buffer
	done := map[string]bool{}
	for line := range bytes.Lines(text) {
		name, _, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		set := false
		for _, p := range pairs {
			if !ok || p[0] != strings.TrimSpace(name) {
				continue
			}
			set = true
			if p[1] != "" && !done[p[0]] {
				b.WriteString(p[0] + "=" + quoteShell(p[1]) + "\n")
			}
			done[p[0]] = true
		}
		if !set {
			b.Write(line)
			if !bytes.HasSuffix(line, []byte("\n")) {
				b.WriteByte('\n')
			}
		}
	}
	for _, p := range pairs {
		if !done[p[0]] && p[1] != "" {
			b.WriteString(p[0] + "=" + quoteShell(p[1]) + "\n")
		}
	}
	return b.Bytes()
}

// quoteShell quotes a value where it has to be, as systemd's shell_maybe_quote.
func quoteShell(s string) string {
	if !strings.ContainsAny(s, " \t\n\r\"\\`$'#;&|<>()[]{}*?!~=%") {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		if strings.IndexByte("\"\\`$", s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}
