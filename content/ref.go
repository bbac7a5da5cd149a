// Package content names file content that is kept outside memory.
//
// A [Ref] is a range of a [Source]: usually of a [Spool], the plain tar of one
// layer on disk, sometimes of bytes in memory. Trees, file system writers and
// disk encoders pass Refs around and read them at random; a []byte of file
// content never crosses a package boundary.
package content

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"os"
	"sort"
)

// Source is content that can be read at random and by several goroutines at
// once. It does not change while a Ref to it is alive.
type Source interface {
	io.ReaderAt
}

// SparseSource is a source that knows where it is zero.
type SparseSource interface {
	Source
	// NextData returns the first range of data that ends after off; it may
	// begin before. Without one, start is not below end.
	NextData(off int64) (start, end int64)
}

// Ref is size bytes of a source, starting at off. The zero Ref is empty.
type Ref struct {
	src       Source
	off, size int64
}

// NewRef returns the Ref of size bytes of src from offset off, both in bytes.
func NewRef(src Source, off, size int64) Ref {
	if size == 0 {
		return Ref{}
	}
	return Ref{src: src, off: off, size: size}
}

// Bytes returns a Ref of b, which must not be modified afterwards.
func Bytes(b []byte) Ref { return NewRef(bytes.NewReader(b), 0, int64(len(b))) }

// String returns a Ref of the bytes of s.
func String(s string) Ref { return Bytes([]byte(s)) }

// Size returns the length of the content in bytes, holes included.
func (r Ref) Size() int64 { return r.size }

// Slice returns the part of r of n bytes from off. It panics when that is not
// within r, as slicing a []byte does.
func (r Ref) Slice(off, n int64) Ref {
	if off < 0 || n < 0 || off > r.size-n {
		panic(fmt.Sprintf("content: slice [%d:+%d] of %d bytes", off, n, r.size))
	}
	return NewRef(r.src, r.off+off, n)
}

// ReadAt implements io.ReaderAt within the range of the Ref.
func (r Ref) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("content: negative offset %d", off)
	}
	if off >= r.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.size-off
	if short {
		p = p[:r.size-off]
	}
	n, err := r.src.ReadAt(p, r.off+off)
	switch {
	case n < len(p) && (err == nil || err == io.EOF):
		return n, fmt.Errorf("content: %d bytes at %d: %w", len(p), r.off+off, io.ErrUnexpectedEOF)
	case n < len(p):
		return n, err
	case short:
		return n, io.EOF
	}
	return n, nil
}

// Reader returns a new reader of the whole content.
func (r Ref) Reader() io.Reader { return io.NewSectionReader(r, 0, r.size) }

// ReadAll returns the content, and an error when it is larger than limit.
func (r Ref) ReadAll(limit int64) ([]byte, error) {
	if r.size > limit {
		return nil, fmt.Errorf("%d bytes, more than the limit of %d", r.size, limit)
	}
	b := make([]byte, r.size)
	if _, err := r.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// File returns the file that holds the content as it is, and the offset of the
// content in it, for copies within the kernel. ok is false when there is none.
func (r Ref) File() (f *os.File, off int64, ok bool) {
	if s, ok := r.src.(*Spool); ok {
		return s.f, r.off, true
	}
	return nil, 0, false
}

// Data yields the ranges (offset in the content, length) that may hold anything
// but zeros, in ascending order and not touching each other.
func (r Ref) Data() iter.Seq2[int64, int64] {
	return func(yield func(off, n int64) bool) {
		for pos := int64(0); pos < r.size; {
			start, end := r.nextData(pos)
			if start >= end || !yield(start, end-start) {
				return
			}
			pos = end
		}
	}
}

// nextData returns the first range of data from off on. Without one, start and
// end are the size.
func (r Ref) nextData(off int64) (start, end int64) {
	s, ok := r.src.(SparseSource)
	if !ok {
		return off, r.size
	}
	start, end = s.NextData(r.off + off)
	start, end = max(start-r.off, off), min(end-r.off, r.size)
	if start >= end {
		return r.size, r.size
	}
	return start, end
}

// Piece is a part of a sparse file: Ref at offset Off.
type Piece struct {
	Off int64
	Ref Ref
}

// Sparse returns a Ref of size bytes that reads as the pieces, and as zeros
// between them. The pieces must be in ascending order, not overlap and lie
// within size.
func Sparse(size int64, pieces []Piece) (Ref, error) {
	kept := make([]Piece, 0, len(pieces))
	pos := int64(0)
	for _, p := range pieces {
		if p.Off < pos || p.Off > size-p.Ref.size {
			return Ref{}, fmt.Errorf("sparse piece [%d:+%d] overlaps, is out of order or beyond %d bytes", p.Off, p.Ref.size, size)
		}
		pos = p.Off + p.Ref.size
		if p.Ref.size > 0 {
			kept = append(kept, p)
		}
	}
	if size < 0 {
		return Ref{}, fmt.Errorf("sparse file of %d bytes", size)
	}
	return NewRef(&pieced{pieces: kept, size: size}, 0, size), nil
}

// pieced is the source of a sparse file.
type pieced struct {
	pieces []Piece // not empty
	size   int64
}

// at returns the index of the first piece that ends after off.
func (s *pieced) at(off int64) int {
	return sort.Search(len(s.pieces), func(i int) bool {
		return s.pieces[i].Off+s.pieces[i].Ref.size > off
	})
}

// NextData implements SparseSource.
func (s *pieced) NextData(off int64) (start, end int64) {
	start, end = s.size, s.size
	found := false
	for _, p := range s.pieces[s.at(off):] {
		if found && p.Off > end {
			break
		}
		from, to := p.Ref.nextData(max(off-p.Off, 0))
		if from >= to {
			continue // nothing but zeros in it
		}
		from, to = p.Off+from, p.Off+to
		if !found {
			start, end, found = from, to, true
		} else if from == end {
			end = to
		}
		if end < p.Off+p.Ref.size {
			break
		}
	}
	return start, end
}

func (s *pieced) ReadAt(p []byte, off int64) (int, error) {
	if off >= s.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), s.size-off))
	clear(p[:n])
	end := off + int64(n)
	for i := s.at(off); i < len(s.pieces) && s.pieces[i].Off < end; i++ {
		piece := s.pieces[i]
		from, to := max(piece.Off, off), min(piece.Off+piece.Ref.size, end)
		if _, err := piece.Ref.ReadAt(p[from-off:to-off], from-piece.Off); err != nil && err != io.EOF {
			return 0, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
