// Package xz reads .xz files within the memory that its caller allows. The decoder is
// github.com/ulikunitz/xz, which allocates whatever dictionary a file asks for, up to
// 4 GiB, for each of its blocks, and takes a file that was cut off between two of them
// for a whole one; here the blocks are looked at on the way to it.
//
// Specification: "The .xz File Format" 1.2.1, sections 2 to 5; the framing of LZMA2
// chunks as liblzma's lzma2_decoder.c has it. Block headers are understood as far as
// dictionaries need it. All else is left to the decoder to judge.
package xz

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// ErrDictionary says that a file asks for a larger dictionary than is allowed.
var ErrDictionary = errors.New("a larger dictionary than is allowed")

// NewReader returns a reader of what is compressed in r, all streams of it. A block
// whose dictionary takes more than maxDict bytes ends it with an error that wraps
// [ErrDictionary]. It may read more of r than it needs.
func NewReader(r io.Reader, maxDict int64) (io.Reader, error) {
	w := &walker{r: bufio.NewReaderSize(r, bufferSize), maxDict: maxDict}
	w.next = w.stream
	// The decoder reads byte by byte, and takes DictCap as the least to allocate.
	z, err := xz.ReaderConfig{DictCap: lzma.MinDictCap}.NewReader(bufio.NewReaderSize(w, bufferSize))
	if err != nil {
		return nil, w.errorOf(err)
	}
	return &reader{z, w}, nil
}

const bufferSize = 64 << 10

// reader is a decoder that tells what its walker found.
type reader struct {
	z *xz.Reader
	w *walker
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.z.Read(p)
	return n, r.w.errorOf(err)
}

// walker passes a file on while it walks through its structure.
type walker struct {
	r       *bufio.Reader
	maxDict int64
	next    func() error // takes the next structure
	head    []byte       // taken, and to be passed on
	pass    int64        // bytes to pass on behind head, unseen
	check   int64        // size of the check of a block
	within  bool         // a stream
	records uint64       // of the index that are left
	packed  int64        // bytes of the block or the index so far, for its padding
	err     error        // what ended the walk
}

// unseen is more than any file has.
const unseen = 1 << 62

const (
	magic        = "\xfd7zXZ\x00"
	sizeHeader   = 12 // of a stream, and its footer
	filterLZMA2  = 0x21
	maxFilters   = 4
	maxVarint    = 9 // bytes of a number
	sizeCRC      = 4
	chunkEnd     = 0x00
	chunkPlain   = 0x02 // and 0x01, with a reset of the dictionary
	chunkLZMA    = 0x80 // and above
	chunkHasProp = 0xc0 // and above
)

// checkSizes are the sizes of checks by their identifiers.
var checkSizes = [16]int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}

// errorOf returns why the file ends: what the walker found explains what the
// decoder makes of it.
func (w *walker) errorOf(err error) error {
	if err != nil && w.err != nil && w.err != io.EOF {
		return w.err
	}
	return err
}

// Read implements io.Reader.
func (w *walker) Read(p []byte) (int, error) {
	for len(w.head) == 0 && w.pass == 0 {
		if w.err == nil {
			w.err = w.step()
		}
		if w.err != nil {
			return 0, w.err
		}
	}
	if len(w.head) > 0 {
		n := copy(p, w.head)
		w.head = w.head[n:]
		return n, nil
	}
	n, err := w.r.Read(p[:min(int64(len(p)), w.pass)])
	w.pass -= int64(n)
	if err == io.EOF && w.within {
		err = w.wrap(io.ErrUnexpectedEOF)
	}
	if err != nil {
		w.err = err
	}
	return n, err
}

// step takes the next structure. It returns io.EOF behind a whole stream only: the
// decoder does not see that a file ends within one, between two blocks.
func (w *walker) step() error {
	err := w.next()
	if err == io.EOF && !w.within {
		return io.EOF
	}
	if err != nil {
		w.head = nil // nothing of it gets to the decoder
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return w.wrap(err)
	}
	return nil
}

func (w *walker) wrap(err error) error { return fmt.Errorf("xz: %w", err) }

// take takes n bytes of a structure. It returns io.EOF when there is nothing of the
// structure, and io.ErrUnexpectedEOF within it.
func (w *walker) take(n int) ([]byte, error) {
	start := len(w.head)
	w.head = append(w.head, make([]byte, n)...)
	k, err := io.ReadFull(w.r, w.head[start:])
	if w.head = w.head[:start+k]; err == io.EOF && start > 0 {
		err = io.ErrUnexpectedEOF
	}
	return w.head[start:], err
}

// stream takes the header of a stream, or four zeros of padding.
func (w *walker) stream() error {
	b, err := w.take(4)
	if err != nil {
		return err
	}
	if string(b) == "\x00\x00\x00\x00" {
		return nil
	}
	if _, err := w.take(sizeHeader - 4); err != nil {
		return err
	}
	if string(w.head[:len(magic)]) != magic {
		w.pass = unseen // no stream, as the decoder will say
		return nil
	}
	w.check = checkSizes[w.head[7]&0xf]
	w.within, w.next = true, w.block
	return nil
}

// block takes the header of a block, or the beginning of the index.
func (w *walker) block() error {
	b, err := w.take(1)
	if err != nil {
		return err
	}
	if b[0] == 0 {
		w.packed, w.next = 1, w.index
		return nil
	}
	if _, err := w.take(4*int(b[0]) + 3); err != nil {
		return err
	}
	dict, err := dictionary(w.head[1 : len(w.head)-sizeCRC])
	if err != nil {
		return err
	}
	if dict > w.maxDict {
		return fmt.Errorf("%w: %d bytes, more than %d", ErrDictionary, dict, w.maxDict)
	}
	w.packed, w.next = 0, w.chunk
	return nil
}

// dictionary returns the size of the dictionary that a block header asks for, in
// bytes. b is the header between its size and its checksum.
func dictionary(b []byte) (int64, error) {
	damaged := errors.New("block header: damaged")
	number := func() uint64 {
		n, k := binary.Uvarint(b[:min(len(b), maxVarint)])
		if k <= 0 {
			b = nil
			return 0
		}
		b = b[k:]
		return n
	}
	if len(b) == 0 {
		return 0, damaged
	}
	flags := b[0]
	b = b[1:]
	for _, size := range []byte{0x40, 0x80} { // of the block, compressed and not
		if flags&size != 0 {
			number()
		}
	}
	for range flags%maxFilters + 1 {
		id, size := number(), number()
		if size > uint64(len(b)) {
			return 0, damaged
		}
		properties := b[:size]
		b = b[size:]
		if id != filterLZMA2 {
			continue // the decoder knows no others, or they have no dictionary
		}
		if size != 1 || properties[0] > 40 {
			return 0, damaged
		}
		if bits := int64(properties[0]); bits < 40 {
			return (2 | bits&1) << (bits/2 + 11), nil
		}
		return 1<<32 - 1, nil
	}
	return 0, errors.New("block header: no LZMA2")
}

// chunk takes the header of a chunk of LZMA2, or the end of its block.
func (w *walker) chunk() error {
	b, err := w.take(1)
	if err != nil {
		return err
	}
	switch control := b[0]; {
	case control == chunkEnd:
		w.packed++
		w.pass = -w.packed&3 + w.check
		w.next = w.block
		return nil
	case control <= chunkPlain:
		if b, err = w.take(2); err != nil {
			return err
		}
		w.pass = int64(binary.BigEndian.Uint16(b)) + 1
	case control < chunkLZMA:
		return fmt.Errorf("chunk of LZMA2: control byte %#x", control)
	default:
		if b, err = w.take(4); err != nil {
			return err
		}
		w.pass = int64(binary.BigEndian.Uint16(b[2:])) + 1
		if control >= chunkHasProp {
			w.pass++
		}
	}
	w.packed += int64(len(w.head)) + w.pass
	return nil
}

// index takes how many records the index has.
func (w *walker) index() (err error) {
	w.next = w.record
	w.records, err = w.number()
	return err
}

// record takes a record of the index, or its end with the footer of the stream.
func (w *walker) record() error {
	if w.records == 0 {
		w.pass = -w.packed&3 + sizeCRC + sizeHeader
		w.next = w.footer
		return nil
	}
	w.records--
	if _, err := w.number(); err != nil {
		return err
	}
	_, err := w.number()
	return err
}

// footer comes when the footer of a stream was passed on.
func (w *walker) footer() error {
	w.within, w.next = false, w.stream
	return w.stream()
}

// number takes a number of the index.
func (w *walker) number() (uint64, error) {
	start := len(w.head)
	for range maxVarint {
		b, err := w.take(1)
		if err != nil {
			return 0, err
		}
		w.packed++
		if b[0] < 0x80 {
			n, _ := binary.Uvarint(w.head[start:])
			return n, nil
		}
	}
	return 0, errors.New("index: damaged")
}
