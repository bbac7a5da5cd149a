package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
)

// Without --config, one file in the root directory is read, and two are too many.
func TestConfigLookUp(t *testing.T) {
	f := &configFlags{root: t.TempDir()}
	if c, err := f.load(strings.NewReader(""), io.Discard); c != nil || err != nil {
		t.Errorf("without a file: %v, %v", c, err)
	}
	write := func(name, text string) string {
		t.Helper()
		name = filepath.Join(f.root, name)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	name := write("config.json", `{"customizations":{"hostname":"h"}}`)
	c, err := f.load(strings.NewReader(""), io.Discard)
	if err != nil || !slices.Equal(c.Files, []string{name}) || !slices.Equal(c.Asked(), []string{"customizations.hostname"}) {
		t.Errorf("%+v, %v", c, err)
	}
	write("config.toml", "")
	if _, err := f.load(strings.NewReader(""), io.Discard); fault.ClassOf(err) != fault.Usage || !strings.Contains(err.Error(), "both /config.toml and /config.json exist") {
		t.Errorf("two files: %v", err)
	}
	f.files = []string{"-", "-"}
	if _, err := f.load(strings.NewReader(""), io.Discard); fault.ClassOf(err) != fault.Usage {
		t.Errorf("stdin twice: %v", err)
	}
	f.files, f.allowPaths = []string{name}, []string{"/etc/../x"}
	if _, err := f.load(strings.NewReader(""), io.Discard); fault.ClassOf(err) != fault.Usage {
		t.Errorf("--allow-paths: %v", err)
	}
}
