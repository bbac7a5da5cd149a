package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"imgbuild/test/image"
)

// liveSample is the sample image with an initramfs that starts from live media, and
// more files.
func liveSample(t *testing.T, more ...image.File) string {
	t.Helper()
	files, err := image.Live(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := image.Derive(sample(t), dir, append(files, more...)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// isoYAML returns the files of an iso.yaml.
func isoYAML(text string) []image.File {
	return []image.File{
		{Name: "usr/lib/image-builder", Mode: 0o755, Dir: true}, {Name: "usr/lib/image-builder/bootc", Mode: 0o755, Dir: true},
		{Name: "usr/lib/image-builder/bootc/iso.yaml", Mode: 0o644, Data: []byte(text)},
	}
}

// TestLiveISO builds a live medium twice, with users and an iso.yaml, and looks at
// all of it.
func TestLiveISO(t *testing.T) {
	layout := liveSample(t, isoYAML(`label: Live-Sample
kernel_args: ["root=live:CDLABEL=Live-Sample", rd.live.image, console=ttyS0]
grub2:
  timeout: 7
  default: 1
  entries:
    - {name: Plain, linux: "${kernelpath} ${root}", initrd: "${initrdpath}"}
    - {name: Debug, linux: "${kernelpath} ${root} rd.debug=1", initrd: "${initrdpath}"}
`)...)
	config := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(config, []byte(`[[customizations.user]]
name = "alice"
[customizations]
hostname = "live"
[customizations.kernel]
append = "extra=1"
`), 0o644); err != nil {
		t.Fatal(err)
	}
	var images [][]byte
	var iso string
	for _, name := range []string{"live-iso", "bootc-generic-iso"} {
		dir := t.TempDir()
		r := run(t, command(t, "--type", name, "--no-cache", "--output", dir, "--config", config, "--installer-payload-ref", "oci:"+sample(t), "oci:"+layout))
		if r.code != 0 {
			t.Fatalf("%+v", r)
		}
		iso = filepath.Join(dir, "bootiso/install.iso")
		b, err := os.ReadFile(iso)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, b)
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two builds differ")
	}
	menu := fromISO(t, iso, "/boot/grub2/grub.cfg")
	for _, want := range []string{
		"--label 'Live-Sample'", "set timeout=7", "set default='entry1'",
		"linux /images/pxeboot/vmlinuz root=live:CDLABEL=Live-Sample rd.live.image console=ttyS0 extra=1 rd.debug=1 $kargs", "initrd /images/pxeboot/initrd.img",
	} {
		if !strings.Contains(menu, want) {
			t.Errorf("the menu lacks %q:\n%s", want, menu)
		}
	}
	_, initrd, err := image.ReadFile(layout, "usr/lib/modules/*/initramfs.img")
	if err != nil || string(initrd) != fromISO(t, iso, "/images/pxeboot/initrd.img") {
		t.Errorf("the initramfs is another one: %v", err)
	}
	index, err := os.ReadFile(filepath.Join(sample(t), "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	digest := regexp.MustCompile(`sha256:[0-9a-f]{64}`).Find(index)
	if got := fromISO(t, iso, "/container/index.json"); digest == nil || !strings.Contains(got, string(digest)) {
		t.Errorf("the medium has another payload than %s: %s", digest, got)
	}
	squash := filepath.Join(t.TempDir(), "squashfs.img")
	if err := os.WriteFile(squash, []byte(fromISO(t, iso, "/LiveOS/squashfs.img")), 0o644); err != nil {
		t.Fatal(err)
	}
	cat := func(path string) string {
		b, err := exec.Command(tool(t, "unsquashfs", "squashfs-tools"), "-cat", squash, path).Output()
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return string(b)
	}
	if !strings.Contains(cat("etc/passwd"), "alice:") || cat("etc/hostname") != "live\n" {
		t.Error("the customizations are not there")
	}
	list, err := exec.Command(tool(t, "unsquashfs", "squashfs-tools"), "-lln", squash).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"squashfs-root/proc\n", "squashfs-root/etc/os-release", "squashfs-root/var/home/alice\n"} {
		if !strings.Contains(string(list), want) {
			t.Errorf("the live system lacks %s", want)
		}
	}
	for _, not := range []string{"squashfs-root/usr/etc", "squashfs-root/boot/", "squashfs-root/ostree/"} {
		if strings.Contains(string(list), not) {
			t.Errorf("the live system has %s", not)
		}
	}
}

// TestLiveRefused has mistakes around live media.
func TestLiveRefused(t *testing.T) {
	config := func(text string) string {
		name := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	other := liveSample(t, isoYAML("label: A\nkernel_args: [\"root=live:CDLABEL=B\", rd.live.image]\n")...)
	broken := liveSample(t, isoYAML("labels: x\n")...)
	named := liveSample(t, isoYAML("label: a b\n")...)
	plain := sample(t)
	for _, c := range []struct {
		layout string
		args   []string
		code   int
		want   []string
	}{
		{plain, nil, 5, []string{"dmsquash-live", "hint: ", "dracut --force --add"}},
		{broken, nil, 5, []string{"iso.yaml: line 1: field labels not found"}},
		{named, nil, 5, []string{"iso.yaml: label: volume id \"a b\": ' ' is not possible in it", "hint: letters"}},
		{plain, []string{"--config", config("customizations.iso.volume_id = 'a b'\n")}, 9, []string{"customizations.iso.volume_id: volume id \"a b\""}},
		{other, nil, 9, []string{"it looks for a medium called B, and this one is called A"}},
		{plain, []string{"--size", "20GiB"}, 2, []string{"a live system has no disk"}},
		{plain, []string{"--type", "iso"}, 2, []string{"both are bootiso/install.iso"}},
		{plain, []string{"--iso-unattended"}, 2, []string{"--iso-unattended: is about type iso"}},
		{plain, []string{"--config", config("[[customizations.filesystem]]\nmountpoint = \"/\"\nminsize = \"20 GiB\"\n")}, 9, []string{"a live system has no partitions"}},
		{plain, []string{"--config", config("[customizations.installer]\nunattended = true\n")}, 6, []string{"a live system installs nothing"}},
	} {
		dir := t.TempDir()
		r := run(t, command(t, append(append([]string{"--type", "live-iso", "--no-cache", "--output", dir}, c.args...), "oci:"+c.layout)...))
		if r.code != c.code {
			t.Errorf("%q: exit %d, want %d: %s", c.args, r.code, c.code, r.stderr)
		}
		for _, want := range c.want {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%q: %q is not in %s", c.args, want, r.stderr)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%q: left %v, %v", c.args, left, err)
		}
	}
}
