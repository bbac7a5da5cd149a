package oci

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"imgbuild/fault"
)

const (
	// readBuffer is how much of a blob is read at once.
	readBuffer = 256 << 10
	// maxWindow is the largest zstd window that is taken, in bytes: what zstd
	// itself decompresses without being told to.
	maxWindow = 128 << 20
)

// decompress returns the plain stream of a blob, whatever its compression is.
// Closing it releases the decoder but not r.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, readBuffer)
	head, err := br.Peek(maxMagic)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch c := sniff(head); c {
	case plain:
		return io.NopCloser(br), nil
	case gz:
		return newGzip(br)
	case zst:
		// Two blocks at a time keep a core busy while the next is read.
		d, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	default:
		return nil, fault.New(fault.Unsupported, fmt.Errorf("compression %s is not supported", c),
			"recompress the layers with: skopeo copy --dest-compress-format zstd")
	}
}

// gzipReader reads gzip members one after the other, RFC 1952 section 2.2. Zeros
// behind the last are padding, as gzip(1) has it; anything else is an error.
type gzipReader struct {
	br *bufio.Reader
	z  *gzip.Reader
}

func newGzip(br *bufio.Reader) (io.ReadCloser, error) {
	z, err := gzip.NewReader(br)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &gzipReader{br, z}, nil
}

func (r *gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := r.z.Read(p)
		if n > 0 && err == io.EOF {
			return n, nil // it comes again
		}
		if err != io.EOF {
			return n, err
		}
		head, err := r.br.Peek(2)
		if len(head) == 0 {
			return 0, err
		}
		if head[0] == 0 {
			return 0, r.padding()
		}
		if len(head) < 2 || head[0] != 0x1f || head[1] != 0x8b {
			return 0, errors.New("gzip: garbage behind the end of the stream")
		}
		if err := r.z.Reset(r.br); err != nil {
			return 0, noEOF(err)
		}
		r.z.Multistream(false)
	}
}

// padding reads zeros up to the end.
func (r *gzipReader) padding() error {
	for {
		b, err := r.br.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return errors.New("gzip: garbage behind the end of the stream")
		}
	}
}

func (r *gzipReader) Close() error { return r.z.Close() }
