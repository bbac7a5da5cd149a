package units

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
)

// expand replaces the specifiers of systemd.unit(5) in a name of an [Install]
// section: install_name_printf.
func (in *installer) expand(i *info, s string) (string, error) {
	var b strings.Builder
	for k := 0; k < len(s); k++ {
		if s[k] != '%' || k == len(s)-1 {
			b.WriteByte(s[k])
			continue
		}
		k++
		v, err := in.specifier(i, s[k])
		if err != nil {
			return "", fmt.Errorf("unit %s: %q: %w", i.name, s, err)
		}
		b.WriteString(v)
		if b.Len() >= maxName {
			return "", fmt.Errorf("unit %s: %q is too long", i.name, s)
		}
	}
	return b.String(), nil
}

func (in *installer) specifier(i *info, c byte) (string, error) {
	prefix, instance, suffix := split(i.name)
	if instance == "" {
		instance = i.defaultInstance
	}
	at := prefix
	if classify(i.name) != plainName {
		at += "@" + instance
	}
	switch c {
	case '%':
		return "%", nil
	case 'i':
		return instance, nil
	case 'j':
		return prefix[strings.LastIndexByte(prefix, '-')+1:], nil
	case 'n':
		return at + suffix, nil
	case 'N':
		return at, nil
	case 'p':
		return prefix, nil
	case 'u', 'g':
		return "root", nil
	case 'U', 'G':
		return "0", nil
	case 'A':
		return in.osRelease("IMAGE_VERSION"), nil
	case 'B':
		return in.osRelease("BUILD_ID"), nil
	case 'M':
		return in.osRelease("IMAGE_ID"), nil
	case 'o':
		return in.osRelease("ID"), nil
	case 'w':
		return in.osRelease("VERSION_ID"), nil
	case 'W':
		return in.osRelease("VARIANT_ID"), nil
	case 'a', 'b', 'H', 'l', 'm', 'q', 'v':
		return "", fmt.Errorf("%%%c is known only where the system runs", c)
	}
	return "%" + string(rune(c)), nil
}

// osRelease returns a value of os-release, "" where there is none.
func (in *installer) osRelease(key string) string {
	for _, p := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		text, err := in.sys.ReadFile(p, 1<<20)
		if err != nil {
			continue
		}
		value := ""
		for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
			if v, ok := strings.CutPrefix(strings.TrimSpace(s.Text()), key+"="); ok {
				value = strings.Trim(v, `"'`)
			}
		}
		return value
	}
	return ""
}
