package grub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"imgbuild/content"
)

// Parts of the PE/COFF format (Microsoft PE Format, "MS-DOS Stub", "COFF File
// Header", "Section Table") that lead to a section.
const (
	peOffset       = 0x3c // u32 offset of the signature
	sizeDOSHeader  = 0x40
	sizePESig      = 4
	sizeCOFFHeader = 20
	sizePESection  = 40
	maxPESections  = 96 // what the Windows loader takes
)

// EFIImage is what GRUB carries in an EFI binary besides its kernel.
type EFIImage struct {
	Modules []string // in the order they are loaded
	Config  string   // the embedded configuration, or ""
	Prefix  string   // the compiled-in directory, as in "/EFI/fedora"
}

// Has tells whether a module is in the image.
func (e *EFIImage) Has(module string) bool {
	for _, m := range e.Modules {
		if m == module {
			return true
		}
	}
	return false
}

// ErrNotGRUB says that an EFI binary has no section of GRUB modules.
var ErrNotGRUB = errors.New("an EFI binary without GRUB modules")

// ParseEFI reads the module area of a GRUB EFI binary for a 64-bit platform,
// signed or not. The error wraps [ErrNotGRUB] when there is none.
func ParseEFI(c content.Ref) (*EFIImage, error) {
	area, err := modsSection(c)
	if err != nil {
		return nil, err
	}
	return parseModuleArea(area)
}

// modsSection returns the content of the PE section "mods".
func modsSection(c content.Ref) ([]byte, error) {
	le := binary.LittleEndian
	var dos [sizeDOSHeader]byte
	if err := readAt(c, dos[:], 0); err != nil {
		return nil, err
	}
	if dos[0] != 'M' || dos[1] != 'Z' {
		return nil, errors.New("not a PE file")
	}
	off := int64(le.Uint32(dos[peOffset:]))
	var coff [sizePESig + sizeCOFFHeader]byte
	if err := readAt(c, coff[:], off); err != nil {
		return nil, err
	}
	if !bytes.Equal(coff[:sizePESig], []byte("PE\x00\x00")) {
		return nil, fmt.Errorf("no PE signature at %d", off)
	}
	count, optional := int(le.Uint16(coff[6:])), int64(le.Uint16(coff[20:]))
	if count > maxPESections {
		return nil, fmt.Errorf("%d PE sections", count)
	}
	table := make([]byte, count*sizePESection)
	if err := readAt(c, table, off+int64(len(coff))+optional); err != nil {
		return nil, err
	}
	for ; len(table) > 0; table = table[sizePESection:] {
		if !bytes.Equal(table[:8], []byte("mods\x00\x00\x00\x00")) {
			continue
		}
		// The raw size is rounded up to the file alignment; the virtual size
		// may be the exact one or rounded to pages.
		size, start := int64(le.Uint32(table[16:])), int64(le.Uint32(table[20:]))
		if size > maxModuleArea {
			return nil, fmt.Errorf("PE section mods of %d bytes", size)
		}
		if start > c.Size() || size > c.Size()-start {
			return nil, fmt.Errorf("PE section mods [%d:+%d] beyond the %d bytes there are", start, size, c.Size())
		}
		return c.Slice(start, size).ReadAll(maxModuleArea)
	}
	return nil, ErrNotGRUB
}

// readAt fills b from the offset.
func readAt(c content.Ref, b []byte, off int64) error {
	if off > c.Size() || int64(len(b)) > c.Size()-off {
		return fmt.Errorf("PE header [%d:+%d] beyond the %d bytes there are", off, len(b), c.Size())
	}
	if len(b) == 0 {
		return nil
	}
	if n, err := c.ReadAt(b, off); n < len(b) {
		return err
	}
	return nil
}

// parseModuleArea reads the module area of a 64-bit platform. Objects of other
// types than modules, configuration and prefix are passed over.
func parseModuleArea(b []byte) (*EFIImage, error) {
	le := binary.LittleEndian
	if len(b) < sizeModInfo64 || le.Uint32(b) != moduleMagic {
		return nil, fmt.Errorf("no module area in section mods: %w", ErrNotGRUB)
	}
	first, total := le.Uint64(b[8:]), le.Uint64(b[16:])
	if total > uint64(len(b)) || first < sizeModInfo64 || first > total {
		return nil, fmt.Errorf("module area from %d to %d in %d bytes", first, total, len(b))
	}
	image := &EFIImage{}
	objects := 0
	for off := first; off < total; {
		if total-off < sizeObject {
			return nil, fmt.Errorf("module area: %d bytes left at %d", total-off, off)
		}
		t, size := objectType(le.Uint32(b[off:])), uint64(le.Uint32(b[off+4:]))
		if size < sizeObject || size > total-off {
			return nil, fmt.Errorf("module area: object of %d bytes at %d of %d", size, off, total)
		}
		if objects++; objects > maxObjects {
			return nil, fmt.Errorf("module area: more than %d objects", maxObjects)
		}
		data := b[off+sizeObject : off+size]
		switch t {
		case objectELF:
			name, err := moduleName(data)
			if err != nil {
				return nil, fmt.Errorf("module area: object at %d: %w", off, err)
			}
			image.Modules = append(image.Modules, name)
		case objectConfig:
			image.Config = text(data)
		case objectPrefix:
			image.Prefix = text(data)
		}
		off += size
	}
	return image, nil
}

// moduleName returns what the section .modname of a module says.
func moduleName(data []byte) (string, error) {
	f, err := parseELF(data)
	if err != nil {
		return "", err
	}
	name, ok := f.section(".modname")
	if !ok {
		return "", errors.New("a module without a name")
	}
	return text(name), nil
}

// text returns b up to its first NUL.
func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}
