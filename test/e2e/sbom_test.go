package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
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

// attachSBOM adds an artifact to a layout that refers to its image.
func attachSBOM(t *testing.T, layout, mediaType, text string) {
	t.Helper()
	index := filepath.Join(layout, "index.json")
	var doc map[string]any
	raw, err := os.ReadFile(index)
	if err == nil {
		err = json.Unmarshal(raw, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	put := func(mediaType string, b []byte) map[string]any {
		name := fmt.Sprintf("%x", sha256.Sum256(b))
		if err := os.WriteFile(filepath.Join(layout, "blobs/sha256", name), b, 0o666); err != nil {
			t.Fatal(err)
		}
		return map[string]any{"mediaType": mediaType, "digest": "sha256:" + name, "size": len(b)}
	}
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	list := doc["manifests"].([]any)
	artifact, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifest, "artifactType": mediaType, "subject": list[0],
		"config": put("application/vnd.oci.empty.v1+json", []byte("{}")), "layers": []any{put(mediaType, []byte(text))},
	})
	if err != nil {
		t.Fatal(err)
	}
	doc["manifests"] = append(list, put(manifest, artifact))
	if raw, err = json.Marshal(doc); err == nil {
		err = os.WriteFile(index, raw, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// SBOMs that are attached to the image are stored as they are. They are no part of
// what a rebuild has to have: something else may be attached by then.
func TestSBOMAttached(t *testing.T) {
	image := strings.TrimPrefix(writeImage(t, image.New()), "oci:")
	attachSBOM(t, image, "application/vnd.cyclonedx+json", `{"bomFormat":"CycloneDX"}`)
	dir, _ := build(t, "--target-arch", "amd64", "--no-cache", "--size", "min", "--sbom", "attached", "--record", "oci:"+image+":latest")
	found, err := filepath.Glob(filepath.Join(dir, "sbom-qcow2.attached-*.cdx.json"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v: %v", files(t, dir), err)
	}
	if text, err := os.ReadFile(found[0]); err != nil || string(text) != `{"bomFormat":"CycloneDX"}` {
		t.Errorf("%s: %v", text, err)
	}
	record := filepath.Join(dir, "record-qcow2.intoto.json")
	if b := readStatement(t, record).Predicate.RunDetails.Byproducts; len(b) != 2 || !strings.HasPrefix(b[1].Annotations["attached-to"], "sha256:") {
		t.Errorf("%+v", b)
	}
	attachSBOM(t, image, "application/spdx+json", "{}")
	if r := verify(t, "--record", record, "--rebuild", "--no-cache"); r.code != 0 {
		t.Errorf("exit %d\n%s", r.code, r.stderr)
	}
	_, r := build(t, "--target-arch", "amd64", "--no-cache", "--size", "min", "--sbom", "attached", writeImage(t, withPackages()))
	if !strings.Contains(r.stderr, "warning: no SBOM is attached to the image") {
		t.Error(r.stderr)
	}
}

// A database that RPM wrote is read from an image, through the links that images
// have.
func TestSBOMOfRPM(t *testing.T) {
	dir := t.TempDir()
	rpm := func(program string, args ...string) {
		t.Helper()
		cmd := command(t)
		cmd.Path, cmd.Args = tool(t, program, "rpm"), append([]string{program}, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir)
		if r := run(t, cmd); r.code != 0 {
			t.Fatalf("%s: exit %d\n%s", program, r.code, r.stderr)
		}
	}
	spec := "Name: one\nEpoch: 3\nVersion: 1.0\nRelease: 2.el10\nSummary: A package\nLicense: GPL-2.0-or-later\nVendor: Example\nBuildArch: noarch\n%description\nx\n%files\n"
	rpm("rpmbuild", "-bb", "--quiet", "--define", "_topdir "+dir, "--define", "_dbpath "+dir+"/none", "--define", "__os_install_post %{nil}", writeFile(t, "one.spec", spec))
	rpm("rpm", "--dbpath", dir+"/db", "--define", "_db_backend sqlite", "--justdb", "--nodeps", "--ignorearch", "--ignoreos", "-i", "RPMS/noarch/one-1.0-2.el10.noarch.rpm")
	s := image.New()
	s.Link(0, "usr/lib/sysimage/rpm", "../../share/rpm")
	for _, path := range files(t, dir+"/db") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s.File(0, "usr/share/rpm/"+filepath.Base(path), string(text))
	}
	out, _ := build(t, "--target-arch", "amd64", "--no-cache", "--size", "min", "--sbom", "spdx", writeImage(t, s))
	spdx := filepath.Join(out, "sbom-qcow2.spdx.json")
	text, err := os.ReadFile(spdx)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`pkg:rpm/test/one@1.0-2.el10?arch=noarch&distro=test&epoch=3&upstream=one-1.0-2.el10.src.rpm`, `"licenseDeclared": "GPL-2.0-or-later"`, `"Organization: Example"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("lacks %s:\n%s", want, text)
		}
	}
	checkSPDX(t, spdx)
}
