package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"imgbuild/test/image"
)

// pulled copies a container image with skopeo, unpacks its layer and returns the
// path of the disk.
func pulled(t *testing.T, from string, args ...string) string {
	t.Helper()
	dir, disk := t.TempDir(), t.TempDir()
	check(t, "skopeo", "skopeo", append(append([]string{"copy", "--insecure-policy"}, args...), from, "dir:"+dir)...)
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Layers []struct{ Digest string } }
	if err := json.Unmarshal(text, &manifest); err != nil || len(manifest.Layers) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	// Not the directory, which nobody may write to: it could not be removed.
	check(t, "tar", "tar", "-C", disk, "-xf", filepath.Join(dir, strings.TrimPrefix(manifest.Layers[0].Digest, "sha256:")), "disk/disk.qcow2")
	return filepath.Join(disk, "disk/disk.qcow2")
}

// smallImage returns the layout of an image that is built in a moment.
func smallImage(t *testing.T) string {
	t.Helper()
	layout := filepath.Join(t.TempDir(), "image")
	if err := image.New().Write(layout); err != nil {
		t.Fatal(err)
	}
	return "oci:" + layout
}

// A container disk holds the disk of type qcow2, wherever it goes.
func TestContainerDisk(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	from := smallImage(t)
	dir, r := build(t, "--type", "containerdisk", "--type", "qcow2", "--type", "raw", "--size", "min", "--no-cache", "--target-arch", "amd64", "--push", host+"/vm:1", from)
	archive := filepath.Join(dir, "containerdisk/image.tar")
	if first, _, _ := strings.Cut(r.stdout, "\n"); first != archive {
		t.Errorf("stdout %q", r.stdout)
	}
	want := sum(t, filepath.Join(dir, "qcow2/disk.qcow2"))
	check(t, "qemu-img", "qemu-utils", "compare", filepath.Join(dir, "image/disk.raw"), pulled(t, "oci-archive:"+archive))
	for name, disk := range map[string]string{"archive": pulled(t, "oci-archive:"+archive), "registry": pulled(t, "docker://"+host+"/vm:1", "--src-tls-verify=false")} {
		if sum(t, disk) != want {
			t.Errorf("%s: another disk", name)
		}
	}
	digest := strings.TrimSpace(check(t, "skopeo", "skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+host+"/vm:1"))
	if !strings.Contains(r.stderr, "Pushed "+host+"/vm:1@"+digest+"\n") {
		t.Errorf("stderr does not name %s:\n%s", digest, r.stderr)
	}

	// The same as a directory, which replaces an older one, twice.
	layout := t.TempDir()
	for range 2 {
		r := run(t, command(t, "--output", layout, "--type", "containerdisk", "--containerdisk-format", "layout", "--size", "min", "--no-cache", "--target-arch", "amd64", "--push", host+"/vm:2", from))
		if r.code != 0 || r.stdout != filepath.Join(layout, "containerdisk/image")+"\n" {
			t.Fatalf("exit %d, stdout %q, %s", r.code, r.stdout, r.stderr)
		}
		if list, err := os.ReadDir(filepath.Join(layout, "containerdisk")); err != nil || len(list) != 1 {
			t.Errorf("beside the layout: %v, %v", list, err)
		}
	}
	path := "oci:" + filepath.Join(layout, "containerdisk/image")
	if sum(t, pulled(t, path)) != want {
		t.Error("layout: another disk")
	}
	for _, ref := range []string{path, "oci-archive:" + archive} {
		if got := strings.TrimSpace(check(t, "skopeo", "skopeo", "inspect", "--format", "{{.Digest}} {{.Architecture}}", ref)); got != digest+" amd64" {
			t.Errorf("%s is %s, want %s", ref, got, digest)
		}
	}
}

// What cannot be pushed is refused before anything is built, and a push that
// fails leaves the complete file.
func TestContainerDiskFails(t *testing.T) {
	from := smallImage(t)
	refuse := func(path string) *httptest.Server {
		inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet && r.Method != http.MethodHead && strings.Contains(r.URL.Path, path) {
				http.Error(w, `{"errors":[{"code":"DENIED","message":"no"}]}`, http.StatusForbidden)
				return
			}
			inner.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		return s
	}
	host := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	gone := refuse("")
	gone.Close()
	for name, tc := range map[string]struct {
		args []string
		code int
	}{
		"denied":             {[]string{"--type", "containerdisk", "--push", host(refuse("")) + "/vm"}, 4},
		"no registry there":  {[]string{"--type", "containerdisk", "--push", host(gone) + "/vm"}, 3},
		"no registry":        {[]string{"--type", "containerdisk", "--push", "oci:dir"}, 2},
		"a digest":           {[]string{"--type", "containerdisk", "--push", "registry.example.com/vm@sha256:" + strings.Repeat("0", 64)}, 2},
		"no name":            {[]string{"--type", "containerdisk", "--push", "Not A Name"}, 2},
		"not asked for":      {[]string{"--type", "raw", "--push", "registry.example.com/vm"}, 2},
		"format":             {[]string{"--type", "containerdisk", "--containerdisk-format", "docker"}, 2},
		"format of nothing":  {[]string{"--type", "raw", "--containerdisk-format", "layout"}, 2},
		"cpus of nothing":    {[]string{"--type", "raw", "--ova-cpus", "4"}, 2},
		"no cpus":            {[]string{"--type", "ova", "--ova-cpus", "0"}, 2},
		"memory":             {[]string{"--type", "ova", "--ova-memory", "4.5MB"}, 2},
		"firmware":           {[]string{"--type", "ova", "--ova-firmware", "uefi"}, 2},
		"Secure Boot, BIOS":  {[]string{"--type", "ova", "--ova-firmware", "bios", "--ova-secure-boot"}, 2},
		"hardware":           {[]string{"--type", "ova", "--ova-hardware-version", "5"}, 2},
		"name of a machine ": {[]string{"--type", "ova", "--ova-name", "../x"}, 2},
	} {
		dir := t.TempDir()
		r := run(t, command(t, append(append([]string{"--output", dir, "--no-cache", "--target-arch", "amd64"}, tc.args...), from)...))
		failed(t, name, r, tc.code, dir)
	}

	dir := t.TempDir()
	r := run(t, command(t, "--output", dir, "--no-cache", "--target-arch", "amd64", "--type", "containerdisk", "--push", host(refuse("/manifests/"))+"/vm", from))
	failed(t, "manifest refused", r, 4, "")
	pulled(t, "oci-archive:"+filepath.Join(dir, "containerdisk/image.tar"))

	// Nothing but a layout is replaced.
	dir = t.TempDir()
	mine := filepath.Join(dir, "containerdisk/image/mine")
	if err := os.MkdirAll(filepath.Dir(mine), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mine, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	r = run(t, command(t, "--output", dir, "--no-cache", "--type", "containerdisk", "--containerdisk-format", "layout", "--target-arch", "amd64", from))
	failed(t, "another directory", r, 8, "")
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}

// A push that is interrupted leaves the complete file, and says so.
func TestContainerDiskInterrupted(t *testing.T) {
	raw := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(raw, bytes.Repeat([]byte("text"), 1<<18), 0o666); err != nil {
		t.Fatal(err)
	}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	dir := t.TempDir()
	var cmd *exec.Cmd
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") && r.Method == http.MethodPut {
			// Only who has read the request is told that the other end is gone.
			_, _ = io.Copy(io.Discard, r.Body)
			_ = cmd.Process.Signal(syscall.SIGINT)
			<-r.Context().Done()
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer server.Close()
	cmd = command(t, "convert", "--output", dir, "--type", "containerdisk", "--push", strings.TrimPrefix(server.URL, "http://")+"/vm", raw)
	r := run(t, cmd)
	failed(t, "interrupted", r, 130, "")
	archive := filepath.Join(dir, "containerdisk/image.tar")
	if strings.Contains(r.stderr, "nothing was written") || !strings.Contains(r.stderr, archive+" is complete") {
		t.Errorf("not what is there: %s", r.stderr)
	}
	pulled(t, "oci-archive:"+archive)
}

// The machine of an appliance is what the flags ask for.
func TestOVAMachine(t *testing.T) {
	dir, _ := build(t, "--type", "ova", "--size", "min", "--no-cache", "--target-arch", "amd64",
		"--ova-name", "web-1", "--ova-cpus", "8", "--ova-memory", "16 GiB", "--ova-secure-boot", "--ova-hardware-version", "21", smallImage(t))
	ovf := check(t, "tar", "tar", "-xOf", filepath.Join(dir, "archive/image.ova"), "web-1.ovf")
	for _, want := range []string{
		"<Name>web-1</Name>", "vmx-21<", "<rasd:VirtualQuantity>8<", "<rasd:VirtualQuantity>16384<",
		`vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"`, `vmw:key="firmware" vmw:value="efi"`,
	} {
		if !strings.Contains(ovf, want) {
			t.Errorf("no %s in\n%s", want, ovf)
		}
	}
}
