package sbom

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/packages"
	"imgbuild/tree"
)

// filesOf makes a tree of files, and of symbolic links where a content begins with
// "->".
func filesOf(t *testing.T, list map[string]string) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	for name, text := range list {
		i := tree.NewFile(0o644, content.String(text))
		if target, ok := strings.CutPrefix(text, "->"); ok {
			i = tree.NewLink(target)
		}
		if err := tree.Put(root, name, i); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func debPackage(name string) string {
	return "Package: " + name + "\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nMaintainer: x\n\n"
}

func TestReadDeb(t *testing.T) {
	for what, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"dpkg":             {map[string]string{"var/lib/dpkg/status": debPackage("b") + debPackage("a")}, "a b"},
		"moved":            {map[string]string{"usr/lib/sysimage/dpkg/status": debPackage("a"), "var/lib/dpkg": "->/usr/lib/sysimage/dpkg"}, "a"},
		"without dpkg":     {map[string]string{"var/lib/dpkg/status.d/a": "Package: a\nVersion: 1\n", "var/lib/dpkg/status.d/a.md5sums": "x y\n"}, "a"},
		"apk":              {map[string]string{"usr/lib/apk/db/installed": "P:a\nV:1\n\n", "lib": "->usr/lib"}, "a"},
		"pacman":           {map[string]string{"usr/lib/sysimage/pacman/local/a-1/desc": "%NAME%\na\n", "usr/lib/sysimage/pacman/local/ALPM_DB_VERSION": "9\n", "var/lib/pacman": "->../../usr/lib/sysimage/pacman"}, "a"},
		"two":              {map[string]string{"lib/apk/db/installed": "P:b\n", "var/lib/dpkg/status": debPackage("a")}, "a b"},
		"no desc":          {map[string]string{"var/lib/pacman/local/a-1/files": ""}, "packages of pacman: var/lib/pacman/local/a-1: no file desc"},
		"rpm":              {map[string]string{"usr/share/rpm/rpmdb.sqlite": "nonsense", "var/lib/rpm": "->../../usr/share/rpm"}, "packages of rpm: usr/share/rpm: rpmdb.sqlite: header"},
		"nothing":          {map[string]string{"etc/x": ""}, ""},
		"link out of it":   {map[string]string{"var/lib/dpkg": "->../../../../nonexistent"}, ""},
		"a loop of links":  {map[string]string{"var/lib/dpkg/status": "->status"}, "too many symbolic links"},
		"damaged":          {map[string]string{"var/lib/dpkg/status": "nonsense\n"}, "packages of dpkg: var/lib/dpkg/status: line 1: no field"},
		"not UTF-8 at all": {map[string]string{"var/lib/dpkg/status": debPackage("a\xff")}, "a\ufffd"},
		"a hostile name":   {map[string]string{"var/lib/dpkg/status": debPackage("../../etc"), "usr/share/doc/x": ""}, "../../etc"},
	} {
		inv, err := Read(context.Background(), filesOf(t, c.files), map[string]string{"ID": "x"})
		got := ""
		if err != nil {
			if got = err.Error(); fault.ClassOf(err) != fault.BadImage || !strings.Contains(got, c.want) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		var names []string
		for _, p := range inv.Packages {
			names = append(names, p.Name)
		}
		if got = strings.Join(names, " "); got != c.want || inv.OS.ID != "x" {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

// A database that is not read is refused, not passed over.
func TestReadBerkeley(t *testing.T) {
	_, err := Read(context.Background(), filesOf(t, map[string]string{"var/lib/rpm/Packages": "x"}), nil)
	if fault.ClassOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "packages of rpm: var/lib/rpm: Packages: is a database of Berkeley DB") || fault.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
}

func TestLicenseOfDeb(t *testing.T) {
	root := filesOf(t, map[string]string{
		"var/lib/dpkg/status":       debPackage("a") + debPackage("b"),
		"usr/share/doc/a/copyright": "Format: x\nLicense: Expat\n",
		"usr/share/doc/b":           "->a",
	})
	inv, err := Read(context.Background(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range inv.Packages {
		if p.License != "MIT" {
			t.Errorf("%s: licence %q", p.Name, p.License)
		}
	}
}

// A database is as large as all files that it is read from, also where links make
// them one.
func TestSizeOfDatabase(t *testing.T) {
	root := filesOf(t, map[string]string{"var/lib/dpkg/status.d/a": "->x", "var/lib/dpkg/status.d/b": "->x"})
	const size = packages.MaxDatabase/2 + 1
	if err := tree.Put(root, "var/lib/dpkg/status.d/x", tree.NewFile(0o644, content.NewRef(strings.NewReader("Package: a\n\n"), 0, size))); err != nil {
		t.Fatal(err)
	}
	f := &files{root: root}
	if _, err := f.open("var/lib/dpkg/status.d/a"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.open("var/lib/dpkg/status.d/b"); err == nil || !strings.Contains(err.Error(), "with all before") {
		t.Errorf("%v", err)
	}
}

// What nobody can have installed is refused in time, and before memory is gone.
func TestTooManyDependencies(t *testing.T) {
	var b strings.Builder
	for i := range 4000 {
		b.WriteString("Package: p" + strconv.Itoa(i) + "\nProvides: x\nDepends: x\n\n")
	}
	_, err := Read(context.Background(), filesOf(t, map[string]string{"var/lib/dpkg/status": b.String()}), nil)
	if !errors.Is(err, packages.ErrTooMany) || fault.ClassOf(err) != fault.BadImage {
		t.Errorf("%v", err)
	}
}

func TestReadCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Read(ctx, filesOf(t, map[string]string{"var/lib/dpkg/status": debPackage("a")}), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestParseFormat(t *testing.T) {
	for _, name := range []string{"spdx", "cyclonedx"} {
		if f, err := ParseFormat(name); err != nil || string(f) != name || !slices.Contains([]string{".spdx.json", ".cdx.json"}, f.Extension()) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if _, err := ParseFormat("pdf"); fault.ClassOf(err) != fault.Usage {
		t.Errorf("%v", err)
	}
}
