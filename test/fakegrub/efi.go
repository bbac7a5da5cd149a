package fakegrub

import (
	"encoding/binary"
	"strings"
)

// Module area of 64-bit platforms (GRUB's include/grub/kernel.h).
const (
	moduleMagic = 0x676d696d // "mimg"
	sizeInfo64  = 24
	typeELF     = 0
	typePrefix  = 3
)

// EFI returns an EFI binary with the modules that are in it, and the directory
// that is compiled into it, as in "/EFI/debian".
func EFI(prefix string, modules ...string) []byte {
	le := binary.LittleEndian
	area := make([]byte, sizeInfo64)
	le.PutUint32(area, moduleMagic)
	le.PutUint64(area[8:], sizeInfo64)
	object := func(kind uint32, data []byte) {
		for len(data)%4 != 0 {
			data = append(data, 0)
		}
		area = le.AppendUint32(le.AppendUint32(area, kind), uint32(len(data)+8))
		area = append(area, data...)
	}
	for _, m := range modules {
		object(typeELF, module64(m))
	}
	object(typePrefix, append([]byte(prefix), 0))
	le.PutUint64(area[16:], uint64(len(area)))

	// MS-DOS stub, COFF header without an optional one, one section.
	const start = 64 + 24 + 40
	b := make([]byte, start)
	copy(b, "MZ")
	b[0x3c] = 64
	copy(b[64:], "PE\x00\x00\x64\x86\x01\x00")
	copy(b[88:], "mods")
	le.PutUint32(b[88+16:], uint32(len(area)))
	le.PutUint32(b[88+20:], start)
	return append(b, area...)
}

// Script returns the modules that an EFI binary needs to show boot loader
// entries by a script, and then those given.
func Script(more ...string) []string {
	return append(strings.Fields("normal configfile test regexp search_fs_uuid linux ext2 part_gpt"), more...)
}

// module64 returns an ELF object with a section .modname.
func module64(name string) []byte {
	le := binary.LittleEndian
	const names = "\x00.modname\x00"
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	b[0x10], b[0x12] = relocatable, 62
	b = append(append(append(b, names...), name...), 0)
	table := len(b)
	le.PutUint64(b[0x28:], uint64(table))
	b[0x3a], b[0x3c], b[0x3e] = 64, 2, 0
	b = append(b, make([]byte, 128)...)
	for k, s := range [][4]int{{0, strtab, 64, len(names)}, {1, progbits, 64 + len(names), len(name) + 1}} {
		h := b[table+64*k:]
		le.PutUint32(h, uint32(s[0]))
		le.PutUint32(h[4:], uint32(s[1]))
		le.PutUint64(h[0x18:], uint64(s[2]))
		le.PutUint64(h[0x20:], uint64(s[3]))
	}
	return b
}
