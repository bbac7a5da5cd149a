package iso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf16"

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

// record is a directory record.
type record struct {
	length int
	block  int64
	size   int64
	mtime  int64
	flags  recordFlags
	id     []byte
	use    []byte // system use
}

func (r record) extent() Extent { return Extent{r.block * BlockSize, r.size} }

// parseRecord reads the record that b begins with.
func parseRecord(b []byte) (record, error) {
	if len(b) <= sizeRecord || int(b[recLength]) <= sizeRecord || int(b[recLength]) > len(b) {
		return record{}, errors.New("a directory record that is cut off")
	}
	b = b[:b[recLength]]
	n := int(b[recIDLength])
	if n == 0 || sizeRecord+n > len(b) {
		return record{}, fmt.Errorf("a directory record with an identifier of %d bytes", n)
	}
	le := binary.LittleEndian
	r := record{
		length: len(b), block: int64(le.Uint32(b[recBlock:])) + int64(b[1]), size: int64(le.Uint32(b[recSize:])),
		mtime: getTime(b[recTime:]), flags: recordFlags(b[recFlags]), id: b[recID : recID+n],
	}
	if at := recordLength(n, 0); at < len(b) {
		r.use = b[at:]
	}
	return r, nil
}

// entries calls fn for the entries of a system use field and of its continuation
// areas.
func (im *Image) entries(use []byte, fn func(signature string, body []byte)) error {
	for range maxAreas {
		var next []byte
		for len(use) >= suHeader {
			n := int(use[2])
			if n < suHeader || n > len(use) {
				if use[0] == 0 { // padding
					break
				}
				return fmt.Errorf("an entry %q of %d bytes", use[:2], n)
			}
			signature, body := string(use[:2]), use[suHeader:n]
			use = use[n:]
			switch {
			case signature == "ST":
				use = nil
			case signature == "CE" && n >= sizeCE:
				le := binary.LittleEndian
				block, off, size := int64(le.Uint32(body)), int64(le.Uint32(body[8:])), int64(le.Uint32(body[16:]))
				if size > BlockSize {
					return fmt.Errorf("a continuation area of %d bytes", size)
				}
				var err error
				if next, err = im.read(block*BlockSize+off, size); err != nil {
					return fmt.Errorf("continuation area: %w", err)
				}
			default:
				fn(signature, body)
			}
		}
		if next == nil {
			return nil
		}
		use = next
	}
	return errors.New("too many continuation areas")
}

// ReadDir returns the entries of a directory.
func (im *Image) ReadDir(dir *File) ([]*File, error) {
	if !dir.dir {
		return nil, fmt.Errorf("%s is no directory", dir.Name)
	}
	e := dir.Extents[0]
	if e.Size > maxDirectory || e.Size%BlockSize != 0 {
		return nil, fmt.Errorf("directory %s of %d bytes", dir.Name, e.Size)
	}
	b, err := im.read(e.Off, e.Size)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", dir.Name, err)
	}
	var out []*File
	var open *File // a file whose next extent follows
	for at := 0; at < len(b); {
		if b[at] == 0 { // the rest of the block
			at = (at/BlockSize + 1) * BlockSize
			continue
		}
		rec, err := parseRecord(b[at:min(len(b), (at/BlockSize+1)*BlockSize)])
		if err != nil {
			return nil, fmt.Errorf("directory %s at %d: %w", dir.Name, at, err)
		}
		at += rec.length
		if len(rec.id) == 1 && rec.id[0] <= 1 {
			continue
		}
		if open == nil {
			if open, err = im.file(rec); err != nil {
				return nil, fmt.Errorf("directory %s: %w", dir.Name, err)
			}
		} else if len(open.Extents) == maxParts {
			return nil, fmt.Errorf("%s has more than %d extents", open.Name, maxParts)
		}
		x := rec.extent()
		if x.Size > 0 && (x.Off > im.size || x.Size > im.size-x.Off) {
			return nil, fmt.Errorf("%s: %d bytes at %d are beyond the %d there are", open.Name, x.Size, x.Off, im.size)
		}
		open.Extents = append(open.Extents, x)
		open.Size += x.Size
		if rec.flags&flagMore == 0 {
			out = append(out, open)
			open = nil
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s: the last extent is missing", open.Name)
	}
	return out, nil
}

// file returns what a record says, without its extents.
func (im *Image) file(rec record) (*File, error) {
	f := &File{r: im.r, Mtime: rec.mtime, dir: rec.flags&flagDirectory != 0, Mode: 0o100644}
	if f.dir {
		f.Mode = 0o040755
	}
	switch {
	case im.joliet:
		units := make([]uint16, len(rec.id)/2)
		for k := range units {
			units[k] = binary.BigEndian.Uint16(rec.id[2*k:])
		}
		f.Name, _, _ = strings.Cut(string(utf16.Decode(units)), ";")
	default:
		f.Name, _, _ = strings.Cut(strings.ToLower(string(rec.id)), ";")
		f.Name = strings.TrimSuffix(f.Name, ".")
	}
	if im.RockRidge && len(rec.use) >= im.skip {
		if err := im.rockRidge(f, rec.use[im.skip:]); err != nil {
			return nil, fmt.Errorf("%q: %w", rec.id, err)
		}
	}
	if f.Name == "" || f.Name == "." || f.Name == ".." || strings.ContainsAny(f.Name, "/\x00") {
		return nil, fmt.Errorf("a file called %.80q", f.Name)
	}
	return f, nil
}

// rockRidge takes what Rock Ridge says of a file.
func (im *Image) rockRidge(f *File, use []byte) error {
	var name, link strings.Builder
	slash := false // in front of the next component of the link
	le := binary.LittleEndian
	err := im.entries(use, func(signature string, body []byte) {
		switch {
		case signature == "NM" && len(body) >= 1 && body[0]&(compCur|compParent) == 0:
			name.Write(body[1:])
		case signature == "PX" && len(body) >= 32:
			f.Mode, f.UID, f.GID = le.Uint32(body), le.Uint32(body[16:]), le.Uint32(body[24:])
		case signature == "SL" && len(body) >= 1:
			slash = appendLink(&link, body[1:], slash)
		}
	})
	if name.Len() > 0 {
		f.Name = name.String()
	}
	f.Target = link.String()
	return err
}

// appendLink appends the components of a symbolic link.
func appendLink(link *strings.Builder, b []byte, slash bool) bool {
	for len(b) >= 2 {
		flags, n := b[0], int(b[1])
		if n > len(b)-2 {
			return slash
		}
		if slash {
			link.WriteByte('/')
		}
		switch {
		case flags&compRoot != 0:
			link.WriteByte('/')
		case flags&compCur != 0:
			link.WriteByte('.')
		case flags&compParent != 0:
			link.WriteString("..")
		default:
			link.Write(b[2 : 2+n])
		}
		slash = flags&(compRoot|compMore) == 0
		b = b[2+n:]
	}
	return slash
}

// Lookup returns what is at a path, without following symbolic links. The error
// wraps fs.ErrNotExist where there is nothing.
func (im *Image) Lookup(path string) (*File, error) {
	at := im.root
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." {
			continue
		}
		var next *File
		if at.dir {
			list, err := im.ReadDir(at)
			if err != nil {
				return nil, fault.Default(fault.BadImage, fmt.Errorf("ISO 9660: %w", err))
			}
			for _, f := range list {
				if f.Name == name {
					next = f
				}
			}
		}
		if next == nil {
			return nil, &fs.PathError{Op: "find", Path: path, Err: fs.ErrNotExist}
		}
		at = next
	}
	return at, nil
}

// ReadFile returns the content of the regular file at a path, and an error when it
// is larger than limit.
func (im *Image) ReadFile(path string, limit int64) ([]byte, error) {
	f, err := im.Lookup(path)
	if err != nil {
		return nil, err
	}
	return f.ReadAll(limit)
}

// Walk calls fn for everything on the ISO, the root first, directories before
// what is in them.
func (im *Image) Walk(fn func(path string, f *File) error) error {
	w := &walker{im: im, fn: fn, seen: make(map[int64]bool)}
	return w.walk("/", im.root, 0)
}

type walker struct {
	im    *Image
	fn    func(string, *File) error
	seen  map[int64]bool // blocks of directories
	nodes int
}

func (w *walker) walk(path string, f *File, depth int) error {
	if err := w.fn(path, f); err != nil || !f.dir {
		return err
	}
	at := f.Extents[0].Off
	if w.seen[at] || depth > maxDepth {
		return fault.New(fault.BadImage, fmt.Errorf("ISO 9660: %s: a directory within itself", path), "")
	}
	w.seen[at] = true
	list, err := w.im.ReadDir(f)
	if err != nil {
		return fault.Default(fault.BadImage, fmt.Errorf("ISO 9660: %w", err))
	}
	if w.nodes += len(list); w.nodes > maxNodes {
		return fault.New(fault.BadImage, fmt.Errorf("ISO 9660: more than %d files", maxNodes), "")
	}
	for _, c := range list {
		if err := w.walk(strings.TrimSuffix(path, "/")+"/"+c.Name, c, depth+1); err != nil {
			return err
		}
	}
	return nil
}
