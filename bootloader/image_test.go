package bootloader

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/test/fakegrub"
	"imgbuild/tree"
)

// fileSet is an image as paths and contents.
type fileSet map[string]string

func (s fileSet) tree(t testing.TB) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	for p, text := range s {
		if err := tree.Put(root, p, tree.NewFile(0o644, content.String(text))); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// with returns the set with changes; a value of "-" removes the path and all
// below it.
func (s fileSet) with(changes fileSet) fileSet {
	out := make(fileSet)
	for p, text := range s {
		out[p] = text
	}
	for p, text := range changes {
		if text != "-" {
			out[p] = text
			continue
		}
		for q := range out {
			if q == p || strings.HasPrefix(q, p+"/") {
				delete(out, q)
			}
		}
	}
	return out
}

// hostGRUB returns the files of GRUB for BIOS that this machine has.
func hostGRUB(t testing.TB) fileSet {
	t.Helper()
	s := make(fileSet)
	files, err := os.ReadDir("/" + biosModules)
	if err != nil {
		t.Fatalf("%v: install the packages grub-common and grub-pc-bin", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join("/", biosModules, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		s[biosModules+"/"+f.Name()] = string(b)
	}
	return s
}

// grubEFI returns an EFI binary with the modules that are in GRUB.
func grubEFI(modules ...string) string { return string(fakegrub.EFI("/EFI/fedora", modules...)) }

const (
	biosModules = "usr/lib/grub/i386-pc"
	prepModules = "usr/lib/grub/powerpc-ieee1275"
	staticDir   = "usr/lib/bootupd/grub2-static/"
	uuid        = "0fc63daf-8483-4772-8e79-3d69d8477de4"
)

// fedora is an image of today's Fedora layout, without GRUB for BIOS.
func fedora() fileSet {
	const efi = "usr/lib/efi/"
	return fileSet{
		"usr/lib/bootupd/updates/EFI.json":                  `{"timestamp":"2026-03-02T09:00:00Z","version":"grub2-1:2.12-41.fc44,shim-15.8-4","versions":null}`,
		efi + "shim/15.8-4/EFI/BOOT/BOOTX64.EFI":            "shim",
		efi + "shim/15.8-4/EFI/BOOT/fbx64.efi":              "fallback",
		efi + "shim/15.8-4/EFI/fedora/shimx64.efi":          "shim",
		efi + "shim/15.8-4/EFI/fedora/mmx64.efi":            "manager",
		efi + "shim/15.8-4/EFI/fedora/BOOTX64.CSV":          "\xff\xfes\x00",
		efi + "grub2/1:2.12-41.fc44/EFI/fedora/grubx64.efi": grubEFI("normal", "blscfg"),
		staticDir + "grub-static-pre.cfg":                   "set timeout=1\n",
		staticDir + "grub-static-efi.cfg":                   "configfile $prefix/grub.cfg\n",
		staticDir + "configs.d/10_blscfg.cfg":               "blscfg\n",
	}
}

const biosJSON = `{"timestamp":"2026-03-01T08:00:00Z","version":"grub2-tools-1:2.12-41.fc44.x86_64","versions":null}`

// fedoraBoth adds GRUB for BIOS, with a blscfg module.
func fedoraBoth(t testing.TB) fileSet {
	return fedora().with(hostGRUB(t)).with(fileSet{
		"usr/lib/bootupd/updates/BIOS.json":       biosJSON,
		biosModules + "/blscfg.mod":               "a module",
		"usr/share/grub/unicode.pf2":              "font",
		"usr/share/locale/de/LC_MESSAGES/grub.mo": "deutsch",
		"usr/share/locale/de/LC_MESSAGES/ls.mo":   "no",
	})
}
