package tar

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// Stream is where a Reader gets its bytes from.
type Stream interface {
	// Next returns the bytes that follow, at least one. They are valid until
	// the following call. At the end it returns io.EOF.
	Next() ([]byte, error)
}

// Skipper is implemented by streams that can leave out content cheaply.
type Skipper interface {
	// Skip leaves out n bytes from where the next call of Next would start.
	Skip(n int64) error
}

// maxSpecial is the longest pax header, long name or sparse map in bytes. It is
// that of archive/tar, so that no more is refused than by other tools.
const maxSpecial = 1 << 20

// Reader reads the entries of a tar stream in turn.
type Reader struct {
	src  Stream
	buf  []byte // the rest of the piece that src gave last
	off  int64  // position of buf in the stream
	left int64  // bytes of content of the current entry that are not consumed
	pad  int64  // bytes behind it up to the next block
	at   int64  // position of the header that was read last
	// ambiguous is set behind a hard link with a size: there may be content.
	ambiguous bool
	done      bool

	scratch [blockSize]byte
	special []byte
	strings map[string]string
}

// NewReader returns a reader of the archive in src.
func NewReader(src Stream) *Reader {
	return &Reader{src: src, strings: make(map[string]string)}
}

// Offset returns how many bytes of the stream were consumed.
func (r *Reader) Offset() int64 { return r.off }

// Next returns the next entry, and io.EOF at the end of the archive. What was
// left of the content of the entry before is skipped. Errors tell the offset of
// the header in the stream.
func (r *Reader) Next() (*Header, error) {
	if r.done {
		return nil, io.EOF
	}
	h, err := r.next()
	if err != nil {
		r.done = true
		if err != io.EOF {
			err = fmt.Errorf("tar offset %d: %w", r.at, err)
		}
		return nil, err
	}
	return h, nil
}

func (r *Reader) next() (*Header, error) {
	var records *pax
	var longName, longLink string
	for {
		if err := r.finishEntry(); err != nil {
			return nil, err
		}
		b, err := r.header()
		if err != nil {
			return nil, err
		}
		h, err := r.parse(b)
		if err != nil {
			return nil, err
		}
		switch b.flag() {
		case flagPax, flagSunPax, flagGlobal:
			global := b.flag() == flagGlobal
			body, err := r.body(h.Size)
			if err != nil {
				return nil, err
			}
			p, err := r.parsePax(body)
			if err != nil {
				return nil, err
			}
			if global {
				// A global header ends what was said of the next entry, as it
				// is an entry of its own for archive/tar.
				records, longName, longLink = nil, "", ""
			} else {
				records = p
			}
		case flagLongName, flagLongLink:
			link := b.flag() == flagLongLink
			body, err := r.body(h.Size)
			if err != nil {
				return nil, err
			}
			if link {
				longLink = string(cstring(body))
			} else {
				longName = string(cstring(body))
			}
		default:
			return h, r.complete(b, h, records, longName, longLink)
		}
	}
}

// parse reads the fields of a header block that all formats share.
func (r *Reader) parse(b block) (*Header, error) {
	h := &Header{Name: b.fullName(), Linkname: string(cstring(b.linkname())), Offset: r.off}
	for _, f := range []struct {
		what  string
		field []byte
		to    *int64
	}{
		{"size", b.size(), &h.Size}, {"mode", b.mode(), &h.Mode}, {"uid", b.uid(), &h.UID},
		{"gid", b.gid(), &h.GID}, {"mtime", b.mtime(), &h.Mtime},
		{"device major", b.major(), &h.Major}, {"device minor", b.minor(), &h.Minor},
	} {
		if f.to == &h.Major && b.format() == formatV7 {
			break
		}
		n, ok := numeric(f.field)
		if !ok {
			return nil, fmt.Errorf("invalid %s in the header of %.200q", f.what, h.Name)
		}
		*f.to = n
	}
	if h.Size < 0 {
		return nil, fmt.Errorf("negative size in the header of %.200q", h.Name)
	}
	return h, nil
}

// complete applies to h what the blocks before said of it, and sets up reading
// its content.
func (r *Reader) complete(b block, h *Header, records *pax, longName, longLink string) error {
	flag := b.flag()
	if records != nil {
		if err := records.apply(h); err != nil {
			return fmt.Errorf("%.200q: %w", h.Name, err)
		}
	}
	if longName != "" {
		h.Name = longName
	}
	if longLink != "" {
		h.Linkname = longLink
	}
	if h.Size < 0 || h.Size > math.MaxInt64-blockSize {
		return fmt.Errorf("invalid size %d of %.200q", h.Size, h.Name)
	}
	switch flag {
	case flagV7File, flagContig, flagSparse, byte(TypeFile):
		if flag == flagV7File && strings.HasSuffix(h.Name, "/") {
			// A directory before there was a type for it, and as every directory
			// without content, whatever its size. So it is for archive/tar, which
			// all container engines read layers with.
			h.Type, h.Size = TypeDir, 0
			break
		}
		h.Type = TypeFile
		h.Stored = h.Size
	case byte(TypeHard):
		h.Type = TypeHard
		h.Stored = h.Size
		r.ambiguous = h.Size > 0
	case byte(TypeSymlink), byte(TypeChar), byte(TypeBlock), byte(TypeDir), byte(TypeFIFO):
		h.Type = Type(flag)
		h.Size = 0
	default:
		return fmt.Errorf("entry %.200q has the unsupported type %q", h.Name, flag)
	}
	r.left = h.Stored
	r.pad = -h.Stored & (blockSize - 1)
	if h.Type == TypeHard {
		h.Size, h.Stored = 0, 0
	}
	var err error
	switch {
	case flag == flagSparse:
		if err = r.sparseGNU(b, h); err == nil {
			h.Offset = r.off
		}
	case records != nil:
		err = r.sparsePax(records, h)
	}
	if err != nil {
		return fmt.Errorf("%.200q: %w", h.Name, err)
	}
	if h.Type == TypeFile && strings.HasSuffix(h.Name, "/") {
		h.Type, h.Size, h.Stored, h.Sparse, h.Data = TypeDir, 0, 0, false, nil
	}
	return nil
}

// finishEntry moves on to where the next header is expected.
func (r *Reader) finishEntry() error {
	if r.ambiguous {
		return nil // header decides
	}
	return r.skipContent()
}

// skipContent leaves out the rest of the content and its padding. The padding
// of the last entry may be missing.
func (r *Reader) skipContent() error {
	left, pad := r.left, r.pad
	r.left, r.pad = 0, 0
	if err := r.skip(left); err != nil {
		return noEOF(err)
	}
	return r.skip(pad)
}

// header returns the next header block, or io.EOF at the end of the archive:
// two zero blocks, or the end of the stream at a block.
func (r *Reader) header() (block, error) {
	r.at = r.off
	b, err := r.block()
	if err != nil {
		return nil, err
	}
	if r.ambiguous {
		r.ambiguous = false
		if !b.zero() && !b.valid() {
			// Not a header, so this is the content of the hard link.
			if r.left -= blockSize; r.left < 0 {
				r.left, r.pad = 0, 0
			}
			if err := r.skipContent(); err != nil {
				return nil, err
			}
			r.at = r.off
			if b, err = r.block(); err != nil {
				return nil, err
			}
		}
		r.left, r.pad = 0, 0
	}
	if b.zero() {
		if b, err = r.block(); err != nil {
			return nil, err
		}
		if !b.zero() {
			return nil, errors.New("a zero block within the archive")
		}
		return nil, io.EOF
	}
	if !b.valid() {
		return nil, errors.New("invalid header checksum")
	}
	return b, nil
}

// body reads the content of a special entry of size bytes, and the padding. It
// is valid until the next call.
func (r *Reader) body(size int64) ([]byte, error) {
	if size > maxSpecial {
		return nil, fmt.Errorf("extended header of %d bytes, more than %d", size, maxSpecial)
	}
	r.special = r.special[:0]
	for int64(len(r.special)) < size {
		if err := r.fill(); err != nil {
			return nil, noEOF(err)
		}
		n := min(len(r.buf), int(size)-len(r.special))
		r.special = append(r.special, r.buf[:n]...)
		r.consume(n)
	}
	r.pad = -size & (blockSize - 1)
	return r.special, nil
}

// Content calls fn with the stored bytes of the current entry, in pieces that
// are valid during the call.
func (r *Reader) Content(fn func([]byte) error) error {
	if r.ambiguous {
		return nil
	}
	for r.left > 0 {
		if err := r.fill(); err != nil {
			return fmt.Errorf("tar offset %d: %w", r.off, noEOF(err))
		}
		n := len(r.buf)
		if int64(n) > r.left {
			n = int(r.left)
		}
		if err := fn(r.buf[:n]); err != nil {
			return err
		}
		r.left -= int64(n)
		r.consume(n)
	}
	return nil
}

// Drain reads the stream to its end, behind the end of the archive.
func (r *Reader) Drain() error {
	r.done = true
	for {
		r.consume(len(r.buf))
		if err := r.fill(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// fill makes buf hold at least a byte.
func (r *Reader) fill() error {
	if len(r.buf) > 0 {
		return nil
	}
	b, err := r.src.Next()
	if err != nil {
		return err
	}
	r.buf = b
	return nil
}

func (r *Reader) consume(n int) {
	r.buf = r.buf[n:]
	r.off += int64(n)
}

// skip leaves out n bytes, and returns io.EOF when there are fewer. Only a
// stream that can skip may put that off to the next read.
func (r *Reader) skip(n int64) error {
	for n > 0 {
		if len(r.buf) == 0 {
			if s, ok := r.src.(Skipper); ok {
				if err := s.Skip(n); err != nil {
					return err
				}
				r.off += n
				return nil
			}
			if err := r.fill(); err != nil {
				return err
			}
		}
		k := len(r.buf)
		if int64(k) > n {
			k = int(n)
		}
		r.consume(k)
		n -= int64(k)
	}
	return nil
}

// block returns the next block, valid until the next call of any method, and
// io.EOF when there is not a byte left.
func (r *Reader) block() (block, error) {
	if err := r.fill(); err != nil {
		return nil, err
	}
	if len(r.buf) >= blockSize {
		b := r.buf[:blockSize]
		r.consume(blockSize)
		return b, nil
	}
	n := 0
	for {
		k := copy(r.scratch[n:], r.buf)
		r.consume(k)
		if n += k; n == blockSize {
			return r.scratch[:], nil
		}
		if err := r.fill(); err != nil {
			return nil, noEOF(err)
		}
	}
}

// Bounds of the strings that are shared: attributes are few and short in
// honest archives.
const (
	maxShared       = 1 << 14
	maxSharedLength = 512
)

// intern returns b as a string, the same one for the same bytes.
func (r *Reader) intern(b []byte) string {
	if s, ok := r.strings[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(s) <= maxSharedLength && len(r.strings) < maxShared {
		r.strings[s] = s
	}
	return s
}

// noEOF makes an end of the stream within something an error.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
