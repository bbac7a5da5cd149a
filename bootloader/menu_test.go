package bootloader

import (
	"slices"
	"strings"
	"testing"

	"imgbuild/bootloader/grub"
	"imgbuild/fault"
	"imgbuild/test/fakegrub"
	"imgbuild/tree"
)

// TestMenu goes through what a GRUB without the blscfg command in its EFI
// binary can lead to.
func TestMenu(t *testing.T) {
	const grubx64 = "usr/lib/efi/grub2/1:2.12-41.fc44/EFI/fedora/grubx64.efi"
	plain := fedora().with(fileSet{grubx64: grubEFI("normal")})
	guarded := fileSet{staticDir + "configs.d/10_blscfg.cfg": "if [ -f $prefix/$grub_cpu-$grub_platform/blsuki.mod ]; then\n  insmod blsuki\n  blscfg\nelse\n  menuentry x {\n true\n }\nfi\n"}
	onDisk := fileSet{"usr/lib/grub/x86_64-efi/blsuki.mod": "m", "usr/lib/grub/x86_64-efi/command.lst": "blscfg: blsuki\n"}
	mkconfig := fileSet{"usr/bin/ostree": "", "usr/sbin/grub-mkconfig": "", "usr/etc/grub.d/15_ostree": "", "usr/etc/default/grub": ""}
	noStatic := fileSet{strings.TrimSuffix(staticDir, "/"): "-"}
	scripts := fedora().with(fileSet{grubx64: grubEFI(fakegrub.Script()...)})
	bios := fedoraBoth(t).with(fileSet{grubx64: grubEFI("normal")})

	for _, c := range []struct {
		name    string
		image   fileSet
		warning string // part of one
		fails   string
		repo    string
		modules bool   // x86_64-efi is in /boot/grub2
		own     string // part of a grub.cfg of ours
	}{
		{name: "in the binary", image: fedora(), repo: "none"},
		{name: "nowhere", image: plain, fails: "no blscfg command"},
		{name: "nowhere, and the configuration knows", image: plain.with(guarded), repo: "none"},
		{name: "on disk", image: plain.with(onDisk), repo: "none", modules: true, warning: "Secure Boot"},
		{name: "on disk, and the configuration knows", image: plain.with(onDisk).with(guarded), repo: "none", modules: true},
		{name: "in the binary and on disk", image: fedora().with(onDisk), repo: "none"},
		{name: "nowhere, mkconfig", image: plain.with(mkconfig), repo: "grub2"},
		{name: "no configuration", image: fedora().with(noStatic), repo: "none", own: "blscfg\n"},
		{name: "no configuration, mkconfig", image: fedora().with(mkconfig).with(noStatic), repo: "none", own: "blscfg\n"},
		{name: "no configuration, no command", image: plain.with(noStatic), fails: "neither a GRUB configuration"},
		{name: "no configuration, no command, mkconfig", image: plain.with(noStatic).with(mkconfig), repo: "grub2"},
		{name: "no configuration, on disk", image: plain.with(noStatic).with(onDisk), repo: "none", own: "blscfg\n", modules: true, warning: "Secure Boot"},
		{name: "no configuration, a script", image: scripts.with(noStatic).with(onDisk), repo: "none", own: "function options"},
		{name: "no configuration, a script, mkconfig", image: scripts.with(noStatic).with(mkconfig), repo: "grub2"},
		{name: "no configuration, not a GRUB", image: fedora().with(noStatic).with(fileSet{grubx64: "x"}), fails: "neither a GRUB configuration"},
		{name: "no configuration, BIOS too", image: bios.with(noStatic).with(fileSet{grubx64: grubEFI(fakegrub.Script()...)}), repo: "none", own: "function options"},
		{name: "BIOS alone", image: bios, repo: "none", warning: "GRUB for UEFI has no blscfg"},
		{name: "BIOS alone, mkconfig", image: bios.with(mkconfig), repo: "grub2"},
		{name: "UEFI alone", image: fedoraBoth(t).with(fileSet{biosModules + "/blscfg.mod": "-"}), repo: "none", warning: "GRUB for BIOS has no blscfg"},
		{name: "not a GRUB", image: fedora().with(fileSet{grubx64: "x"}), repo: "none", warning: "taken to have"},
		{name: "no GRUB", image: fedora().with(fileSet{"usr/lib/efi/grub2": "-"}), repo: "none", warning: "which shim starts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Install(request(c.image.tree(t)))
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) || fault.ClassOf(err) != fault.BadImage || fault.HintOf(err) == "" {
					t.Errorf("error %v, want %q", err, c.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.warning == "" && len(r.Warnings) > 0 || c.warning != "" && !slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, c.warning) }) {
				t.Errorf("warnings %q, want %q", r.Warnings, c.warning)
			}
			if r.RepoBootloader != c.repo {
				t.Errorf("bootloader %s", r.RepoBootloader)
			}
			if has := tree.Lookup(r.Boot, "grub2/x86_64-efi/blsuki.mod") != nil; has != c.modules {
				t.Errorf("modules for UEFI: %t", has)
			}
			cfg := tree.Lookup(r.Boot, "grub2/grub.cfg")
			state := text(t, r.Boot, "bootupd-state.json")
			if c.own != "" {
				if cfg := text(t, r.Boot, "grub2/grub.cfg"); !strings.Contains(cfg, c.own) || !strings.Contains(cfg, "search.fs_uuid "+uuid+" root\n") {
					t.Errorf("grub.cfg\n%s", cfg)
				}
				if !strings.Contains(state, `"static-configs":null`) || text(t, r.ESP, "EFI/fedora/grub.cfg") != string(grub.Stub(uuid, "/grub2")) {
					t.Errorf("stub, state %s", state)
				}
				if script := strings.Contains(c.own, "function"); script != (r.CheckEntry != nil) {
					t.Errorf("check of entries %t", r.CheckEntry != nil)
				}
				return
			}
			if c.repo == "none" {
				if !cfg.IsFile() || strings.Contains(state, `"static-configs":null`) {
					t.Errorf("grub.cfg %o, state %s", cfg.Mode, state)
				}
				return
			}
			if !cfg.IsLink() || cfg.Target != "../loader/grub.cfg" || !strings.Contains(state, `"static-configs":null`) {
				t.Errorf("grub.cfg %o, state %s", cfg.Mode, state)
			}
			if tree.Lookup(r.ESP, "EFI/fedora/grub.cfg") == nil {
				t.Error("no stub on the ESP")
			}
		})
	}
}

func TestLoaderGrubCfg(t *testing.T) {
	image := fedora().with(fileSet{
		"usr/sbin/grub-mkconfig": "", "usr/etc/grub.d/15_ostree": "", "usr/etc/default/grub": "", "usr/bin/ostree": "",
		"usr/lib/efi/grub2/1:2.12-41.fc44/EFI/fedora/grubx64.efi": grubEFI("normal"),
		strings.TrimSuffix(staticDir, "/"):                        "-",
	})
	r, err := Install(request(image.tree(t)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.LoaderGrubCfg([]byte("title Bob's OS (ostree:0)\nversion 1\noptions root=UUID=1 rw ostree=/ostree/boot.1/default/x/0\nlinux /boot/ostree/default-x/vmlinuz-6\ninitrd /boot/ostree/default-x/initramfs-6.img\n"))
	if err != nil {
		t.Fatal(err)
	}
	// As _ostree_bootloader_grub2_generate_config of ostree 2026.4 has it, with
	// prepare_grub_to_access_device of grub-mkconfig_lib without hints.
	const want = `menuentry 'Bob'\''s OS (ostree:0)' --class gnu-linux --class gnu --class os --unrestricted 'ostree-0-` + uuid + `' {
load_video
set gfxpayload=keep
insmod gzio
insmod part_gpt
insmod ext2
search --no-floppy --fs-uuid --set=root ` + uuid + `
linux /boot/ostree/default-x/vmlinuz-6 root=UUID=1 rw ostree=/ostree/boot.1/default/x/0
initrd /boot/ostree/default-x/initramfs-6.img
}
`
	if !strings.Contains(string(got), want) {
		t.Errorf("grub.cfg\n%s, want\n%s", got, want)
	}
	if got, want := text(t, r.ESP, "EFI/fedora/grub.cfg"), "search.fs_uuid "+uuid+" root\nset prefix=($root)'/grub2'\nconfigfile $prefix/grub.cfg\n"; got != want {
		t.Errorf("stub %q, want %q", got, want)
	}
	for _, entry := range []string{"", "title x\n", "linux /x\x01\n"} {
		if _, err := r.LoaderGrubCfg([]byte(entry)); err == nil {
			t.Errorf("%q is an entry", entry)
		}
	}
}
