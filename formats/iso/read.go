package iso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"imgbuild/fault"
)

// Bounds of what is read; media of distributions stay far below.
const (
	maxDirectory   = 16 << 20 // bytes of one
	maxDescriptors = 64
	maxNodes       = 4 << 20
	maxDepth       = 200
	maxParts       = 1 << 16 // extents of a file
	maxAreas       = 8       // continuation areas of a record
	maxName        = 255     // bytes, as Linux has it
	maxLink        = 4095    // likewise, of a symbolic link
)

// Image is an ISO that is read. Names are those of Rock Ridge, or of Joliet where
// there is no Rock Ridge, or else those of ISO 9660 in lower case and without
// version.
type Image struct {
	VolumeID    string
	SystemID    string
	Application string
	Preparer    string
	Publisher   string
	Blocks      int64 // of the volume
	Created     string
	RockRidge   bool
	Joliet      bool
	Boot        []BootEntry
	// Catalog is the block of the boot catalog, 0 without one.
	Catalog int64

	r      io.ReaderAt
	size   int64
	root   *File
	joliet bool // names are read from Joliet's directories
	skip   int  // bytes before the entries of Rock Ridge in a record
}

// BootEntry is an entry of the boot catalog.
type BootEntry struct {
	Platform  byte // 0 BIOS, 0xEF UEFI
	Bootable  bool
	Emulation byte // 0 for none
	Block     int64
	Sectors   int // of 512 bytes to load; below 2, for UEFI, up to the end of the volume
}

// PlatformName names the firmware of an entry.
func (b BootEntry) PlatformName() string {
	switch b.Platform {
	case platformX86:
		return "bios"
	case platformEFI:
		return "uefi"
	}
	return fmt.Sprintf("0x%02x", b.Platform)
}

// Extent is a range of the ISO, in bytes.
type Extent struct{ Off, Size int64 }

// File is a file or directory on an ISO.
type File struct {
	Name    string
	Mode    uint32 // as st_mode; without Rock Ridge of directories and files only
	UID     uint32
	GID     uint32
	Mtime   int64 // seconds since 1970
	Size    int64
	Target  string // of a symbolic link
	Extents []Extent

	dir bool
	r   io.ReaderAt
}

// IsDir tells whether f is a directory.
func (f *File) IsDir() bool { return f.dir }

// ReadAt implements io.ReaderAt over the content.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("negative offset %d", off)
	}
	done := 0
	for _, e := range f.Extents {
		if off >= e.Size {
			off -= e.Size
			continue
		}
		n := min(int64(len(p)-done), e.Size-off)
		if k, err := f.r.ReadAt(p[done:done+int(n)], e.Off+off); int64(k) < n {
			return done + k, fmt.Errorf("read %s: %w", f.Name, unexpected(err))
		}
		done += int(n)
		if off = 0; done == len(p) {
			return done, nil
		}
	}
	return done, io.EOF
}

// ReadAll returns the content, and an error when it is larger than limit.
func (f *File) ReadAll(limit int64) ([]byte, error) {
	if f.dir || f.Size > limit {
		return nil, fmt.Errorf("%s: %d bytes, more than the limit of %d", f.Name, f.Size, limit)
	}
	b := make([]byte, f.Size)
	if _, err := f.ReadAt(b, 0); err != nil && (err != io.EOF || f.Size != 0) {
		return nil, err
	}
	return b, nil
}

func unexpected(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Open reads the descriptors of an ISO of size bytes. Errors are of class
// fault.BadImage, but for those of reading.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	im := &Image{r: r, size: size}
	if err := im.open(); err != nil {
		return nil, fault.Default(fault.BadImage, fmt.Errorf("ISO 9660: %w", err))
	}
	return im, nil
}

// read reads bytes of the ISO, which must be within it.
func (im *Image) read(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > im.size || n > im.size-off {
		return nil, fmt.Errorf("%d bytes at %d are beyond the %d there are", n, off, im.size)
	}
	b := make([]byte, n)
	if k, err := im.r.ReadAt(b, off); int64(k) < n {
		return nil, fmt.Errorf("read at %d: %w", off, unexpected(err))
	}
	return b, nil
}

func (im *Image) open() error {
	var primary, joliet []byte
	if im.size < (systemArea+1)*BlockSize {
		return fmt.Errorf("a file of %d bytes: this is no ISO", im.size)
	}
	ended := false
	for k := int64(0); k < maxDescriptors && !ended; k++ {
		b, err := im.read((systemArea+k)*BlockSize, BlockSize)
		if err != nil {
			return err
		}
		if string(b[1:6]) != standardID {
			if primary == nil {
				return errors.New("no volume descriptor: this is no ISO")
			}
			return fmt.Errorf("descriptor %d is none", k)
		}
		switch t := descriptorType(b[0]); {
		case t == descriptorEnd:
			ended = true
		case t == descriptorPrimary && primary == nil:
			primary = b
		case t == descriptorSupplementary && joliet == nil && isJoliet(b[volEscapes:]):
			joliet = b
		case t == descriptorBoot && bytes.HasPrefix(b[bootSystem:], []byte(elToritoID)) && im.Catalog == 0:
			im.Catalog = int64(binary.LittleEndian.Uint32(b[bootCatalog:]))
		}
	}
	if primary == nil {
		return errors.New("no primary volume descriptor")
	}
	if err := im.readVolume(primary, joliet); err != nil {
		return err
	}
	if im.Catalog != 0 {
		if err := im.readCatalog(); err != nil {
			return fmt.Errorf("boot catalog: %w", err)
		}
	}
	return nil
}

func isJoliet(escapes []byte) bool {
	s := string(escapes[:3])
	return s == "%/@" || s == "%/C" || s == "%/E"
}

// readVolume takes what descriptors say.
func (im *Image) readVolume(primary, joliet []byte) error {
	text := func(off, n int) string { return strings.TrimRight(string(primary[off:off+n]), " \x00") }
	im.VolumeID, im.SystemID = text(volVolumeID, 32), text(volSystemID, 32)
	im.Application, im.Preparer = text(volApplication, 128), text(volPreparer, 128)
	im.Publisher = text(volPublisher, 128)
	im.Created = text(volCreated, 16)
	le := binary.LittleEndian
	im.Blocks = int64(le.Uint32(primary[volBlocks:]))
	if n := le.Uint16(primary[volBlockSize:]); n != BlockSize {
		return fmt.Errorf("blocks of %d bytes", n)
	}
	root := func(b []byte) (*File, error) {
		rec, err := parseRecord(b[volRoot : volRoot+sizeRecord+1])
		if err != nil {
			return nil, fmt.Errorf("root: %w", err)
		}
		if rec.flags&flagDirectory == 0 {
			return nil, errors.New("the root is no directory")
		}
		return &File{Name: "/", Mode: 0o040755, dir: true, r: im.r, Size: rec.size, Mtime: rec.mtime, Extents: []Extent{rec.extent()}}, nil
	}
	var err error
	if im.root, err = root(primary); err != nil {
		return err
	}
	if err := im.findRockRidge(); err != nil {
		return err
	}
	if joliet != nil {
		im.Joliet = true
		if !im.RockRidge {
			im.joliet = true
			if im.root, err = root(joliet); err != nil {
				return err
			}
		}
	}
	return nil
}

// findRockRidge looks at the first record of the root.
func (im *Image) findRockRidge() error {
	b, err := im.read(im.root.Extents[0].Off, BlockSize)
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	rec, err := parseRecord(b)
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	use := rec.use
	if len(use) < 7 || string(use[:2]) != "SP" || use[2] < 7 || use[4] != 0xBE || use[5] != 0xEF {
		return nil
	}
	skip := int(use[6])
	err = im.entries(use, func(signature string, body []byte) {
		// Rock Ridge announces itself by any of its names.
		if signature == "ER" || signature == "PX" {
			im.RockRidge = true
		}
	})
	im.skip = skip
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	return nil
}

// readCatalog reads the boot catalog.
func (im *Image) readCatalog() error {
	b, err := im.read(im.Catalog*BlockSize, BlockSize)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	sum := uint16(0)
	for k := 0; k < sizeCatalogEntry; k += 2 {
		sum += le.Uint16(b[k:])
	}
	if b[0] != catalogValid || b[30] != 0x55 || b[31] != 0xAA || sum != 0 {
		return errors.New("the validation entry is damaged")
	}
	add := func(e []byte, platform byte) {
		im.Boot = append(im.Boot, BootEntry{
			Platform: platform, Bootable: e[0] == entryBootable, Emulation: e[1] & 0xF,
			Block: int64(le.Uint32(e[8:])), Sectors: int(le.Uint16(e[6:])),
		})
	}
	add(b[sizeCatalogEntry:], b[1])
	for at := 2 * sizeCatalogEntry; at+sizeCatalogEntry <= len(b); {
		head := b[at:]
		if head[0] != headerMore && head[0] != headerLast {
			return nil
		}
		n := int(le.Uint16(head[2:]))
		for at += sizeCatalogEntry; n > 0 && at+sizeCatalogEntry <= len(b); at += sizeCatalogEntry {
			if b[at] == 0x44 { // an extension of the entry before
				continue
			}
			add(b[at:], head[1])
			n--
		}
		if head[0] == headerLast {
			return nil
		}
	}
	return nil
}
