package packages

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// Idstring makes of any text one of letters, digits, '.' and '-', as identifiers of
// SPDX are. Where that loses something, a digest tells texts apart.
func Idstring(text string) string {
	id := strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-') {
			return r
		}
		return '-'
	}, text)
	const most = 64
	if id == text && len(id) <= most && id != "" {
		return id
	}
	return fmt.Sprintf("%s-%.12x", strings.Trim(id[:min(len(id), most)], "-."), sha256.Sum256([]byte(text)))
}
