package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"imgbuild/initramfs"
	"imgbuild/test/image"
)

// TestNetboot builds the directory that the installer starts from over a network,
// and finds the medium in it.
func TestNetboot(t *testing.T) {
	layout := sample(t)
	dir := t.TempDir()
	build := func() {
		t.Helper()
		r := run(t, command(t, "--type", "pxe", "--no-cache", "--output", dir, "--iso-unattended", "--iso-target", "smallest", "oci:"+layout))
		if r.code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	build()
	script, err := os.ReadFile(filepath.Join(dir, "pxe/boot.ipxe"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"#!ipxe\n", "kernel vmlinuz initrd=initrd.img initrd=medium.cpio quiet loglevel=3 ${more}", "initrd --name medium.cpio medium.cpio", "choose --default screen --timeout 5000 target", "console=ttyS0,115200"} {
		if !strings.Contains(string(script), want) {
			t.Errorf("the script lacks %q:\n%s", want, script)
		}
	}
	_, kernel, err := image.ReadFile(layout, "usr/lib/modules/*/vmlinuz")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "pxe/vmlinuz")); err != nil || !bytes.Equal(b, kernel) {
		t.Errorf("the kernel is another one: %v", err)
	}
	// The two archives are unpacked over each other: the first knows the second by
	// its description.
	var digest, described string
	blobs := 0
	for _, name := range []string{"initrd.img", "medium.cpio"} {
		f, err := os.Open(filepath.Join(dir, "pxe", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		err = initramfs.Walk(f, func(e initramfs.Entry, content io.Reader) error {
			h := sha256.New()
			switch {
			case e.Name == "imgbuild/medium":
				b, err := io.ReadAll(content)
				digest = strings.TrimSpace(string(b))
				return err
			case strings.HasPrefix(e.Name, "medium/container/blobs/sha256/") && e.Mode&0o100000 != 0:
				if _, err := io.Copy(h, content); err != nil {
					return err
				}
				if got := hex.EncodeToString(h.Sum(nil)); got != filepath.Base(e.Name) {
					return fmt.Errorf("%s has the digest %s", e.Name, got)
				}
				blobs++
			case e.Name == "medium/imgbuild/install.json":
				if _, err := io.Copy(h, content); err != nil {
					return err
				}
				described = hex.EncodeToString(h.Sum(nil))
			case strings.HasPrefix(e.Name, "medium/images/pxeboot/") || strings.HasPrefix(e.Name, "medium/EFI"):
				return fmt.Errorf("%s is on it", e.Name)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if digest == "" || digest != described || blobs < 3 {
		t.Errorf("the initramfs is of the medium %q, and that is %q; %d blobs", digest, described, blobs)
	}

	// Again over what is there, with the same bytes; what is something else stays.
	old := sum(t, filepath.Join(dir, "pxe/medium.cpio"))
	build()
	if sum(t, filepath.Join(dir, "pxe/medium.cpio")) != old {
		t.Error("two builds differ")
	}
	// Nor does a file of somebody's own go with them.
	mine := filepath.Join(dir, "pxe/mine.ipxe")
	if err := os.WriteFile(mine, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := run(t, command(t, "--type", "pxe", "--no-cache", "--output", dir, "oci:"+layout)); r.code != 8 || !strings.Contains(r.stderr, "exists and is no directory of type pxe alone") {
		t.Errorf("over a file of one's own: %+v", r)
	}
	if _, err := os.Stat(mine); err != nil || sum(t, filepath.Join(dir, "pxe/medium.cpio")) != old {
		t.Errorf("what was there is another one: %v", err)
	}
	other := t.TempDir()
	if err := os.MkdirAll(filepath.Join(other, "pxe/mine"), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := run(t, command(t, "--type", "pxe", "--no-cache", "--output", other, "oci:"+layout)); r.code != 8 || !strings.Contains(r.stderr, "exists and is no directory of type pxe") {
		t.Errorf("over another directory: %+v", r)
	}
}

// withoutComposefs has an image start from a root file system that is no disk's.
func withoutComposefs() image.File {
	return image.File{Name: "usr/lib/ostree/prepare-root.conf", Mode: 0o644, Data: []byte("[composefs]\nenabled = no\n[sysroot]\nreadonly = true\n")}
}

// TestNetbootTar builds image-builder's archive and looks at all of it.
func TestNetbootTar(t *testing.T) {
	layout := liveSample(t, withoutComposefs())
	dir := t.TempDir()
	r := run(t, command(t, "--type", "pxe-tar-xz", "--no-cache", "--output", dir, "--karg", "extra=1", "oci:"+layout))
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	archive := filepath.Join(dir, "xz/pxe.tar.xz")
	out := t.TempDir()
	list := check(t, "tar", "tar", "-C", out, "-xJvf", archive)
	for _, want := range []string{"EFI/BOOT/BOOTX64.EFI", "README", "grub.cfg", "initrd.img", "rootfs.img", "vmlinuz"} {
		if !strings.Contains(list, want+"\n") {
			t.Errorf("the archive lacks %s:\n%s", want, list)
		}
	}
	menu, err := os.ReadFile(filepath.Join(out, "grub.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`linux /vmlinuz root=live:http://HTTP-SERVER/rootfs.img rd.live.image .*extra=1.* ostree=/(\S+)\n`).FindStringSubmatch(string(menu))
	if m == nil || strings.Contains(string(menu), "root=UUID") {
		t.Fatalf("the menu:\n%s", menu)
	}
	squash := filepath.Join(out, "rootfs.img")
	tree, err := exec.Command(tool(t, "unsquashfs", "squashfs-tools"), "-lln", squash).Output()
	if err != nil {
		t.Fatal(err)
	}
	if link := strings.Replace(m[1], "/boot.1/", "/boot.1.1/", 1); !strings.Contains(string(tree), "squashfs-root/"+link+" -> ") || !strings.Contains(string(tree), "squashfs-root/proc\n") || !strings.Contains(string(tree), "squashfs-root/usr\n") {
		t.Errorf("the root file system has no %s, proc or usr", m[1])
	}
	deployment := regexp.MustCompile(`squashfs-root/(ostree/deploy/\S+)/etc/os-release`).FindStringSubmatch(string(tree))
	if deployment == nil {
		t.Fatal("there is no deployment")
	}
	fstab, err := exec.Command(tool(t, "unsquashfs", "squashfs-tools"), "-cat", squash, deployment[1]+"/etc/fstab").Output()
	if err == nil && strings.Contains(string(fstab), "UUID=") {
		t.Errorf("the system mounts a disk:\n%s", fstab)
	}
}

func TestNetbootRefused(t *testing.T) {
	for _, c := range []struct {
		layout string
		args   []string
		code   int
		want   []string
	}{
		{sample(t), nil, 5, []string{"dracut's dmsquash-live, livenet, without", "--add \"ostree dmsquash-live livenet\""}},
		{liveSample(t), nil, 5, []string{"composefs", "hint: set enabled = no"}},
		{sample(t), []string{"--root-size", "5GiB"}, 2, []string{"a live system has no disk"}},
		{sample(t), []string{"--type", "pxe", "--config", write(t, "c.toml", "customizations.iso.publisher = 'x'\n")}, 9, []string{"customizations.iso: what machines start from over a network is no ISO"}},
	} {
		r := run(t, command(t, append(append([]string{"--type", "pxe-tar-xz", "--no-cache", "--output", t.TempDir()}, c.args...), "oci:"+c.layout)...))
		if r.code != c.code {
			t.Errorf("%q: exit %d, want %d: %s", c.args, r.code, c.code, r.stderr)
		}
		for _, want := range c.want {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%q: %q is not in %s", c.args, want, r.stderr)
			}
		}
	}
}
