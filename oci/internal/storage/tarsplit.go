package storage

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// Types of entries of tar-split, tar/storage/entry.go.
const (
	typeFile    = 1 // the content of a file
	typeSegment = 2 // bytes as they are: headers and padding
)

// maxEntry bounds an entry, in bytes: tar-split writes padding in pieces of a
// MiB, and pax headers have a size of their own that unpacking bounds.
const maxEntry = 64 << 20

// splitEntry is a line of a tar-split file.
type splitEntry struct {
	Type    int    `json:"type"`
	Name    string `json:"name"`
	NameRaw []byte `json:"name_raw"` // for names that are not UTF-8
	Size    int64  `json:"size"`
	Payload []byte `json:"payload"` // of a segment; CRC-64 of a file's content
}

// name returns the path of a file as it is in the tar.
func (e *splitEntry) name() string {
	if len(e.NameRaw) > 0 {
		return string(e.NameRaw)
	}
	return e.Name
}

// splitReader reads the entries of a plain tar-split stream.
type splitReader struct {
	r    *bufio.Reader
	line []byte
}

func newSplitReader(r io.Reader) *splitReader {
	return &splitReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// next returns the next entry, or io.EOF.
func (s *splitReader) next() (*splitEntry, error) {
	s.line = s.line[:0]
	for {
		part, err := s.r.ReadSlice('\n')
		if len(s.line)+len(part) > maxEntry {
			return nil, fmt.Errorf("tar-split: an entry of more than %d bytes", maxEntry)
		}
		s.line = append(s.line, part...)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("tar-split: %w", err)
		}
		if len(bytes.TrimSpace(s.line)) > 0 {
			break
		}
		if err == io.EOF {
			return nil, io.EOF
		}
		s.line = s.line[:0]
	}
	e := &splitEntry{}
	if err := json.Unmarshal(s.line, e); err != nil {
		return nil, fmt.Errorf("tar-split: invalid JSON: %w", err)
	}
	if e.Type != typeFile && e.Type != typeSegment || e.Size < 0 {
		return nil, fmt.Errorf("tar-split: entry of type %d and %d bytes", e.Type, e.Size)
	}
	return e, nil
}

// UnreadableError names files of a layer that the user may not read.
type UnreadableError struct {
	Dir   string
	Names []string // some of them
	Count int
}

func (e *UnreadableError) Error() string {
	text := fmt.Sprintf("%d files in %s cannot be read by this user: /%s", e.Count, e.Dir, strings.Join(e.Names, ", /"))
	if e.Count > len(e.Names) {
		text += ", …"
	}
	return text
}

// maxNamed is how many files an UnreadableError names.
const maxNamed = 5

// ErrNoSplit is for a layer that was not unpacked from a tar, or not by
// containers/storage.
var ErrNoSplit = errors.New("the layer has no tar-split record")

// ErrComposefs is for a layer whose files are kept by their digest.
var ErrComposefs = errors.New("the layer is kept for composefs")

// Open puts the tar of the layer together. The caller verifies it.
func (l *Layer) Open(ctx context.Context) (io.ReadCloser, error) {
	split, err := l.split()
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(l.dir())
	if err != nil {
		split.Close()
		return nil, err
	}
	return &layerTar{ctx: ctx, layer: l, split: split, entries: newSplitReader(split), root: root, crc: crc64.New(crc64.MakeTable(crc64.ISO))}, nil
}

// split opens the recorded headers.
func (l *Layer) split() (io.ReadCloser, error) {
	if l.composefs() {
		return nil, ErrComposefs
	}
	f, err := openRegular(filepath.Join(l.place.root, l.place.driver+"-layers", l.rec.ID+".tar-split.gz"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoSplit
	} else if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("tar-split: %w", err)
	}
	return &gzipFile{z, f}, nil
}

type gzipFile struct {
	*gzip.Reader
	f *os.File
}

func (g *gzipFile) Close() error {
	err := g.Reader.Close()
	if cerr := g.f.Close(); err == nil {
		err = cerr
	}
	return err
}

// layerTar is the tar of a layer.
type layerTar struct {
	ctx     context.Context // of the transfer, which is one call of Open
	layer   *Layer
	split   io.Closer
	entries *splitReader
	root    *os.Root

	segment []byte // of the current entry, what is left
	file    *os.File
	entry   *splitEntry // of file
	left    int64       // of file, in bytes
	crc     hash.Hash64
	err     error // sticks
}

func (t *layerTar) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for t.err == nil {
		switch {
		case len(t.segment) > 0:
			n := copy(p, t.segment)
			t.segment = t.segment[n:]
			return n, nil
		case t.file != nil && t.left > 0:
			n, err := t.file.Read(p[:min(int64(len(p)), t.left)])
			t.left -= int64(n)
			t.crc.Write(p[:n])
			if err != nil && t.left > 0 {
				t.err = t.changed(err)
			}
			if n > 0 {
				return n, nil
			}
		case t.file != nil:
			t.err = t.finish()
		default:
			t.err = t.advance()
		}
	}
	return 0, t.err
}

// advance takes the next entry.
func (t *layerTar) advance() error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	e, err := t.entries.next()
	if err != nil {
		return err
	}
	if e.Type == typeSegment {
		t.segment = e.Payload
		return nil
	}
	if e.Size == 0 {
		return nil
	}
	t.file, err = openBelow(t.root, e.name())
	if errors.Is(err, fs.ErrPermission) {
		return t.unreadable(e)
	}
	if err != nil {
		return fmt.Errorf("file %.200q of the layer: %w", e.name(), err)
	}
	t.entry, t.left = e, e.Size
	t.crc.Reset()
	return nil
}

// finish checks the file that was read.
func (t *layerTar) finish() error {
	var b [1]byte
	if n, _ := t.file.Read(b[:]); n > 0 {
		return t.changed(nil)
	}
	if len(t.entry.Payload) > 0 && !bytes.Equal(t.crc.Sum(nil), t.entry.Payload) {
		return t.changed(nil)
	}
	err := t.file.Close()
	t.file = nil
	return err
}

// changed is the error for a file that is not what was unpacked.
func (t *layerTar) changed(err error) error {
	if err != nil && err != io.EOF {
		return fmt.Errorf("file %.200q of the layer: %w", t.entry.name(), err)
	}
	return fmt.Errorf("file %.200q of the layer was changed since it was unpacked", t.entry.name())
}

// unreadable looks at the rest of the layer, too, so that all is said at once.
func (t *layerTar) unreadable(first *splitEntry) error {
	u := &UnreadableError{Dir: t.layer.dir()}
	for e := first; ; {
		if e.Type == typeFile && e.Size > 0 {
			f, err := openBelow(t.root, e.name())
			if err == nil {
				f.Close()
			} else if errors.Is(err, fs.ErrPermission) {
				if u.Count++; len(u.Names) < maxNamed {
					u.Names = append(u.Names, strings.TrimLeft(cleanName(e.name()), "/"))
				}
			}
		}
		if err := t.ctx.Err(); err != nil {
			return err
		}
		var err error
		if e, err = t.entries.next(); err != nil {
			return u
		}
	}
}

func (t *layerTar) Close() error {
	err := t.split.Close()
	if t.file != nil {
		t.file.Close()
	}
	if cerr := t.root.Close(); err == nil {
		err = cerr
	}
	return err
}
