package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
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
	links map[string]string // symbolic and hard links, by path
	close func() error
}

// tarRange is the content of a file in the tar, in bytes.
type tarRange struct{ off, size int64 }

func openArchive(ctx context.Context, ref Reference, opt Options) (source, error) {
	store, err := openTar(ctx, ref.place, opt)
	if err != nil {
		return nil, err
	}
	return &layoutSource{ref: ref, store: store, arch: opt.Arch}, nil
}

// openTar opens the tar at a path. One that is compressed is unpacked into a
// temporary file first: its files are read in any order.
func openTar(ctx context.Context, path string, opt Options) (*tarStore, error) {
	fi, err := os.Stat(path)
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, fault.New(fault.NotFound, fmt.Errorf("image archive: %w", err), "")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.NotFound, fmt.Errorf("image archive: %w", err), "")
	}
	closeFile := f.Close
	head := make([]byte, maxMagic)
	n, err := f.ReadAt(head, 0)
	if err == nil && sniff(head[:n]) != plain {
		var plainFile *os.File
		plainFile, err = inflateFile(ctx, f, opt)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("image archive %s: %w", path, err)
		}
		f = plainFile
		closeFile = func() error {
			err := plainFile.Close()
			if rerr := os.Remove(plainFile.Name()); err == nil && !errors.Is(rerr, fs.ErrNotExist) {
				err = rerr
			}
			return err
		}
		fi, err = f.Stat()
	}
	if err == io.EOF {
		err = nil // a short file, which the tar reader judges
	}
	var store *tarStore
	if err == nil {
		store, err = indexArchive(ctx, f, fi.Size())
	}
	if err != nil {
		_ = closeFile()
		return nil, fmt.Errorf("image archive %s: %w", path, err)
	}
	store.close = closeFile
	return store, nil
}

// inflateFile decompresses f into a temporary file, which has no name any more
// where the system allows that.
func inflateFile(ctx context.Context, f *os.File, opt Options) (*os.File, error) {
	dir := ""
	if opt.Cache != nil {
		dir = opt.Cache.tempDir()
	}
	r, err := decompress(f)
	if err != nil {
		return nil, badStream(ctx, err)
	}
	defer r.Close()
	to, err := os.CreateTemp(dir, "archive-*")
	if err != nil {
		return nil, classHost(err)
	}
	_ = os.Remove(to.Name())
	limit := defaultLimits.Bytes
	buf := make([]byte, chunkSize)
	for total := int64(0); err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		n, rerr := r.Read(buf)
		if total += int64(n); total > limit {
			err = badImage(fmt.Errorf("unpacks to more than %d bytes", limit))
			break
		}
		if _, err = to.Write(buf[:n]); err != nil {
			err = classHost(err)
			break
		}
		if rerr == io.EOF {
			return to, nil
		}
		if rerr != nil {
			err = badStream(ctx, rerr)
		}
	}
	to.Close()
	_ = os.Remove(to.Name())
	return nil, err
}

// indexArchive finds the files of the archive.
func indexArchive(ctx context.Context, f *os.File, size int64) (*tarStore, error) {
	s := &tarStore{f: f, files: make(map[string]tarRange), links: make(map[string]string), close: f.Close}
	r := tar.NewReader(&fileStream{ctx: ctx, f: f, size: size, buf: make([]byte, archiveStep)})
	for {
		h, err := r.Next()
		if err == io.EOF {
			return s, nil
		} else if err != nil {
			return nil, badStream(ctx, err)
		}
		if len(s.files)+len(s.links) == maxArchiveFiles {
			return nil, badImage(fmt.Errorf("more than %d files", maxArchiveFiles))
		}
		name := archiveName(h.Name)
		switch h.Type {
		case tar.TypeSymlink:
			s.links[name] = archiveName(path.Join(path.Dir(name), h.Linkname))
		case tar.TypeHard:
			// A file that is in the archive twice is a link to itself.
			if to := archiveName(h.Linkname); to != name {
				s.links[name] = to
			}
		}
		if h.Type != tar.TypeFile || h.Sparse {
			continue
		}
		if h.Stored > size-h.Offset {
			return nil, badImage(fmt.Errorf("%.200q ends beyond the archive, which is truncated", h.Name))
		}
		s.files[name] = tarRange{h.Offset, h.Stored}
	}
}

// archiveName is a name of the archive in the form in which it is looked up.
func archiveName(name string) string {
	return strings.TrimLeft(path.Clean("/"+name), "/")
}

// find returns where a file is, through links: Docker wrote layers that several
// images share once.
func (s *tarStore) find(name string) (tarRange, bool) {
	const maxLinks = 8
	for range maxLinks {
		if r, ok := s.files[name]; ok {
			return r, true
		}
		to, ok := s.links[name]
		if !ok {
			break
		}
		name = to
	}
	return tarRange{}, false
}

func (s *tarStore) open(name string) (io.ReadCloser, error) {
	r, ok := s.find(name)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(s.f, r.off, r.size)), nil
}

func (s *tarStore) Close() error { return s.close() }

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
