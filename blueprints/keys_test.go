package blueprints

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// own are the keys that upstream's types do not have: the old spelling of minsize
// is read there from TOML without a field for it.
func own() []string {
	return []string{"customizations.installer.wipe", "customizations.files[].sha256", "customizations.filesystem[].size"}
}

// The schema has every key of upstream's, and no others but our own.
func TestUpstreamKeys(t *testing.T) {
	text, err := os.ReadFile("testdata/upstream-keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := own()
	for line := range strings.Lines(string(text)) {
		if line[0] != '#' {
			want = append(want, strings.TrimSpace(line))
		}
	}
	var got []string
	for _, k := range Keys() {
		got = append(got, k.Path)
	}
	for _, k := range want {
		if !slices.Contains(got, k) {
			t.Errorf("%s: not in the schema", k)
		}
	}
	for _, k := range got {
		if !slices.Contains(want, k) {
			t.Errorf("%s: not upstream's", k)
		}
	}
}

// Every key is either applied or refused, with a text, and nothing else is listed.
func TestEveryKeyHasAVerdict(t *testing.T) {
	paths := map[string]bool{}
	for _, k := range Keys() {
		paths[k.Path] = true
		if k.Text == "" || (k.Since == "") != k.Refused {
			t.Errorf("%s: neither applied nor refused: %+v", k.Path, k)
		}
	}
	seen := map[string]bool{}
	for _, row := range applied() {
		if !paths[row[0]] || seen[row[0]] || refusedAt(row[0]) != nil {
			t.Errorf("%s: applied, and no key, there twice, or refused as well", row[0])
		}
		seen[row[0]] = true
	}
	for _, f := range refusals() {
		if !slices.ContainsFunc(Keys(), func(k KeyInfo) bool { r := refusedAt(k.Path); return r != nil && r.path == f.path }) {
			t.Errorf("%s: refused, and no key", f.path)
		}
	}
}
