package fips

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"imgbuild/xz"
)

// Entries of a cpio archive as the kernel unpacks it: "newc",
// Documentation/driver-api/early-userspace/buffer-format.rst.
const (
	cpioMagic  = "07070" // followed by 1, or 2 with checksums
	sizeHeader = 110
	trailer    = "TRAILER!!!"
	maxName    = 4096
	maxModules = 1 << 20
	// maxUnpacked bounds what an initramfs unpacks to.
	maxUnpacked = 4 << 30
)

var errFound = errors.New("found")

// hasFIPS tells whether an initramfs has dracut's module fips: by the list of modules
// that dracut puts into it, or by the module's script.
func hasFIPS(r io.Reader) (bool, error) {
	err := segments(bufio.NewReaderSize(io.LimitReader(r, maxUnpacked), 1<<16), 0)
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// segments reads the archives that an initramfs is made of, compressed or not.
func segments(r *bufio.Reader, depth int) error {
	for {
		magic, err := r.Peek(6)
		switch {
		case len(magic) == 0 && errors.Is(err, io.EOF):
			return nil
		case len(magic) > 0 && magic[0] == 0:
			// Padding, in words.
			if _, err := r.Discard(1); err != nil {
				return err
			}
			continue
		case len(magic) < 6:
			return io.ErrUnexpectedEOF
		case string(magic[:5]) == cpioMagic:
			if err := archive(r); err != nil {
				return err
			}
			continue
		case depth > 0:
			return errors.New("compressed twice")
		}
		plain, err := decompress(r, magic)
		if err != nil {
			return err
		}
		// The kernel goes on after it, but nothing that dracut makes has more.
		return segments(bufio.NewReaderSize(io.LimitReader(plain, maxUnpacked), 1<<16), depth+1)
	}
}

// decompress returns what is compressed, by its first bytes.
func decompress(r io.Reader, magic []byte) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return d, nil
	case string(magic) == "\xfd7zXZ\x00":
		return xz.NewReader(r, 128<<20)
	}
	return nil, fmt.Errorf("compression that begins with %x is not supported", magic)
}

// archive reads one archive to its trailer.
func archive(r *bufio.Reader) error {
	for {
		head := make([]byte, sizeHeader)
		if _, err := io.ReadFull(r, head); err != nil {
			return noEOF(err)
		}
		if !bytes.HasPrefix(head, []byte(cpioMagic)) {
			return errors.New("not a cpio archive")
		}
		size, err1 := strconv.ParseUint(string(head[54:62]), 16, 32)
		nameSize, err2 := strconv.ParseUint(string(head[94:102]), 16, 32)
		if err1 != nil || err2 != nil || nameSize == 0 || nameSize > maxName {
			return errors.New("damaged cpio header")
		}
		// Header and name, then content, are padded to words.
		name := make([]byte, (sizeHeader+nameSize+3)&^3-sizeHeader)
		if _, err := io.ReadFull(r, name); err != nil {
			return noEOF(err)
		}
		file := strings.Trim(string(name[:nameSize-1]), "/.")
		if file == strings.Trim(trailer, ".") {
			return nil
		}
		if strings.HasSuffix(file, "bin/fips.sh") {
			return errFound
		}
		padded := int64(size+3) &^ 3
		if strings.HasSuffix(file, "lib/dracut/modules.txt") && size <= maxModules {
			text := make([]byte, size)
			if _, err := io.ReadFull(r, text); err != nil {
				return noEOF(err)
			}
			for line := range strings.Lines(string(text)) {
				if strings.TrimSpace(line) == "fips" {
					return errFound
				}
			}
			padded -= int64(size)
		}
		if _, err := io.CopyN(io.Discard, r, padded); err != nil {
			return noEOF(err)
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
