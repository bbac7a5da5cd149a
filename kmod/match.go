package kmod

import "strings"

// match tells whether a device's modalias matches the pattern of a module's alias,
// as fnmatch(3) without flags does: "*", "?" and "[a-z]", with no special slash.
func match(pattern, name string) bool {
	// back is where to go on after the last star when what follows it does
	// not match: one byte further in the name.
	backPattern, backName := -1, 0
	p, n := 0, 0
	for n < len(name) {
		if p < len(pattern) {
			switch c := pattern[p]; c {
			case '*':
				backPattern, backName = p+1, n
				p++
				continue
			case '?':
				p++
				n++
				continue
			case '[':
				if width, ok := matchClass(pattern[p:], name[n]); width > 0 {
					if ok {
						p += width
						n++
						continue
					}
				} else if name[n] == '[' {
					p++
					n++
					continue
				}
			default:
				if c == '\\' && p+1 < len(pattern) {
					if pattern[p+1] == name[n] {
						p += 2
						n++
						continue
					}
				} else if c == name[n] {
					p++
					n++
					continue
				}
			}
		}
		if backPattern < 0 {
			return false
		}
		backName++
		p, n = backPattern, backName
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchClass matches one byte against the bracket expression that pattern begins
// with. width is the expression's length, 0 where it does not end.
func matchClass(pattern string, b byte) (width int, ok bool) {
	i, negated := 1, false
	if i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^') {
		negated = true
		i++
	}
	for first := true; i < len(pattern); first = false {
		if pattern[i] == ']' && !first {
			return i + 1, ok != negated
		}
		lo := pattern[i]
		hi := lo
		if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
			hi = pattern[i+2]
			i += 2
		}
		if lo <= b && b <= hi {
			ok = true
		}
		i++
	}
	return 0, false
}
