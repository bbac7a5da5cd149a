package accounts

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// checkKey takes one line of an authorized_keys file (sshd(8), "AUTHORIZED_KEYS
// FILE FORMAT"): options, the type, the key in base 64, a comment. Of the key, the
// type that stands in it has to be the one before it.
func checkKey(key string) error {
	key = trimKey(key)
	switch {
	case len(key) > maxKey:
		return fmt.Errorf("longer than %d bytes", maxKey)
	case key == "":
		return errors.New("empty")
	case strings.Contains(key, "PRIVATE KEY"):
		return errors.New("is a private key; the public one, of the .pub file, belongs here")
	case strings.ContainsAny(key, "\n\r"):
		return errors.New("has a line break; give every key an entry of its own")
	case strings.ContainsRune(key, 0):
		return errors.New("has a NUL")
	case key[0] == '#':
		return errors.New("is a comment, not a key")
	}
	words, err := keyWords(key)
	if err != nil {
		return err
	}
	for i := range min(2, len(words)-1) {
		if keyType(words[i+1]) == words[i] {
			return nil
		}
	}
	return errors.New("is not a public key as a .pub file has it: type, base 64, comment")
}

// trimKey drops the blanks and line breaks around a key, which a string of several
// lines has at its end.
func trimKey(key string) string { return strings.Trim(key, " \t\r\n") }

// keyWords splits at blanks outside quotes. A backslash before a quote keeps it.
func keyWords(s string) ([]string, error) {
	var words []string
	start, quoted := -1, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		case c == '"':
			quoted = !quoted
		}
		blank := !quoted && (s[i] == ' ' || s[i] == '\t')
		if blank && start >= 0 {
			words = append(words, s[start:i])
			start = -1
			if len(words) == 3 {
				return words, nil // the comment may have any quotes
			}
		} else if !blank && start < 0 {
			start = i
		}
	}
	if quoted && len(words) < 2 {
		return nil, errors.New("has a quote that is not closed in its options")
	}
	if start >= 0 {
		words = append(words, s[start:])
	}
	return words, nil
}

// keyType returns the type of a key in base 64, the first string of RFC 4253
// section 6.6, or "".
func keyType(text string) string {
	blob, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		blob, err = base64.RawStdEncoding.DecodeString(text)
	}
	if err != nil || len(blob) < 4 {
		return ""
	}
	n := binary.BigEndian.Uint32(blob)
	if uint64(n) >= uint64(len(blob)-4) {
		return "" // nothing follows the type
	}
	return string(blob[4 : 4+n])
}

// appendKeys returns an authorized_keys file with the keys at its end, without
// those that it has.
func appendKeys(text []byte, keys []string) []byte {
	have := map[string]bool{}
	for l := range strings.Lines(string(text)) {
		have[trimKey(l)] = true
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text[:len(text):len(text)], '\n')
	}
	for _, key := range keys {
		key = trimKey(key)
		if !have[key] {
			text = append(append(text, key...), '\n')
			have[key] = true
		}
	}
	return text
}
