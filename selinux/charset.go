package selinux

// charset is a set of bytes. PCRE2 compares bytes, as libselinux does not ask
// for UTF-8: a letter outside ASCII is two or more of them.
type charset [4]uint64

func (s *charset) add(c byte)      { s[c>>6] |= 1 << (c & 63) }
func (s *charset) has(c byte) bool { return s[c>>6]&(1<<(c&63)) != 0 }

func (s *charset) addRange(from, to byte) {
	for c := int(from); c <= int(to); c++ {
		s.add(byte(c))
	}
}

func (s *charset) addSet(t charset) {
	for i := range s {
		s[i] |= t[i]
	}
}

func (s charset) negated() charset {
	for i := range s {
		s[i] = ^s[i]
	}
	return s
}

// folded returns the set with both cases of its ASCII letters, the only ones
// that have two cases to PCRE2's tables.
func (s charset) folded() charset {
	for c := byte('a'); c <= 'z'; c++ {
		if s.has(c) || s.has(c-'a'+'A') {
			s.add(c)
			s.add(c - 'a' + 'A')
		}
	}
	return s
}

// single returns the only byte of the set.
func (s *charset) single() (c byte, ok bool) {
	n := 0
	for i := range 256 {
		if s.has(byte(i)) {
			c = byte(i)
			n++
		}
	}
	return c, n == 1
}

// setOf returns the set of ranges, which are pairs of first and last byte.
func setOf(ranges string) (s charset) {
	for i := 0; i+1 < len(ranges); i += 2 {
		s.addRange(ranges[i], ranges[i+1])
	}
	return s
}

func anyByte() charset { return charset{}.negated() }
func wordSet() charset { return setOf("09AZ__az") }

// escapeClass returns the set of a class escape such as \d (pcre2pattern(3),
// "Generic character types"), with PCRE2's tables for the C locale.
func escapeClass(letter byte) (s charset, ok bool) {
	switch letter | 0x20 {
	case 'd':
		s = setOf("09")
	case 'w':
		s = wordSet()
	case 's':
		s = setOf("\t\r  ")
	case 'h':
		s = setOf("\t\t  \xa0\xa0")
	case 'v':
		s = setOf("\n\r\x85\x85")
	default:
		return s, false
	}
	if letter&0x20 == 0 {
		s = s.negated()
	}
	return s, true
}

// posixClass returns the set of a name as in [:alpha:].
func posixClass(name string) (s charset, ok bool) {
	switch name {
	case "alnum":
		s = setOf("09AZaz")
	case "alpha":
		s = setOf("AZaz")
	case "ascii":
		s = setOf("\x00\x7f")
	case "blank":
		s = setOf("\t\t  ")
	case "cntrl":
		s = setOf("\x00\x1f\x7f\x7f")
	case "digit":
		s = setOf("09")
	case "graph":
		s = setOf("!~")
	case "lower":
		s = setOf("az")
	case "print":
		s = setOf(" ~")
	case "punct":
		s = setOf("!/:@[`{~")
	case "space":
		s = setOf("\t\r  ")
	case "upper":
		s = setOf("AZ")
	case "word":
		s = wordSet()
	case "xdigit":
		s = setOf("09AFaf")
	default:
		return s, false
	}
	return s, true
}
