package rpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/packages"
)

// run runs a program of RPM, without the configuration of this machine's user.
func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "SOURCE_DATE_EPOCH=1700000000", "LC_ALL=C.UTF-8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s (make tools, or the Debian package rpm): %v\n%s%s", name, err, out, stderr.String())
	}
	return string(out)
}

// spec is of many packages, some of which are awkward.
func spec() string {
	var b strings.Builder
	b.WriteString(`Name: base
Epoch: 2
Version: 1.0~rc1
Release: 3.fc42
Summary: The base of it
License: GPL-2.0-or-later AND MIT
Vendor: Example Project
Packager: Somebody <s@example.com>
URL: https://example.com/base
BuildArch: noarch
Provides: /bin/sh
Requires: sub0 = 2:1.0~rc1-3.fc42
%description
Base.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/share/many
echo '#!/bin/true' > %{buildroot}/usr/bin/tool
chmod 644 %{buildroot}/usr/bin/tool
for i in $(seq 1 3000); do : > %{buildroot}/usr/share/many/a-file-with-a-rather-long-name-$i; done
%files
/usr/bin/tool
/usr/share/many
`)
	for i := range 150 {
		fmt.Fprintf(&b, "%%package -n sub%d\nSummary: Package %d\nVersion: %d\nRequires: /usr/bin/tool, /bin/tool, (sub1 if sub2), capability\n", i, i, i+1)
		if i%10 == 0 {
			fmt.Fprintf(&b, "Provides: capability = %d\nRequires: capability = %d\n", i, (i+10)%150)
		}
		if i == 0 {
			b.WriteString("Provides: sub0 = 2:1.0~rc1-3.fc42\nLicense: Public Domain\n")
		}
		fmt.Fprintf(&b, "%%description -n sub%d\nText.\n%%files -n sub%d\n", i, i)
	}
	b.WriteString("%changelog\n")
	return b.String()
}

// build makes the packages of the spec, and returns their directory.
func build(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.spec"), []byte(spec()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+dir, "--define", "_dbpath "+dir+"/none", "--define", "__os_install_post %{nil}", "--define", "_build_id_links none", "x.spec")
	return filepath.Join(dir, "RPMS", "noarch")
}

// install makes a database of packages with a backend of RPM.
func install(t testing.TB, rpms, backend string) string {
	t.Helper()
	db := t.TempDir()
	list, err := filepath.Glob(filepath.Join(rpms, "*.rpm"))
	if err != nil || len(list) < 100 {
		t.Fatalf("%d packages: %v", len(list), err)
	}
	args := []string{"--dbpath", db, "--define", "_db_backend " + backend, "--justdb", "--nodeps", "--noscripts", "--notriggers", "--nosignature", "--nodigest", "--ignorearch", "--ignoreos", "-i"}
	run(t, db, "rpm", append(args, list...)...)
	return db
}

func directory(dir string) Directory {
	return func(name string) (File, error) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		return bytes.NewReader(b), nil
	}
}

// What RPM itself reads of its databases we read: of both backends, with headers
// that take many pages.
func TestRead(t *testing.T) {
	rpms := build(t)
	for backend, file := range map[string]string{"sqlite": "rpmdb.sqlite", "ndb": "Packages.db"} {
		t.Run(backend, func(t *testing.T) {
			db := install(t, rpms, backend)
			if _, err := os.Stat(filepath.Join(db, file)); err != nil {
				t.Fatal(err)
			}
			const none = "(none)"
			out := run(t, db, "rpm", "--dbpath", db, "--define", "_db_backend "+backend, "-qa", "--qf",
				"%{NAME}|%{EVR}|%{ARCH}|%{SUMMARY}|%{LICENSE}|%{VENDOR}|%{URL}|%{SOURCERPM}\n")
			want := strings.Split(strings.TrimSpace(strings.ReplaceAll(out, none, "")), "\n")
			list, err := Read(context.Background(), directory(db))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range list {
				got = append(got, strings.Join([]string{p.Name, p.Version, p.Arch, p.Summary, p.License, p.Supplier, p.Homepage, p.Source}, "|"))
			}
			slices.Sort(got)
			slices.Sort(want)
			if len(want) != 151 || !slices.Equal(got, want) {
				t.Fatalf("%d packages, and rpm has %d:\n%s\nwant\n%s", len(got), len(want), strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if list, err = packages.Resolve(list); err != nil {
				t.Fatal(err)
			}
			checkDepends(t, db, backend, list)
		})
	}
}

// checkDepends compares what depends on what with what RPM says that provides it.
func checkDepends(t *testing.T, db, backend string, list []*packages.Package) {
	t.Helper()
	of := func(name string) (names []string) {
		for _, p := range list {
			if p.Name == name {
				for _, k := range p.Depends {
					names = append(names, list[k].Name)
				}
			}
		}
		slices.Sort(names)
		return names
	}
	var capable []string
	for i := 0; i < 150; i += 10 {
		capable = append(capable, fmt.Sprint("sub", i))
	}
	out := run(t, db, "rpm", "--dbpath", db, "--define", "_db_backend "+backend, "-q", "--whatprovides", "--qf", "%{NAME}\n", "capability")
	provided := strings.Fields(out)
	slices.Sort(provided)
	slices.Sort(capable)
	if !slices.Equal(provided, capable) {
		t.Fatalf("rpm says %v", provided)
	}
	want := append([]string{"base"}, capable...)
	if got := of("sub7"); !slices.Equal(got, want) {
		t.Errorf("sub7 depends on %v, want %v", got, want)
	}
	// Its own version of the capability, and all that provide any.
	if got := of("sub20"); !slices.Contains(got, "sub30") || slices.Contains(got, "sub20") {
		t.Errorf("sub20 depends on %v", got)
	}
	if got := of("base"); !slices.Equal(got, []string{"sub0"}) {
		t.Errorf("base depends on %v", got)
	}
}

func TestReadFails(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(context.Background(), directory(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no database: %v", err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("Packages", "anything")
	if _, err := Read(context.Background(), directory(dir)); fault.ClassOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "Berkeley") || fault.HintOf(err) == "" {
		t.Errorf("Berkeley DB: %v", err)
	}
	write("Packages.db", "anything at all that is longer than a header")
	if _, err := Read(context.Background(), directory(dir)); err == nil || !strings.Contains(err.Error(), "Packages.db: is no database of ndb") {
		t.Errorf("ndb: %v", err)
	}
	write("rpmdb.sqlite", "anything")
	if _, err := Read(context.Background(), directory(dir)); err == nil || !strings.Contains(err.Error(), "rpmdb.sqlite: header") {
		t.Errorf("sqlite: %v", err)
	}
	write("rpmdb.sqlite-journal", "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7....")
	if _, err := Read(context.Background(), directory(dir)); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("journal: %v", err)
	}
}

// A byte of a blob of ndb is found to be another one.
func TestNDBDamaged(t *testing.T) {
	b := small(t, "ndb", "Packages.db")
	b[len(b)-100] ^= 1
	db := t.TempDir()
	if err := os.WriteFile(filepath.Join(db, "Packages.db"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(context.Background(), directory(db)); err == nil || !strings.Contains(err.Error(), "another checksum") {
		t.Errorf("not noticed: %v", err)
	}
}

// small makes a database of one package.
func small(f testing.TB, backend, file string) []byte {
	dir := f.TempDir()
	text := "Name: one\nVersion: 1\nRelease: 1\nSummary: s\nLicense: MIT\nBuildArch: noarch\nRequires: /bin/sh\n%description\nx\n%files\n"
	if err := os.WriteFile(filepath.Join(dir, "x.spec"), []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
	run(f, dir, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+dir, "--define", "_dbpath "+dir+"/none", "--define", "__os_install_post %{nil}", "x.spec")
	db := f.TempDir()
	run(f, db, "rpm", "--dbpath", db, "--define", "_db_backend "+backend, "--justdb", "--nodeps", "--ignorearch", "--ignoreos", "-i", filepath.Join(dir, "RPMS/noarch/one-1-1.noarch.rpm"))
	b, err := os.ReadFile(filepath.Join(db, file))
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// FuzzNDB reads what is no database.
func FuzzNDB(f *testing.F) {
	f.Add(small(f, "ndb", "Packages.db"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = Read(context.Background(), func(name string) (File, error) {
			if name != "Packages.db" {
				return nil, fs.ErrNotExist
			}
			return bytes.NewReader(b), nil
		})
	})
}

// Lists are bounded before there is memory for them.
func TestLongLists(t *testing.T) {
	for _, c := range []struct {
		kind kind
		tag  tag
	}{{kindStringArray, tagProvideName}, {kindInt32, tagRequireFlags}} {
		h := &header{index: []entry{{tag: c.tag, kind: c.kind, count: maxCount + 1}}, data: make([]byte, 8*maxCount)}
		_, texts := h.strings(c.tag)
		_, numbers := h.ints(c.tag)
		if texts == nil || numbers == nil {
			t.Errorf("tag %d: %v, %v", c.tag, texts, numbers)
		}
		h.index[0].count--
		_, texts = h.strings(c.tag)
		_, numbers = h.ints(c.tag)
		if (texts == nil) != (c.kind == kindStringArray) || (numbers == nil) != (c.kind == kindInt32) {
			t.Errorf("tag %d: %v, %v", c.tag, texts, numbers)
		}
	}
}

// FuzzHeader reads what is no header.
func FuzzHeader(f *testing.F) {
	b := small(f, "ndb", "Packages.db")
	// The blob begins behind the slots with a header of its own.
	i := bytes.Index(b, []byte("BlbS"))
	f.Add(b[i+ndbBlobSize : len(b)-ndbTailSize])
	f.Fuzz(func(_ *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err != nil {
			return
		}
		p, err := newPackage(h)
		if err != nil || p == nil {
			return
		}
		_ = addFiles(h, p, map[string]bool{"/bin/sh": true})
		packages.Resolve([]*packages.Package{p})
	})
}
