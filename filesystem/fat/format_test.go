package fat

import (
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf16"
)

// TestEntries compares with entries that mcopy of mtools 4.0.32 wrote for the
// file "The quick.txt" of 5 bytes in cluster 3, as of 2024-02-29 12:34:56.
func TestEntries(t *testing.T) {
	want := strings.Join(strings.Fields(`
		41 54 00 68 00 65 00 20 00 71 00 0f 00 0b 75 00 69 00 63 00 6b 00 2e 00 74 00 00 00 78 00 74 00
		54 48 45 51 55 49 7e 31 54 58 54 20 00 00 5c 64 5d 58 5d 58 00 00 5c 64 5d 58 03 00 05 00 00 00`), "")
	b := make([]byte, 2*sizeEntry)
	short := newShortName("THEQUI~1", "TXT")
	encodeLong(b, utf16.Encode([]rune("The quick.txt")), 1, short.checksum())
	entry{Name: short, Attr: attrArchive, Time: newTimestamp(when - 1), Cluster: 3, Size: 5}.encode(b[sizeEntry:])
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
