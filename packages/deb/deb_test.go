package deb

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/packages"
)

const status = `Package: bash
Essential: yes
Status: install ok installed
Priority: required
Architecture: amd64
Multi-Arch: foreign
Version: 5.2.37-2+b5
Source: bash (5.2.37-2)
Maintainer: Matthias Klose <doko@debian.org>
Pre-Depends: libc6 (>= 2.38), libtinfo6 (>= 6)
Depends: base-files (>= 2.1.12), debianutils (>= 5.6-0.1) | other:any
Conffiles:
 /etc/skel/.bashrc 89269e1298235f1b12b4c16e4065ad0d
Description: GNU Bourne Again SHell
 Bash is an sh-compatible command language interpreter that
 executes commands: many.
 .
 It is long.
Homepage: http://tiswww.case.edu/php/chet/bash/bashtop.html

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Maintainer: A <a@example.com>
Version: 1
Description: left over
Config-Version: 1

package: half
status: install reinstreq half-configured
architecture: all
maintainer: B <b@example.com>
version: 2:1~rc1
provides: virtual (= 2), other
depends: libc6,
 bash:any
description: folded
`

func TestParse(t *testing.T) {
	list, err := Parse(strings.NewReader(status))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 {
		t.Fatalf("%d packages", len(list))
	}
	b, h := list[0], list[1]
	if b.Name != "bash" || b.Version != "5.2.37-2+b5" || b.Arch != "amd64" || b.Source != "bash" || b.SourceVersion != "5.2.37-2" ||
		b.Summary != "GNU Bourne Again SHell" || b.Supplier != "Matthias Klose <doko@debian.org>" || !strings.HasPrefix(b.Homepage, "http://tiswww") {
		t.Errorf("%+v", b)
	}
	want := []packages.Requirement{{"libc6"}, {"libtinfo6"}, {"base-files"}, {"debianutils", "other"}}
	if !slices.EqualFunc(b.Requires, want, func(a, b packages.Requirement) bool { return slices.Equal(a, b) }) {
		t.Errorf("requires %v", b.Requires)
	}
	if h.Name != "half" || h.Source != "half" || h.SourceVersion != "2:1~rc1" || !slices.Equal(h.Provides, []string{"virtual", "other"}) || len(h.Requires) != 2 || h.Requires[1][0] != "bash" {
		t.Errorf("%+v", h)
	}
}

func TestParseFails(t *testing.T) {
	for text, want := range map[string]string{
		" x\n":                            "line 1: goes on",
		"Package: a\nnothing\n":           "line 2: no field",
		"Version: 1\n":                    "without a name",
		"Package: a\nStatus: installed\n": "status",
		"Package: " + strings.Repeat("a", maxLine): "line 1: longer",
	} {
		if _, err := Parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

// What dpkg-query lists of a database we list, and nothing else: of the one above,
// and of this machine's where it has one.
func TestDpkgQuery(t *testing.T) {
	query, err := exec.LookPath("dpkg-query")
	if err != nil {
		t.Fatal("needs dpkg-query (Debian package dpkg)")
	}
	databases := []string{status}
	if own, err := os.ReadFile("/var/lib/dpkg/status"); err == nil {
		databases = append(databases, string(own))
	}
	for _, text := range databases {
		dir := t.TempDir()
		for name, content := range map[string]string{"status": text, "available": ""} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, sub := range []string{"info", "updates"} {
			if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(query, "--admindir", dir, "-W", "-f",
			"${db:Status-Status}|${Package}|${Version}|${Architecture}|${source:Package}|${source:Version}|${Maintainer}|${Homepage}|${binary:Summary}\n")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("dpkg-query: %v\n%s", err, err.(*exec.ExitError).Stderr)
		}
		var want []string
		for line := range strings.Lines(string(out)) {
			state, rest, _ := strings.Cut(strings.TrimRight(line, " \n"), "|")
			if state != "config-files" && state != "not-installed" {
				want = append(want, rest)
			}
		}
		list, err := Parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range list {
			got = append(got, strings.TrimRight(strings.Join([]string{p.Name, p.Version, p.Arch, p.Source, p.SourceVersion, p.Supplier, p.Homepage, p.Summary}, "|"), " "))
		}
		slices.Sort(got)
		slices.Sort(want)
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%d packages, and dpkg-query has %d", len(got), len(want))
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					t.Fatalf("%s\nwant %s", got[i], want[i])
				}
			}
		}
	}
}

func TestLicense(t *testing.T) {
	for text, want := range map[string]string{
		"This is the Debian package of x.\nLicense: GPL\n":                                                                                            "",
		"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: Expat\n Text.\n":                            "MIT",
		"\nFormat: x\nFiles: *\nLicense: GPL-2+ or Artistic\n\nFiles: b\nLicense: LGPL-2.1, and BSD-3-clause\n\nLicense: GPL-2+ or Artistic\n text\n": "(GPL-2.0-or-later OR Artistic-1.0) AND (LGPL-2.1-only AND BSD-3-Clause)",
		"Format: x\nLicense: GPL-2+ with OpenSSL exception\n":                                                                                         "GPL-2.0-or-later-with-OpenSSL-exception",
		"Format: x\nLicense: GFDL-1.3+\n\nLicense: CC0\n":                                                                                             "CC0-1.0 AND GFDL-1.3-or-later",
		"Format: x\n": "",
	} {
		if got := License(strings.NewReader(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte(status))
	f.Add([]byte("Package: a\n\nPackage: b\nDepends: a | (b), [c\n"))
	f.Add([]byte("Format: x\nLicense: GPL-2+ or Artistic\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, err := Parse(bytes.NewReader(b)); err == nil {
			packages.Resolve(list)
		}
		License(bytes.NewReader(b))
	})
}
