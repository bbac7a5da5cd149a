package content

import (
	"errors"
	"io"
	"os"
	"sort"
)

// holeGrain is the length in bytes, and the alignment, of the zero runs that a
// spool leaves out: long enough that a large layer has few of them, short
// enough to catch what file systems keep sparse.
const holeGrain = 64 << 10

// Range is the bytes from Start up to End, exclusive.
type Range struct{ Start, End int64 }

// Spool is a file of content that was written once, front to back. Aligned
// runs of zeros were not written: they are holes in the file.
type Spool struct {
	f     *os.File
	size  int64
	holes []Range // ascending, never touching, multiples of holeGrain but for the last end
}

// NewSpool returns the spool of f, which holds size bytes and is zero in holes
// (as [Spool.Holes] gave them when it was written). The spool owns f.
func NewSpool(f *os.File, size int64, holes []Range) *Spool {
	return &Spool{f: f, size: size, holes: holes}
}

// Size returns the length in bytes, holes included.
func (s *Spool) Size() int64 { return s.size }

// Holes returns the ranges that are known to be zero, ascending. The slice must
// not be modified.
func (s *Spool) Holes() []Range { return s.holes }

// Ref returns the n bytes from off.
func (s *Spool) Ref(off, n int64) Ref { return NewRef(s, off, n) }

// ReadAt implements io.ReaderAt.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) { return s.f.ReadAt(p, off) }

// Sync makes the content durable.
func (s *Spool) Sync() error { return s.f.Sync() }

// Close closes the file. Refs to the spool fail afterwards.
func (s *Spool) Close() error { return s.f.Close() }

// NextData implements [SparseSource].
func (s *Spool) NextData(off int64) (int64, int64) {
	i := sort.Search(len(s.holes), func(i int) bool { return s.holes[i].End > off })
	if i < len(s.holes) && s.holes[i].Start <= off {
		off = s.holes[i].End
		i++
	}
	if i < len(s.holes) {
		return off, s.holes[i].Start
	}
	return off, s.size
}

// SpoolWriter writes a spool. It never holds more than one grain in memory.
type SpoolWriter struct {
	f       *os.File
	buf     []byte // bytes after pos, fewer than holeGrain
	pos     int64  // a multiple of holeGrain
	holes   []Range
	written int64
	err     error
}

// NewSpoolWriter writes a spool to the empty file f.
func NewSpoolWriter(f *os.File) *SpoolWriter {
	return &SpoolWriter{f: f, buf: make([]byte, 0, holeGrain)}
}

// Offset returns the number of bytes written so far.
func (w *SpoolWriter) Offset() int64 { return w.pos + int64(len(w.buf)) }

// Write appends p. The first error sticks.
func (w *SpoolWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && w.err == nil {
		if len(w.buf) == 0 && len(p) >= holeGrain {
			whole := len(p) - len(p)%holeGrain
			w.emit(p[:whole])
			p = p[whole:]
			continue
		}
		k := min(holeGrain-len(w.buf), len(p))
		w.buf = append(w.buf, p[:k]...)
		p = p[k:]
		if len(w.buf) == holeGrain {
			w.emit(w.buf)
			w.buf = w.buf[:0]
		}
	}
	if w.err != nil {
		return 0, w.err
	}
	return n, nil
}

// emit writes p, whose grains that are zero become holes.
func (w *SpoolWriter) emit(p []byte) {
	for len(p) > 0 && w.err == nil {
		run, zero := grains(p)
		if zero {
			w.hole(int64(run))
		} else {
			_, w.err = w.f.WriteAt(p[:run], w.pos)
			w.written = w.pos + int64(run)
		}
		w.pos += int64(run)
		p = p[run:]
	}
}

// grains returns the length of the longest prefix of p made of grains that are
// all zero, or all not.
func grains(p []byte) (n int, zero bool) {
	zero = IsZero(p[:min(holeGrain, len(p))])
	for n < len(p) {
		g := min(holeGrain, len(p)-n)
		if IsZero(p[n:n+g]) != zero {
			break
		}
		n += g
	}
	return n, zero
}

func (w *SpoolWriter) hole(n int64) {
	if k := len(w.holes); k > 0 && w.holes[k-1].End == w.pos {
		w.holes[k-1].End += n
		return
	}
	w.holes = append(w.holes, Range{w.pos, w.pos + n})
}

// Finish writes what is left and returns the spool. The writer is done.
func (w *SpoolWriter) Finish() (*Spool, error) {
	if w.err == nil && len(w.buf) > 0 {
		w.emit(w.buf)
		w.buf = nil
	}
	if w.err == nil && w.written < w.pos {
		w.err = w.f.Truncate(w.pos)
	}
	if w.err != nil {
		return nil, w.err
	}
	spool := NewSpool(w.f, w.pos, w.holes)
	w.err = errors.New("content: write to a finished spool")
	return spool, nil
}

// IsZero tells whether p holds nothing but zeros.
func IsZero(p []byte) bool {
	for len(p) >= 64 {
		var x byte
		for _, b := range p[:8] {
			x |= b
		}
		if x != 0 {
			return false
		}
		if *(*[56]byte)(p[8:64]) != ([56]byte{}) {
			return false
		}
		p = p[64:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

var _ io.ReaderAt = (*Spool)(nil)
