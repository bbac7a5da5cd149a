// Package initramfs writes and reads the archives that the Linux kernel unpacks
// into its first root file system.
//
// The format is cpio "newc" (magic 070701, and 070702 with checksums when
// reading) of the kernel's Documentation/driver-api/early-userspace/
// buffer-format.rst: archives one after the other, each plain or compressed, with
// any number of zeros between them. Written is one archive without hard links and
// with the time 0, plain, as gzip or as zstd. Read is what the kernel reads: plain
// archives before compressed ones (microcode), gzip, zstd, xz, lzma, bzip2 and
// the legacy format of lz4.
package initramfs

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression is how an archive is compressed.
type Compression string

// What Write can compress with.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// ForKernel returns the best compression that a kernel unpacks, by its .config
// (CONFIG_RD_ZSTD, CONFIG_RD_GZIP). Without a config it is gzip, which no
// distribution's kernel is without.
func ForKernel(config []byte) Compression {
	if len(config) == 0 {
		return Gzip
	}
	set := map[string]bool{}
	for line := range strings.Lines(string(config)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && value == "y" {
			set[key] = true
		}
	}
	switch {
	case set["CONFIG_RD_ZSTD"]:
		return Zstd
	case set["CONFIG_RD_GZIP"]:
		return Gzip
	}
	return None
}

// compressor returns a writer that compresses into w. Its output depends on its
// input only: one goroutine, no time, no name.
func compressor(w io.Writer, c Compression) (io.WriteCloser, error) {
	switch c {
	case Zstd:
		// The window bounds what the kernel allocates to unpack.
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(8<<20), zstd.WithEncoderCRC(true))
	case Gzip:
		return gzip.NewWriterLevel(w, gzip.DefaultCompression)
	case None:
		return nopCloser{w}, nil
	}
	return nil, fmt.Errorf("compression %q: unknown", c)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Magic numbers of the formats the kernel unpacks (lib/decompress.c).
var magics = []struct {
	magic string
	name  string
}{
	{"\x1f\x8b", "gzip"},
	{"\x28\xb5\x2f\xfd", "zstd"},
	{"\xfd7zXZ\x00", "xz"},
	{"BZh", "bzip2"},
	{"\x02\x21\x4c\x18", "lz4"},
	{"\x5d\x00\x00", "lzma"},
}

const longestMagic = 6

// compressed names the compression that data begins with, or is "".
func compressed(data []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(data, []byte(m.magic)) {
			return m.name
		}
	}
	return ""
}
