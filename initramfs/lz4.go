package initramfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The legacy frame of lz4 (lz4_Frame_format.md, "Legacy frame"), which the kernel
// takes: a magic number, then blocks of up to 8 MiB, each after its compressed
// size as a little-endian number.
const (
	lz4Magic    = 0x184c2102
	lz4Block    = 8 << 20
	lz4MaxBlock = lz4Block + lz4Block/255 + 16 // what compressing may add
	lz4MinMatch = 4
)

// lz4Reader reads a legacy frame. The blocks do not depend on each other.
type lz4Reader struct {
	r     io.Reader
	plain []byte // what is unpacked and not read
	block []byte
	out   []byte
}

func (l *lz4Reader) Read(p []byte) (int, error) {
	for len(l.plain) == 0 {
		var b [4]byte
		if _, err := io.ReadFull(l.r, b[:]); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = io.EOF // less than a size is padding
			}
			return 0, err
		}
		n := binary.LittleEndian.Uint32(b[:])
		switch {
		case n == lz4Magic:
			continue
		case n == 0:
			return 0, io.EOF
		case n > lz4MaxBlock:
			return 0, fmt.Errorf("a block of %d bytes", n)
		}
		if cap(l.block) < int(n) {
			l.block = make([]byte, n)
		}
		if _, err := io.ReadFull(l.r, l.block[:n]); err != nil {
			return 0, short(err)
		}
		var err error
		if l.out, err = lz4Decode(l.out[:0], l.block[:n]); err != nil {
			return 0, err
		}
		l.plain = l.out
	}
	n := copy(p, l.plain)
	l.plain = l.plain[n:]
	return n, nil
}

var errLZ4 = errors.New("a block is damaged")

// lz4Decode appends what a block holds to dst, at most lz4Block bytes.
func lz4Decode(dst, src []byte) ([]byte, error) {
	length := func(n int) (int, bool) {
		if n != 15 {
			return n, true
		}
		for len(src) > 0 && n <= lz4Block {
			b := src[0]
			src = src[1:]
			if n += int(b); b != 255 {
				return n, true
			}
		}
		return 0, false
	}
	for len(src) > 0 {
		token := src[0]
		src = src[1:]
		n, ok := length(int(token >> 4))
		if !ok || n > len(src) || len(dst)+n > lz4Block {
			return nil, errLZ4
		}
		dst = append(dst, src[:n]...)
		src = src[n:]
		if len(src) == 0 {
			return dst, nil // the last sequence has literals only
		}
		if len(src) < 2 {
			return nil, errLZ4
		}
		back := int(binary.LittleEndian.Uint16(src))
		src = src[2:]
		n, ok = length(int(token & 15))
		n += lz4MinMatch
		if !ok || back == 0 || back > len(dst) || len(dst)+n > lz4Block {
			return nil, errLZ4
		}
		for range n {
			dst = append(dst, dst[len(dst)-back])
		}
	}
	return dst, nil
}
