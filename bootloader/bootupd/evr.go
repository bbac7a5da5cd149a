package bootupd

import "strings"

// CompareEVR compares two versions of a package as rpm does, written
// [epoch:]version[-release]: -1 when a is older than b, 1 when it is newer. A
// missing epoch is 0; a missing release is older than any.
func CompareEVR(a, b string) int {
	ea, va, ra := splitEVR(a)
	eb, vb, rb := splitEVR(b)
	if c := compareVersion(ea, eb); c != 0 {
		return c
	}
	if c := compareVersion(va, vb); c != 0 {
		return c
	}
	return compareVersion(ra, rb)
}

// splitEVR takes a version apart.
func splitEVR(s string) (epoch, version, release string) {
	epoch = "0"
	if e, rest, ok := strings.Cut(s, ":"); ok && strings.Trim(e, "0123456789") == "" {
		if e != "" {
			epoch = e
		}
		s = rest
	}
	if k := strings.LastIndexByte(s, '-'); k >= 0 {
		return epoch, s[:k], s[k+1:]
	}
	return epoch, s, ""
}

// compareVersion is rpm's comparison of version and release strings
// (rpmvercmp): runs of digits and of letters are compared one by one, digits as
// numbers and above letters; other bytes only separate, but for "~", which is
// older than the end, and "^", which is newer than the end and older than
// anything else.
func compareVersion(a, b string) int {
	if a == b {
		return 0
	}
	for a != "" || b != "" {
		a, b = skipSeparators(a), skipSeparators(b)
		if ta, tb := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~"); ta || tb {
			if ta && tb {
				a, b = a[1:], b[1:]
				continue
			}
			return pick(ta, -1)
		}
		if ca, cb := strings.HasPrefix(a, "^"), strings.HasPrefix(b, "^"); ca || cb {
			switch {
			case ca && cb:
				a, b = a[1:], b[1:]
				continue
			case a == "":
				return -1
			case b == "":
				return 1
			}
			return pick(ca, -1)
		}
		if a == "" || b == "" {
			break
		}
		var sa, sb string
		numeric := isDigit(a[0])
		if numeric {
			sa, a = run(a, isDigit)
			sb, b = run(b, isDigit)
		} else {
			sa, a = run(a, isLetter)
			sb, b = run(b, isLetter)
		}
		if sb == "" { // one begins with a digit, the other with a letter
			return pick(numeric, 1)
		}
		if numeric {
			sa, sb = strings.TrimLeft(sa, "0"), strings.TrimLeft(sb, "0")
			if len(sa) != len(sb) {
				return pick(len(sa) > len(sb), 1)
			}
		}
		if c := strings.Compare(sa, sb); c != 0 {
			return c
		}
	}
	switch {
	case a == "" && b == "":
		return 0
	case a == "":
		return -1
	}
	return 1
}

// pick returns v, or -v when the condition does not hold.
func pick(condition bool, v int) int {
	if condition {
		return v
	}
	return -v
}

func skipSeparators(s string) string {
	for s != "" && !isDigit(s[0]) && !isLetter(s[0]) && s[0] != '~' && s[0] != '^' {
		s = s[1:]
	}
	return s
}

// run returns the longest prefix of s whose bytes are of one kind, and the rest.
func run(s string, kind func(byte) bool) (prefix, rest string) {
	n := 0
	for n < len(s) && kind(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
