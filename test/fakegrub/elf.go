package fakegrub

import "encoding/binary"

// Parts of the ELF format (System V gABI, chapters 4 and 5).
const (
	sizeHeader32  = 52
	sizeSection32 = 40

	relocatable = 1
	executable  = 2
	machinePPC  = 20

	progbits, strtab, nobits = 1, 3, 8
	write, alloc, exec       = 1, 2, 4
)

// section is a section of an ELF file.
type section struct {
	name        string
	kind, flags uint32
	addr, align uint32
	data        []byte
	size        uint32 // of one without content
}

// elf32 returns a big-endian ELF file for powerpc with the sections, between
// the empty one and their names.
func elf32(kind uint16, entry uint32, sections ...section) []byte {
	be := binary.BigEndian
	names := []byte{0}
	nameOff := []uint32{0}
	for _, s := range append(sections, section{name: ".shstrtab"}) {
		nameOff = append(nameOff, uint32(len(names)))
		names = append(append(names, s.name...), 0)
	}
	all := append([]section{{}}, sections...)
	all = append(all, section{kind: strtab, align: 1, data: names})

	b := make([]byte, sizeHeader32)
	var table []byte
	for k, s := range all {
		for s.align > 1 && uint32(len(b))%s.align != 0 {
			b = append(b, 0)
		}
		if s.data != nil {
			s.size = uint32(len(s.data))
		}
		for _, v := range []uint32{nameOff[k], s.kind, s.flags, s.addr, uint32(len(b)), s.size, 0, 0, s.align, 0} {
			table = be.AppendUint32(table, v)
		}
		b = append(b, s.data...)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	copy(b, "\x7fELF\x01\x02\x01") // 32 bits, big-endian, version 1
	be.PutUint16(b[0x10:], kind)
	be.PutUint16(b[0x12:], machinePPC)
	be.PutUint32(b[0x14:], 1)
	be.PutUint32(b[0x18:], entry)
	be.PutUint32(b[0x20:], uint32(len(b)))
	be.PutUint16(b[0x28:], sizeHeader32)
	be.PutUint16(b[0x2e:], sizeSection32)
	be.PutUint16(b[0x30:], uint16(len(all)))
	be.PutUint16(b[0x32:], uint16(len(all)-1))
	return append(b, table...)
}

// noise returns n bytes that tell where they were.
func noise(n int) []byte {
	b := make([]byte, n)
	for k := range b {
		b[k] = byte(k*7 + k>>8 + 1)
	}
	return b
}

// Kernel returns a kernel.img for Open Firmware on powerpc: text of so many
// bytes at the link address, data behind it, and bss.
func Kernel(link uint32, text, data int, bss uint32) []byte {
	dataAt := (link + uint32(text) + 7) &^ 7
	return elf32(executable, link,
		section{name: ".text", kind: progbits, flags: alloc | exec, addr: link, align: 16, data: noise(text)},
		section{name: ".data", kind: progbits, flags: alloc | write, addr: dataAt, align: 8, data: noise(data)},
		section{name: ".bss", kind: nobits, flags: alloc | write, addr: (dataAt + uint32(data) + 3) &^ 3, align: 4, size: bss},
		section{name: ".comment", kind: progbits, data: []byte("not loaded")})
}

// PowerPC returns the files of a powerpc-ieee1275 directory with the kernel.
func PowerPC(kernel []byte) map[string][]byte {
	files := map[string][]byte{"kernel.img": kernel, "moddep.lst": nil, "command.lst": []byte("blscfg: blscfg\n")}
	for k, name := range []string{"blscfg", "ext2", "fshelp", "part_gpt"} {
		files["moddep.lst"] = append(files["moddep.lst"], name+":"...)
		if name == "ext2" {
			files["moddep.lst"] = append(files["moddep.lst"], " fshelp"...)
		}
		files["moddep.lst"] = append(files["moddep.lst"], '\n')
		files[name+".mod"] = elf32(relocatable, 0,
			section{name: ".text", kind: progbits, flags: alloc | exec, align: 4, data: noise(101 + k)},
			section{name: ".modname", kind: progbits, data: append([]byte(name), 0)})
	}
	return files
}
