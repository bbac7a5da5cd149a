//go:build linux

package installed

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/test/qemu"
)

// The disk is a system that can be updated: the real ostree commits a changed
// tree to its repository and deploys it, and that boots, with the first
// deployment kept for a rollback.
func TestUpdate(t *testing.T) {
	needRoot(t)
	for name, layout := range images(t) {
		t.Run(name, func(t *testing.T) {
			disk := rawDisk(t, layout)
			first, second := deploySecond(t, disk)
			for _, f := range []qemu.Firmware{qemu.UEFI, qemu.BIOS} {
				m, err := qemu.Boot(context.Background(), disk, qemu.Options{Firmware: f})
				if err != nil {
					t.Fatal(err)
				}
				if err := m.Check(f); err != nil {
					t.Errorf("%v\n%s\n%s", err, m.Line, strings.Join(m.Notes, "\n"))
				}
				if want := "default/" + second + ".0"; m.Deployment != want {
					t.Errorf("booted %s, want %s (the first was %s)", m.Deployment, want, first)
				}
			}
		})
	}
}

// deploySecond deploys a second commit on the disk and returns the checksums of
// the first and of the second.
func deploySecond(t *testing.T, disk string) (first, second string) {
	t.Helper()
	m := mount(t, disk, 4, 3, "rw")
	defer m.unmount(t)
	repo := "--repo=" + filepath.Join(m.root, "ostree/repo")
	overlay := t.TempDir()
	if err := os.MkdirAll(filepath.Join(overlay, "usr/share"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(overlay, "usr/share/second"), []byte("second\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// What was changed locally has to be kept by the three-way merge of /etc.
	deployments, _ := filepath.Glob(filepath.Join(m.root, "ostree/deploy/default/deploy/*.0"))
	if len(deployments) != 1 {
		t.Fatalf("deployments %v", deployments)
	}
	if err := os.WriteFile(filepath.Join(deployments[0], "etc/local-change"), []byte("kept\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	first = strings.TrimSpace(run(t, "ostree", "rev-parse", repo, "ostree/1/1/0"))
	second = strings.TrimSpace(run(t, "ostree", "commit", repo, "--branch=second",
		"--tree=ref="+first, "--tree=dir="+overlay))
	run(t, "ostree", "admin", "deploy", "--sysroot="+m.root, "--os=default", "second")
	status := run(t, "ostree", "admin", "status", "--sysroot="+m.root)
	if !strings.Contains(status, second+".0") || !strings.Contains(status, first+".0") {
		t.Errorf("ostree admin status: %s", status)
	}
	kept := filepath.Join(m.root, "ostree/deploy/default/deploy", second+".0", "etc/local-change")
	if b, err := os.ReadFile(kept); err != nil || string(b) != "kept\n" {
		t.Errorf("the change in /etc was lost: %q, %v", b, err)
	}
	if out := run(t, "ostree", "fsck", repo); !strings.Contains(out, "no errors found") {
		t.Errorf("ostree fsck: %s", out)
	}
	return first, second
}
