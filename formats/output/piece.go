package output

import (
	"iter"

	"imgbuild/disk"
)

// Piece is an aligned part of a disk.
type Piece struct {
	Off  int64  // in bytes
	Data []byte // as it is on the disk

	buf []byte
}

// Span is the bytes From up to To of others.
type Span struct{ From, To int }

// Cutter cuts the data of a disk into pieces.
type Cutter struct {
	next   func() (off, n int64, ok bool)
	stop   func()
	size   int64
	off, n int64 // what is left of the current range
}

// NewCutter returns the Cutter of img. Its pieces are size bytes long at most
// and do not reach over a multiple of size; they begin and, but for the last one
// of the disk, end at multiples of grain. Both are powers of two. Whoever made it
// calls [Cutter.Stop].
func NewCutter(img *disk.Image, grain, size int64) *Cutter {
	c := &Cutter{size: size}
	c.next, c.stop = iter.Pull2(img.Data(grain))
	return c
}

// Next makes p the next piece that may hold anything but zeros, without its
// data. It returns false when there is none.
func (c *Cutter) Next(p *Piece) bool {
	if c.n == 0 {
		var ok bool
		if c.off, c.n, ok = c.next(); !ok {
			return false
		}
	}
	n := min(c.n, c.size-c.off&(c.size-1))
	if p.buf == nil {
		p.buf = make([]byte, c.size)
	}
	p.Off, p.Data = c.off, p.buf[:n]
	c.off += n
	c.n -= n
	return true
}

// Stop ends the Cutter.
func (c *Cutter) Stop() { c.stop() }

// Read reads the data of the piece.
func (p *Piece) Read(img *disk.Image) error {
	_, err := img.ReadAt(p.Data, p.Off)
	return err
}

// Pad appends zeros to the data until it is a multiple of grain long.
func (p *Piece) Pad(grain int) {
	n := len(p.Data)
	p.Data = p.buf[:(n+grain-1)/grain*grain]
	clear(p.Data[n:])
}

// AppendRuns appends to runs what of data is not zero, ascending, in units of grain
// bytes.
func AppendRuns(runs []Span, data []byte, grain int) []Span {
	start := -1 // of the run that pos is in
	for pos := 0; pos < len(data); pos += grain {
		zero := IsZero(data[pos:min(pos+grain, len(data))])
		if zero && start >= 0 {
			runs = append(runs, Span{start, pos})
			start = -1
		} else if !zero && start < 0 {
			start = pos
		}
	}
	if start >= 0 {
		runs = append(runs, Span{start, len(data)})
	}
	return runs
}
