package squashfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Algorithm is a way to compress.
type Algorithm uint8

// Algorithms. The zero value is zstd.
const (
	Zstd Algorithm = iota
	Gzip
	XZ
	NoCompression
)

// properties returns the name as mksquashfs has it, the number, and levels. What is
// not compressed at all is said to be gzip.
func (a Algorithm) properties() (name string, id uint16, lowest, standard, highest int) {
	switch a {
	case Zstd:
		return "zstd", 6, 1, 15, 22
	case Gzip:
		return "gzip", 1, 1, 9, 9
	case XZ:
		return "xz", 4, 0, 0, 0
	}
	return "none", 1, 0, 0, 0
}

// Compression is an algorithm and its level, 0 for the default of mksquashfs.
// xz has no levels.
//
// The levels of zstd are those of its own program, and the encoder has four: 1 and
// 2, 3 to 6, 7 to 9, and all above, whose results are about as small as those of
// level 11.
type Compression struct {
	Algorithm Algorithm
	Level     int
}

// ParseAlgorithm returns the algorithm of a name: zstd, gzip, xz or none.
func ParseAlgorithm(s string) (Algorithm, error) {
	for a := Zstd; a <= NoCompression; a++ {
		if a.String() == s {
			return a, nil
		}
	}
	return 0, fmt.Errorf("compression %q: not one of zstd, gzip, xz and none", s)
}

// String returns the name of the algorithm.
func (a Algorithm) String() string {
	name, _, _, _, _ := a.properties()
	return name
}

func (c Compression) validate() error {
	name, _, lowest, _, highest := c.Algorithm.properties()
	if c.Algorithm > NoCompression || c.Level != 0 && (c.Level < lowest || c.Level > highest) {
		return fmt.Errorf("compression %s has no level %d", name, c.Level)
	}
	return nil
}

// level returns the level, the default where none is set.
func (c Compression) level() int {
	_, _, _, standard, _ := c.Algorithm.properties()
	if c.Level == 0 {
		return standard
	}
	return c.Level
}

// options returns what is stored behind the superblock: nothing for defaults.
func (c Compression) options() []byte {
	if _, _, _, standard, _ := c.Algorithm.properties(); c.level() == standard {
		return nil
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(c.level()))
	if c.Algorithm == Gzip {
		b = binary.LittleEndian.AppendUint16(b, 15) // window_size
		b = binary.LittleEndian.AppendUint16(b, 0)  // strategy: the default one
	}
	return b
}

// compressor compresses blocks, one after the other.
type compressor interface {
	// compress appends the compressed form of b to out, and may give up with
	// something that is not shorter than b.
	compress(out, b []byte) ([]byte, error)
}

// newCompressor returns a compressor of blocks of so many bytes at most.
func newCompressor(c Compression, block int) (compressor, error) {
	switch c.Algorithm {
	case Zstd:
		// Linux gives the decoder a window of one block. Frames of a single
		// segment have one of their size.
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(c.level())), zstd.WithWindowSize(block),
			zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
		return zstdCompressor{e}, err
	case Gzip:
		z := &gzipCompressor{}
		var err error
		z.w, err = zlib.NewWriterLevel(&z.out, c.level())
		return z, err
	case XZ:
		// Linux has a dictionary of one block, and knows no CRC64.
		config := xz.WriterConfig{DictCap: block, CheckSum: xz.CRC32, Matcher: lzma.HashTable4}
		return &xzCompressor{config: config}, config.Verify()
	}
	return plainCompressor{}, nil
}

type zstdCompressor struct{ e *zstd.Encoder }

func (z zstdCompressor) compress(out, b []byte) ([]byte, error) { return z.e.EncodeAll(b, out), nil }

type gzipCompressor struct {
	w   *zlib.Writer
	out bytes.Buffer
}

func (z *gzipCompressor) compress(out, b []byte) ([]byte, error) {
	z.out.Reset()
	z.w.Reset(&z.out)
	if err := feed(z.w, b); err != nil {
		return nil, err
	}
	return append(out, z.out.Bytes()...), nil
}

type xzCompressor struct {
	config xz.WriterConfig
	out    bytes.Buffer
}

func (x *xzCompressor) compress(out, b []byte) ([]byte, error) {
	x.out.Reset()
	w, err := x.config.NewWriter(&x.out)
	if err != nil {
		return nil, err
	}
	if err := feed(w, b); err != nil {
		return nil, err
	}
	return append(out, x.out.Bytes()...), nil
}

func feed(w io.WriteCloser, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return err
	}
	return w.Close()
}

type plainCompressor struct{}

func (plainCompressor) compress(out, b []byte) ([]byte, error) { return append(out, b...), nil }
