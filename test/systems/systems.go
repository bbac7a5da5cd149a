// Package systems compares settings with what systemd-firstboot makes of them, on
// systems of a few files.
package systems

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/tree"
)

// System returns a system with files: a map from paths to contents, "-> target" for
// symbolic links.
func System(t testing.TB, files map[string]string) *customize.System {
	t.Helper()
	root := tree.NewDir(0o755)
	for _, dir := range []string{"etc", "var"} {
		root.Set(dir, tree.NewDir(0o755))
	}
	for p, text := range files {
		i := tree.NewFile(0o644, content.String(text))
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			i = tree.NewLink(target)
		}
		if err := tree.Put(root, p, i); err != nil {
			t.Fatal(err)
		}
	}
	return customize.New(root, root.Child("etc"), root.Child("var"), 0, func(string) []byte { return make([]byte, 32) })
}

// Text returns the content of a file of the system, "-> target" of a symbolic link
// and "" of nothing.
func Text(t testing.TB, sys *customize.System, p string) string {
	t.Helper()
	i := tree.Lookup(sys.Root(), p)
	switch {
	case i == nil:
		return ""
	case i.IsLink():
		return "-> " + i.Target
	}
	text, err := i.Content.ReadAll(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Run runs systemd-firstboot on an empty root directory and returns what Text would
// of the file at p, and whether it succeeded.
func Run(t testing.TB, option, p string) (text string, ok bool) {
	t.Helper()
	program, err := exec.LookPath("systemd-firstboot")
	if err != nil {
		t.Fatalf("%v: make tools fetches it", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--root="+dir, option)
	cmd.Env = append(os.Environ(), "SYSTEMD_KBD_MODEL_MAP="+filepath.Join(filepath.Dir(program), "../root/usr/share/systemd/kbd-model-map"))
	out, err := cmd.CombinedOutput()
	if _, isExit := err.(*exec.ExitError); err != nil && !isExit {
		t.Fatalf("%v: %s", err, out)
	}
	at := filepath.Join(dir, p)
	if target, err := os.Readlink(at); err == nil {
		return "-> " + target, true
	}
	b, readErr := os.ReadFile(at)
	if err == nil && readErr != nil {
		t.Fatalf("%s: %v: %s", option, readErr, out)
	}
	return string(b), err == nil
}
