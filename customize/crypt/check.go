package crypt

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// format is a kind of hash, by what it begins with, and what the whole is.
type format struct {
	prefix, name string
	whole        *regexp.Regexp
}

// formats are those of crypt(5), strongest first. The longest legal forms of the
// settings are bounded, as every hash is one field of a line.
func formats() []format {
	return []format{
		{"$y$", "yescrypt", regexp.MustCompile(`^\$y\$[./A-Za-z0-9]{3,64}\$[./A-Za-z0-9]{0,86}\$[./A-Za-z0-9]{43}$`)},
		{"$gy$", "gost-yescrypt", regexp.MustCompile(`^\$gy\$[./A-Za-z0-9]{3,64}\$[./A-Za-z0-9]{0,86}\$[./A-Za-z0-9]{43}$`)},
		{"$7$", "scrypt", regexp.MustCompile(`^\$7\$[./A-Za-z0-9]{11,97}\$[./A-Za-z0-9]{43}$`)},
		{"$2", "bcrypt", regexp.MustCompile(`^\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}$`)},
		{"$6$", "sha512crypt", regexp.MustCompile(`^\$6\$(rounds=[1-9][0-9]{3,8}\$)?[^$:\n]{1,16}\$[./A-Za-z0-9]{86}$`)},
		{"$5$", "sha256crypt", regexp.MustCompile(`^\$5\$(rounds=[1-9][0-9]{3,8}\$)?[^$:\n]{1,16}\$[./A-Za-z0-9]{43}$`)},
		{"$sha1$", "sha1crypt", regexp.MustCompile(`^\$sha1\$[1-9][0-9]{0,9}\$[./A-Za-z0-9]{8,64}\$[./A-Za-z0-9]{28}$`)},
		{"$md5", "SunMD5", regexp.MustCompile(`^\$md5(,rounds=[1-9][0-9]{0,9})?\$[./A-Za-z0-9]{1,16}(\$\$|\$)[./A-Za-z0-9]{22}$`)},
		{"$1$", "md5crypt", regexp.MustCompile(`^\$1\$[^$:\n]{0,8}\$[./A-Za-z0-9]{22}$`)},
		{"$3$", "NT", regexp.MustCompile(`^\$3\$\$[0-9a-f]{32}$`)},
	}
}

// weak are the formats that a computer of today breaks.
const weak = "md5crypt SunMD5 sha1crypt NT"

// Kind says what a password of a configuration is.
type Kind int

// The kinds of a password.
const (
	Plain  Kind = iota // text that has to be hashed
	Hashed             // a hash, possibly locked by a "!" before it
	Locked             // no password fits: "!", "!!", "*", "!*"
)

// ErrInvalid says that something begins as a hash and is none.
var ErrInvalid = errors.New("not a valid hash")

// Classify says what a password is. What begins as a hash does is one; where the
// rest does not fit, the error wraps ErrInvalid. The 13 characters of DES have no
// mark and count as text, as they do for other image builders.
func Classify(s string) (Kind, error) {
	switch s {
	case "!", "!!", "*", "!*":
		return Locked, nil
	}
	for _, f := range formats() {
		hash := strings.TrimLeft(s, "!")
		if !strings.HasPrefix(hash, f.prefix) || f.prefix == "$2" && !bcryptMark(hash) {
			continue
		}
		if !f.whole.MatchString(hash) {
			return Hashed, fmt.Errorf("%w of %s", ErrInvalid, f.name)
		}
		return Hashed, nil
	}
	return Plain, nil
}

// bcryptMark tells "$2b$" and its relatives from a text as "$200".
func bcryptMark(s string) bool {
	return len(s) > 3 && strings.IndexByte("abxy", s[2]) >= 0 && s[3] == '$'
}

// Weak returns the name of the format of a valid hash where it is one that can be
// broken, or "".
func Weak(hash string) string {
	for _, f := range formats() {
		if f.whole.MatchString(strings.TrimLeft(hash, "!")) && strings.Contains(weak, f.name) {
			return f.name
		}
	}
	return ""
}
