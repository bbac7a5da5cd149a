package xz

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

const (
	magic       = "\xfd7zXZ\x00"
	footerMagic = "YZ"
	sizeHeader  = 12 // of a stream, and its footer
	sizeCRC     = 4
	filterLZMA2 = 0x21
	maxVarint   = 9 // bytes of a number
)

// Flags of a block header, beside the number of filters less one.
const (
	hasCompressed   = 0x40
	hasUncompressed = 0x80
	reservedFlags   = 0x3f
)

// stream is a stream that is being read.
type stream struct {
	flags [2]byte
	// Of the blocks so far: how many, and a digest of their sizes, which takes no
	// memory as a list of them would.
	blocks uint64
	sizes  hash.Hash
}

// newStream reads the header of a stream (section 2.1.1).
func newStream(b []byte) (*stream, error) {
	s := &stream{flags: [2]byte(b[6:8]), sizes: sha256.New()}
	if string(b[:len(magic)]) != magic {
		return nil, errors.New("not a stream")
	}
	if crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return nil, errors.New("stream header: checksum is wrong")
	}
	if _, err := s.newCheck(); s.flags[0] != 0 || err != nil {
		return nil, fmt.Errorf("stream flags %#x are not known", s.flags)
	}
	return s, nil
}

// newCheck returns what sums up a block (section 2.1.1.2).
func (s *stream) newCheck() (hash.Hash, error) {
	switch s.flags[1] {
	case 0x00:
		return nil, nil
	case 0x01:
		return crc32.NewIEEE(), nil
	case 0x04:
		return crc64.New(crc64.MakeTable(crc64.ECMA)), nil
	case 0x0a:
		return sha256.New(), nil
	}
	return nil, fmt.Errorf("check %#x is not known", s.flags[1])
}

// end reads the rest of an index, whose first byte was read, and the footer (sections
// 4 and 2.1.2).
func (s *stream) end(in *counter) error {
	start := in.n - 1
	in.sum = crc32.NewIEEE()
	in.sum.Write([]byte{0})
	err := s.index(in, start)
	sum := in.sum.Sum32()
	in.sum = nil
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	b, err := in.take(sizeCRC)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b) != sum {
		return errors.New("index: checksum is wrong")
	}
	size := in.n - start
	if b, err = in.take(sizeHeader); err != nil {
		return err
	}
	switch {
	case string(b[10:]) != footerMagic || [2]byte(b[8:10]) != s.flags:
		return errors.New("stream footer: damaged")
	case crc32.ChecksumIEEE(b[4:10]) != binary.LittleEndian.Uint32(b):
		return errors.New("stream footer: checksum is wrong")
	case 4*(int64(binary.LittleEndian.Uint32(b[4:]))+1) != size:
		return fmt.Errorf("stream footer: an index of another size than %d bytes", size)
	}
	return nil
}

// index reads the records and the padding, and compares them with the blocks.
func (s *stream) index(in *counter, start int64) error {
	n, err := number(in)
	if err != nil {
		return err
	}
	if n != s.blocks {
		return fmt.Errorf("%d blocks, and there are %d", n, s.blocks)
	}
	sizes := sha256.New()
	for range n {
		unpadded, err := number(in)
		if err != nil {
			return err
		}
		plain, err := number(in)
		if err != nil {
			return err
		}
		addSizes(sizes, unpadded, plain)
	}
	if !bytes.Equal(sizes.Sum(nil), s.sizes.Sum(nil)) {
		return errors.New("other sizes than the blocks have")
	}
	return in.zeros(in.n - start)
}

func addSizes(h hash.Hash, unpadded, plain uint64) {
	h.Write(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, unpadded), plain))
}

// number reads a number (section 1.2).
func number(in *counter) (uint64, error) {
	n := uint64(0)
	for i := range maxVarint {
		b, err := in.ReadByte()
		if err != nil {
			return 0, unexpected(err)
		}
		if b == 0 && i > 0 {
			break
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errors.New("a number is damaged")
}

// block is a block that is being read.
type block struct {
	lzma2 *lzma.Reader2
	check hash.Hash // or nil
	start int64     // of the block in the file
	data  int64     // where its compressed data begins
	plain int64     // bytes decompressed so far

	compressed, uncompressed int64 // as the header has them, or -1
}

// newBlock reads the header of a block (section 3.1), whose first byte says its size.
func newBlock(in *counter, size byte, s *stream, maxDict int64) (*block, error) {
	b := &block{start: in.n - 1, compressed: -1, uncompressed: -1}
	head, err := in.take(4*int(size) + 3)
	if err != nil {
		return nil, err
	}
	head = append([]byte{size}, head...)
	body, sum := head[:len(head)-sizeCRC], head[len(head)-sizeCRC:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return nil, errors.New("block header: checksum is wrong")
	}
	dict, err := b.header(body[1:])
	if err != nil {
		return nil, fmt.Errorf("block header: %w", err)
	}
	if dict > maxDict {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrDictionary, dict, maxDict)
	}
	// No reference goes back before the beginning.
	if b.uncompressed >= 0 {
		dict = min(dict, max(b.uncompressed, lzma.MinDictCap))
	}
	b.data = in.n
	if b.check, err = s.newCheck(); err != nil {
		return nil, err
	}
	if b.lzma2, err = newDecoder(in, dict); err != nil {
		return nil, unexpected(err)
	}
	return b, nil
}

// header reads a header between its size and its checksum, and returns the size of the
// dictionary in bytes.
func (b *block) header(head []byte) (dict int64, err error) {
	in := bytes.NewReader(head)
	flags, _ := in.ReadByte()
	if flags&reservedFlags != 0 {
		return 0, fmt.Errorf("flags %#x: more than one filter, or unknown ones", flags)
	}
	number := func() int64 {
		n, nerr := binary.ReadUvarint(in)
		if nerr != nil || n >= 1<<63 {
			err = errors.New("a number is damaged")
			return -1
		}
		return int64(n)
	}
	if flags&hasCompressed != 0 {
		b.compressed = number()
	}
	if flags&hasUncompressed != 0 {
		b.uncompressed = number()
	}
	id, size := number(), number()
	bits, _ := in.ReadByte()
	switch {
	case err != nil:
		return 0, err
	case id != filterLZMA2:
		return 0, fmt.Errorf("filter %#x is not known", id)
	case size != 1 || bits > 40:
		return 0, errors.New("properties of LZMA2 are damaged")
	}
	for in.Len() > 0 {
		if c, _ := in.ReadByte(); c != 0 {
			return 0, errors.New("padding is not zero")
		}
	}
	if bits == 40 {
		return 1<<32 - 1, nil
	}
	return int64(2|bits&1) << (bits/2 + 11), nil
}

// read reads decompressed bytes. It returns io.EOF at the end of the block.
func (b *block) read(p []byte) (int, error) {
	n, err := b.lzma2.Read(p)
	if b.check != nil {
		b.check.Write(p[:n])
	}
	b.plain += int64(n)
	if err == io.EOF && !b.lzma2.EOS() {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// end reads what is behind the data of a block, and compares.
func (b *block) end(in *counter, s *stream) error {
	size := in.n - b.data
	if b.compressed >= 0 && b.compressed != size || b.uncompressed >= 0 && b.uncompressed != b.plain {
		return errors.New("block: other sizes than its header has")
	}
	if err := in.zeros(size); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	unpadded := b.data - b.start + size
	if b.check != nil {
		sum, err := in.take(b.check.Size())
		if err != nil {
			return err
		}
		want := b.check.Sum(nil)
		if b.check.Size() < sha256.Size {
			for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
				want[i], want[j] = want[j], want[i] // CRCs are little-endian
			}
		}
		if !bytes.Equal(sum, want) {
			return errors.New("block: checksum is wrong")
		}
		unpadded += int64(len(sum))
	}
	s.blocks++
	addSizes(s.sizes, uint64(unpadded), uint64(b.plain))
	return nil
}
