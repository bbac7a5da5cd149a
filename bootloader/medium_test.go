package bootloader

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/bootloader/grub"
	"imgbuild/fault"
	"imgbuild/tree"
)

func mediumRequest(os *tree.Inode, arch string) *MediumRequest {
	return &MediumRequest{OS: os, Arch: arch, FATID: 0x12345678, Time: 1700000000, Kargs: []string{"quiet"}, Menu: grub.MediumMenu{
		VolumeID: "Container-Installer-x86_64", Timeout: 5,
		Entries: []grub.MediumEntry{{Title: "Install", Kernel: "/images/pxeboot/vmlinuz", Initrd: []string{"/images/pxeboot/initrd.img"}}},
	}}
}

// TestMedium goes through the distributions.
func TestMedium(t *testing.T) {
	const menu = ".disk/info boot/grub/grub.cfg boot/grub2/grub.cfg boot/grub2/kargs.cfg"
	for name, c := range map[string]struct {
		image  fileSet
		arch   string
		files  string            // all but the menu's and modules
		esp    map[string]string // what is where
		bios   bool
		secure bool
		warns  []string
	}{
		"Fedora": {
			image: fedoraBoth(t), bios: true, secure: true,
			files: "EFI/BOOT/BOOTX64.EFI EFI/BOOT/fonts/unicode.pf2 EFI/BOOT/grub.cfg EFI/BOOT/grubx64.efi EFI/BOOT/mmx64.efi EFI/fedora/grub.cfg boot/grub2/fonts/unicode.pf2 images/eltorito.img",
			esp:   map[string]string{"EFI/BOOT/BOOTX64.EFI": "shim", "EFI/BOOT/mmx64.efi": "manager"},
		},
		"Fedora, with GRUB for media and without BIOS": {
			image:  fedora().with(fileSet{"usr/lib/efi/grub2/1:2.12-41.fc44/EFI/fedora/gcdx64.efi": "for CDs"}),
			secure: true,
			files:  "EFI/BOOT/BOOTX64.EFI EFI/BOOT/grub.cfg EFI/BOOT/grubx64.efi EFI/BOOT/mmx64.efi EFI/fedora/grub.cfg",
			esp:    map[string]string{"EFI/BOOT/grubx64.efi": "for CDs"},
			warns:  []string{"does not start from a BIOS: the image has no GRUB for i386-pc"},
		},
		"Fedora, without the parts for CDs": {
			image: fedoraBoth(t).with(fileSet{biosModules + "/cdboot.img": "-"}), secure: true,
			files: "EFI/BOOT/BOOTX64.EFI EFI/BOOT/fonts/unicode.pf2 EFI/BOOT/grub.cfg EFI/BOOT/grubx64.efi EFI/BOOT/mmx64.efi EFI/fedora/grub.cfg boot/grub2/fonts/unicode.pf2",
			warns: []string{"does not start from a BIOS: usr/lib/grub/i386-pc/cdboot.img is missing"},
		},
		"RHEL, revocations": {
			image: rhel("redhat", true).with(fileSet{"usr/lib/bootupd/updates/EFI/BOOT/revocations_sbat.efi": "revoked"}), secure: true,
			files: "EFI/BOOT/BOOTX64.EFI EFI/BOOT/grub.cfg EFI/BOOT/grubx64.efi EFI/BOOT/mmx64.efi EFI/BOOT/revocations_sbat.efi EFI/redhat/grub.cfg",
			warns: []string{"does not start from a BIOS"},
		},
		"Debian": {
			image: debianPackages("amd64", "x64", "x86_64-efi"), secure: true,
			files: "EFI/BOOT/BOOTX64.EFI EFI/BOOT/grub.cfg EFI/BOOT/grubx64.efi EFI/BOOT/mmx64.efi EFI/debian/grub.cfg",
			esp:   map[string]string{"EFI/BOOT/BOOTX64.EFI": "shim, signed", "EFI/BOOT/grubx64.efi": "for CDs", "EFI/BOOT/mmx64.efi": "manager, signed"},
			warns: []string{"does not start from a BIOS"},
		},
		"Debian on ARM": {
			image: debianPackages("arm64", "aa64", "arm64-efi"), arch: "arm64", secure: true,
			files: "EFI/BOOT/BOOTAA64.EFI EFI/BOOT/grub.cfg EFI/BOOT/grubaa64.efi EFI/BOOT/mmaa64.efi EFI/debian/grub.cfg",
		},
		"Debian without shim": {
			image: debianPackages("amd64", "x64", "x86_64-efi").with(fileSet{"usr/lib/shim": "-"}).with(hostGRUB(t)), bios: true,
			files: "EFI/BOOT/BOOTX64.EFI EFI/BOOT/grub.cfg EFI/debian/grub.cfg images/eltorito.img",
			warns: []string{"no shim"},
		},
		"openSUSE": {
			image: openSUSEPackages(), secure: true,
			files: "EFI/BOOT/BOOTX64.EFI EFI/BOOT/MokManager.efi EFI/BOOT/grub.cfg EFI/BOOT/grub.efi EFI/opensuse/grub.cfg",
			warns: []string{"does not start from a BIOS"},
		},
		"BIOS only": {
			image: hostGRUB(t).with(fileSet{"usr/lib/os-release": "NAME=x\n"}), bios: true,
			files: "images/eltorito.img",
			warns: []string{"does not start by UEFI: the image has no EFI files"},
		},
		"a payload without GRUB": {
			image: fedoraBoth(t).with(fileSet{"usr/lib/efi/grub2": "-"}), bios: true,
			files: "boot/grub2/fonts/unicode.pf2 images/eltorito.img",
			warns: []string{"does not start by UEFI: EFI/fedora/grubx64.efi is missing"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.arch == "" {
				c.arch = "amd64"
			}
			root := tree.NewDir(0o755)
			m, err := InstallMedium(context.Background(), root, mediumRequest(c.image.tree(t), c.arch))
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Fields(menu + " " + c.files)
			var got []string
			for _, n := range strings.Fields(names(t, root)) {
				if !strings.Contains(n, "i386-pc/") {
					got = append(got, n)
				}
			}
			wanted := map[string]bool{}
			for _, w := range want {
				wanted[w] = true
			}
			for _, g := range got {
				if !wanted[g] {
					t.Errorf("%s is there", g)
				}
				delete(wanted, g)
			}
			for w := range wanted {
				t.Errorf("%s is missing", w)
			}
			if (m.BIOSImage != "") != c.bios || (m.MBR != nil) != c.bios || m.SecureBoot != c.secure {
				t.Errorf("BIOS %q, MBR %t, Secure Boot %t", m.BIOSImage, m.MBR != nil, m.SecureBoot)
			}
			for p, want := range c.esp {
				if got := text(t, root, p); got != want {
					t.Errorf("%s is %q, want %q", p, got, want)
				}
			}
			all := strings.Join(m.Warnings, "\n")
			for _, w := range c.warns {
				if !strings.Contains(all, w) {
					t.Errorf("no warning %q in\n%s", w, all)
				}
			}
			if len(c.warns) == 0 && all != "" {
				t.Errorf("warnings: %s", all)
			}
			if m.ESP != nil {
				checkESP(t, m, root)
			} else if strings.Contains(c.files, "EFI/") {
				t.Error("no EFI system partition")
			}
		})
	}
}

// checkESP has the owners of FAT look at the EFI system partition, which has the
// files that are on the medium.
func checkESP(t *testing.T, m *Medium, root *tree.Inode) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "esp.img")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, io.NewSectionReader(m.ESP, 0, m.ESP.Size())); err != nil {
		t.Fatal(err)
	}
	run(t, "", tool(t, "fsck.vfat", "dosfstools"), "-n", name)
	err = tree.Walk(root.Child("EFI"), func(p string, i *tree.Inode) error {
		if !i.IsFile() {
			return nil
		}
		out, err := exec.Command(tool(t, "mtype", "mtools"), "-i", name, "::/EFI"+p).Output()
		if err != nil {
			t.Errorf("mtype %s: %v", p, err)
		}
		if got := text(t, root, "EFI"+p); got != string(out) {
			t.Errorf("%s differs", p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMediumRefuses(t *testing.T) {
	for want, c := range map[string]struct {
		image fileSet
		arch  string
		class fault.Class
	}{
		"no boot loader for amd64":      {fileSet{"usr/lib/systemd/boot/efi/systemd-bootx64.efi": "x"}, "amd64", fault.BadImage},
		"media do not start on ppc64le": {prepGRUB(), "ppc64le", fault.Unsupported},
		"zipl":                          {fileSet{"usr/lib/os-release": ""}, "s390x", fault.Unsupported},
		"would not start":               {fedora().with(fileSet{"usr/lib/efi/grub2": "-"}), "amd64", fault.BadImage},
	} {
		_, err := InstallMedium(context.Background(), tree.NewDir(0o755), mediumRequest(c.image.tree(t), c.arch))
		if err == nil || !strings.Contains(err.Error(), want) || fault.ClassOf(err) != c.class {
			t.Errorf("%v (%d), want %q", err, fault.ClassOf(err), want)
		}
		if c.class == fault.BadImage && fault.HintOf(err) == "" {
			t.Errorf("%v: no hint", err)
		}
	}
	r := mediumRequest(fedora().tree(t), "amd64")
	r.Kargs = []string{"a b"}
	if _, err := InstallMedium(context.Background(), tree.NewDir(0o755), r); fault.ClassOf(err) != fault.Config {
		t.Errorf("kernel argument with a blank: %v", err)
	}
}
