package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"imgbuild/fault"
	"imgbuild/oci/internal/tar"
)

const (
	// maxArchiveFiles is more blobs than a layout of many images has.
	maxArchiveFiles = 1 << 20
	// archiveStep is how much is read at once while looking for headers.
	archiveStep = 32 << 10
)

// tarStore is the tar of a layout. Its files are read in place.
type tarStore struct {
	f     *os.File
	files map[string]tarRange
}

// tarRange is the content of a file in the tar, in bytes.
type tarRange struct{ off, size int64 }

func openArchive(ctx context.Context, ref Reference, arch string) (source, error) {
	fi, err := os.Stat(ref.place)
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", ref.place)
	}
	if err != nil {
		return nil, fault.New(fault.NotFound, fmt.Errorf("image archive: %w", err), "")
	}
	f, err := os.Open(ref.place)
	if err != nil {
		return nil, fault.New(fault.NotFound, fmt.Errorf("image archive: %w", err), "")
	}
	store, err := indexArchive(ctx, f, fi.Size())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("image archive %s: %w", ref.place, err)
	}
	return &layoutSource{ref: ref, store: store, arch: arch}, nil
}

// indexArchive finds the files of the archive.
func indexArchive(ctx context.Context, f *os.File, size int64) (*tarStore, error) {
	head := make([]byte, maxMagic)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if c := sniff(head[:n]); c != plain {
		return nil, fault.New(fault.Unsupported, fmt.Errorf("is compressed with %s", c), "decompress it first, its layers are compressed anyway")
	}
	s := &tarStore{f: f, files: make(map[string]tarRange)}
	r := tar.NewReader(&fileStream{ctx: ctx, f: f, size: size, buf: make([]byte, archiveStep)})
	for {
		h, err := r.Next()
		if err == io.EOF {
			return s, nil
		} else if err != nil {
			return nil, badStream(ctx, err)
		}
		if h.Type != tar.TypeFile || h.Sparse {
			continue
		}
		if h.Stored > size-h.Offset {
			return nil, badImage(fmt.Errorf("%.200q ends beyond the archive, which is truncated", h.Name))
		}
		if len(s.files) == maxArchiveFiles {
			return nil, badImage(fmt.Errorf("more than %d files", maxArchiveFiles))
		}
		name := strings.TrimLeft(strings.TrimPrefix(h.Name, "./"), "/")
		s.files[name] = tarRange{h.Offset, h.Stored}
	}
}

func (s *tarStore) open(path string) (io.ReadCloser, error) {
	r, ok := s.files[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(s.f, r.off, r.size)), nil
}

func (s *tarStore) Close() error { return s.f.Close() }

// fileStream is a tar.Stream of a file.
type fileStream struct {
	ctx  context.Context
	f    *os.File
	off  int64
	size int64
	buf  []byte
}

var _ tar.Skipper = (*fileStream)(nil)

func (s *fileStream) Next() ([]byte, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	n, err := s.f.ReadAt(s.buf, s.off)
	if n > 0 {
		s.off += int64(n)
		return s.buf[:n], nil
	}
	return nil, err
}

func (s *fileStream) Skip(n int64) error {
	if n > s.size-s.off {
		s.off = s.size
		return io.EOF
	}
	s.off += n
	return nil
}

// badStream classes an error of reading a tar: the image is damaged unless the
// context or the operating system had a say in it.
func badStream(ctx context.Context, err error) error {
	var sys *fs.PathError
	if ctx.Err() != nil || errors.As(err, &sys) {
		return err
	}
	return fault.Default(fault.BadImage, err)
}

// compression is the outer format of a blob.
type compression string

const (
	plain compression = "nothing"
	gz    compression = "gzip"
	zst   compression = "zstd"
	xz    compression = "xz"
	bz2   compression = "bzip2"
)

// maxMagic is how many bytes tell the compression.
const maxMagic = 10

// sniff tells the compression from the first bytes, as other tools do: media
// types are often wrong.
func sniff(head []byte) compression {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return gz
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zst
	// A skippable frame, RFC 8878 section 3.1.2: a zstd stream may start so.
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return zst
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return xz
	case len(head) >= 10 && string(head[:3]) == "BZh" && string(head[4:10]) == "1AY&SY":
		return bz2
	}
	return plain
}
