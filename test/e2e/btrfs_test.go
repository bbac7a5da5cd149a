package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// GRUB does not look into subvolumes for /boot.
func TestBootInSubvolume(t *testing.T) {
	const head = "mount_configuration: units\npartition_table:\n  type: gpt\n  policy: {ensure_xbootldr: false}\n  partitions:\n" +
		"    - {size: 200 MiB, type: C12A7328-F81F-11D2-BA4B-00A0C93EC93B, payload_type: filesystem, payload: {type: vfat, mountpoint: /boot/efi}}\n" +
		"    - {size: 1 MiB, type: 21686148-6449-6E6F-744E-656564454649}\n"
	for name, root := range map[string]string{
		"root":      "{payload_type: btrfs, payload: {subvolumes: [{name: root, mountpoint: /}]}}",
		"subvolume": "{payload_type: btrfs, payload: {subvolumes: [{name: root, mountpoint: /}, {name: boot, mountpoint: /boot}]}}",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "disk.yaml")
			if err := os.WriteFile(file, []byte(head+"    - "+root+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			r := run(t, command(t, "--output", dir, "--type", "raw", "--no-cache", "--layout", file, "oci:"+sample(t)))
			failed(t, name, r, 6, dir)
			if !strings.Contains(r.stderr, "/boot is in a subvolume") {
				t.Error(r.stderr)
			}
		})
	}
}

// Subvolumes get what the system has where they are mounted.
func TestBtrfsSubvolumes(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "image")
	s := image.New()
	s.File(1, "var/lib/app/data", "of the image")
	if err := s.Write(layout); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.toml")
	config := ""
	for _, v := range [][2]string{{"root", "/"}, {"state/var", "/var"}, {"app", "/var/lib/app"}} {
		config += "[[customizations.disk.partitions.subvolumes]]\nname = \"" + v[0] + "\"\nmountpoint = \"" + v[1] + "\"\n"
	}
	config = "[[customizations.disk.partitions]]\ntype = \"btrfs\"\nminsize = \"2 GiB\"\n" + config
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	dir, _ := build(t, "--type", "raw", "--no-cache", "--target-arch", "x86_64", "--config", file, "oci:"+layout)
	root := partition(t, filepath.Join(dir, "image/disk.raw"), 3)
	if out := check(t, "btrfs", "btrfs-progs", "check", "--readonly", "--check-data-csum", root); !strings.Contains(out, "no error found") {
		t.Error(out)
	}
	// grub-fstest reads by paths through subvolumes.
	if got := check(t, "grub-fstest", "grub-common", root, "cat", "/app/data"); got != "of the image" {
		t.Errorf("the subvolume has %q", got)
	}
	for path, want := range map[string]string{"/": "app/ root/ state/", "/root/ostree/deploy/default/": "backing/ deploy/ var/", "/state/var/lib/app/": ""} {
		names := strings.Fields(check(t, "grub-fstest", "grub-common", root, "ls", path))
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
