package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/initramfs"
	"imgbuild/test/image"
	"imgbuild/test/pykickstart"
	"imgbuild/tree"
)

// anacondaImage derives an image that looks like one of Anaconda's, whose initramfs
// has the dracut modules, and returns its layout.
func anacondaImage(t *testing.T, modules string, more ...image.File) string {
	t.Helper()
	kernel, _, err := image.ReadFile(sample(t), "usr/lib/modules/*/vmlinuz")
	if err != nil {
		t.Fatal(err)
	}
	root := tree.NewDir(0o755)
	if err := tree.Put(root, "usr/lib/dracut/modules.txt", tree.NewFile(0o644, content.String(modules))); err != nil {
		t.Fatal(err)
	}
	var initrd bytes.Buffer
	if err := initramfs.Write(t.Context(), &initrd, root, initramfs.Zstd); err != nil {
		t.Fatal(err)
	}
	files := append([]image.File{
		{Name: filepath.Dir(kernel) + "/initramfs.img", Mode: 0o644, Data: initrd.Bytes()},
		{Name: "usr/libexec", Mode: 0o755, Dir: true}, {Name: "usr/libexec/anaconda", Mode: 0o755, Dir: true},
		{Name: "usr/libexec/anaconda/run-anaconda", Mode: 0o755, Data: []byte("#!/bin/sh\n")},
		{Name: "usr/lib/systemd/system/anaconda.target", Mode: 0o644, Data: []byte("[Unit]\nDescription=Anaconda\n")},
		{Name: "usr/lib/systemd/system/anaconda-shell@.service", Mode: 0o644, Data: []byte("[Unit]\nDescription=Shell\n")},
	}, more...)
	dir := filepath.Join(t.TempDir(), "anaconda")
	if err := image.Derive(sample(t), dir, files); err != nil {
		t.Fatal(err)
	}
	return dir
}

// anacondaPassword is what nobody but the hash function may read.
const anacondaPassword = "a password that nobody reads"

const anacondaConfig = `
[customizations]
hostname = "host.example.com"
[customizations.kernel]
append = "a=b"
[[customizations.user]]
name = "admin"
password = "` + anacondaPassword + `"
key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrxPYuZ4jDdgrjzJ4MkPAAUO8bTuoHdDQCtvaM1lFTF admin@example.com"
groups = ["ops"]
[[customizations.user]]
name = "root"
password = "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"
[[customizations.group]]
name = "ops"
[customizations.installer]
unattended = true
sudo-nopasswd = ["admin"]
[customizations.installer.modules]
enable = ["org.example.Mine"]
disable = ["org.fedoraproject.Anaconda.Modules.Security"]
[customizations.iso]
volume_id = "MY_ISO"
`

// The medium has the parts that image-builder's has, its kickstarts are Anaconda's,
// and its root file system is the image set up to install.
func TestAnaconda(t *testing.T) {
	installer := anacondaImage(t, "base\nanaconda\n")
	config := write(t, "c.toml", anacondaConfig)
	args := []string{"--record", "--type", "bootc-installer", "--no-cache", "--config", config, "--installer-payload-ref", "oci:" + sample(t),
		"--target-imgref", "registry.example.com/os:1", "--karg", "c=d", "--rootfs", "xfs", "oci:" + installer}
	dir, r := build(t, args...)
	iso := filepath.Join(dir, "bootiso/install.iso")
	record := filepath.Join(dir, "record-bootc-installer.intoto.json")
	if again := verify(t, "--record", record, "--rebuild", "--no-cache"); again.code != 0 {
		t.Errorf("two builds differ: %s", again.stderr)
	}
	if strings.Contains(r.stdout+r.stderr, anacondaPassword) {
		t.Errorf("the password is shown: %s", r.stderr)
	}
	for _, name := range []string{iso, record, filepath.Join(dir, "manifest-bootc-installer.json")} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(anacondaPassword)) {
			t.Errorf("the password is in %s", name)
		}
	}
	list := check(t, "xorriso", "xorriso", "-indev", iso, "-find", "/", "-exec", "report_lba", "--", "-report_el_torito", "plain", "-report_system_area", "plain")
	for _, want := range []string{
		"'/.discinfo'", "'/osbuild.ks'", "'/osbuild-base.ks'", "'/images/install.img'", "'/images/pxeboot/vmlinuz'", "'/images/pxeboot/initrd.img'",
		"'/images/efiboot.img'", "'/images/eltorito.img'", "'/EFI/BOOT/BOOTX64.EFI'", "'/boot/grub2/grub.cfg'", "'/container/oci-layout'", "'/container/index.json'",
		"Volume id    : 'MY_ISO'",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("no %s in\n%s", want, list)
		}
	}
	main, base := fromISO(t, iso, "/osbuild.ks"), fromISO(t, iso, "/osbuild-base.ks")
	for _, text := range []string{main, base} {
		if err := pykickstart.Validate(write(t, "x.ks", text)); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	if want := "%include /run/install/repo/osbuild-base.ks\nautopart --nohome --type=plain --fstype=xfs\nreboot --eject\n"; main != want {
		t.Errorf("osbuild.ks: %s", main)
	}
	for _, want := range []string{
		"ostreecontainer --url=/run/install/repo/container --transport=oci\ngroup --name=ops\n", "user --name=admin --groups=ops --iscrypted --password='$",
		"sshkey --username=admin 'ssh-ed25519 ", "rootpw --iscrypted '$6$saltsalt$", "timezone UTC --utc\n", "clearpart --all\n",
		"--hostname=host.example.com\n", "bootloader --append='a=b c=d'\n", "bootc switch --mutate-in-place --transport registry registry.example.com/os:1\n",
		">/etc/sudoers.d/admin\n",
	} {
		if !strings.Contains(base, want) {
			t.Errorf("no %q in\n%s", want, base)
		}
	}
	if strings.Contains(base, anacondaPassword) || strings.Contains(base, "rootpw --lock") {
		t.Errorf("osbuild-base.ks:\n%s", base)
	}
	menu := fromISO(t, iso, "/boot/grub2/grub.cfg")
	if want := "inst.stage2=hd:LABEL=MY_ISO inst.ks=hd:LABEL=MY_ISO:/osbuild.ks inst.text a=b c=d"; !strings.Contains(menu, want) {
		t.Errorf("no %q in\n%s", want, menu)
	}
	anacondaRoot(t, iso)
	anacondaInitrd(t, iso, installer)
	// The payload is an image that others read.
	layout := filepath.Join(t.TempDir(), "container")
	check(t, "xorriso", "xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/container", layout)
	manifest := check(t, "skopeo", "skopeo", "inspect", "--format", "{{.Digest}}", "oci:"+layout)
	if want := check(t, "skopeo", "skopeo", "inspect", "--format", "{{.Digest}}", "oci:"+sample(t)); manifest != want {
		t.Errorf("the payload is %s, and was %s", manifest, want)
	}
	text, err := os.ReadFile(filepath.Join(dir, "manifest-bootc-installer.json"))
	if err != nil {
		t.Fatal(err)
	}
	var plan struct{ Payload struct{ Digest string } }
	if err := json.Unmarshal(text, &plan); err != nil || plan.Payload.Digest != strings.TrimSpace(manifest) {
		t.Errorf("plan: %v, %+v", err, plan)
	}
}

// anacondaRoot checks the file system that Anaconda runs in.
func anacondaRoot(t *testing.T, iso string) {
	t.Helper()
	img := filepath.Join(t.TempDir(), "install.img")
	check(t, "xorriso", "xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/images/install.img", img)
	cat := func(name string) string {
		t.Helper()
		return check(t, "unsquashfs", "squashfs-tools", "-cat", img, name)
	}
	if got := cat("etc/anaconda/conf.d/90-imgbuild.conf"); !strings.HasSuffix(got, "[Anaconda]\nactivatable_modules =\n    org.example.Mine\n"+
		"    org.fedoraproject.Anaconda.Modules.Network\n    org.fedoraproject.Anaconda.Modules.Payloads\n    org.fedoraproject.Anaconda.Modules.Runtime\n"+
		"    org.fedoraproject.Anaconda.Modules.Services\n    org.fedoraproject.Anaconda.Modules.Storage\n"+
		"    org.fedoraproject.Anaconda.Modules.Users\n") {
		t.Errorf("modules: %s", got)
	}
	if got := cat("etc/passwd"); !strings.Contains(got, "\ninstall:x:0:0:install:/var/roothome:/usr/libexec/anaconda/run-anaconda\n") || !strings.Contains(got, "root:x:0:0:") {
		t.Errorf("passwd: %s", got)
	}
	if got := cat("etc/shadow"); !strings.Contains(got, "root::") || !strings.Contains(got, "\ninstall::") {
		t.Errorf("shadow: %s", got)
	}
	if got := cat(".buildstamp"); !strings.HasPrefix(got, "[Main]\nProduct = ") {
		t.Errorf("buildstamp: %s", got)
	}
	list := check(t, "unsquashfs", "squashfs-tools", "-ll", img)
	for _, want := range []string{"etc/systemd/system/default.target -> /usr/lib/systemd/system/anaconda.target\n",
		"etc/systemd/system/autovt@.service -> /usr/lib/systemd/system/anaconda-shell@.service\n", "/var/roothome\n", "/usr/libexec/anaconda/run-anaconda\n", "/proc\n"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in the root file system", want)
		}
	}
	if strings.Contains(list, "/usr/etc") {
		t.Error("/etc is in /usr")
	}
}

// anacondaInitrd checks that the initramfs is the image's, with an archive that the
// kernel unpacks over it.
func anacondaInitrd(t *testing.T, iso, installer string) {
	t.Helper()
	initrd := fromISO(t, iso, "/images/pxeboot/initrd.img")
	_, own, err := image.ReadFile(installer, "usr/lib/modules/*/initramfs.img")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(initrd, string(own)) {
		t.Error("the initramfs does not begin with the image's")
	}
	if len(initrd)%4 != 0 {
		t.Errorf("%d bytes", len(initrd))
	}
	start := (len(own) + 511) / 512 * 512
	cmd := exec.Command(tool(t, "cpio", "cpio"), "--list", "--quiet")
	cmd.Stdin = strings.NewReader(initrd[start:])
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), ".buildstamp\n") || !strings.Contains(string(out), "systemd-gpt-auto-generator\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Without being told so, Anaconda asks: no disk is erased and nothing restarts.
func TestAnacondaIsSafeByDefault(t *testing.T) {
	dir, r := build(t, "--type", "bootc-installer", "--no-cache", "--installer-payload-ref", "oci:"+sample(t), "--target-imgref", "registry.example.com/os:1",
		"--rootfs", "xfs", "oci:"+anacondaImage(t, "anaconda\n"))
	if !strings.Contains(r.stderr, "--rootfs: without effect, as Anaconda asks") {
		t.Errorf("--rootfs is ignored:\n%s", r.stderr)
	}
	iso := filepath.Join(dir, "bootiso/install.iso")
	both := fromISO(t, iso, "/osbuild.ks") + fromISO(t, iso, "/osbuild-base.ks")
	for _, no := range []string{"clearpart", "autopart", "zerombr", "reboot", "rootpw"} {
		if strings.Contains(both, no) {
			t.Errorf("%s in\n%s", no, both)
		}
	}
}

// A kickstart of one's own is included as it is, after what installs the container.
func TestAnacondaOwnKickstart(t *testing.T) {
	own := "lang de_DE.UTF-8\nignoredisk --only-use=vda\npart / --fstype=xfs --grow --ondisk=vda\n%addon com_x\n%end\n"
	dir, r := build(t, "--type", "bootc-installer", "--no-cache", "--installer-payload-ref", "oci:"+sample(t), "--target-imgref", "registry.example.com/os:1",
		"--kickstart", write(t, "own.ks", own+"frobnicate\n"), "--rootfs", "xfs", "oci:"+anacondaImage(t, "anaconda\n"))
	if !strings.Contains(r.stderr, `own.ks: line 6: no command "frobnicate"`) {
		t.Errorf("no warning:\n%s", r.stderr)
	}
	if !strings.Contains(r.stderr, "--rootfs: without effect, as the kickstart says") {
		t.Errorf("--rootfs is ignored:\n%s", r.stderr)
	}
	iso := filepath.Join(dir, "bootiso/install.iso")
	if got := fromISO(t, iso, "/osbuild.ks"); got != "%include /run/install/repo/osbuild-base.ks\n"+own+"frobnicate\n" {
		t.Errorf("osbuild.ks: %s", got)
	}
	if got := fromISO(t, iso, "/osbuild-base.ks"); !strings.HasPrefix(got, "ostreecontainer ") || strings.Contains(got, "lang ") {
		t.Errorf("osbuild-base.ks: %s", got)
	}
}

// What cannot become a medium with Anaconda is refused when it is made.
func TestAnacondaRefused(t *testing.T) {
	payload := "oci:" + sample(t)
	installer := "oci:" + anacondaImage(t, "anaconda\n")
	ref := []string{"--installer-payload-ref", payload, "--target-imgref", "registry.example.com/os:1"}
	config := func(text string) []string { return append([]string{"--config", write(t, "c.toml", text)}, ref...) }
	for _, c := range []struct {
		name, image string
		args        []string
		code        int
		want        string
	}{
		{"no payload", installer, nil, 2, "no installer payload bootc ref set"},
		{"payload without an installer", payload, append([]string{"--type", "raw"}, ref...), 2, "--installer-payload-ref: is about type bootc-installer"},
		{"no Anaconda", payload, ref, 5, "it holds no Anaconda: there is no /usr/libexec/anaconda/run-anaconda"},
		{"no dracut module", "oci:" + anacondaImage(t, "base\n"), ref, 5, "is without dracut's module anaconda"},
		{"beside a disk", installer, append([]string{"--type", "qcow2"}, ref...), 2, "nothing else is made of an image that is an installer"},
		{"beside an iso", installer, append([]string{"--type", "iso"}, ref...), 2, "nothing else is made of an image that is an installer"},
		{"layout", installer, append([]string{"--root-size", "5GiB"}, ref...), 2, "--root-size: Anaconda writes the disk"},
		{"console arguments", installer, append([]string{"--no-default-kernel-args"}, ref...), 2, "--no-default-kernel-args: Anaconda writes the disk"},
		{"files", installer, config("[[customizations.files]]\npath='/etc/x'\ndata='x'\n"), 6, "not applied: Anaconda writes the disk"},
		{"both", installer, append(config("[[customizations.user]]\nname='x'\n"), "--kickstart", write(t, "x.ks", "lang C\n")), 9, "customizations.user: excludes installer.kickstart.contents"},
		{"unattended", installer, append(config("customizations.installer.unattended = true\n"), "--kickstart", write(t, "x.ks", "lang C\n")), 9, "customizations.installer.unattended: excludes"},
		{"karg", installer, append([]string{"--karg", "a", "--kickstart", write(t, "x.ks", "lang C\n")}, ref...), 2, "write bootloader --append"},
		{"own container", installer, append([]string{"--kickstart", write(t, "x.ks", "lang C\nostreecontainer --url=x\n")}, ref...), 9, "x.ks: line 2: ostreecontainer: the medium installs its own container"},
		{"users", installer, config("customizations.installer.modules.disable=['org.fedoraproject.Anaconda.Modules.Users']\n[[customizations.user]]\nname='x'\n"), 9, "Modules.Users is needed for user"},
		{"group", installer, config("[[customizations.user]]\nname='x'\ngroups=['nogroups']\n"), 9, `"nogroups": no such group`},
		{"volume id", installer, config("customizations.iso.volume_id = 'a b'\n"), 9, "customizations.iso.volume_id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			args := append([]string{"--no-cache", "--output", out}, c.args...)
			if !strings.Contains(fmt.Sprint(c.args), "--type raw") {
				args = append(args, "--type", "bootc-installer")
			}
			r := run(t, command(t, append(args, c.image)...))
			if r.code != c.code || !strings.Contains(r.stderr, c.want) {
				t.Errorf("exit %d, want %d with %q\n%s", r.code, c.code, c.want, r.stderr)
			}
			if left := files(t, out); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}
