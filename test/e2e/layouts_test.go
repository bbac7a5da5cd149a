package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/test/fakegrub"
	"imgbuild/test/image"
)

// Types of partitions, as sfdisk shows them.
const (
	typeBIOS = "21686148-6449-6E6F-744E-656564454649"
	typePReP = "9E1A2D38-C612-4316-AA26-8B49521E5A8B"
	typeESP  = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeBoot = "BC13C2FF-59E6-4262-A352-B275FD6F7172"
)

const componentJSON = `{"timestamp":"2026-01-01T00:00:00Z","version":"grub-2"}`

// efiOf makes the EFI payload of an image that of another architecture.
func efiOf(s *image.Spec, arch, suffix string) {
	const dir = "usr/lib/bootupd/updates/EFI"
	s.Arch = arch
	s.Remove(dir)
	s.File(0, dir+"/BOOT/BOOT"+strings.ToUpper(suffix)+".EFI", "shim")
	s.File(0, dir+"/test/shim"+suffix+".efi", "shim")
	s.File(0, dir+"/test/grub"+suffix+".efi", string(fakegrub.EFI("/EFI/test", "blscfg")))
}

// hostBIOS adds this machine's GRUB for BIOS.
func hostBIOS(t *testing.T, s *image.Spec) {
	t.Helper()
	const dir = "usr/lib/grub/i386-pc"
	names, err := os.ReadDir("/" + dir)
	if err != nil {
		t.Fatalf("%v: needs the Debian package grub-pc-bin", err)
	}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join("/", dir, n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		s.File(0, dir+"/"+n.Name(), string(b))
	}
	s.File(0, dir+"/blsuki.mod", "module") // which is not loaded here
}

// Disks have the partitions that what boots them needs, and no others.
func TestLayouts(t *testing.T) {
	const updates = "usr/lib/bootupd/updates"
	for _, c := range []struct {
		name  string
		arch  string
		edit  func(*image.Spec)
		types []string // of the partitions in front of /boot
		root  string
		esp   string // files
	}{
		{
			name: "UEFI alone", arch: "amd64", edit: func(*image.Spec) {},
			types: []string{typeESP}, root: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
			esp: "BOOT/BOOTX64.EFI test/bootuuid.cfg test/grub.cfg test/grubx64.efi test/shimx64.efi",
		},
		{
			name: "BIOS alone", arch: "amd64", edit: func(s *image.Spec) {
				s.Remove(updates)
				hostBIOS(t, s)
				s.File(0, updates+"/BIOS.json", componentJSON)
			},
			types: []string{typeBIOS}, root: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
		},
		{
			name: "both, without bootupd", arch: "amd64", edit: func(s *image.Spec) {
				s.Remove("usr/lib/bootupd")
				hostBIOS(t, s)
				s.File(0, "usr/lib/shim/shimx64.efi.signed", "shim")
				s.File(0, "usr/lib/shim/fbx64.efi.signed", "fallback")
				s.File(0, "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", string(fakegrub.EFI("/EFI/test", fakegrub.Script()...)))
			},
			types: []string{typeBIOS, typeESP}, root: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
			esp: "BOOT/BOOTX64.EFI BOOT/fbx64.efi test/BOOTX64.CSV test/grub.cfg test/grubx64.efi test/shimx64.efi",
		},
		{
			name: "arm64", arch: "arm64", edit: func(s *image.Spec) { efiOf(s, "arm64", "aa64") },
			types: []string{typeESP}, root: "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
			esp: "BOOT/BOOTAA64.EFI test/bootuuid.cfg test/grub.cfg test/grubaa64.efi test/shimaa64.efi",
		},
		{
			name: "riscv64", arch: "riscv64", edit: func(s *image.Spec) { efiOf(s, "riscv64", "riscv64") },
			types: []string{typeESP}, root: "72EC70A6-CF74-40E6-BD49-4BDA08E8F224",
			esp: "BOOT/BOOTRISCV64.EFI test/bootuuid.cfg test/grub.cfg test/grubriscv64.efi test/shimriscv64.efi",
		},
		{
			name: "ppc64le", arch: "ppc64le", edit: func(s *image.Spec) {
				s.Arch = "ppc64le"
				s.Remove(updates)
				for name, b := range fakegrub.PowerPC(fakegrub.Kernel(0x200000, 0x11000, 0xe00, 0x7800)) {
					s.File(0, "usr/lib/grub/powerpc-ieee1275/"+name, string(b))
				}
				s.File(0, updates+"/BIOS.json", componentJSON)
			},
			types: []string{typePReP}, root: "C31C45E6-3F39-412E-80FB-4809C4980599",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := image.New()
			c.edit(s)
			layout := filepath.Join(t.TempDir(), "image")
			if err := s.Write(layout); err != nil {
				t.Fatal(err)
			}
			dir, _ := build(t, "--type", "raw", "--no-cache", "--size", "min", "--target-arch", c.arch, "oci:"+layout)
			disk := filepath.Join(dir, "image/disk.raw")
			if out := check(t, "sgdisk", "gdisk", "-v", disk); !strings.Contains(out, "No problems found") {
				t.Errorf("sgdisk -v: %s", out)
			}
			types := partitionTypes(t, disk)
			if want := append(c.types, typeBoot, c.root); strings.Join(types, " ") != strings.Join(want, " ") {
				t.Fatalf("partitions %s, want %s", types, want)
			}
			boot := partition(t, disk, len(types)-1)
			check(t, "e2fsck", "e2fsprogs", "-fn", boot)
			check(t, "e2fsck", "e2fsprogs", "-fn", partition(t, disk, len(types)))
			for i, typ := range c.types {
				p := partition(t, disk, i+1)
				switch typ {
				case typeESP:
					checkESP(t, p, c.esp)
				case typePReP:
					checkCore(t, p, 4<<20, fileOf(t, boot, "/grub2/powerpc-ieee1275/core.elf"))
				case typeBIOS:
					core := fileOf(t, boot, "/grub2/i386-pc/core.img")
					copy(core[500:508], []byte{1, 8, 0, 0, 0, 0, 0, 0}) // sector 2049 in place of 1
					checkCore(t, p, 1<<20, core)
				}
			}
			if code := bootCode(t, disk); (code[0] != 0) != (c.types[0] == typeBIOS) {
				t.Errorf("boot code % x", code)
			}
			if state := len(fileOf(t, boot, "/bootupd-state.json")) > 0; state == strings.Contains(c.name, "without bootupd") {
				t.Errorf("a state file: %t", state)
			}
		})
	}
}

// partitionTypes returns the types of a disk's partitions, as sfdisk sees them.
func partitionTypes(t *testing.T, disk string) []string {
	t.Helper()
	var table struct {
		Partitiontable struct {
			Partitions []struct{ Type string }
		}
	}
	if err := json.Unmarshal([]byte(check(t, "sfdisk", "fdisk", "-J", disk)), &table); err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, p := range table.Partitiontable.Partitions {
		types = append(types, p.Type)
	}
	return types
}

// checkESP checks the file system of an ESP, and which files it has.
func checkESP(t *testing.T, p, want string) {
	t.Helper()
	if out := check(t, "fsck.vfat", "dosfstools", "-n", p); strings.Contains(out, "ifference") {
		t.Errorf("fsck.vfat: %s", out)
	}
	var got []string
	for line := range strings.Lines(check(t, "mdir", "mtools", "-i", p, "-/", "-b", "::")) {
		if name := strings.TrimSpace(line); !strings.HasSuffix(name, "/") {
			got = append(got, strings.TrimPrefix(name, "::/EFI/"))
		}
	}
	if strings.Join(got, " ") != want {
		t.Errorf("ESP %s, want %s", got, want)
	}
}

// checkCore checks that a partition of size bytes begins with GRUB's core image
// and is zero behind it.
func checkCore(t *testing.T, p string, size int, core []byte) {
	t.Helper()
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != size || len(core) == 0 || !bytes.HasPrefix(b, core) || len(bytes.Trim(b[len(core):], "\x00")) != 0 {
		t.Errorf("partition of %d bytes with a core image of %d", len(b), len(core))
	}
}

// fileOf returns a file of an ext4 file system, or nothing.
func fileOf(t *testing.T, fs, name string) []byte {
	t.Helper()
	to := filepath.Join(t.TempDir(), "file")
	check(t, "debugfs", "e2fsprogs", "-R", fmt.Sprintf("dump %s %s", name, to), fs)
	b, err := os.ReadFile(to)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return b
}

// bootCode returns the first bytes of a disk.
func bootCode(t *testing.T, disk string) []byte {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 64)
	if _, err := io.ReadFull(f, b); err != nil {
		t.Fatal(err)
	}
	return b
}
