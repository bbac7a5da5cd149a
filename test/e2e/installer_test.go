package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/formats/iso"
	"imgbuild/initramfs"
	"imgbuild/installer/medium"
	"imgbuild/test/image"
)

// openMedium opens a medium by our reader; iso's own tests compare that with others.
func openMedium(t *testing.T, name string) *iso.Image {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := iso.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func readMedium(t *testing.T, im *iso.Image, name string) []byte {
	t.Helper()
	b, err := im.ReadFile(name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A medium has the image's kernel and blobs as they are, an initramfs with the
// program, and a description that says all that the build was asked for, but for
// passwords. Disks come from the same run.
func TestInstallerMedium(t *testing.T) {
	dir := t.TempDir()
	local := filepath.Join(dir, "motd")
	if err := os.WriteFile(local, []byte("hello\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.toml")
	const password = "a password that nobody reads"
	if err := os.WriteFile(config, []byte(`[[customizations.user]]
name = "alice"
password = "`+password+`"
[[customizations.files]]
path = "/etc/motd"
uri = "file://`+local+`"
[customizations.installer]
unattended = true
wipe = true
[customizations.iso]
volume_id = "MY-MEDIUM"
`), 0o644); err != nil {
		t.Fatal(err)
	}
	out, r := build(t, "--type", "iso", "--type", "raw", "--size", "4GiB", "--config", config, "--karg", "a=b", "--iso-target", "serial=X",
		"--target-imgref", "registry.example.com/os:1", "--no-cache", "oci:"+sample(t))
	for _, name := range []string{"bootiso/install.iso", "image/disk.raw"} {
		if !strings.Contains(r.stdout, name) {
			t.Errorf("%s is not among the results:\n%s", name, r.stdout)
		}
	}
	file := filepath.Join(out, "bootiso/install.iso")
	im := openMedium(t, file)
	d, err := medium.Decode(readMedium(t, im, medium.Path))
	if err != nil {
		t.Fatal(err)
	}
	if d.VolumeID != "MY-MEDIUM" || d.Build.Target != "registry.example.com/os:1" || strings.Join(d.Build.Kargs, " ") != "a=b" || d.MinimumDisk <= 0 || d.Arch != "amd64" {
		t.Errorf("%+v", d)
	}
	if !strings.Contains(string(d.Build.Config), `"$`) || !strings.Contains(string(d.Build.Config), medium.Mount+"/imgbuild/files/0") || strings.Contains(string(d.Build.Config), "unattended") {
		t.Errorf("config:\n%s", d.Build.Config)
	}
	if got := readMedium(t, im, "imgbuild/files/0"); string(got) != "hello\n" {
		t.Errorf("files/0: %q", got)
	}
	report := inspectISO(t, file)
	if s := report.Settings; !s.Unattended || !s.Wipe || s.Target != "serial=X" {
		t.Errorf("settings: %+v", s)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(whole, []byte(password)) {
		t.Error("the password is on the medium")
	}

	_, kernel, err := image.ReadFile(sample(t), "usr/lib/modules/*/vmlinuz")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readMedium(t, im, medium.Kernel), kernel) {
		t.Error("the kernel is another one")
	}
	program, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	err = initramfs.Walk(bytes.NewReader(readMedium(t, im, medium.Initrd)), func(e initramfs.Entry, r io.Reader) error {
		found[path.Base(e.Name)] = true
		b, err := io.ReadAll(r)
		switch {
		case err != nil:
			return err
		case e.Name == "init" && !bytes.Equal(b, program):
			t.Error("init is another program")
		case e.Name == "imgbuild/medium" && strings.TrimSpace(string(b)) != fmt.Sprintf("%x", sha256.Sum256(readMedium(t, im, medium.Path))):
			t.Error("the initramfs is of another medium")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"init", "modules.json", "console", "isofs.ko", "virtio_blk.ko", "ahci.ko", "busybox", "libc.so.6"} {
		if !found[name] {
			t.Errorf("%s is not in the initramfs", name)
		}
	}

	blobs, err := im.Lookup(medium.Payload + "/blobs/sha256")
	if err != nil {
		t.Fatal(err)
	}
	list, err := im.ReadDir(blobs)
	if err != nil {
		t.Fatal(err)
	}
	payload := t.TempDir()
	if err := os.MkdirAll(filepath.Join(payload, "blobs/sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		b, err := f.ReadAll(1 << 30)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != f.Name {
			t.Errorf("blob %s has %s", f.Name, got)
		}
		if err := os.WriteFile(filepath.Join(payload, "blobs/sha256", f.Name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"index.json", "oci-layout"} {
		if err := os.WriteFile(filepath.Join(payload, name), readMedium(t, im, medium.Payload+"/"+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var inspected struct{ Digest string }
	if err := json.Unmarshal([]byte(check(t, "skopeo", "skopeo", "inspect", "oci:"+payload)), &inspected); err != nil {
		t.Fatal(err)
	}
	if inspected.Digest != d.Image.Digest {
		t.Errorf("skopeo finds %s on the medium, which says %s", inspected.Digest, d.Image.Digest)
	}
}

// What would fail on the machine is refused when the medium is made.
func TestInstallerRefused(t *testing.T) {
	name, _, err := image.ReadFile(sample(t), "usr/lib/modules/*/vmlinuz")
	if err != nil {
		t.Fatal(err)
	}
	without := func(hidden ...string) string {
		var list []image.File
		for _, h := range hidden {
			list = append(list, image.File{Name: path.Join(path.Dir(name), path.Dir(h), ".wh."+path.Base(h)), Mode: 0o644})
		}
		dir := t.TempDir()
		if err := image.Derive(sample(t), dir, list); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	arm := need(t, "IMGBUILD_SAMPLE_ARM64", "../../.cache/sample-arm64", "make samples")
	for _, c := range []struct {
		name, image string
		flags       []string
		code        int
		want        string
	}{
		{"no isofs", without("kernel/fs/isofs/isofs.ko.xz"), nil, 6, "has no isofs"},
		{"dynamic program", sample(t), []string{"--installer-program", tool(t, "true", "coreutils")}, 2, "linked dynamically"},
		{"script", sample(t), []string{"--installer-program", script}, 2, "no ELF program"},
		{"no program", sample(t), []string{"--installer-program", "/nowhere"}, 2, "no such file"},
		{"another architecture", arm, []string{"--target-arch", "arm64"}, 6, "--installer-program FILE names an imgbuild"},
		{"program of another", arm, []string{"--target-arch", "arm64", "--installer-program", binary(t)}, 2, "it is for EM_X86_64"},
		{"wipe without a target", sample(t), []string{"--iso-wipe"}, 2, "--iso-unattended"},
		{"no target", sample(t), []string{"--iso-target", "sda"}, 2, "not a disk"},
		{"size of an iso", sample(t), []string{"--size", "20GiB"}, 2, "the disk that an installer writes has its own size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			r := run(t, command(t, append(append([]string{"--type", "iso", "--output", dir, "--no-cache"}, c.flags...), "oci:"+c.image)...))
			if r.code != c.code || !strings.Contains(r.stderr, c.want) {
				t.Errorf("exit %d, want %d and %q\n%s", r.code, c.code, c.want, r.stderr)
			}
			if left := files(t, dir); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
	if r := run(t, command(t, "--type", "raw", "--output", t.TempDir(), "--iso-unattended", "oci:"+sample(t))); r.code != 2 || !strings.Contains(r.stderr, "is about type") {
		t.Errorf("--iso-unattended of a disk: exit %d\n%s", r.code, r.stderr)
	}
}

// An image whose compressed layers nobody has is plain on the medium, under a manifest
// that is right for that.
func TestInstallerOfPlainLayers(t *testing.T) {
	root := filepath.Join(t.TempDir(), "graph")
	t.Cleanup(func() { _ = exec.Command("chmod", "-R", "u+w", root).Run() })
	skopeo(t, "copy", "-q", "oci:"+sample(t), fmt.Sprintf("containers-storage:[vfs@%s+%s:vfs.ignore_chown_errors=true]localhost/os:1", root, t.TempDir()))
	out, _ := build(t, "--type", "iso", "--target-imgref", "registry.example.com/os:1", "--no-cache", "containers-storage:["+root+"]localhost/os:1")
	im := openMedium(t, filepath.Join(out, "bootiso/install.iso"))
	d, err := medium.Decode(readMedium(t, im, medium.Path))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Layers []struct {
			MediaType, Digest string
			Size              int64
		}
	}
	if err := json.Unmarshal(readMedium(t, im, medium.Payload+"/blobs/sha256/"+strings.TrimPrefix(d.Image.Digest, "sha256:")), &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest.Layers) == 0 {
		t.Fatal("no layers")
	}
	for _, l := range manifest.Layers {
		b := readMedium(t, im, medium.Payload+"/blobs/sha256/"+strings.TrimPrefix(l.Digest, "sha256:"))
		if got := fmt.Sprintf("sha256:%x", sha256.Sum256(b)); got != l.Digest || int64(len(b)) != l.Size || !bytes.Equal(b[257:262], []byte("ustar")) {
			t.Errorf("layer %s: %s, %d bytes", l.Digest, got, len(b))
		}
	}
}
