package btrfs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// Algorithm is a way to compress content.
type Algorithm uint8

// Algorithms. Linux knows zstd since 4.14; the zero value is none.
const (
	NoCompression Algorithm = iota
	Zstd
	Zlib
)

// id returns the algorithm as extents have it.
func (a Algorithm) id() uint8 {
	switch a {
	case Zlib:
		return 1
	case Zstd:
		return 3
	}
	return 0
}

// Compression is an algorithm and its level, 0 for that of Linux: 3.
type Compression struct {
	Algorithm Algorithm
	Level     int
}

// ParseCompression returns the compression that the mount option compress=
// names: zstd, zlib, with a level behind a colon, or no.
func ParseCompression(s string) (Compression, error) {
	name, level, found := strings.Cut(s, ":")
	c := Compression{}
	switch name {
	case "no", "none", "":
	case "zstd":
		c.Algorithm = Zstd
	case "zlib":
		c.Algorithm = Zlib
	case "lzo":
		return c, fmt.Errorf("compression %s: imgbuild compresses with zstd and zlib", s)
	default:
		return c, fmt.Errorf("compression %q: unknown", s)
	}
	if found {
		n, err := strconv.Atoi(level)
		if err != nil || n == 0 && c.Algorithm != NoCompression {
			return c, fmt.Errorf("compression %q: level %q", s, level)
		}
		c.Level = n
	}
	return c, c.validate()
}

// String returns the compression as the mount option has it.
func (c Compression) String() string {
	name := map[Algorithm]string{NoCompression: "no", Zstd: "zstd", Zlib: "zlib"}[c.Algorithm]
	if c.Level == 0 {
		return name
	}
	return name + ":" + strconv.Itoa(c.Level)
}

func (c Compression) validate() error {
	switch {
	case c.Algorithm == NoCompression && c.Level == 0,
		// Those below zero since Linux 6.15.
		c.Algorithm == Zstd && c.Level >= -15 && c.Level <= 15,
		c.Algorithm == Zlib && c.Level >= 0 && c.Level <= 9:
		return nil
	}
	return fmt.Errorf("compression %s does not exist", c)
}

// compressor compresses pieces of content, one after the other.
type compressor interface {
	// compress appends the compressed form of b to out.
	compress(out, b []byte) ([]byte, error)
}

func newCompressor(c Compression) (compressor, error) {
	level := c.Level
	if level == 0 {
		level = 3
	}
	if c.Algorithm == Zlib {
		z := &zlibCompressor{}
		var err error
		z.w, err = zlib.NewWriterLevel(&z.out, level)
		return z, err
	}
	// Linux has a window of 128 KiB at most; frames say how large they are.
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithWindowSize(maxCompressed),
		zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	return zstdCompressor{e}, err
}

type zstdCompressor struct{ e *zstd.Encoder }

func (z zstdCompressor) compress(out, b []byte) ([]byte, error) { return z.e.EncodeAll(b, out), nil }

type zlibCompressor struct {
	w   *zlib.Writer
	out bytes.Buffer
}

func (z *zlibCompressor) compress(out, b []byte) ([]byte, error) {
	z.out.Reset()
	z.w.Reset(&z.out)
	if _, err := z.w.Write(b); err != nil {
		return nil, err
	}
	if err := z.w.Close(); err != nil {
		return nil, err
	}
	return append(out, z.out.Bytes()...), nil
}
