package bootloader

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
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
func grubEFI(modules ...string) string {
	le := binary.LittleEndian
	area := make([]byte, 24)
	le.PutUint32(area, 0x676d696d)
	le.PutUint64(area[8:], 24)
	for _, m := range modules {
		o := object(m)
		for len(o)%4 != 0 {
			o = append(o, 0)
		}
		area = le.AppendUint32(area, 0)
		area = le.AppendUint32(area, uint32(len(o)+8))
		area = append(area, o...)
	}
	le.PutUint64(area[16:], uint64(len(area)))

	const start = 64 + 24 + 40
	b := make([]byte, start)
	copy(b, "MZ")
	b[0x3c] = 64
	copy(b[64:], "PE\x00\x00\x64\x86\x01\x00")
	copy(b[88:], "mods")
	le.PutUint32(b[88+16:], uint32(len(area)))
	le.PutUint32(b[88+20:], start)
	return string(append(b, area...))
}

// object returns an ELF object with a section .modname.
func object(name string) []byte {
	le := binary.LittleEndian
	const names = "\x00.modname\x00"
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	b[0x10], b[0x12] = 1, 62
	b = append(append(append(b, names...), name...), 0)
	table := len(b)
	le.PutUint64(b[0x28:], uint64(table))
	b[0x3a], b[0x3c], b[0x3e] = 64, 2, 0
	b = append(b, make([]byte, 128)...)
	section := func(k int, nameOff, kind uint32, off, size int) {
		s := b[table+64*k:]
		le.PutUint32(s, nameOff)
		le.PutUint32(s[4:], kind)
		le.PutUint64(s[0x18:], uint64(off))
		le.PutUint64(s[0x20:], uint64(size))
	}
	section(0, 0, 3, 64, len(names))
	section(1, 1, 1, 64+len(names), len(name)+1)
	return b
}

const (
	staticDir = "usr/lib/bootupd/grub2-static/"
	uuid      = "0fc63daf-8483-4772-8e79-3d69d8477de4"
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
