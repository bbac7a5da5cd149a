package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// toolOutput runs a tool of others and returns what it says.
func toolOutput(t *testing.T, name, pkg string, args ...string) string {
	t.Helper()
	out, err := exec.Command(tool(t, name, pkg), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// isoReport is what the tests read of `imgbuild iso inspect --format json`.
type isoReport struct {
	VolumeID  string   `json:"volume_id"`
	Checksum  string   `json:"media_checksum"`
	Verified  *bool    `json:"verified"`
	Kargs     []string `json:"kargs"`
	Installer struct{ Digest, Kernel string }
	Settings  struct {
		Kickstart, Target string
		Wipe, Unattended  bool
	}
	Problems []string
}

func inspectISO(t *testing.T, file string) isoReport {
	t.Helper()
	r := run(t, command(t, "iso", "inspect", "--verify", "--format", "json", file))
	if r.code != 0 {
		t.Fatalf("inspect: %d\n%s", r.code, r.stderr)
	}
	var report isoReport
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.Verified == nil || !*report.Verified || len(report.Problems) > 0 {
		t.Errorf("%+v", report)
	}
	if out := toolOutput(t, "checkisomd5", "isomd5sum", file); !strings.Contains(out, "PASS") {
		t.Errorf("checkisomd5: %s", out)
	}
	return report
}

// A finished medium is looked into and changed, as a copy and in place.
func TestISOCustomize(t *testing.T) {
	dir := t.TempDir()
	if r := run(t, command(t, "--type", "iso", "--output", dir, "--no-cache", "oci:"+sample(t))); r.code != 0 {
		t.Fatalf("%d\n%s", r.code, r.stderr)
	}
	file := filepath.Join(dir, "bootiso/install.iso")
	again := t.TempDir()
	if r := run(t, command(t, "--type", "iso", "--output", again, "--no-cache", "oci:"+sample(t))); r.code != 0 {
		t.Fatalf("%d\n%s", r.code, r.stderr)
	}
	toolOutput(t, "cmp", "diffutils", file, filepath.Join(again, "bootiso/install.iso"))
	before := inspectISO(t, file)
	if before.VolumeID != "Container-Installer-x86_64" || before.Installer.Kernel == "" || before.Settings.Unattended {
		t.Errorf("%+v", before)
	}
	out := toolOutput(t, "xorriso", "xorriso", "-indev", file, "-report_el_torito", "plain", "-report_system_area", "plain")
	for _, want := range []string{
		"El Torito img path :   1  /images/eltorito.img", "El Torito img opts :   1  boot-info-table grub2-boot-info",
		"El Torito img path :   2  /images/efiboot.img", "UEFI  y   none", "MBR protective-msdos-label grub2-mbr cyl-align-off GPT",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("xorriso does not say %q\n%s", want, out)
		}
	}

	ks := filepath.Join(dir, "site.ks")
	if err := os.WriteFile(ks, []byte("lang de_DE.UTF-8\nreboot\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(dir, "new/changed.iso")
	args := []string{"--kickstart", ks, "--target", "/dev/disk/by-id/virtio-x", "--wipe", "--unattended", "--karg", "console=ttyS1", "--delete-karg", "quiet"}
	r := run(t, command(t, append([]string{"iso", "customize", file, "-o", changed}, args...)...))
	if r.code != 0 {
		t.Fatalf("%d\n%s", r.code, r.stderr)
	}
	t.Logf("changed in %v", r.wall)
	after := inspectISO(t, changed)
	s := after.Settings
	if s.Kickstart != "lang de_DE.UTF-8\nreboot\n" || s.Target != "/dev/disk/by-id/virtio-x" || !s.Wipe || !s.Unattended || strings.Join(after.Kargs, " ") != "loglevel=3 console=ttyS1" {
		t.Errorf("%+v", after)
	}
	if again := inspectISO(t, file); again.Checksum != before.Checksum {
		t.Error("the medium that was copied is another one")
	}
	text := run(t, command(t, "iso", "inspect", changed))
	if r := run(t, command(t, "inspect", changed)); r.code != 0 || r.stdout != text.stdout {
		t.Errorf("inspect: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	for _, want := range []string{"Kickstart:         2 lines\n", "Unattended:        yes\n", "Kernel arguments:  loglevel=3 console=ttyS1\n", "Menu entry:        Install Debian"} {
		if !strings.Contains(text.stdout, want) {
			t.Errorf("inspect does not say %q\n%s", want, text.stdout)
		}
	}

	// In place, by a kickstart from stdin, and the same bytes.
	piped := command(t, append([]string{"iso", "customize", file, "--kickstart", "-"}, args[2:]...)...)
	piped.Stdin = strings.NewReader("lang de_DE.UTF-8\nreboot\n")
	if r := run(t, piped); r.code != 0 {
		t.Fatalf("%d\n%s", r.code, r.stderr)
	}
	toolOutput(t, "cmp", "diffutils", file, changed)
	// And back.
	if r := run(t, command(t, "iso", "customize", file, "--kickstart", "", "--target", "", "--wipe=false", "--unattended=false", "--delete-karg", "console=ttyS1")); r.code != 0 {
		t.Fatalf("%d\n%s", r.code, r.stderr)
	}
	if back := inspectISO(t, file); back.Settings != before.Settings || strings.Join(back.Kargs, " ") != "loglevel=3" {
		t.Errorf("%+v", back)
	}

	// What is wrong changes nothing, and leaves no file.
	if err := os.WriteFile(ks, []byte("reboot\nliveimg --url=x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sum := toolOutput(t, "sha256sum", "coreutils", file)
	none := filepath.Join(dir, "none.iso")
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{file, "--kickstart", ks, "-o", none}, "liveimg", 6},
		{[]string{file, "--karg", "a b", "-o", none}, "is not possible in it", 9},
		{[]string{file, "--delete-karg", "x"}, "no such argument to delete", 9},
		{[]string{file}, "nothing is to be changed", 2},
		{[]string{file, "--wipe", "-o", file}, "cannot be written to itself", 2},
		{[]string{ks, "--wipe"}, "this is no ISO", 5},
		{[]string{none, "--wipe"}, "no such file", 3},
		{[]string{file, "--wipe", "-o", filepath.Join(ks, "x.iso")}, "not a directory", 8},
	} {
		r := run(t, command(t, append([]string{"iso", "customize"}, c.args...)...))
		if r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%q: %d, want %d\n%s", c.args, r.code, c.code, r.stderr)
		}
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("a failure leaves a file")
	}
	if toolOutput(t, "sha256sum", "coreutils", file) != sum {
		t.Error("a failure changes the medium")
	}
	damaged, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer damaged.Close()
	if _, err := damaged.WriteAt([]byte{1, 2, 3}, 20<<20); err != nil {
		t.Fatal(err)
	}
	if r := run(t, command(t, "iso", "inspect", "--verify", file)); r.code != 5 || !strings.Contains(r.stderr, "media checksum is wrong") || !strings.Contains(r.stdout, "WRONG") {
		t.Errorf("a damaged medium: %d\n%s", r.code, r.stderr)
	}
}

// A configuration names the medium, and what cannot be a name is refused before
// anything is written.
func TestISONames(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	build := func(text string) result {
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return run(t, command(t, "--type", "iso", "--output", dir, "--no-cache", "--config", config, "oci:"+sample(t)))
	}
	if r := build("[customizations.iso]\nvolume_id = \"My-OS_1\"\napplication_id = \"My OS\"\npublisher = \"Example, Inc.\"\n"); r.code != 0 {
		t.Fatalf("%d\n%s", r.code, r.stderr)
	}
	file := filepath.Join(dir, "bootiso/install.iso")
	out := toolOutput(t, "isoinfo", "genisoimage", "-d", "-i", file)
	for _, want := range []string{"Volume id: My-OS_1\n", "Application id: My OS\n", "Publisher id: Example, Inc.\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("isoinfo does not say %q\n%s", want, out)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if r := build("[customizations.iso]\nvolume_id = \"My OS\"\n"); r.code != 9 || !strings.Contains(r.stderr, "volume id \"My OS\"") || !strings.Contains(r.stderr, "hint:") {
		t.Errorf("%d\n%s", r.code, r.stderr)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a failure leaves a file")
	}
}
