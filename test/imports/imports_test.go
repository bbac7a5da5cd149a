// Package imports holds the project to its map of packages
// (docs/architecture.md): imports go down the map only, and what makes a build
// depend on its surroundings is imported by no package below the command.
package imports

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "imgbuild"

// ranks lists the packages from top to bottom. A package may import those of
// later lines only.
func ranks() []string {
	return []string{
		"cmd/imgbuild",
		"installer",
		"installer/scripts",
		"pipeline",
		"installer/remaster",
		"attest",
		"kickstart",
		"sbom",
		"sbom/cyclonedx sbom/spdx",
		"packages/alpm packages/apk packages/deb packages/rpm",
		"packages/sqlite",
		"packages",
		"survey",
		"layouts",
		"upload/aws blockdev",
		"blueprints",
		"formats/diskfile",
		"formats/ova formats/gce formats/bmap formats/containerdisk",
		"formats/raw formats/qcow2 formats/vmdk formats/vhd formats/vhdx formats/vdi formats/compressed formats/iso",
		"formats/pieces",
		"formats/output formats/input",
		"bootc ostree composefs",
		"bootloader",
		"bootloader/bootupd",
		"bootloader/grub",
		"bootloader/bls bootloader/efivars",
		"initramfs kmod",
		"customize/accounts",
		"customize/crypt",
		"customize/firstboot",
		"customize/certs customize/clock customize/console customize/dnf customize/files customize/fips customize/firewalld customize/hostname customize/ignition customize/locale customize/sshd customize/units",
		"customize/fetch",
		"customize",
		"selinux",
		"partition",
		"filesystem/btrfs filesystem/ext4 filesystem/fat filesystem/squashfs filesystem/swap filesystem/xfs",
		"filesystem",
		"disk",
		"installer/medium",
		"oci",
		"oci/internal/registries oci/internal/storage oci/internal/tar",
		"trust",
		"tree",
		"fsverity",
		"content",
		"installer/settings",
		"document",
		"toml xz",
		"fault ordered",
	}
}

// forbidden are imports that no package outside test/ may have, and why.
func forbidden() map[string]string {
	return map[string]string{
		"os/exec":       "imgbuild runs no program",
		"math/rand":     "a build is a function of its input",
		"math/rand/v2":  "a build is a function of its input",
		"crypto/rand":   "a build is a function of its input",
		"text/template": "it triples the program: the linker keeps all methods for it",
		"html/template": "it triples the program: the linker keeps all methods for it",
	}
}

func TestImportsGoDown(t *testing.T) {
	rank := map[string]int{}
	for i, line := range ranks() {
		for _, p := range strings.Fields(line) {
			rank[p] = i
		}
	}
	seen := map[string]bool{}
	eachFile(t, func(pkg, path string, file *ast.File) {
		from, ok := rank[pkg]
		if !ok {
			t.Errorf("%s: package %s has no place in the map", path, pkg)
			return
		}
		seen[pkg] = true
		for _, imp := range file.Imports {
			name, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if why, bad := forbidden()[name]; bad {
				t.Errorf("%s imports %s: %s", path, name, why)
			}
			own, ok := strings.CutPrefix(name, module+"/")
			if !ok {
				continue
			}
			if to, known := rank[own]; !known || to <= from {
				t.Errorf("%s: %s imports %s, which is not below it", path, pkg, own)
			}
		}
	})
	for p := range rank {
		if !seen[p] {
			t.Errorf("the map names %s, which does not exist", p)
		}
	}
}

// No init functions, and a clock only where it cannot reach an artefact: in the
// display of progress, in the time-outs and the cache of oci, and where the installer
// waits for devices.
func TestNoHiddenInput(t *testing.T) {
	clock := []string{"cmd/imgbuild", "oci", "installer"}
	eachFile(t, func(pkg, path string, file *ast.File) {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function", path)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && s.Sel.Name == "Now" && !slices.Contains(clock, pkg) {
				t.Errorf("%s reads the clock", path)
			}
			return true
		})
	})
}

// eachFile calls fn for every source file outside test/ that is no test.
func eachFile(t *testing.T, fn func(pkg, path string, file *ast.File)) {
	t.Helper()
	root := "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel == "test" || rel == "formats/output/disktest" || rel == "vendor" || rel != "." && strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), rel, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		fn(filepath.ToSlash(filepath.Dir(rel)), rel, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
