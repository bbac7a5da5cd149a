package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/test/image"
)

// withPackages is an image with a database of dpkg.
func withPackages() *image.Spec {
	s := image.New()
	status := ""
	for _, p := range []string{"one\nDepends: two (>= 1) | three", "two\nSource: both (2.0)"} {
		status += "Package: " + p + "\nStatus: install ok installed\nVersion: 1:1.0-1\nArchitecture: amd64\nMaintainer: A Person <a@example.com>\nDescription: a package\n\n"
	}
	s.File(0, "usr/lib/sysimage/dpkg/status", status)
	s.Link(0, "var/lib/dpkg", "../../usr/lib/sysimage/dpkg")
	return s
}

// SBOMs are written beside the results, and are part of the record.
func TestSBOM(t *testing.T) {
	layout := writeImage(t, withPackages())
	args := []string{"--target-arch", "amd64", "--no-cache", "--size", "min", "--sbom", "spdx", "--sbom", "cyclonedx", "--record", "--format", "json", layout}
	build := func(epoch string) (dir string, r result) {
		dir = t.TempDir()
		cmd := command(t, append([]string{"--output", dir}, args...)...)
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+epoch)
		return dir, run(t, cmd)
	}
	dir, r := build("1700000000")
	if r.code != 0 {
		t.Fatalf("exit %d\n%s", r.code, r.stderr)
	}
	var out struct {
		Record string
		SBOMs  []string
	}
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil || len(out.SBOMs) != 2 || out.Record != filepath.Join(dir, "record-qcow2.intoto.json") {
		t.Errorf("%s: %v", r.stdout, err)
	}
	spdx, cdx := filepath.Join(dir, "sbom-qcow2.spdx.json"), filepath.Join(dir, "sbom-qcow2.cdx.json")
	for path, want := range map[string][]string{
		spdx: {`"created": "2023-11-14T22:13:20Z"`, `pkg:deb/test/two@1:1.0-1?arch=amd64&distro=test&upstream=both%402.0`, `"DEPENDS_ON"`, `"Organization: A Person (a@example.com)"`},
		cdx:  {`"timestamp": "2023-11-14T22:13:20Z"`, `"purl": "pkg:deb/test/one@1:1.0-1?arch=amd64&distro=test"`, `"specVersion": "1.6"`},
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s lacks %s:\n%s", path, w, text)
			}
		}
	}
	checkSPDX(t, spdx)
	if r := verify(t, "--record", out.Record, spdx, cdx); r.code != 0 {
		t.Errorf("verify: exit %d\n%s", r.code, r.stderr)
	}
	if r := verify(t, "--record", out.Record, "--rebuild", "--no-cache"); r.code != 0 {
		t.Errorf("rebuild: exit %d\n%s", r.code, r.stderr)
	}
	// Time is an input: without one it is the image's.
	again, _ := build("")
	if sum(t, filepath.Join(again, "qcow2/disk.qcow2")) != sum(t, filepath.Join(dir, "qcow2/disk.qcow2")) {
		t.Error("the time of the SBOM is in the disk")
	}
	if _, r := build("yesterday"); r.code != 2 || !strings.Contains(r.stderr, "SOURCE_DATE_EPOCH") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// checkSPDX has the tools of the SPDX project validate a document.
func checkSPDX(t *testing.T, path string) {
	t.Helper()
	dir := need(t, "IMGBUILD_SPDX", "../../.cache/spdx", "make tools")
	python := "/usr/bin/python3" // that pip installed for
	if _, err := os.Stat(python); err != nil {
		python = tool(t, "python3", "python3")
	}
	cmd := command(t)
	cmd.Path, cmd.Args = python, []string{"python3", "-m", "spdx_tools.spdx.clitools.pyspdxtools", "-i", path}
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1")
	if r := run(t, cmd); r.code != 0 {
		t.Errorf("pyspdxtools: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// An image without a database is told about, a damaged one is refused before
// anything is written.
func TestSBOMFails(t *testing.T) {
	dir := t.TempDir()
	r := run(t, command(t, "--output", dir, "--target-arch", "amd64", "--no-cache", "--size", "min", "--sbom", "spdx", writeImage(t, image.New())))
	if r.code != 0 || !strings.Contains(r.stderr, "warning: the image has no package database") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	s := image.New()
	s.File(0, "var/lib/dpkg/status", "nonsense\n")
	layout := writeImage(t, s)
	for want, args := range map[string][]string{
		"packages of dpkg: var/lib/dpkg/status: line 1: no field": {"--sbom", "spdx"},
		`--sbom "pdf": unknown`:                                   {"--sbom", "pdf"},
		"--sign-key /dev/null/x: ":                                {"--record", "--sign-key", "/dev/null/x"},
		"there is no key that it could":                           {"--sign-password-file", "x"},
	} {
		dir := filepath.Join(t.TempDir(), "out")
		r := run(t, command(t, append([]string{"--output", dir, "--target-arch", "amd64", "--no-cache", layout}, args...)...))
		if (r.code != 5 && r.code != 2) || !strings.Contains(r.stderr, want) {
			t.Errorf("%v: exit %d: %s", args, r.code, r.stderr)
		}
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("%v: left behind: %v", args, left)
		}
	}
}
