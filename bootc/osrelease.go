package bootc

import (
	"errors"
	"strings"
)

// osRelease reads os-release. libostree takes the title of the boot entry from
// it, and nothing when it has none.
func (r *reader) osRelease(image *Image) error {
	content, _, err := r.firstText("usr/lib/os-release", "etc/os-release")
	if err != nil {
		return err
	}
	image.OSRelease = parseOSRelease(content)
	if image.OSRelease["PRETTY_NAME"] == "" && image.OSRelease["ID"] == "" {
		return bad(errors.New("the image has no os-release with a PRETTY_NAME or ID"),
			"it belongs in usr/lib/os-release")
	}
	return nil
}

// parseOSRelease parses the assignments of os-release(5). As in libostree, what
// is not one, or is not quoted right, is passed over; so is a value with a
// control character.
func parseOSRelease(content string) map[string]string {
	values := map[string]string{}
	for line := range strings.SplitSeq(content, "\n") {
		key, quoted, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if v, ok := unquote(quoted); ok && !hasControl(v) {
			values[strings.TrimSpace(key)] = v
		}
	}
	return values
}

// unquote resolves the quotes and escapes of a shell word, as g_shell_unquote
// does.
func unquote(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return "", false
			}
			b.WriteString(s[i+1 : i+1+end])
			i += 1 + end
		case '"':
			n, ok := unquoteDouble(&b, s[i+1:])
			if !ok {
				return "", false
			}
			i += n
		case '\\':
			if i++; i == len(s) {
				return "", false
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return strings.TrimSuffix(b.String(), "\r"), true
}

// unquoteDouble appends what s has before the next double quote, and returns
// the length of that with the quote.
func unquoteDouble(b *strings.Builder, s string) (n int, ok bool) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1, true
		case c == '\\' && i+1 < len(s) && strings.IndexByte("\"\\`$\n", s[i+1]) >= 0:
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return 0, false
}
