package blueprints

import (
	"strings"
	"testing"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "512": 512, "1 kB": 1000, "1KiB": 1024, "10 GiB": 10 << 30, "1.5 GiB": 3 << 29, "10G": 10 << 30, "2T": 2 << 40, "0.5k": 512,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "0 GiB", "-1", "1 gib", "1 GIB", "1e9", "1..5", "x", "GiB", "1 2", "99999999 TiB", "0x10", "1/2", strings.Repeat("9", 40)} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	f.Add("10 GiB")
	f.Add("1.5T")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil && n <= 0 {
			t.Fatalf("%q is %d", s, n)
		}
	})
}
