package alpm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/packages"
)

// descs are as pacman writes them.
func descs() map[string]string {
	return map[string]string{
		"bash-5.2.037-2": `%NAME%
bash

%VERSION%
5.2.037-2

%BASE%
bash

%DESC%
The GNU Bourne Again shell

%URL%
https://www.gnu.org/software/bash/bash.html

%ARCH%
x86_64

%BUILDDATE%
1742062020

%INSTALLDATE%
1742062030

%PACKAGER%
Tobias Powalowski <tpowa@archlinux.org>

%SIZE%
9439232

%LICENSE%
GPL-3.0-or-later

%VALIDATION%
pgp

%DEPENDS%
readline
libreadline.so=8-64
glibc>=2.40

%OPTDEPENDS%
bash-completion: for tab completion

%PROVIDES%
sh

%XDATA%
pkgtype=pkg

`,
		"readline-1:8.2-1": "%NAME%\nreadline\n\n%VERSION%\n1:8.2-1\n\n%BASE%\nlibs\n\n%DESC%\nlines\n\n%URL%\nhttps://example.com/\n\n%ARCH%\nany\n\n%BUILDDATE%\n1\n\n%INSTALLDATE%\n1\n\n" +
			"%PACKAGER%\nSomebody\n\n%SIZE%\n1\n\n%LICENSE%\nGPL-3.0-or-later OR MIT\nISC\n\n%VALIDATION%\nnone\n\n%DEPENDS%\nsh\n\n%PROVIDES%\nlibreadline.so=8-64\n\n",
	}
}

func read(t *testing.T) []*packages.Package {
	t.Helper()
	var list []*packages.Package
	for name, text := range descs() {
		p, err := Parse(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		list = append(list, p)
	}
	list, err := packages.Resolve(list)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestParse(t *testing.T) {
	list := read(t)
	if len(list) != 2 || !slices.Equal(list[0].Depends, []int{1}) || !slices.Equal(list[1].Depends, []int{0}) {
		t.Fatalf("%+v", list)
	}
	if r := list[1]; r.License != "(GPL-3.0-or-later OR MIT) AND ISC" || r.Source != "libs" || r.Version != "1:8.2-1" {
		t.Errorf("%+v", r)
	}
}

// What pacman lists of the database we read.
func TestPacman(t *testing.T) {
	pacman, err := exec.LookPath("pacman")
	if err != nil {
		t.Fatal("needs pacman (make tools, or the Debian package pacman-package-manager)")
	}
	dir := t.TempDir()
	local := filepath.Join(dir, "local")
	for name, text := range descs() {
		if err := os.MkdirAll(filepath.Join(local, name), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string]string{"desc": text, "files": "%FILES%\nusr/\n\n"} {
			if err := os.WriteFile(filepath.Join(local, name, file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	config := filepath.Join(dir, "pacman.conf")
	for name, text := range map[string]string{filepath.Join(local, "ALPM_DB_VERSION"): "9\n", config: "[options]\nArchitecture = auto\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(pacman, "--config", config, "--root", dir, "--dbpath", dir, "--logfile", filepath.Join(dir, "log"), "-Qi")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("pacman: %v\n%s", err, out)
	}
	for _, p := range read(t) {
		for field, value := range map[string]string{"Name": p.Name, "Version": p.Version, "Description": p.Summary, "Architecture": p.Arch, "URL": p.Homepage, "Packager": p.Supplier} {
			if line := fmt.Sprintf("%-16s: %s\n", field, value); !strings.Contains(string(out), line) {
				t.Errorf("pacman does not say %q:\n%s", line, out)
			}
		}
	}
}

func TestParseFails(t *testing.T) {
	for text, want := range map[string]string{"": "without a name", "x\n": "line 1: no section", "%%\n": "line 1: no section", "%VERSION%\n1\n": "without a name"} {
		if _, err := Parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzDesc(f *testing.F) {
	for _, text := range descs() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		if p, err := Parse(bytes.NewReader(b)); err == nil {
			packages.Resolve([]*packages.Package{p})
		}
	})
}
