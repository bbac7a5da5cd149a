package debian

import (
	"archive/tar"
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const (
	arMagic      = "!<arch>\n"
	sizeArHeader = 60
	maxMembers   = 16      // of the ar file; a package has three
	maxFile      = 1 << 30 // bytes of one file in a package
	maxEntries   = 1 << 20 // files in a package
)

// Entry is a file of a package, with the metadata that it shall be installed
// with.
type Entry struct {
	Path     string // relative and clean, without a leading slash
	Type     byte   // tar.TypeReg, TypeDir, TypeSymlink, TypeLink and so on
	Mode     uint32 // permissions, setuid, setgid and sticky
	UID, GID int
	Mtime    int64  // seconds since 1970
	Link     string // target of a symbolic link, or path of the file a hard link is to
	Content  []byte // of a regular file
}

// ReadFile calls fn for each entry of the .deb file called name, in the order
// of its archive. Entries that keep rejects have no content.
func ReadFile(name string, keep func(path string) bool, fn func(Entry) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := Read(bufio.NewReaderSize(f, 1<<20), keep, fn); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Read is like [ReadFile] for the bytes of a .deb. A nil keep accepts all.
func Read(r io.Reader, keep func(path string) bool, fn func(Entry) error) error {
	data, err := openData(r)
	if err != nil {
		return err
	}
	defer data.Close()
	t := tar.NewReader(data)
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("data: %w", err)
		}
		if n == maxEntries {
			return fmt.Errorf("data: more than %d entries", maxEntries)
		}
		e, err := entry(h)
		if err != nil {
			return fmt.Errorf("data: %w", err)
		}
		if e.Path == "." {
			continue
		}
		if e.Type == tar.TypeReg && (keep == nil || keep(e.Path)) {
			if e.Content, err = readContent(t, h.Size); err != nil {
				return fmt.Errorf("data: %s: %w", e.Path, err)
			}
		}
		if err := fn(e); err != nil {
			return err
		}
	}
}

func entry(h *tar.Header) (Entry, error) {
	e := Entry{Path: path.Clean(strings.TrimPrefix(h.Name, "/")), Type: h.Typeflag, Mode: uint32(h.Mode) & 0o7777,
		UID: h.Uid, GID: h.Gid, Mtime: h.ModTime.Unix(), Link: h.Linkname}
	if e.Path == ".." || strings.HasPrefix(e.Path, "../") {
		return e, fmt.Errorf("%q leads outside", h.Name)
	}
	if e.Type == tar.TypeLink {
		e.Link = path.Clean(strings.TrimPrefix(h.Linkname, "/"))
	}
	return e, nil
}

func readContent(r io.Reader, size int64) ([]byte, error) {
	if size < 0 || size > maxFile {
		return nil, fmt.Errorf("%d bytes, more than the limit of %d", size, maxFile)
	}
	// Grows with what is really there, not with what the header promises.
	var b bytes.Buffer
	if size <= 1<<20 {
		b.Grow(int(size))
	}
	if _, err := io.CopyN(&b, r, size); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// openData returns the uncompressed data member of a package: ar(5) with the
// members debian-binary, control.tar.* and data.tar.*.
func openData(r io.Reader) (io.ReadCloser, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != arMagic {
		return nil, fmt.Errorf("not an ar archive")
	}
	header := make([]byte, sizeArHeader)
	for range maxMembers {
		if _, err := io.ReadFull(r, header); err != nil {
			return nil, fmt.Errorf("no data member: %w", err)
		}
		if header[58] != '`' || header[59] != '\n' {
			return nil, fmt.Errorf("damaged ar header")
		}
		name := strings.TrimSuffix(strings.TrimRight(string(header[:16]), " "), "/")
		size, err := strconv.ParseInt(strings.TrimRight(string(header[48:58]), " "), 10, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("ar member %q: size %q", name, header[48:58])
		}
		member := io.LimitReader(r, size)
		if ext, ok := strings.CutPrefix(name, "data.tar"); ok {
			return decompress(member, ext)
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return nil, fmt.Errorf("ar member %q: %w", name, err)
		}
	}
	return nil, fmt.Errorf("no data member among the first %d", maxMembers)
}

func decompress(r io.Reader, ext string) (io.ReadCloser, error) {
	switch ext {
	case "":
		return io.NopCloser(r), nil
	case ".gz":
		return gzip.NewReader(r)
	case ".xz":
		x, err := xz.NewReader(r)
		return io.NopCloser(x), err
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("data.tar%s: unknown compression", ext)
}
