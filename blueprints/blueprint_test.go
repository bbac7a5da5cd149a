package blueprints

import (
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
		class      fault.Class
		message    string
	}{
		{name: "config.toml", text: ""},
		{name: "config.json", text: "{}"},
		{name: "config.toml", text: "name = 'x'\n[customizations.kernel]\nappend = 'quiet a=\"b c\"'", want: []string{"quiet", `a="b c"`}},
		{name: "config.json", text: `{"blueprint":{"customizations":{"kernel":{"append":"quiet"}}}}`, want: []string{"quiet"}},
		{name: "-", text: `{"customizations":{"kernel":{"append":"quiet"}}}`, want: []string{"quiet"}},
		{name: "-", text: "[customizations.kernel]\nappend = 'quiet'", want: []string{"quiet"}},
		{name: "config.yaml", text: "", class: fault.Usage, message: "neither .toml nor .json"},
		{name: "config.toml", text: "a =\nb", class: fault.Usage, message: "line 1, column"},
		{name: "config.json", text: `{} {}`, class: fault.Usage, message: "data after the end"},
		{name: "config.toml", text: "[[customizations.user]]\nname='x'\n[customizations.services]\n", class: fault.Unsupported,
			message: "config config.toml: not applied by this version: customizations.services, customizations.user"},
		{name: "config.toml", text: "[customizations.kernel]\nname='rt'", class: fault.Unsupported, message: "customizations.kernel.name"},
		{name: "config.toml", text: "packages = []", class: fault.Unsupported, message: "packages"},
		{name: "config.toml", text: "[customizations.kernel]\nappend=1", class: fault.Usage, message: "not a string"},
		{name: "config.toml", text: "customizations=1", class: fault.Usage, message: "not a table"},
	} {
		b, err := Parse(tc.name, []byte(tc.text))
		if tc.class != 0 {
			if err == nil || fault.ClassOf(err) != tc.class || !strings.Contains(err.Error(), tc.message) {
				t.Errorf("%s %q: error %v (class %d), want %q (class %d)", tc.name, tc.text, err, fault.ClassOf(err), tc.message, tc.class)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %q: %v", tc.name, tc.text, err)
		} else if !slices.Equal(b.KernelAppend, tc.want) {
			t.Errorf("%s %q: kernel.append %q, want %q", tc.name, tc.text, b.KernelAppend, tc.want)
		}
	}
}

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

func FuzzParse(f *testing.F) {
	f.Add("config.toml", "[customizations.kernel]\nappend = 'quiet'")
	f.Add("config.json", `{"blueprint":{"customizations":{"kernel":{"append":"quiet"}}}}`)
	f.Add("-", "[[customizations.user]]\nname='x'")
	f.Fuzz(func(t *testing.T, name, text string) {
		b, err := Parse(name, []byte(text))
		if err == nil {
			for _, k := range b.KernelAppend {
				if k == "" {
					t.Fatal("empty kernel argument")
				}
			}
		}
	})
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
