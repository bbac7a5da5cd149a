package bootloader

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/test/fakegrub"
	"imgbuild/tree"
)

// The images below have the files of the distributions' packages at their
// paths (looked up in the packages of Debian 12 to 14 and Ubuntu 22.04 and
// 24.04, in the spec files and shim-install of openSUSE, in the documentation of
// bootupd for the others), with small files in place of the programs.

// debianPackages is an image with Debian's packages of shim and GRUB.
func debianPackages(arch, suffix, modules string, more ...string) fileSet {
	dir := "usr/lib/grub/" + modules
	return fileSet{
		"usr/lib/os-release":                                   "NAME=\"Debian GNU/Linux\"\nID=debian\n",
		"usr/lib/shim/shim" + suffix + ".efi.signed":           "shim, signed",
		"usr/lib/shim/shim" + suffix + ".efi":                  "shim",
		"usr/lib/shim/fb" + suffix + ".efi.signed":             "fallback, signed",
		"usr/lib/shim/fb" + suffix + ".efi":                    "fallback",
		"usr/lib/shim/mm" + suffix + ".efi.signed":             "manager, signed",
		"usr/lib/shim/mm" + suffix + ".efi":                    "manager",
		dir + "-signed/grub" + suffix + ".efi.signed":          string(fakegrub.EFI("/EFI/debian", fakegrub.Script(more...)...)),
		dir + "-signed/gcd" + suffix + ".efi.signed":           "for CDs",
		dir + "/monolithic/grub" + suffix + ".efi":             string(fakegrub.EFI("/EFI/debian", fakegrub.Script(more...)...)) + "unsigned",
		dir + "/ext2.mod":                                      "module",
		"usr/lib/shim/BOOT" + strings.ToUpper(suffix) + ".CSV": "s\x00h\x00",
	}
}

// ubuntu is an image with Ubuntu's: the signed shim is an alternative, whose
// link in /etc a package manager has made, or not.
func ubuntu() fileSet {
	s := debianPackages("amd64", "x64", "x86_64-efi").with(fileSet{
		"usr/lib/os-release":                  "NAME=\"Ubuntu\"\n",
		"usr/lib/shim/shimx64.efi.signed":     "-",
		"usr/lib/shim/fbx64.efi.signed":       "-",
		"usr/lib/shim/mmx64.efi.signed":       "-",
		"usr/lib/shim/shimx64.efi.dualsigned": "shim, signed twice",
	})
	s["usr/lib/shim/shimx64.efi.signed.latest"] = "shim, signed"
	s["usr/lib/shim/shimx64.efi.signed.previous"] = "old shim, signed"
	for _, p := range []string{"usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "usr/lib/grub/x86_64-efi/monolithic/grubx64.efi"} {
		s[p] = string(fakegrub.EFI("/EFI/ubuntu", fakegrub.Script()...))
	}
	return s
}

func openSUSEPackages() fileSet {
	const dir = "usr/share/efi/x86_64/"
	return fileSet{
		"usr/lib/os-release":      "NAME=\"openSUSE MicroOS\"\n",
		dir + "shim.efi":          "shim",
		dir + "MokManager.efi":    "manager",
		dir + "fallback.efi":      "fallback",
		dir + "grub.efi":          string(fakegrub.EFI("", fakegrub.Script()...)),
		dir + "grub-tpm.efi":      "another",
		dir + "shim-opensuse.der": "a certificate",
	}
}

// rhel is an image of RHEL 9 or 10 as bootupd of its time makes it: the old
// layout of the payload.
func rhel(vendor string, sourced bool) fileSet {
	const dir = "usr/lib/bootupd/updates/EFI/"
	s := fileSet{
		"usr/lib/bootupd/updates/EFI.json":    `{"timestamp":"2026-03-02T09:00:00Z","version":"grub2-efi-x64-1:2.06-95.el9.x86_64,shim-x64-15.8-3.x86_64"}`,
		dir + "BOOT/BOOTX64.EFI":              "shim",
		dir + "BOOT/fbx64.efi":                "fallback",
		dir + vendor + "/shimx64.efi":         "shim",
		dir + vendor + "/shim.efi":            "shim",
		dir + vendor + "/grubx64.efi":         string(fakegrub.EFI("/EFI/"+vendor, "normal", "blscfg")),
		dir + vendor + "/mmx64.efi":           "manager",
		dir + vendor + "/BOOTX64.CSV":         "\xff\xfe",
		staticDir + "grub-static-pre.cfg":     "set timeout=1\n",
		staticDir + "grub-static-efi.cfg":     "configfile $prefix/grub.cfg\n",
		staticDir + "configs.d/41_custom.cfg": "source $prefix/custom.cfg\n",
		staticDir + "configs.d/README":        "ignored",
	}
	if sourced {
		s[staticDir+"grub-static-post.cfg"] = "blscfg\n"
	} else {
		s[staticDir+"configs.d/10_blscfg.cfg"] = "blscfg\n"
	}
	return s
}

// names lists the files of a tree, but for modules.
func names(t *testing.T, root *tree.Inode) string {
	t.Helper()
	var list []string
	for line := range strings.Lines(listing(t, root)) {
		fields := strings.Fields(line)
		if strings.HasPrefix(fields[0], "04") {
			continue
		}
		list = append(list, fields[1][1:])
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// prepGRUB is GRUB for Open Firmware.
func prepGRUB() fileSet {
	s := fileSet{"usr/lib/os-release": "NAME=x\n"}
	for name, b := range fakegrub.PowerPC(fakegrub.Kernel(0x200000, 0x2000, 0x100, 0x200)) {
		s[prepModules+"/"+name] = string(b)
	}
	return s
}

// TestShapes goes through the distributions.
func TestShapes(t *testing.T) {
	const own = "grub2/grub.cfg grub2/grubenv"
	const static = "bootupd-state.json grub2/bootuuid.cfg grub2/grub.cfg grub2/grubenv"
	bios := hostGRUB(t)
	for _, c := range []struct {
		name  string
		arch  string // default: amd64
		image fileSet
		esp   string // files below EFI/
		more  string // … elsewhere on the ESP
		boot  string
		menu  string // part of grub.cfg
		warns string // part of a warning, "" for none
	}{
		{
			name: "RHEL 9.4, old configuration", image: rhel("redhat", true),
			esp:  "BOOT/BOOTX64.EFI BOOT/fbx64.efi redhat/BOOTX64.CSV redhat/bootuuid.cfg redhat/grub.cfg redhat/grubx64.efi redhat/mmx64.efi redhat/shim.efi redhat/shimx64.efi",
			boot: "bootupd-state.json grub2/41_custom.cfg grub2/bootuuid.cfg grub2/grub.cfg", menu: "source $prefix/41_custom.cfg\nblscfg\n",
		},
		{
			name: "RHEL 10", image: rhel("redhat", false),
			esp:  "BOOT/BOOTX64.EFI BOOT/fbx64.efi redhat/BOOTX64.CSV redhat/bootuuid.cfg redhat/grub.cfg redhat/grubx64.efi redhat/mmx64.efi redhat/shim.efi redhat/shimx64.efi",
			boot: static, menu: "### BEGIN 10_blscfg.cfg ###\nblscfg\n",
		},
		{
			name: "CentOS Stream 9, BIOS too", image: rhel("centos", false).with(bios).with(fileSet{"usr/lib/bootupd/updates/BIOS.json": biosJSON, biosModules + "/blscfg.mod": "m"}),
			esp:  "BOOT/BOOTX64.EFI BOOT/fbx64.efi centos/BOOTX64.CSV centos/bootuuid.cfg centos/grub.cfg centos/grubx64.efi centos/mmx64.efi centos/shim.efi centos/shimx64.efi",
			boot: "bootupd-state.json grub2/bootuuid.cfg grub2/grub.cfg grub2/grubenv grub2/i386-pc/boot.img grub2/i386-pc/core.img", menu: "blscfg\n",
		},
		{
			name: "Fedora 44", image: fedora(),
			esp:  "BOOT/BOOTX64.EFI BOOT/fbx64.efi fedora/BOOTX64.CSV fedora/bootuuid.cfg fedora/grub.cfg fedora/grubx64.efi fedora/mmx64.efi fedora/shimx64.efi",
			boot: static, menu: "blscfg\n",
		},
		{
			name: "Fedora 44 without bootupd", image: fedora().with(fileSet{"usr/lib/bootupd": "-"}),
			esp:  "BOOT/BOOTX64.EFI BOOT/fbx64.efi fedora/BOOTX64.CSV fedora/grub.cfg fedora/grubx64.efi fedora/mmx64.efi fedora/shimx64.efi",
			boot: own, menu: "\nblscfg\n",
		},
		{
			name: "Fedora 42 without bootupd", image: fileSet{
				"usr/lib/ostree-boot/efi/EFI/BOOT/BOOTX64.EFI":       "shim",
				"usr/lib/ostree-boot/efi/EFI/fedora/shimx64.efi":     "shim",
				"usr/lib/ostree-boot/efi/EFI/fedora/grubx64.efi":     grubEFI("blscfg"),
				"usr/lib/ostree-boot/efi/EFI/fedora/grub.cfg.rpmnew": "x",
			},
			esp:  "BOOT/BOOTX64.EFI fedora/grub.cfg fedora/grub.cfg.rpmnew fedora/grubx64.efi fedora/shimx64.efi",
			boot: own, menu: "\nblscfg\n",
		},
		{
			name: "AlmaLinux, EFI files in /boot", image: fileSet{
				"boot/efi/EFI/BOOT/BOOTX64.EFI":      "shim",
				"boot/efi/EFI/almalinux/shimx64.efi": "shim",
				"boot/efi/EFI/almalinux/grubx64.efi": string(fakegrub.EFI("/EFI/almalinux", "blscfg")),
			},
			esp:  "BOOT/BOOTX64.EFI almalinux/grub.cfg almalinux/grubx64.efi almalinux/shimx64.efi",
			boot: own, menu: "\nblscfg\n",
		},
		{
			name: "Debian 12 and 13", image: debianPackages("amd64", "x64", "x86_64-efi"),
			esp:  "BOOT/BOOTX64.EFI BOOT/fbx64.efi debian/BOOTX64.CSV debian/grub.cfg debian/grubx64.efi debian/mmx64.efi debian/shimx64.efi",
			boot: own, menu: "function options",
		},
		{
			name: "Debian 14, BIOS too", image: debianPackages("amd64", "x64", "x86_64-efi", "bli").with(bios).with(fileSet{biosModules + "/blsuki.mod": "m"}),
			esp:  "BOOT/BOOTX64.EFI BOOT/fbx64.efi debian/BOOTX64.CSV debian/grub.cfg debian/grubx64.efi debian/mmx64.efi debian/shimx64.efi",
			boot: own + " grub2/i386-pc/boot.img grub2/i386-pc/core.img", menu: "function options",
		},
		{
			name: "Debian 14 for BIOS alone", image: bios.with(fileSet{biosModules + "/blsuki.mod": "m"}),
			boot: own + " grub2/i386-pc/boot.img grub2/i386-pc/core.img", menu: "\nblscfg\n",
		},
		{
			name: "Debian with its ostree tools", image: debianPackages("amd64", "x64", "x86_64-efi").with(fileSet{
				"usr/bin/ostree": "", "usr/sbin/grub-mkconfig": "", "usr/etc/grub.d/15_ostree": "", "usr/etc/default/grub": ""}),
			esp:  "BOOT/BOOTX64.EFI BOOT/fbx64.efi debian/BOOTX64.CSV debian/grub.cfg debian/grubx64.efi debian/mmx64.efi debian/shimx64.efi",
			boot: own,
		},
		{
			name: "Debian for arm64", arch: "arm64", image: debianPackages("arm64", "aa64", "arm64-efi"),
			esp:  "BOOT/BOOTAA64.EFI BOOT/fbaa64.efi debian/BOOTAA64.CSV debian/grub.cfg debian/grubaa64.efi debian/mmaa64.efi debian/shimaa64.efi",
			boot: own, menu: "function options",
		},
		{
			name: "Debian for riscv64, which has no shim", arch: "riscv64",
			image: fileSet{"usr/lib/grub/riscv64-efi/monolithic/grubriscv64.efi": string(fakegrub.EFI("/EFI/debian", fakegrub.Script()...))},
			esp:   "BOOT/BOOTRISCV64.EFI debian/grub.cfg", boot: own, menu: "function options", warns: "no shim",
		},
		{
			name: "Debian without shim", image: debianPackages("amd64", "x64", "x86_64-efi").with(fileSet{"usr/lib/shim": "-", "usr/lib/grub/x86_64-efi-signed": "-"}),
			esp: "BOOT/BOOTX64.EFI debian/grub.cfg", boot: own, menu: "function options", warns: "Secure Boot refuses",
		},
		{
			name: "Debian without shim's fallback", image: debianPackages("amd64", "x64", "x86_64-efi").with(fileSet{"usr/lib/shim/fbx64.efi.signed": "-", "usr/lib/shim/fbx64.efi": "-"}),
			esp:  "BOOT/BOOTX64.EFI BOOT/grubx64.efi BOOT/mmx64.efi debian/grub.cfg debian/grubx64.efi debian/mmx64.efi debian/shimx64.efi",
			boot: own, menu: "function options",
		},
		{
			name: "Ubuntu", image: ubuntu(),
			esp:  "BOOT/BOOTX64.EFI BOOT/fbx64.efi ubuntu/BOOTX64.CSV ubuntu/grub.cfg ubuntu/grubx64.efi ubuntu/mmx64.efi ubuntu/shimx64.efi",
			boot: own, menu: "function options",
		},
		{
			name: "openSUSE", image: openSUSEPackages(),
			esp:  "BOOT/BOOTX64.EFI BOOT/MokManager.efi BOOT/fallback.efi opensuse/MokManager.efi opensuse/boot.csv opensuse/grub.cfg opensuse/grub.efi opensuse/shim.efi",
			boot: own, menu: "function options",
		},
		{
			name: "a prefix of its own", image: fileSet{
				"usr/lib/os-release":                             "NAME='Acme OS'\n",
				"usr/lib/grub/x86_64-efi/monolithic/grubx64.efi": string(fakegrub.EFI("/boot/grub", "blscfg")),
			},
			esp: "BOOT/BOOTX64.EFI acme/grub.cfg", more: " boot/grub/grub.cfg", boot: own, menu: "\nblscfg\n", warns: "no shim",
		},
		{
			name: "Arch, BIOS alone", image: bios.with(fileSet{biosModules + "/blsuki.mod": "m", "usr/lib/grub/x86_64-efi/kernel.img": "k"}),
			boot: own + " grub2/i386-pc/boot.img grub2/i386-pc/core.img", menu: "\nblscfg\n", warns: "by BIOS only",
		},
		{
			name: "ppc64le", arch: "ppc64le", image: prepGRUB().with(rhel("redhat", false)).with(fileSet{"usr/lib/bootupd/updates/BIOS.json": biosJSON, "usr/lib/bootupd/updates/EFI": "-", "usr/lib/bootupd/updates/EFI.json": "-"}),
			boot: static + " grub2/grub grub2/powerpc-ieee1275/blscfg.mod grub2/powerpc-ieee1275/command.lst grub2/powerpc-ieee1275/core.elf grub2/powerpc-ieee1275/ext2.mod" +
				" grub2/powerpc-ieee1275/fshelp.mod grub2/powerpc-ieee1275/moddep.lst grub2/powerpc-ieee1275/part_gpt.mod",
			menu: "blscfg\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			os := c.image.tree(t)
			if c.arch == "" {
				c.arch = "amd64"
			}
			caps, err := Detect(os, c.arch)
			if err != nil {
				t.Fatal(err)
			}
			req := request(os)
			req.Arch, req.NoESP, req.BIOSBoot, req.PReP, req.PRePSize = c.arch, !caps.UEFI, caps.BIOS, caps.PReP, 4<<20
			r, err := Install(req)
			if err != nil {
				t.Fatal(err)
			}
			if c.esp == "" {
				if caps.UEFI || r.ESP != nil || tree.Lookup(r.Boot, "efi") != nil {
					t.Error("UEFI")
				}
			} else {
				if got, want := names(t, r.ESP), "EFI/"+strings.ReplaceAll(c.esp, " ", " EFI/")+c.more; got != want {
					t.Errorf("ESP %s, want %s", got, want)
				}
			}
			want := strings.Fields(c.boot)
			slices.Sort(want)
			if got := names(t, r.Boot); got != strings.Join(want, " ") {
				t.Errorf("/boot %s, want %s", got, want)
			}
			if c.menu != "" && !strings.Contains(text(t, r.Boot, "grub2/grub.cfg"), c.menu) {
				t.Errorf("grub.cfg\n%s", text(t, r.Boot, "grub2/grub.cfg"))
			}
			if warned := strings.Join(r.Warnings, "\n"); c.warns == "" && warned != "" || !strings.Contains(warned, c.warns) {
				t.Errorf("warnings %q, want %q", r.Warnings, c.warns)
			}
			if (r.Core != nil) != (caps.BIOS || caps.PReP) || (r.BootCode != nil) != caps.BIOS || len(r.Core)%512 != 0 {
				t.Errorf("core of %d bytes, boot code of %d", len(r.Core), len(r.BootCode))
			}
			// What the firmware starts is the signed file, if there is one.
			if signed := slices.ContainsFunc(slices.Collect(maps.Keys(c.image)), func(p string) bool {
				return strings.HasPrefix(p, "usr/lib/shim/shim") && strings.Contains(p, ".signed")
			}); signed {
				boot := tree.Lookup(r.ESP, "EFI/BOOT").Entries()
				b, err := boot[0].Inode.Content.ReadAll(100)
				if err != nil || string(b) != "shim, signed" {
					t.Errorf("%s is %q, %v", boot[0].Name, b, err)
				}
			}
		})
	}
}

// TestPReP looks at what is on a disk for Open Firmware.
func TestPReP(t *testing.T) {
	image := prepGRUB().with(fileSet{"usr/lib/bootupd/updates/BIOS.json": biosJSON})
	req := request(image.tree(t))
	req.Arch, req.BIOSBoot, req.PReP, req.PRePSize = "ppc64le", false, true, 4<<20
	r, err := Install(req)
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Core[:7]) != "\x7fELF\x01\x02\x01" || r.BootCode != nil || r.ESP != nil {
		t.Errorf("core % x, boot code of %d", r.Core[:7], len(r.BootCode))
	}
	if elf := text(t, r.Boot, "grub2/powerpc-ieee1275/core.elf"); !strings.HasPrefix(string(r.Core), elf) || text(t, r.Boot, "grub2/grub") != elf {
		t.Error("the core image in /boot is another one")
	}
	if !strings.Contains(string(r.Core), "(,gpt3)/grub2\x00") {
		t.Error("no prefix")
	}
	if dir := tree.Lookup(r.Boot, "grub2"); dir.Perm() != 0o755 || dir.Child("grubenv") == nil {
		t.Errorf("mode %o", dir.Perm())
	}
	var state struct{ Installed map[string]any }
	if err := json.Unmarshal([]byte(text(t, r.Boot, "bootupd-state.json")), &state); err != nil || len(state.Installed) != 1 || state.Installed["BIOS"] == nil {
		t.Errorf("state %+v, %v", state, err)
	}

	req.SeparateBoot, req.BootPartition = false, 2
	if r, err = Install(req); err != nil || !strings.Contains(string(r.Core), "(,gpt2)/boot/grub2\x00") {
		t.Errorf("no prefix in the root file system, %v", err)
	}
	req.PRePSize = 4096
	if _, err := Install(req); fault.ClassOf(err) != fault.NoSpace {
		t.Errorf("a small partition: %v", err)
	}
	req.PReP = false
	if _, err := Install(req); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("no partition: %v", err)
	}
}

// A CSV that the image lacks is made, in UTF-16 as shim's fallback reads it.
func TestCSV(t *testing.T) {
	for want, image := range map[string]fileSet{
		"debian/BOOTX64.CSV": debianPackages("amd64", "x64", "x86_64-efi").with(fileSet{"usr/lib/shim/BOOTX64.CSV": "-"}),
		"opensuse/boot.csv":  openSUSEPackages(),
	} {
		r, err := Install(request(image.tree(t)))
		if err != nil {
			t.Fatal(err)
		}
		vendor, _, _ := strings.Cut(want, "/")
		shim := "shimx64.efi"
		if vendor == "opensuse" {
			shim = "shim.efi"
		}
		got := text(t, r.ESP, "EFI/"+want)
		if ascii := strings.ReplaceAll(got, "\x00", ""); ascii != fmt.Sprintf("%s,%s,,This is the boot entry for %s\n", shim, vendor, vendor) || len(got) != 2*len(ascii) {
			t.Errorf("%s: %q", want, got)
		}
	}
}

// Packages that cannot be used are named.
func TestPackagedRefuses(t *testing.T) {
	const loader = "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
	deb := debianPackages("amd64", "x64", "x86_64-efi")
	for _, c := range []struct {
		name  string
		image fileSet
		want  string
	}{
		{"no GRUB", deb.with(fileSet{loader: "MZ"}), "x86_64-efi"},
		{"a device", deb.with(fileSet{loader: string(fakegrub.EFI("(hd0)/x"))}), `prefix "(hd0)/x"`},
		{"upwards", deb.with(fileSet{loader: string(fakegrub.EFI("/EFI/../x"))}), "prefix"},
		{"a long name", deb.with(fileSet{loader: string(fakegrub.EFI("/EFI/" + strings.Repeat("x", 100)))}), "prefix"},
		{"another architecture", debianPackages("arm64", "aa64", "arm64-efi"), "no boot loader for amd64"},
		{"no way to a menu", deb.with(fileSet{loader: string(fakegrub.EFI("/EFI/debian", "normal"))}), "neither a GRUB configuration"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Install(request(c.image.tree(t)))
			if fault.ClassOf(err) != fault.BadImage || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	// What is broken in one place does not matter where another one has all.
	broken := deb.with(fileSet{"usr/lib/ostree-boot/efi/EFI/.btmp.x": "x"})
	if _, err := Install(request(broken.tree(t))); err != nil {
		t.Error(err)
	}
}

// CheckEntry refuses entries that the script cannot read.
func TestCheckEntry(t *testing.T) {
	r, err := Install(request(debianPackages("amd64", "x64", "x86_64-efi").tree(t)))
	if err != nil {
		t.Fatal(err)
	}
	entry := func(title, options string) []byte {
		return []byte("title " + title + "\nversion 1\noptions " + options + "\nlinux /boot/ostree/x/vmlinuz\n")
	}
	const deployment = "root=UUID=1 ostree=/ostree/boot.1/default/0123/0"
	if err := r.CheckEntry(entry("Debian GNU/Linux 13 (trixie) (ostree:0)", deployment+` x="a b" y='c;d' z=\$`)); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]byte{
		entry("Bob's OS", deployment), entry("A; B", deployment), entry("A # B", deployment), entry("A", deployment+" ${x}"),
		entry("A", deployment+" x={1}"), entry("A", "root=UUID=1"), []byte("title x\n"),
	} {
		if err := r.CheckEntry(bad); err == nil {
			t.Errorf("%q is fine", bad)
		}
	}
}
