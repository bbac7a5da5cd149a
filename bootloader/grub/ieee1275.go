package grub

import (
	"encoding/binary"
	"fmt"

	"imgbuild/content"
	"imgbuild/tree"
)

// powerpc-ieee1275 (include/grub/offsets.h): where the kernel of core.elf finds
// the module area, behind its .bss. The link address is not fixed: vendors move
// it from upstream's 0x200000.
const (
	ppcLowest    = 0x1000
	ppcHighest   = 0x10000000 // below the real-mode area that firmware leaves
	ppcModGap    = 0x8000
	ppcModAlign  = 0x1000
	ppcLinkAlign = 4
)

// core.elf (util/grub-mkimagexx.c, generate_elf): the ELF header, program
// headers, section headers and names, the kernel, the module area.
const (
	sizeProgram32  = 32
	corePrograms   = 3 // kernel, stack, modules
	coreSections   = 4 // none, names, .text, mods
	coreNames      = "\x00.text\x00mods\x00"
	coreNameText   = 1
	coreNameMods   = 7
	programLoad    = 1
	programStack   = 0x6474e551 // PT_GNU_STACK
	programAllowed = 7          // read, write, execute
)

// platformPPC is powerpc-ieee1275.
func platformPPC() platform {
	return platform{cpu: "powerpc", order: binary.BigEndian, machine: machinePPC, lowest: ppcLowest, highest: ppcHighest}
}

// ComposeELF makes core.elf for Open Firmware from the powerpc-ieee1275
// directory of a GRUB installation. os is the root that symbolic links in dir
// are relative to. It is the file that grub-mkimage makes, byte by byte.
func ComposeELF(os *tree.Inode, dir string, o CoreOptions) (*Core, error) {
	p, err := composePayload(os, dir, platformPPC(), o)
	if err != nil {
		return nil, err
	}
	k := &p.kernel
	names := sizeHeader32 + corePrograms*sizeProgram32 + coreSections*sizeSection32
	header := (names + len(coreNames) + k.align - 1) &^ (k.align - 1)
	core := len(k.image) + len(p.area)
	modules := header + len(k.image)
	file := make([]byte, header+(core+objectAlign-1)&^(objectAlign-1))

	encodeHeader(file, uint32(k.link))
	encodePrograms(file[sizeHeader32:], p, uint32(header))
	for n, s := range []elfSection{
		{},
		{kind: sectionStrtab, offset: uint64(names), length: uint64(len(coreNames)), align: uint64(k.align)},
		{kind: sectionProgbits, addr: k.link, offset: uint64(header), length: uint64(len(k.image)), align: uint64(k.align)},
		{kind: sectionProgbits, addr: k.link + uint64(len(k.image)), offset: uint64(modules), length: uint64(len(p.area)), align: objectAlign},
	} {
		at := sizeHeader32 + corePrograms*sizeProgram32 + n*sizeSection32
		s.encode(file[at:], [coreSections]uint32{0, 0, coreNameText, coreNameMods}[n])
	}
	copy(file[names:], coreNames)
	copy(file[header:], k.image)
	copy(file[modules:], p.area)

	image := make([]byte, (len(file)+sizeSector-1)/sizeSector*sizeSector)
	copy(image, file)
	if k.link+uint64(k.memory)+ppcModGap+ppcModAlign+uint64(len(p.area)) > ppcHighest {
		return nil, fmt.Errorf("%s: core image of %d bytes at %#x", dir, len(file), k.link)
	}
	return &Core{Image: image, File: content.Bytes(file), Modules: p.modules}, nil
}

// encodeHeader encodes the ELF header of core.elf, which is entered at the
// kernel's first byte.
func encodeHeader(b []byte, entry uint32) {
	be := binary.BigEndian
	copy(b, elfMagic)
	b[4], b[5], b[6] = elfClass32, elfMSB, elfCurrent
	be.PutUint16(b[0x10:], elfExecutable)
	be.PutUint16(b[0x12:], machinePPC)
	be.PutUint32(b[0x14:], elfCurrent)
	be.PutUint32(b[0x18:], entry)
	be.PutUint32(b[0x1c:], sizeHeader32)
	be.PutUint32(b[0x20:], sizeHeader32+corePrograms*sizeProgram32)
	be.PutUint16(b[0x28:], sizeHeader32)
	be.PutUint16(b[0x2a:], sizeProgram32)
	be.PutUint16(b[0x2c:], corePrograms)
	be.PutUint16(b[0x2e:], sizeSection32)
	be.PutUint16(b[0x30:], coreSections)
	be.PutUint16(b[0x32:], 1) // section of the names
}

// encodePrograms encodes the program headers: the kernel with its .bss, the
// stack, and the modules where the kernel looks for them.
func encodePrograms(b []byte, p *payload, offset uint32) {
	k := &p.kernel
	link, size, area := uint32(k.link), uint32(len(k.image)), uint32(len(p.area))
	at := (link + uint32(k.memory) + ppcModGap + ppcModAlign - 1) &^ uint32(ppcModAlign-1)
	// Type, offset, virtual and physical address, bytes in the file and in
	// memory; then the alignment, which has the flags in front of it.
	for n, fields := range [corePrograms][7]uint32{
		{programLoad, offset, link, link, size, uint32(k.memory), max(uint32(k.align), ppcLinkAlign)},
		{programStack, offset + size, 0, 0, 0, 0, ppcLinkAlign},
		{programLoad, offset + size, at, at, area, area, ppcLinkAlign},
	} {
		h, be := b[n*sizeProgram32:], binary.BigEndian
		for m, v := range fields[:6] {
			be.PutUint32(h[4*m:], v)
		}
		be.PutUint32(h[0x18:], programAllowed)
		be.PutUint32(h[0x1c:], fields[6])
	}
}

// encode encodes a section header of core.elf, without flags.
func (s elfSection) encode(b []byte, name uint32) {
	be := binary.BigEndian
	be.PutUint32(b[0x00:], name)
	be.PutUint32(b[0x04:], s.kind)
	be.PutUint32(b[0x0c:], uint32(s.addr))
	be.PutUint32(b[0x10:], uint32(s.offset))
	be.PutUint32(b[0x14:], uint32(s.length))
	be.PutUint32(b[0x20:], uint32(s.align))
}
