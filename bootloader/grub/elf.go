package grub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Parts of the ELF format (System V gABI, chapters 4 and 5) that GRUB's files
// need: objects and executables of both classes and byte orders.
const (
	sizeIdent     = 16
	sizeHeader32  = 52
	sizeHeader64  = 64
	sizeSection32 = 40
	sizeSection64 = 64

	elfClass32 = 1
	elfClass64 = 2
	elfLSB     = 1
	elfMSB     = 2
	elfCurrent = 1 // version of the format

	elfRelocatable = 1
	elfExecutable  = 2
	machine386     = 3
	machinePPC     = 20

	sectionProgbits = 1
	sectionStrtab   = 3
	sectionNobits   = 8
	sectionAlloc    = 2
)

var elfMagic = []byte("\x7fELF")

// elfFile is the section table of an ELF file.
type elfFile struct {
	class    byte
	order    binary.ByteOrder
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
	align          uint64
}

// parseELF reads the section table of an ELF file and checks that everything
// in it lies within the file.
func parseELF(b []byte) (*elfFile, error) {
	if len(b) < sizeHeader32 || !bytes.Equal(b[:4], elfMagic) {
		return nil, errors.New("not an ELF file")
	}
	f := &elfFile{class: b[4], data: b}
	switch b[5] {
	case elfLSB:
		f.order = binary.LittleEndian
	case elfMSB:
		f.order = binary.BigEndian
	default:
		return nil, fmt.Errorf("ELF byte order %d", b[5])
	}
	f.kind, f.machine = f.order.Uint16(b[0x10:]), f.order.Uint16(b[0x12:])

	var tableOff uint64
	var entSize, count, names int
	wantSize := sizeSection32
	switch {
	case f.class == elfClass32:
		tableOff = uint64(f.order.Uint32(b[0x20:]))
		entSize, count, names = int(f.order.Uint16(b[0x2e:])), int(f.order.Uint16(b[0x30:])), int(f.order.Uint16(b[0x32:]))
	case f.class == elfClass64 && len(b) >= sizeHeader64:
		tableOff = f.order.Uint64(b[0x28:])
		entSize, count, names = int(f.order.Uint16(b[0x3a:])), int(f.order.Uint16(b[0x3c:])), int(f.order.Uint16(b[0x3e:]))
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
		nameOffs[i], f.sections[i] = f.decodeSection(table[i*entSize:])
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
func (f *elfFile) decodeSection(b []byte) (name uint32, s elfSection) {
	o := f.order
	name, s.kind = o.Uint32(b), o.Uint32(b[4:])
	if f.class == elfClass32 {
		s.flags, s.addr = uint64(o.Uint32(b[0x08:])), uint64(o.Uint32(b[0x0c:]))
		s.offset, s.length = uint64(o.Uint32(b[0x10:])), uint64(o.Uint32(b[0x14:]))
		s.align = uint64(o.Uint32(b[0x20:]))
		return name, s
	}
	s.flags, s.addr = o.Uint64(b[0x08:]), o.Uint64(b[0x10:])
	s.offset, s.length = o.Uint64(b[0x18:]), o.Uint64(b[0x20:])
	s.align = o.Uint64(b[0x30:])
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
