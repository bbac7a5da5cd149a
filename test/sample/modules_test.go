package main

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"
)

// fakeModule is an ELF file with nothing but a .modinfo section, which is all
// that depmod and modprobe look at for names, dependencies and aliases.
func fakeModule(info ...string) []byte {
	const sizeHeader, sizeSection, typeRelocatable, machine = 64, 64, 1, 62
	modinfo := []byte(strings.Join(info, "\x00") + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00.symtab\x00.strtab\x00")
	const symbol = 24 // one, empty
	le := binary.LittleEndian
	h := make([]byte, sizeHeader)
	copy(h, "\x7fELF\x02\x01\x01")
	le.PutUint16(h[16:], typeRelocatable)
	le.PutUint16(h[18:], machine)
	le.PutUint32(h[20:], 1)
	body := slices.Concat(modinfo, names, make([]byte, symbol+1))
	for len(body)%8 != 0 {
		body = append(body, 0)
	}
	le.PutUint64(h[40:], uint64(sizeHeader+len(body))) // e_shoff
	le.PutUint16(h[52:], sizeHeader)
	le.PutUint16(h[58:], sizeSection)
	le.PutUint16(h[60:], 5) // sections
	le.PutUint16(h[62:], 2) // that of their names
	section := func(name, kind, offset, size, link, entry int) []byte {
		s := make([]byte, sizeSection)
		le.PutUint32(s, uint32(name))
		le.PutUint32(s[4:], uint32(kind))
		le.PutUint64(s[24:], uint64(offset))
		le.PutUint64(s[32:], uint64(size))
		le.PutUint32(s[40:], uint32(link))
		le.PutUint64(s[48:], 1)
		le.PutUint64(s[56:], uint64(entry))
		return s
	}
	at := sizeHeader + len(modinfo)
	return slices.Concat(h, body, make([]byte, sizeSection),
		section(1, 1, sizeHeader, len(modinfo), 0, 0), section(10, 3, at, len(names), 0, 0),
		section(20, 2, at+len(names), symbol, 4, symbol), section(28, 3, at+len(names)+symbol, 1, 0, 0))
}

func packed(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const testModules = "lib/modules/1.0"

// moduleTree has modules with dependencies, aliases and one that nobody wants.
func moduleTree(t *testing.T) rootfs {
	root := make(rootfs)
	for name, info := range map[string][]string{
		"lib/base-lib.ko":     {"name=base_lib", "license=GPL"},
		"lib/crc.ko":          {"depends=", "alias=crypto-crc[a-f]"},
		"fs/file-system.ko":   {"depends=base-lib,crc", "alias=fs-file-system", "alias=fs-other"},
		"drivers/disk.ko":     {"depends=bus", "alias=pci:v00001AF4d00001001sv*sd*bc*sc*i*", "alias=pci:v00001AF4d00001042sv*sd*bc*sc*i*", "softdep=pre: crc post: missing"},
		"drivers/bus.ko":      {"depends=base_lib", "alias=bus-type-*"},
		"drivers/unwanted.ko": {"depends="},
	} {
		root.file(testModules+"/kernel/"+name+".xz", 0o644, packed(t, fakeModule(info...)))
	}
	root.text(testModules+"/modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio-pci.ko\n")
	root.text(testModules+"/modules.builtin.modinfo", "ext4.alias=fs-ext4\x00ext4.license=GPL\x00virtio_pci.alias=pci:v00001AF4d*sv*sd*bc*sc*i*\x00")
	root.text(testModules+"/modules.order", "kernel/lib/base-lib.ko\nkernel/lib/crc.ko\nkernel/fs/file-system.ko\nkernel/drivers/bus.ko\nkernel/drivers/disk.ko\n")
	return root
}

// The indexes are those of depmod, and modprobe finds its way with them.
func TestModuleIndex(t *testing.T) {
	root := moduleTree(t)
	list, err := loadModules(root, testModules, []string{"file_system", "disk", "ext4", "absent?"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list {
		names = append(names, m.name)
	}
	if got := strings.Join(names, " "); got != "base_lib crc file_system bus disk" {
		t.Errorf("loaded %s", got)
	}
	root.remove(testModules + "/kernel/drivers/unwanted.ko.xz")
	if err := writeModuleIndex(root, testModules, list, false); err != nil {
		t.Fatal(err)
	}
	ours, theirs := t.TempDir(), t.TempDir()
	for _, name := range root.paths() {
		if root[name].data != nil {
			write(t, filepath.Join(ours, name), root[name].data)
			if !strings.HasSuffix(name, ".bin") && !strings.HasSuffix(name, ".dep") && !strings.HasSuffix(name, ".alias") {
				write(t, filepath.Join(theirs, name), root[name].data)
			}
		}
	}
	command(t, theirs, "depmod", "-b", theirs, "1.0")
	for _, name := range []string{"modules.alias.bin", "modules.builtin.bin", "modules.builtin.alias.bin", "modules.symbols.bin"} {
		got, want := read(t, filepath.Join(ours, testModules, name)), read(t, filepath.Join(theirs, testModules, name))
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n%q\ndepmod:\n%q", name, got, want)
		}
	}
	for _, name := range []string{"modules.alias", "modules.softdep"} {
		got, want := lines(read(t, filepath.Join(ours, testModules, name))), lines(read(t, filepath.Join(theirs, testModules, name)))
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	// depmod looks at symbols in place of what the modules say they depend on.
	for alias, want := range map[string]string{
		"file_system": "base-lib crc file-system", "fs-other": "base-lib crc file-system", "bus-type-7": "base-lib bus",
		"pci:v00001AF4d00001042sv1sd2bc3sc4i5": "base-lib bus crc disk", "crypto-crcb": "crc",
		"fs-ext4": "builtin", "pci:v00001AF4d00009999sv1sd2bc3sc4i5": "builtin",
	} {
		var got []string
		for line := range strings.Lines(command(t, ours, "modprobe", "-d", ours, "-S", "1.0", "-C", ours, "--show-depends", alias)) {
			f := strings.Fields(line)
			if f[0] == "builtin" {
				got = append(got, f[0])
				continue
			}
			got = append(got, strings.TrimSuffix(filepath.Base(f[1]), ".ko.xz"))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, expected %s", alias, s, want)
		}
	}
}

// lines returns the sorted lines of a file without comments.
func lines(b []byte) []string {
	var list []string
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	slices.Sort(list)
	return list
}

func TestModulesMissing(t *testing.T) {
	root := moduleTree(t)
	if _, err := loadModules(root, testModules, []string{"absent"}); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("error %v", err)
	}
	root.file(testModules+"/kernel/drivers/bus.ko.xz", 0o644, []byte("no module"))
	if _, err := loadModules(root, testModules, []string{"disk"}); err == nil || !strings.Contains(err.Error(), "bus.ko.xz") {
		t.Errorf("error %v", err)
	}
}

func FuzzReadModule(f *testing.F) {
	f.Add(fakeModule("depends=a,b", "alias=x-[a-b]", "softdep=pre: c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, _, err := readModule(b, "a-b.ko"); err == nil && m.name != "a_b" {
			t.Errorf("name %q", m.name)
		}
	})
}
