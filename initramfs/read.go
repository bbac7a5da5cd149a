package initramfs

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"

	"imgbuild/xz"
)

// Entry is a file of an initramfs.
type Entry struct {
	Name         string // without leading slash or "./"; "" is the root
	Mode         uint32 // type and permissions, as st_mode
	UID, GID     uint32
	Major, Minor uint32 // of a device node
	Size         int64  // of a regular file, bytes
	Target       string // of a symbolic link
	// Link tells the names of one hard linked file from others; 0 is none. Its
	// content is with the last of them, the others have none.
	Link uint32
}

// maxPlain bounds what an initramfs may become when it is unpacked, in bytes.
const maxPlain = 4 << 30

// Walk calls fn for each file of an initramfs, in order, with its content. A
// later file of a name replaces an earlier one. What fn does not read of the
// content is skipped; an error of fn ends the walk and is returned.
func Walk(r io.Reader, fn func(e Entry, content io.Reader) error) error {
	w := &walker{fn: fn, left: maxPlain}
	if err := w.segments(bufio.NewReaderSize(r, 64<<10), true); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	return nil
}

type walker struct {
	fn      func(Entry, io.Reader) error
	entries int
	left    int64 // bytes that may still be unpacked
}

// segments reads archives until the end.
func (w *walker) segments(r *bufio.Reader, outer bool) error {
	pos := int64(0) // of the first byte of an archive
	found := false
	for {
		b, err := r.Peek(longestMagic)
		switch {
		case len(b) == 0 && errors.Is(err, io.EOF):
			if !found {
				return errMagic
			}
			return nil
		case len(b) == 0:
			return err
		case b[0] == 0:
			if _, err := r.Discard(1); err != nil {
				return err
			}
			pos++
			if err := w.spend(1); err != nil {
				return err
			}
			continue
		case bytes.HasPrefix(b, []byte("0707")):
			n, err := w.archive(r, pos)
			if err != nil {
				return err
			}
			pos += n
			found = true
			continue
		}
		name := compressed(b)
		if name == "" || !outer {
			return errMagic
		}
		plain, err := decompress(r, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer plain.Close()
		// The compressed archive is the last one: what follows it is a
		// further member of the same format, or padding.
		if err := w.segments(bufio.NewReaderSize(plain, 64<<10), false); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
}

func (w *walker) spend(n int64) error {
	if w.left -= n; w.left < 0 {
		return fmt.Errorf("more than %d bytes unpacked", int64(maxPlain))
	}
	return nil
}

// archive reads one archive that begins at pos, to its trailer, and returns its
// length.
func (w *walker) archive(r *bufio.Reader, pos int64) (int64, error) {
	start := pos
	var b [sizeHeader]byte
	for {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return 0, short(err)
		}
		var h header
		if err := h.decode(b[:]); err != nil {
			return 0, fmt.Errorf("at %d: %w", pos, err)
		}
		if h.nameSize == 0 || h.nameSize > maxName {
			return 0, fmt.Errorf("at %d: a name of %d bytes", pos, h.nameSize)
		}
		name := make([]byte, h.nameSize)
		if _, err := io.ReadFull(r, name); err != nil {
			return 0, short(err)
		}
		pos += sizeHeader + int64(h.nameSize)
		pad := padding(sizeHeader + int64(h.nameSize))
		end := string(name[:len(name)-1]) == trailer
		if err := skip(r, pad); err != nil && !end {
			return 0, err
		}
		pos += pad
		if end {
			return pos - start, nil
		}
		if w.entries++; w.entries > maxEntries {
			return 0, fmt.Errorf("more than %d files", maxEntries)
		}
		if name[len(name)-1] != 0 {
			return 0, fmt.Errorf("at %d: the name %q does not end", pos, name)
		}
		size := int64(h.size)
		if err := w.spend(sizeHeader + int64(len(name)) + size); err != nil {
			return 0, err
		}
		if err := w.entry(&h, string(name[:len(name)-1]), r); err != nil {
			return 0, err
		}
		pos += size
		if err := skip(r, padding(size)); err != nil {
			return 0, err
		}
		pos += padding(size)
	}
}

// entry hands one file to fn and reads its content to the end.
func (w *walker) entry(h *header, name string, r io.Reader) error {
	e := Entry{Name: clean(name), Mode: h.mode, UID: h.uid, GID: h.gid, Major: h.major, Minor: h.minor}
	content := &io.LimitedReader{R: r, N: int64(h.size)}
	switch h.mode & 0o170000 {
	case 0o100000:
		e.Size = int64(h.size)
		if h.nlink > 1 {
			e.Link = h.ino
		}
	case 0o120000:
		if h.size > maxLink {
			return fmt.Errorf("%s: a link of %d bytes", e.Name, h.size)
		}
		target := make([]byte, h.size)
		if _, err := io.ReadFull(content, target); err != nil {
			return short(err)
		}
		e.Target = strings.TrimRight(string(target), "\x00")
	}
	if err := w.fn(e, content); err != nil {
		return err
	}
	return skip(content, content.N)
}

// clean returns the name as the kernel takes it, from the root.
func clean(name string) string {
	for {
		switch {
		case strings.HasPrefix(name, "/"):
			name = name[1:]
		case strings.HasPrefix(name, "./"):
			name = name[2:]
		case name == ".":
			return ""
		default:
			return name
		}
	}
}

func skip(r io.Reader, n int64) error {
	m, err := io.CopyN(io.Discard, r, n)
	if err == nil || m == n {
		return nil
	}
	return short(err)
}

func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// maxDict is the largest dictionary in bytes of what is compressed with LZMA: xz -9
// makes 64 MiB.
const maxDict = 128 << 20

// decompress returns a reader of what r holds in the format called name.
func decompress(r *bufio.Reader, name string) (io.ReadCloser, error) {
	switch name {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return io.NopCloser(&members{r: r, z: z}), nil
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return &frames{z: z}, nil
	case "xz":
		z, err := xz.NewReader(r, maxDict)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(z), nil
	case "lzma":
		z, err := lzma.ReaderConfig{DictCap: maxDict}.NewReader(r) // the most, for this one
		if err != nil {
			return nil, err
		}
		return io.NopCloser(z), nil
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(r)), nil
	case "lz4":
		return io.NopCloser(&lz4Reader{r: r}), nil
	}
	return nil, fmt.Errorf("compression %q: unknown", name)
}

// members reads the members of a gzip file and ends at what is none.
type members struct {
	r *bufio.Reader
	z *gzip.Reader
}

func (m *members) Read(p []byte) (int, error) {
	for {
		n, err := m.z.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		if b, _ := m.r.Peek(2); compressed(b) != "gzip" {
			return 0, io.EOF
		}
		if err := m.z.Reset(m.r); err != nil {
			return 0, err
		}
		m.z.Multistream(false)
	}
}

// frames reads the frames of a zstd file and ends at what is none.
type frames struct {
	z     *zstd.Decoder
	begun bool
}

func (f *frames) Read(p []byte) (int, error) {
	n, err := f.z.Read(p)
	f.begun = f.begun || n > 0
	if f.begun && errors.Is(err, zstd.ErrMagicMismatch) {
		err = io.EOF
	}
	return n, err
}

func (f *frames) Close() error {
	f.z.Close()
	return nil
}
