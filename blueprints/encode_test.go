package blueprints

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whatever is valid is the same when it is written and read again.
func TestEncode(t *testing.T) {
	files, err := filepath.Glob("testdata/*.[jt]*l*")
	if err != nil {
		t.Fatal(err)
	}
	sources := []Source{{Name: "x.toml", Text: []byte(`
[customizations]
hostname = "a"
[[customizations.user]]
name = "a"
uid = 0
groups = []
password = "x"
[[customizations.files]]
path = "/etc/x"
user = 0
group = "root"
data = "text\n\u0007"
[[customizations.filesystem]]
mountpoint = "/"
minsize = "20 GiB"
[customizations.services]
enabled = ["a.service"]
`)}}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, Source{Name: name, Text: text})
	}
	n := 0
	for _, s := range sources {
		c, err := Load([]Source{s}, Options{AllowPaths: []string{"/"}})
		if err != nil {
			if s.Name == "x.toml" {
				t.Error(err)
			}
			continue
		}
		n++
		text, err := c.Blueprint.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Load([]Source{{Name: "x.json", Text: text}}, Options{AllowPaths: []string{"/"}})
		if err != nil {
			t.Errorf("%s: %v in\n%s", s.Name, err, text)
			continue
		}
		if diff := cmp.Diff(c.Blueprint, again.Blueprint); diff != "" {
			t.Errorf("%s: %s", s.Name, diff)
		}
	}
	if n == 0 {
		t.Error("nothing was valid")
	}
}
