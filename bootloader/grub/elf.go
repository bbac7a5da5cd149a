package grub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Parts of the ELF format (System V gABI, chapters 4 and 5) that GRUB's files
// need: little-endian objects and executables of both classes.
const (
	sizeIdent     = 16
	sizeHeader32  = 52
	sizeHeader64  = 64
	sizeSection32 = 40
	sizeSection64 = 64

	elfClass32 = 1
	elfClass64 = 2
	elfLSB     = 1

	elfRelocatable = 1
	elfExecutable  = 2
	machine386     = 3

	sectionProgbits = 1
	sectionNobits   = 8
	sectionAlloc    = 2
)

var elfMagic = []byte("\x7fELF")

// elfFile is the section table of an ELF file.
type elfFile struct {
	class    byte
	kind     uint16 // e_type
	machine  uint16
	sections []elfSection
	data     []byte
}

// elfSection is a section header; name is resolved. Offsets and sizes of
// sections with content lie within the file.
type elfSection struct {
	name           string
	kind           uint32
	flags          uint64
	addr           uint64
	offset, length uint64
}

// parseELF reads the section table of an ELF file and checks that everything
// in it lies within the file.
func parseELF(b []byte) (*elfFile, error) {
	if len(b) < sizeHeader32 || !bytes.Equal(b[:4], elfMagic) {
		return nil, errors.New("not an ELF file")
	}
	le := binary.LittleEndian
	f := &elfFile{class: b[4], data: b}
	if b[5] != elfLSB {
		return nil, errors.New("not a little-endian ELF file")
	}
	f.kind, f.machine = le.Uint16(b[0x10:]), le.Uint16(b[0x12:])

	var tableOff uint64
	var entSize, count, names int
	wantSize := sizeSection32
	switch {
	case f.class == elfClass32:
		tableOff = uint64(le.Uint32(b[0x20:]))
		entSize, count, names = int(le.Uint16(b[0x2e:])), int(le.Uint16(b[0x30:])), int(le.Uint16(b[0x32:]))
	case f.class == elfClass64 && len(b) >= sizeHeader64:
		tableOff = le.Uint64(b[0x28:])
		entSize, count, names = int(le.Uint16(b[0x3a:])), int(le.Uint16(b[0x3c:])), int(le.Uint16(b[0x3e:]))
		wantSize = sizeSection64
	default:
		return nil, fmt.Errorf("ELF class %d", f.class)
	}
	if count == 0 {
		return nil, errors.New("an ELF file without sections")
	}
	if entSize != wantSize {
		return nil, fmt.Errorf("ELF section headers of %d bytes", entSize)
	}
	table, err := within(b, tableOff, uint64(entSize)*uint64(count))
	if err != nil {
		return nil, fmt.Errorf("ELF section table: %w", err)
	}
	if names >= count {
		return nil, fmt.Errorf("ELF section name table %d of %d", names, count)
	}

	nameOffs := make([]uint32, count)
	f.sections = make([]elfSection, count)
	for i := range f.sections {
		nameOffs[i], f.sections[i] = decodeSection(f.class, table[i*entSize:])
		s := &f.sections[i]
		if s.kind == sectionNobits || s.kind == 0 {
			continue
		}
		if _, err := within(b, s.offset, s.length); err != nil {
			return nil, fmt.Errorf("ELF section %d: %w", i, err)
		}
	}
	if k := f.sections[names].kind; k == sectionNobits || k == 0 {
		return f, nil // no names
	}
	strtab := f.content(f.sections[names])
	for i, off := range nameOffs {
		if uint64(off) >= uint64(len(strtab)) {
			continue
		}
		name, _, ok := bytes.Cut(strtab[off:min(len(strtab), int(off)+64)], []byte{0})
		if ok {
			f.sections[i].name = string(name)
		}
	}
	return f, nil
}

// decodeSection reads one section header.
func decodeSection(class byte, b []byte) (name uint32, s elfSection) {
	le := binary.LittleEndian
	name, s.kind = le.Uint32(b), le.Uint32(b[4:])
	if class == elfClass32 {
		s.flags, s.addr = uint64(le.Uint32(b[0x08:])), uint64(le.Uint32(b[0x0c:]))
		s.offset, s.length = uint64(le.Uint32(b[0x10:])), uint64(le.Uint32(b[0x14:]))
		return name, s
	}
	s.flags, s.addr = le.Uint64(b[0x08:]), le.Uint64(b[0x10:])
	s.offset, s.length = le.Uint64(b[0x18:]), le.Uint64(b[0x20:])
	return name, s
}

// content returns the bytes of a section that has some.
func (f *elfFile) content(s elfSection) []byte { return f.data[s.offset : s.offset+s.length] }

// section returns the first section called name that has content.
func (f *elfFile) section(name string) ([]byte, bool) {
	for _, s := range f.sections {
		if s.name == name && s.kind != sectionNobits && s.kind != 0 {
			return f.content(s), true
		}
	}
	return nil, false
}

// within returns b[off:off+n].
func within(b []byte, off, n uint64) ([]byte, error) {
	if off > uint64(len(b)) || n > uint64(len(b))-off {
		return nil, fmt.Errorf("[%d:+%d] beyond the %d bytes there are", off, n, len(b))
	}
	return b[off : off+n], nil
}

// flattenKernel returns the memory image of kernel.img without its .bss, and
// the length with it.
//
// As mkimage does for an executable, every allocated section with content goes
// to its address relative to the link address.
func flattenKernel(b []byte) (image []byte, memory int, err error) {
	f, err := parseELF(b)
	if err != nil {
		return nil, 0, err
	}
	if f.class != elfClass32 || f.kind != elfExecutable || f.machine != machine386 {
		return nil, 0, fmt.Errorf("ELF class %d, type %d, machine %d: not an executable for i386", f.class, f.kind, f.machine)
	}
	lowest := ^uint64(0)
	for _, s := range f.sections {
		if s.flags&sectionAlloc == 0 || s.kind != sectionProgbits && s.kind != sectionNobits {
			continue
		}
		if s.addr < kernelLink || s.addr > maxKernelEnd || s.length > maxKernelEnd-s.addr {
			return nil, 0, fmt.Errorf("section %s at %#x, %d bytes: outside %#x to %#x", s.name, s.addr, s.length, kernelLink, maxKernelEnd)
		}
		end := int(s.addr + s.length - kernelLink)
		memory = max(memory, end)
		if s.kind == sectionNobits {
			continue
		}
		lowest = min(lowest, s.addr)
		if end > len(image) {
			image = append(image, make([]byte, end-len(image))...)
		}
		copy(image[s.addr-kernelLink:], f.content(s))
	}
	if lowest != kernelLink {
		return nil, 0, fmt.Errorf("no section at the link address %#x", kernelLink)
	}
	return image, memory, nil
}
