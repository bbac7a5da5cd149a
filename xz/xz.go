// Package xz reads .xz files within the memory that its caller allows.
//
// Specification: "The .xz File Format" 1.2.1, sections 2 to 5, without other filters
// than LZMA2 and without other checks than CRC32, CRC64 and SHA-256. LZMA2 itself is
// decoded by github.com/ulikunitz/xz/lzma. The container is read here, since its own
// reader of it allocates whatever dictionary a block asks for, up to 4 GiB, and takes
// a file that was cut off between two blocks for a whole one.
package xz

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// ErrDictionary says that a file asks for a larger dictionary than is allowed.
var ErrDictionary = errors.New("a larger dictionary than is allowed")

// reader is what NewReader returns.
type reader struct {
	in      *counter
	maxDict int64
	stream  *stream // that is read, or nil between two
	block   *block  // that is read, or nil between two
	err     error   // what ended it
}

// NewReader returns a reader of what is compressed in r, all streams of it. A block
// whose dictionary takes more than maxDict bytes ends it with an error that wraps
// [ErrDictionary], a file that was cut off with one that wraps io.ErrUnexpectedEOF.
// It may read more of r than it needs. The first block's header is read at once.
func NewReader(r io.Reader, maxDict int64) (io.Reader, error) {
	z := &reader{in: &counter{r: bufio.NewReaderSize(r, bufferSize)}, maxDict: maxDict}
	if err := z.firstStream(); err != nil {
		return nil, fmt.Errorf("xz: %w", err)
	}
	if err := z.next(); err != nil {
		z.err = err
		if err != io.EOF {
			return nil, fmt.Errorf("xz: %w", err)
		}
	}
	return z, nil
}

const bufferSize = 64 << 10

// Read implements io.Reader.
func (z *reader) Read(p []byte) (int, error) {
	for z.err == nil {
		n, err := z.block.read(p)
		if err == io.EOF {
			if err = z.block.end(z.in, z.stream); err == nil {
				err = z.next()
			}
		}
		if z.err = err; err != nil && err != io.EOF {
			z.err = fmt.Errorf("xz: %w", err)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, z.err
}

// next goes to the next block, of this stream or of another one. It returns io.EOF
// when there is none.
func (z *reader) next() error {
	for {
		size, err := z.in.ReadByte()
		if err != nil {
			return unexpected(err)
		}
		if size != 0 {
			z.block, err = newBlock(z.in, size, z.stream, z.maxDict)
			return err
		}
		if err := z.stream.end(z.in); err != nil {
			return err
		}
		if err := z.nextStream(); err != nil {
			return err
		}
	}
}

// firstStream reads the first stream header. An empty file has none.
func (z *reader) firstStream() (err error) {
	b, err := z.in.take(sizeHeader)
	if err != nil {
		return err
	}
	z.stream, err = newStream(b)
	return err
}

// nextStream reads the padding behind a stream and the header of the next one. It
// returns io.EOF when there is none.
func (z *reader) nextStream() error {
	for {
		if _, err := z.in.r.Peek(1); err != nil {
			return err // io.EOF, or that of the file
		}
		b, err := z.in.take(4)
		if err != nil {
			return err
		}
		if bytes.Equal(b, make([]byte, 4)) {
			continue
		}
		rest, err := z.in.take(sizeHeader - 4)
		if err != nil {
			return err
		}
		z.stream, err = newStream(append(b, rest...))
		return err
	}
}

// counter counts what is read, and sums it up as long as sum is set.
type counter struct {
	r   *bufio.Reader
	n   int64
	sum hash.Hash32
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// ReadByte implements io.ByteReader.
func (c *counter) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
		if c.sum != nil {
			c.sum.Write([]byte{b})
		}
	}
	return b, err
}

// take reads n bytes. A file that ends earlier is cut off.
func (c *counter) take(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return nil, unexpected(err)
	}
	c.n += int64(n)
	return b, nil
}

// zeros reads padding up to a multiple of four bytes, of which n are there.
func (c *counter) zeros(n int64) error {
	for range -n & 3 {
		b, err := c.ReadByte()
		if err != nil {
			return unexpected(err)
		}
		if b != 0 {
			return errors.New("padding is not zero")
		}
	}
	return nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

var _ io.ByteReader = (*counter)(nil)

// newDecoder returns the decoder of LZMA2. It reads no byte more of in than it needs.
func newDecoder(in *counter, dictionary int64) (*lzma.Reader2, error) {
	return lzma.Reader2Config{DictCap: int(dictionary)}.NewReader2(in)
}
