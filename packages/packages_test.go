package packages

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	list, err := Resolve([]*Package{
		{Name: "c", Arch: "i386", Provides: []string{"libc.so"}},
		{Name: "b", Arch: "amd64", Requires: []Requirement{{"none", "c"}, {"libx"}, {"b"}}},
		{Name: "c", Arch: "amd64", Provides: []string{"libc.so", "libc.so"}},
		{Name: "a", Arch: "all", Requires: []Requirement{{"libc.so"}, {"b", "c"}, {"missing"}}},
		{Name: "x1", Arch: "amd64", Provides: []string{"libx"}}, {Name: "x2", Arch: "amd64", Provides: []string{"libx"}},
		{Name: "b", Arch: "amd64"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range list {
		got = append(got, fmt.Sprint(p.Name, ":", p.Arch, p.Depends))
	}
	want := []string{"a:all[1 2 3]", "b:amd64[2 4 5]", "c:amd64[]", "c:i386[]", "x1:amd64[]", "x2:amd64[]"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// What a few megabytes can say would take more memory than there is.
func TestLimits(t *testing.T) {
	var list List
	for i := range 4000 { // each depends on all
		p := &Package{Name: fmt.Sprint(i), Provides: []string{"x"}, Requires: []Requirement{{"x"}}}
		if err := list.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Resolve(list.Packages); err != ErrTooMany {
		t.Errorf("dependencies: %v", err)
	}
	many := &Package{Requires: []Requirement{make([]string, MaxRelations/2), make([]string, MaxRelations/2)}}
	if err := new(List).Add(many); err != nil {
		t.Errorf("as many as possible: %v", err)
	}
	many.Provides = []string{"x"}
	if err := new(List).Add(many); err != ErrTooMany {
		t.Errorf("relations: %v", err)
	}
	list.Packages = make([]*Package, MaxPackages-1)
	if err := list.Add(&Package{}); err != nil {
		t.Errorf("as many packages as possible: %v", err)
	}
	if err := list.Add(&Package{}); err != ErrTooMany {
		t.Errorf("packages: %v", err)
	}
}

// Package URLs as the implementations of purl in other languages write them.
func TestPURL(t *testing.T) {
	debian := OS{ID: "debian", VersionID: "13"}
	for want, c := range map[string]struct {
		p  Package
		os OS
	}{
		"pkg:deb/debian/libstdc%2B%2B6@1:14.2.0-19%2Bb1?arch=amd64&distro=debian-13&upstream=gcc-14%4014.2.0-19": {
			Package{Type: Deb, Name: "libstdc++6", Version: "1:14.2.0-19+b1", Arch: "amd64", Source: "gcc-14", SourceVersion: "14.2.0-19"}, debian},
		"pkg:deb/debian/bash@5.2~rc1?arch=amd64&distro=debian-13": {
			Package{Type: Deb, Name: "bash", Version: "5.2~rc1", Arch: "amd64", Source: "bash", SourceVersion: "5.2~rc1"}, debian},
		"pkg:rpm/fedora/shadow-utils@4.15-1.fc42?arch=x86_64&distro=fedora-42&epoch=2&upstream=shadow-utils-4.15-1.fc42.src.rpm": {
			Package{Type: RPM, Name: "shadow-utils", Version: "2:4.15-1.fc42", Arch: "x86_64", Source: "shadow-utils-4.15-1.fc42.src.rpm"}, OS{ID: "fedora", VersionID: "42"}},
		"pkg:rpm/redhat/bash@5-1?arch=x86_64&distro=rhel-10.0": {
			Package{Type: RPM, Name: "bash", Version: "5-1", Arch: "x86_64"}, OS{ID: "rhel", VersionID: "10.0"}},
		"pkg:apk/alpine/musl@1.2.5-r1?arch=aarch64&distro=alpine-3.22": {
			Package{Type: APK, Name: "musl", Version: "1.2.5-r1", Arch: "aarch64", Source: "musl"}, OS{ID: "alpine", VersionID: "3.22"}},
		"pkg:alpm/arch/pacman@6.0.2-3?arch=x86_64&distro=arch": {
			Package{Type: ALPM, Name: "pacman", Version: "6.0.2-3", Arch: "x86_64"}, OS{ID: "arch"}},
		"pkg:deb/a%20%2F%3F%23@1": {Package{Type: Deb, Name: "a /?#", Version: "1"}, OS{}},
	} {
		if got := c.p.PURL(c.os); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestLicenses(t *testing.T) {
	l := NewLicenses()
	for text, want := range map[string]string{
		"":                              "",
		"MIT":                           "MIT id",
		"gpl-2.0-OR-LATER":              "GPL-2.0-or-later id",
		"GPL-2.0-only and (MIT or ISC)": "GPL-2.0-only AND (MIT OR ISC)",
		"Apache-2.0 WITH LLVM-exception AND Zlib+": "Apache-2.0 WITH LLVM-exception AND Zlib+",
		"MIT WITH nothing":                         "LicenseRef-MIT-WITH-nothing-",
		"GPLv2+ and BSD":                           "LicenseRef-GPLv2--",
		"Public Domain":                            "LicenseRef-Public-Domain-",
		"MIT AND":                                  "LicenseRef-MIT-AND-",
		"(MIT":                                     "LicenseRef--MIT-",
		"LicenseRef-Callaway-MIT AND MIT":          "LicenseRef-Callaway-MIT AND MIT",
		"LicenseRef-":                              "LicenseRef-LicenseRef--",
		"MIT) OR (ISC":                             "LicenseRef-MIT--OR--ISC-",
		"a\x00b":                                   "",
	} {
		e := l.Parse(text)
		got := e.Text
		if e.ID {
			got += " id"
		}
		if cut, ok := strings.CutSuffix(want, "-"); ok && strings.HasPrefix(got, strings.TrimPrefix(cut, "LicenseRef-")) == false {
			if !strings.HasPrefix(got, "LicenseRef-") || len(e.Refs) == 0 {
				t.Errorf("%q: %q, want %q…", text, got, want)
			}
		} else if !ok && got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if e := l.Parse(strings.Repeat("(", 1000) + "MIT" + strings.Repeat(")", 1000)); !strings.HasPrefix(e.Text, "LicenseRef-") {
		t.Errorf("nested: %.80s", e.Text)
	}
	if a, b := Idstring("a_b"), Idstring("a b"); a == b {
		t.Error("two texts have one identifier")
	}
}

func TestDistinct(t *testing.T) {
	got := Distinct([]string{"a", "b", "a", "a.1", "a", "a.2", "a.1"}, ".")
	if want := []string{"a", "b", "a.3", "a.1", "a.4", "a.2", "a.1.1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWebsite(t *testing.T) {
	for s, want := range map[string]bool{
		"https://example.com/%41?b#c": true, "ftp://example.com": true,
		"": false, "example.com": false, "javascript:x": false, "git://example.com/a": false, "https://example.com/a b": false, "http://[": false,
	} {
		if (Website(s) == s && s != "") != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

func TestValidCPE(t *testing.T) {
	for s, want := range map[string]bool{
		"cpe:/o:fedoraproject:fedora:42": true, "cpe:/o:redhat:enterprise_linux:10::baseos": true, "cpe:2.3:o:debian:debian_linux:13:*:*:*:*:*:*:*": true,
		"": false, "cpe:/": false, "cpe:/x:a": false, "cpe:/o:a b": false, "cpe:/o:1:2:3:4:5:6:7": false, "cpe:2.3:o:x": false, "cpe:/o:*": false,
	} {
		if ValidCPE(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

// FuzzLicense: what is made of a licence is an expression again, and the same one.
func FuzzLicense(f *testing.F) {
	for _, s := range []string{"MIT", "GPL-2.0-only AND (MIT OR ISC)", "Apache-2.0 WITH LLVM-exception", "GPLv2+ and BSD", "Zlib+", "(((", "Public Domain"} {
		f.Add(s)
	}
	l := NewLicenses()
	f.Fuzz(func(t *testing.T, s string) {
		e := l.Parse(s)
		if strings.ContainsAny(e.Text, "\n\x00\"") {
			t.Fatalf("%q", e.Text)
		}
		if again := l.Parse(e.Text); len(e.Text) < maxExpression && len(e.Refs) == 0 && again.Text != e.Text {
			t.Fatalf("%q becomes %q", e.Text, again.Text)
		}
	})
}
