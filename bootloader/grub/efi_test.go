package grub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/test/fakegrub"
	"imgbuild/tree"
)

// TestParseEFI reads back what grub-mkimage puts into an EFI binary.
func TestParseEFI(t *testing.T) {
	const dir = "usr/lib/grub/x86_64-efi"
	text, err := os.ReadFile("/" + dir + "/moddep.lst")
	if err != nil {
		t.Fatalf("%v: install the package grub-efi-amd64-bin", err)
	}
	deps, err := ParseModDep(text)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "load.cfg")
	if err := os.WriteFile(config, []byte("echo hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wanted := []string{"normal", "part_gpt", "fat", "ext2", "linux", "regexp"}
	out := filepath.Join(t.TempDir(), "grub.efi")
	args := append([]string{"-O", "x86_64-efi", "-d", "/" + dir, "-p", "/EFI/debian", "-c", config, "-o", out}, wanted...)
	if text, err := exec.Command("grub-mkimage", args...).CombinedOutput(); err != nil {
		t.Fatalf("grub-mkimage: %v\n%s", err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	image, err := ParseEFI(content.Bytes(b))
	if err != nil {
		t.Fatal(err)
	}
	order, err := deps.Closure(wanted)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(image.Modules, order) {
		t.Errorf("modules %v, want %v", image.Modules, order)
	}
	if image.Prefix != "/EFI/debian" || image.Config != "echo hello\n" {
		t.Errorf("prefix %q, configuration %q", image.Prefix, image.Config)
	}
	if !image.Has("linux") || image.Has("blscfg") {
		t.Errorf("linux %t, blscfg %t", image.Has("linux"), image.Has("blscfg"))
	}
}

// object64 returns a 64-bit ELF object with a section .modname.
func object64(name string) []byte {
	le := binary.LittleEndian
	names := "\x00.shstrtab\x00.modname\x00"
	data := name + "\x00"
	b := make([]byte, sizeHeader64)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[0x10:], elfRelocatable)
	le.PutUint16(b[0x12:], 62)
	b = append(append(b, names...), data...)
	le.PutUint64(b[0x28:], uint64(len(b)))
	le.PutUint16(b[0x3a:], sizeSection64)
	le.PutUint16(b[0x3c:], 3)
	le.PutUint16(b[0x3e:], 1)
	section := func(nameOff, kind uint32, off, size int) {
		s := make([]byte, sizeSection64)
		le.PutUint32(s, nameOff)
		le.PutUint32(s[4:], kind)
		le.PutUint64(s[0x18:], uint64(off))
		le.PutUint64(s[0x20:], uint64(size))
		b = append(b, s...)
	}
	section(0, 0, 0, 0)
	section(1, 3, sizeHeader64, len(names))
	section(11, sectionProgbits, sizeHeader64+len(names), len(data))
	return b
}

// efiBinary returns a PE file with a module area.
func efiBinary(area []byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, sizeDOSHeader)
	copy(b, "MZ")
	le.PutUint32(b[peOffset:], sizeDOSHeader)
	coff := make([]byte, sizePESig+sizeCOFFHeader)
	copy(coff, "PE\x00\x00\x64\x86\x01\x00")
	section := make([]byte, sizePESection)
	copy(section, "mods")
	le.PutUint32(section[16:], uint32(len(area)))
	le.PutUint32(section[20:], uint32(len(b)+len(coff)+len(section)))
	return bytes.Join([][]byte{b, coff, section, area}, nil)
}

// area64 returns a 64-bit module area.
func area64(objects ...[]byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, sizeModInfo64)
	le.PutUint32(b, moduleMagic)
	le.PutUint64(b[8:], sizeModInfo64)
	b = append(b, bytes.Join(objects, nil)...)
	le.PutUint64(b[16:], uint64(len(b)))
	return b
}

func TestParseEFIRefuses(t *testing.T) {
	module := appendObject(nil, binary.LittleEndian, objectELF, object64("blscfg"))
	unknown := appendObject(nil, binary.LittleEndian, 77, []byte("other vendors' objects are passed over"))
	image, err := ParseEFI(content.Bytes(efiBinary(area64(unknown, module))))
	if err != nil || !slices.Equal(image.Modules, []string{"blscfg"}) {
		t.Fatalf("%v, %v", image, err)
	}

	good := efiBinary(area64(module))
	edit := func(off int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[off:], b)
		return c
	}
	table := sizeDOSHeader + sizePESig + sizeCOFFHeader
	area := table + sizePESection
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":           {nil, "beyond"},
		"script":          {bytes.Repeat([]byte("#!"), 64), "not a PE"},
		"no signature":    {edit(sizeDOSHeader, 'X'), "no PE signature"},
		"header far":      {edit(peOffset, 0xff, 0xff, 0xff, 0xff), "beyond"},
		"many sections":   {edit(sizeDOSHeader+6, 0xff, 0xff), "PE sections"},
		"no mods":         {edit(table, 'x'), ErrNotGRUB.Error()},
		"mods huge":       {edit(table+16, 0xff, 0xff, 0xff, 0xff), "PE section mods"},
		"mods far":        {edit(table+20, 0xff, 0xff, 0xff, 0xff), "beyond"},
		"no magic":        {edit(area, 0), ErrNotGRUB.Error()},
		"total too large": {edit(area+16, 0xff, 0xff), "module area"},
		"first too small": {edit(area+8, 1), "module area"},
		"object of 0":     {edit(area+sizeModInfo64+4, 0, 0), "object of 0 bytes"},
		"object too long": {edit(area+sizeModInfo64+4, 0xff, 0xff), "object of"},
		"no name":         {efiBinary(area64(appendObject(nil, binary.LittleEndian, objectELF, object64("x")[:100]))), "ELF"},
	} {
		t.Run(name, func(t *testing.T) {
			image, err := ParseEFI(content.Bytes(c.b))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, error %v, want %q", image, err, c.want)
			}
		})
	}
	if _, err := ParseEFI(content.Bytes(edit(table, 'x'))); !errors.Is(err, ErrNotGRUB) {
		t.Errorf("error %v", err)
	}
}

func FuzzParseEFI(f *testing.F) {
	f.Add(efiBinary(area64(appendObject(nil, binary.LittleEndian, objectELF, object64("blsuki")), appendObject(nil, binary.LittleEndian, objectPrefix, []byte("/EFI/x\x00")))))
	f.Add(efiBinary(area64()))
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if image, err := ParseEFI(content.Bytes(b)); err == nil && len(image.Modules) > len(b) {
			t.Fatalf("%d modules in %d bytes", len(image.Modules), len(b))
		}
	})
}

func FuzzKernel(f *testing.F) {
	if b, err := tree.ReadFile(hostTree(f, hostModules), hostModules+"/kernel.img", 1<<20); err == nil {
		f.Add(b)
	}
	f.Add(fakegrub.Kernel(0x200000, 0x1234, 0x77, 0x999))
	f.Add(object64("x"))
	f.Add([]byte("\x7fELF\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range []platform{platformPC(), platformPPC()} {
			k, err := flattenKernel(b, p)
			if err == nil && (len(k.image) > k.memory || k.link < p.lowest || k.link+uint64(k.memory) > p.highest || k.align > maxAlign) {
				t.Fatalf("%d bytes of %d at %#x", len(k.image), k.memory, k.link)
			}
		}
	})
}
