package iso

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf16"

	"imgbuild/fault"
)

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
		case name.Len() > maxName || link.Len() > maxLink: // an error below
		case signature == "NM" && len(body) >= 1 && body[0]&(compCur|compParent) == 0:
			name.Write(body[1:])
		case signature == "PX" && len(body) >= 32:
			f.Mode, f.UID, f.GID = le.Uint32(body), le.Uint32(body[16:]), le.Uint32(body[24:])
		case signature == "SL" && len(body) >= 1:
			slash = appendLink(&link, body[1:], slash)
		}
	})
	if err == nil && (name.Len() > maxName || link.Len() > maxLink) {
		err = fmt.Errorf("a name of %d bytes, or a link to one of %d", name.Len(), link.Len())
	}
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
