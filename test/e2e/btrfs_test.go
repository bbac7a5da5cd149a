package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/test/image"
)

// An image whose install config says btrfs gets what image-builder makes of it: a
// subvolume root, compressed, and /boot on ext4.
func TestBtrfsRoot(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "image")
	s := image.New()
	s.File(1, "usr/lib/bootc/install/00.toml", "[install]\nroot-fs-type = \"btrfs\"\n")
	s.File(1, "usr/share/text", strings.Repeat("this compresses well\n", 100_000))
	if err := s.Write(layout); err != nil {
		t.Fatal(err)
	}
	dir, _ := build(t, "--type", "raw", "--no-cache", "--target-arch", "x86_64", "oci:"+layout)
	disk := filepath.Join(dir, "image/disk.raw")
	written, err := os.ReadFile(filepath.Join(dir, "manifest-raw.json"))
	if err != nil {
		t.Fatal(err)
	}
	var plan struct {
		Kargs []string
		Disk  struct {
			Partitions []struct {
				Number     int
				Name, UUID string
				FileSystem string `json:"file_system"`
				Subvolumes []struct{ Name, Mount string }
			}
		}
	}
	if err := json.Unmarshal(written, &plan); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, p := range plan.Disk.Partitions {
		if p.Name == "boot" && p.FileSystem != "ext4" {
			t.Errorf("/boot is %s", p.FileSystem)
		}
		if p.FileSystem != "btrfs" || len(p.Subvolumes) != 1 || p.Subvolumes[0].Name != "root" || p.Subvolumes[0].Mount != "/" {
			continue
		}
		found = true
		if want := []string{"root=UUID=" + p.UUID, "rootflags=subvol=root,compress=zstd:1", "rw"}; !strings.Contains(strings.Join(plan.Kargs, " "), strings.Join(want, " ")) {
			t.Errorf("kernel arguments %q, want %q", plan.Kargs, want)
		}
		root := partition(t, disk, p.Number)
		if out := check(t, "btrfs", "btrfs-progs", "check", "--readonly", "--check-data-csum", root); !strings.Contains(out, "no error found") {
			t.Error(out)
		}
		super := check(t, "btrfs", "btrfs-progs", "inspect-internal", "dump-super", root)
		for _, want := range []string{p.UUID, "COMPRESS_ZSTD", "label\t\t\troot\n"} {
			if !strings.Contains(super, want) {
				t.Errorf("no %q in the superblock:\n%s", want, super)
			}
		}
		// Two MB of one line are a few sectors.
		tree := check(t, "btrfs", "btrfs-progs", "inspect-internal", "dump-tree", "-t", "256", root)
		if n := strings.Count(tree, "extent compression 3 (zstd)"); n < 16 {
			t.Errorf("%d compressed extents", n)
		}
	}
	if !found {
		t.Errorf("no root:\n%s", written)
	}
}

// The bytes of a compressed root do not depend on how many processors compress.
func TestBtrfsDeterministic(t *testing.T) {
	var first string
	for _, env := range []string{"GOMAXPROCS=1", "GOMAXPROCS=7"} {
		dir := t.TempDir()
		cmd := exec.Command(binary(t), "--output", dir, "--type", "raw", "--rootfs", "btrfs", "--size", "min", "--no-cache", "oci:"+sample(t))
		cmd.Env = append(os.Environ(), env)
		if r := run(t, cmd); r.code != 0 {
			t.Fatalf("%s: exit %d: %s", env, r.code, r.stderr)
		}
		got := sum(t, filepath.Join(dir, "image/disk.raw"))
		if first == "" {
			first = got
		} else if got != first {
			t.Errorf("%s: another disk", env)
		}
	}
}
