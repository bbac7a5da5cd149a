package ostree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Alignments of GVariant types in bytes. A container has the largest alignment
// of its members.
const (
	alignByte   = 1 // y, b, s, o, g and containers of these
	alignUint32 = 4 // i, u
	alignUint64 = 8 // x, t, d, v
)

// encoder serializes a GVariant in little-endian form, front to back. It needs
// no lengths in advance: every container starts at a multiple of its own
// alignment, so alignment relative to the buffer is alignment relative to the
// container.
type encoder struct {
	buf  []byte
	ends []int // ends of the variable-sized members of the open containers
}

// container is a container that is being written.
type container struct{ start, ends int }

// open starts a container.
func (e *encoder) open(align int) container {
	e.align(align)
	return container{len(e.buf), len(e.ends)}
}

// align pads with zeros to the alignment of what follows.
func (e *encoder) align(n int) {
	for len(e.buf)&(n-1) != 0 {
		e.buf = append(e.buf, 0)
	}
}

// mark notes the end of a variable-sized member: of every element of an array,
// and of every such member of a tuple but its last one.
func (e *encoder) mark() { e.ends = append(e.ends, len(e.buf)) }

// closeArray writes the offsets of an array of variable-sized elements.
func (e *encoder) closeArray(c container) {
	width := e.offsetWidth(c)
	for _, end := range e.ends[c.ends:] {
		e.putOffset(width, end-c.start)
	}
	e.ends = e.ends[:c.ends]
}

// closeTuple writes the offsets of a tuple or dictionary entry, last member
// first.
func (e *encoder) closeTuple(c container) {
	width := e.offsetWidth(c)
	for k := len(e.ends) - 1; k >= c.ends; k-- {
		e.putOffset(width, e.ends[k]-c.start)
	}
	e.ends = e.ends[:c.ends]
}

func (e *encoder) offsetWidth(c container) int {
	return offsetWidth(len(e.buf)-c.start, len(e.ends)-c.ends)
}

// offsetWidth returns the size of the offsets of a container with a body of
// size bytes and n offsets: the smallest that can express the size of both.
func offsetWidth(size, n int) int {
	switch {
	case size+n <= 0xff:
		return 1
	case size+2*n <= 0xffff:
		return 2
	case int64(size)+4*int64(n) <= 0xffffffff:
		return 4
	}
	return 8
}

func (e *encoder) putOffset(width, v int) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(v))
	e.buf = append(e.buf, b[:width]...)
}

func (e *encoder) string(s string) {
	e.buf = append(e.buf, s...)
	e.buf = append(e.buf, 0)
}

// uint32BE writes a "u" with the bytes swapped, as ostree keeps its numbers.
func (e *encoder) uint32BE(v uint32) {
	e.align(alignUint32)
	e.buf = binary.BigEndian.AppendUint32(e.buf, v)
}

// uint64BE writes a "t" with the bytes swapped.
func (e *encoder) uint64BE(v uint64) {
	e.align(alignUint64)
	e.buf = binary.BigEndian.AppendUint64(e.buf, v)
}

var errVariant = errors.New("not a GVariant of the expected type")

// readOffset returns the offset of the given width at the start of b.
func readOffset(b []byte, width int) uint64 {
	var v [8]byte
	copy(v[:], b[:width])
	return binary.LittleEndian.Uint64(v[:])
}

// containerWidth returns the width of the offsets in a container of n bytes.
func containerWidth(n int) int {
	switch {
	case n <= 0xff:
		return 1
	case n <= 0xffff:
		return 2
	case int64(n) <= 0xffffffff:
		return 4
	}
	return 8
}

// splitArray returns the elements of an array of variable-sized elements. The
// number of elements is bounded by the length of b.
func splitArray(b []byte, align int) ([][]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	width := containerWidth(len(b))
	if len(b) < width {
		return nil, errVariant
	}
	table := readOffset(b[len(b)-width:], width) // the end of the last element
	if table > uint64(len(b)-width) || (uint64(len(b))-table)%uint64(width) != 0 {
		return nil, fmt.Errorf("offset table at %d of %d bytes: %w", table, len(b), errVariant)
	}
	offsets := b[table:]
	elements := make([][]byte, 0, len(offsets)/width)
	pos := uint64(0)
	for ; len(offsets) > 0; offsets = offsets[width:] {
		pos = alignUp(pos, align)
		end := readOffset(offsets, width)
		if end < pos || end > table {
			return nil, fmt.Errorf("element [%d:%d] of an array of %d bytes: %w", pos, end, len(b), errVariant)
		}
		elements = append(elements, b[pos:end:end])
		pos = end
	}
	return elements, nil
}

// member is the shape of a tuple member: its alignment, and its size in bytes
// if that is fixed, else 0.
type member struct{ align, size int }

// splitTuple returns the members of a tuple that has at least one variable-sized
// member. out must be as long as shape.
func splitTuple(b []byte, shape []member, out [][]byte) error {
	width := containerWidth(len(b))
	table := len(b) // grows downwards, by one offset a variable-sized member
	pos := 0
	for k, m := range shape {
		pos = int(alignUp(uint64(pos), m.align))
		end := pos + m.size
		switch {
		case m.size > 0:
		case k == len(shape)-1:
			end = table
		default:
			if table -= width; table < 0 {
				return fmt.Errorf("member %d: offset missing: %w", k, errVariant)
			}
			off := readOffset(b[table:], width)
			if off > uint64(table) {
				return fmt.Errorf("member %d ends at %d of %d bytes: %w", k, off, len(b), errVariant)
			}
			end = int(off)
		}
		if pos > end || end > table {
			return fmt.Errorf("member %d is [%d:%d] of %d bytes: %w", k, pos, end, len(b), errVariant)
		}
		out[k] = b[pos:end:end]
		pos = end
	}
	return nil
}

// parseString returns the string that b holds with its NUL.
func parseString(b []byte) (string, error) {
	if n := bytes.IndexByte(b, 0); n < 0 || n != len(b)-1 {
		return "", fmt.Errorf("string of %d bytes: %w", len(b), errVariant)
	}
	return string(b[:len(b)-1]), nil
}

func alignUp(n uint64, align int) uint64 { return (n + uint64(align) - 1) &^ uint64(align-1) }
