package qemu

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// path returns what an environment variable names, or the default.
func path(t *testing.T, variable, fallback, how string) string {
	t.Helper()
	p := os.Getenv(variable)
	if p == "" {
		p = fallback
	}
	p, err := filepath.Abs(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%v: %s makes it, or set %s", err, how, variable)
	}
	return p
}

// built returns the directory with the disks of an image.
func built(t *testing.T, layout string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	bin := path(t, "IMGBUILD_BIN", "../../bin/imgbuild", "make build")
	args = append(append([]string{"--output", dir, "--no-cache"}, args...), "oci:"+layout)
	if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil {
		t.Fatalf("imgbuild %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return dir
}

// boots boots a disk and judges what it says of itself.
func boots(t *testing.T, disk string, f Firmware) Marker {
	t.Helper()
	start := time.Now()
	m, err := Boot(context.Background(), disk, Options{Firmware: f})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(f); err != nil {
		t.Errorf("%v\n%s\n%s", err, m.Line, strings.Join(m.Notes, "\n"))
	}
	t.Logf("%s by %s: %.1f s, %d restarts, %s", filepath.Base(disk), f, time.Since(start).Seconds(), m.Restarts, m.Line)
	return m
}

// Both formats of an image boot by every firmware.
func testFormats(t *testing.T, layout string) {
	dir := built(t, layout, "--type", "raw", "--type", "qcow2")
	for _, disk := range []string{"image/disk.raw", "qcow2/disk.qcow2"} {
		for _, f := range []Firmware{BIOS, UEFI, SecureBoot} {
			t.Run(filepath.Base(disk)+"/"+string(f), func(t *testing.T) {
				boots(t, filepath.Join(dir, disk), f)
			})
		}
	}
}

func TestBootSample(t *testing.T) {
	testFormats(t, path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample"))
}

// The tiny fixture has every feature of layers; it tells whether all came out
// right. IMGBUILD_FIXTURES is set where the fixtures are.
func TestBootTiny(t *testing.T) {
	dir := os.Getenv("IMGBUILD_FIXTURES")
	if dir == "" {
		t.Skip("the fixtures are not part of this checkout; IMGBUILD_FIXTURES names their directory")
	}
	testFormats(t, filepath.Join(dir, "tiny"))
}

// The full fixture has dracut's initramfs and a whole userland.
func TestBootFull(t *testing.T) {
	dir := os.Getenv("IMGBUILD_FIXTURES")
	if dir == "" {
		t.Skip("the fixtures are not part of this checkout; IMGBUILD_FIXTURES names their directory")
	}
	disks := built(t, filepath.Join(dir, "full"), "--type", "qcow2", "--qcow2-compression", "zstd")
	boots(t, filepath.Join(disks, "qcow2/disk.qcow2"), UEFI)
}

// labelledConfig writes to places that a policy has labels of their own for.
const labelledConfig = `
customizations.hostname = "labelled"
[[customizations.user]]
name = "admin"
password = "!"
key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrxPYuZ4jDdgrjzJ4MkPAAUO8bTuoHdDQCtvaM1lFTF admin@example.com"
[[customizations.user]]
name = "root"
key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrxPYuZ4jDdgrjzJ4MkPAAUO8bTuoHdDQCtvaM1lFTF root@example.com"
[[customizations.directories]]
path = "/etc/systemd/system"
ensure_parents = true
[[customizations.files]]
path = "/etc/systemd/system/example.service"
data = "[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
[customizations.services]
enabled = ["example"]
`

// Images shaped like those of CentOS and Fedora: an encapsulated base, SELinux,
// boot loaders in one directory per package, XFS unless asked for ext4. Every
// path has the label that the policy gives it, and enforcing it does no harm.
func testSELinux(t *testing.T, layout string) {
	for _, tc := range []struct {
		rootFS, mode string
		firmware     []Firmware
	}{
		{"xfs", "permissive", []Firmware{BIOS, UEFI, SecureBoot}},
		{"ext4", "enforcing", []Firmware{UEFI}},
		{"xfs", "enforcing", []Firmware{BIOS}},
	} {
		args := []string{"--type", "qcow2", "--qcow2-compression", "none"}
		if tc.rootFS != "xfs" {
			args = append(args, "--rootfs", tc.rootFS)
		}
		if tc.mode == "enforcing" {
			args = append(args, "--karg", "enforcing=1")
		}
		if tc.rootFS == "ext4" {
			// What customizations write has labels too, homes included.
			config := filepath.Join(t.TempDir(), "config.toml")
			if err := os.WriteFile(config, []byte(labelledConfig), 0o644); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--config", config)
		}
		dir := built(t, layout, args...)
		for _, f := range tc.firmware {
			t.Run(strings.Join([]string{tc.rootFS, tc.mode, string(f)}, "/"), func(t *testing.T) {
				m := boots(t, filepath.Join(dir, "qcow2/disk.qcow2"), f)
				if m.SELinux != tc.mode || m.Mislabeled != 0 {
					t.Errorf("SELinux is %s, want %s; %d paths have a wrong label:\n%s", m.SELinux, tc.mode, m.Mislabeled, strings.Join(m.Notes, "\n"))
				}
			})
		}
	}
}

func TestBootSampleFedoralike(t *testing.T) {
	testSELinux(t, path(t, "IMGBUILD_SAMPLE_FEDORALIKE", "../../.cache/sample-fedoralike", "make samples"))
}

func TestBootFedoralike(t *testing.T) {
	dir := os.Getenv("IMGBUILD_FIXTURES")
	if dir == "" {
		t.Skip("the fixtures are not part of this checkout; IMGBUILD_FIXTURES names their directory")
	}
	testSELinux(t, filepath.Join(dir, "fedoralike"))
}
