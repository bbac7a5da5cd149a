// Package input holds what the readers of disk files share. A reader says where
// in its file the parts of a disk are, a [Mapper]; this package makes a disk of
// that which can be read at random, in parallel, and knows its holes.
//
// The files are not trusted: what a Mapper returns is checked against the size of
// the file, so that a reader has to check only its own tables.
package input

import (
	"errors"
	"fmt"
	"io"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
)

// Disk is a disk that was found in a file.
type Disk struct {
	*disk.Image
	// Details says more of the file than the name of its format, for people.
	Details string
	// Notes are what a user may want to know, such as what of the file is no part
	// of the disk.
	Notes []string
}

// Kind is what a part of a disk is in its file.
type Kind uint8

const (
	Hole   Kind = iota // zeros that are not stored
	Plain              // bytes as they are
	Packed             // bytes that have to be unpacked
)

// Run is a part of a disk.
type Run struct {
	Kind Kind
	Size int64 // in bytes, from the offset on that was asked for; positive
	// Off is where in the file the bytes of a plain run are.
	Off int64
	// Short says of a plain run that the file may end in it, and that it goes on
	// with zeros then. Any other is damaged where it is not all in the file.
	Short bool
	// Unit is, of a packed run, the number of bytes that are unpacked together, a
	// power of two: from the multiple of Unit before the run to the next one. The
	// run ends there at the latest.
	Unit int64
}

// Mapper is a disk as its file has it. It is called by several goroutines.
type Mapper interface {
	// Map returns the run that begins at off, which is on the disk. What is beyond
	// the size of the disk may be a part of it.
	Map(off int64) (Run, error)
	// Unpack fills dst, which is Run.Unit long, with the unit of a packed run that
	// begins at the offset start of the disk.
	Unpack(dst []byte, start int64) error
}

// New returns the disk of size bytes that the mapper finds in the file.
func New(f *File, size int64, m Mapper) (*disk.Image, error) {
	if size < 0 {
		return nil, Bad("a disk of %d bytes", size)
	}
	return NewJoined([]Piece{{size, f, m}})
}

// Piece is a part of a disk that is in a file of its own.
type Piece struct {
	Size   int64 // in bytes
	File   *File
	Mapper Mapper // nil for zeros
}

// NewJoined returns the disk of the pieces behind each other.
func NewJoined(pieces []Piece) (*disk.Image, error) {
	var extents []disk.Extent
	size := int64(0)
	for _, p := range pieces {
		if p.Size < 0 || p.Size > 1<<62-size {
			return nil, Bad("a disk of more than 2^62 bytes")
		}
		if p.Mapper != nil {
			s := &source{f: p.File, size: p.Size, m: p.Mapper, units: NewCache[int64](unitCache)}
			extents = append(extents, disk.Extent{Off: size, Data: content.NewRef(s, 0, p.Size)})
		}
		size += p.Size
	}
	return disk.New(size, extents)
}

// unitCache is the number of unpacked units that are kept: a reader of parts of
// them comes back soon, from a few goroutines.
const unitCache = 16

// source is the content of a disk.
type source struct {
	f     *File
	size  int64
	m     Mapper
	units *Cache[int64]
}

var _ content.SparseSource = (*source)(nil)

// next returns the run at off, cut at the size of the disk.
func (s *source) next(off int64) (Run, error) {
	r, err := s.m.Map(off)
	if err != nil {
		return r, fault.Default(fault.BadImage, fmt.Errorf("at %d of the disk: %w", off, err))
	}
	if r.Size <= 0 {
		panic("input: internal error: empty run")
	}
	r.Size = min(r.Size, s.size-off)
	return r, nil
}

// ReadAt implements io.ReaderAt.
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	for pos := 0; pos < len(p); {
		at := off + int64(pos)
		if at >= s.size {
			return pos, io.EOF
		}
		r, err := s.next(at)
		if err != nil {
			return pos, err
		}
		dst := p[pos : pos+int(min(r.Size, int64(len(p)-pos)))]
		switch r.Kind {
		case Hole:
			clear(dst)
		case Plain:
			read := s.f.ReadFull
			if r.Short {
				read = s.f.ReadPadded
			}
			err = read(dst, r.Off)
		case Packed:
			err = s.unpack(dst, at, r.Unit)
		}
		if err != nil {
			return pos, fault.Default(fault.BadImage, fmt.Errorf("at %d of the disk: %w", at, err))
		}
		pos += len(dst)
	}
	return len(p), nil
}

// unpack reads within one unit.
func (s *source) unpack(dst []byte, off, unit int64) error {
	start := off &^ (unit - 1)
	if off == start && int64(len(dst)) == unit {
		return s.m.Unpack(dst, start)
	}
	b, err := s.units.Get(start, func() ([]byte, error) {
		b := make([]byte, unit)
		return b, s.m.Unpack(b, start)
	})
	if err == nil {
		copy(dst, b[off-start:])
	}
	return err
}

// NextData implements content.SparseSource. What cannot be found out counts as
// data: reading it says why.
func (s *source) NextData(off int64) (start, end int64) {
	for start = off; start < s.size; {
		r, err := s.next(start)
		if err != nil {
			return start, s.size
		}
		if r.Kind != Hole {
			end = start + r.Size
			break
		}
		start += r.Size
	}
	for end > 0 && end < s.size {
		r, err := s.next(end)
		if err != nil {
			return start, s.size
		}
		if r.Kind == Hole {
			break
		}
		end += r.Size
	}
	return start, end
}

// File is a file of a size, or a part of one.
type File struct{ *io.SectionReader }

// NewFile returns the file of size bytes.
func NewFile(r io.ReaderAt, size int64) *File { return &File{io.NewSectionReader(r, 0, size)} }

// Section returns the part of n bytes at off, which must be within the file.
func (f *File) Section(off, n int64) (*File, error) {
	if err := f.check(off, n); err != nil {
		return nil, err
	}
	return &File{io.NewSectionReader(f, off, n)}, nil
}

// check returns an error unless the n bytes at off are within the file.
func (f *File) check(off, n int64) error {
	if off < 0 || n < 0 || n > f.Size() || off > f.Size()-n {
		return Bad("%d bytes at %d of the file, which has %d", n, off, f.Size())
	}
	return nil
}

// Read returns the n bytes at off of the file. They are checked to be there before
// they get any memory.
func (f *File) Read(off, n int64) ([]byte, error) {
	if err := f.check(off, n); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	return b, f.ReadFull(b, off)
}

// ReadFull fills b with the bytes at off of the file.
func (f *File) ReadFull(b []byte, off int64) error {
	if err := f.check(off, int64(len(b))); err != nil {
		return err
	}
	n, err := f.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return fault.New(fault.NotFound, fmt.Errorf("read %d bytes at %d of the file: %w", len(b), off, err), "")
}

// ReadPadded fills b with the bytes at off of the file, and with zeros where b
// reaches beyond its end. The first byte must be there.
func (f *File) ReadPadded(b []byte, off int64) error {
	if off >= f.Size() {
		return Bad("data at %d of the file, which has %d bytes", off, f.Size())
	}
	n := min(int64(len(b)), f.Size()-off)
	clear(b[n:])
	return f.ReadFull(b[:n], off)
}

// Bad returns an error of class fault.BadImage.
func Bad(format string, args ...any) error {
	return fault.New(fault.BadImage, fmt.Errorf(format, args...), "")
}

// Unsupported returns an error of class fault.Unsupported.
func Unsupported(hint, format string, args ...any) error {
	return fault.New(fault.Unsupported, fmt.Errorf(format, args...), hint)
}

// ErrFormat says that a file is of another format.
var ErrFormat = fault.New(fault.BadImage, errors.New("not of this format"), "")
