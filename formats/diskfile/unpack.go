package diskfile

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"imgbuild/fault"
	"imgbuild/formats/input"
	"imgbuild/formats/output"
	"imgbuild/xz"
)

// maxWindow is the most memory that a decompressor gets for what came before, in
// bytes: as much as zstd --ultra and xz -9 need.
const maxWindow = 128 << 20

func (o *opener) openGzip(p *part) error {
	return o.unpack("gzip", p, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) })
}

func (o *opener) openXZ(p *part) error {
	return o.unpack("xz", p, func(r io.Reader) (io.Reader, error) {
		return xz.NewReader(r, maxWindow)
	})
}

func (o *opener) openZstd(p *part) error {
	return o.unpack("zstd", p, func(r io.Reader) (io.Reader, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		o.disk.closers = append(o.disk.closers, d.IOReadCloser())
		return d, nil
	})
}

// unpack decompresses p to a file and opens that. A disk in a tar is taken out of
// it on the way, so that its holes are those of the file.
func (o *opener) unpack(name string, p *part, decompress func(io.Reader) (io.Reader, error)) error {
	o.names = append(o.names, name)
	if o.opt.Temp == nil {
		return input.Unsupported("unpack it first", "the disk is compressed with %s", name)
	}
	counted := &counter{r: io.NewSectionReader(p, 0, p.Size()), o: o, total: p.Size()}
	plain, err := decompress(bufio.NewReaderSize(counted, 1<<20))
	if err != nil {
		return fault.Default(fault.BadImage, fmt.Errorf("%s: %w", name, err))
	}
	r := bufio.NewReaderSize(plain, 1<<20)
	if head, err := r.Peek(output.TarBlock); err == nil && isTarHead(head) {
		member, err := o.tarStream(r)
		if err != nil {
			return fault.Default(fault.BadImage, fmt.Errorf("tar in %s: %w", name, err))
		}
		r = bufio.NewReaderSize(member, 1<<20)
	}
	f, err := o.opt.Temp()
	if err != nil {
		return err
	}
	if err := o.spread(f, r); err != nil {
		return fault.Default(fault.BadImage, fmt.Errorf("%s: %w", name, err))
	}
	return o.openFile(f, "")
}

// tarStream returns the disk in a tar that comes as a stream: its only file.
func (o *opener) tarStream(r io.Reader) (io.Reader, error) {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil, input.Bad("no disk in it")
		}
		if err != nil {
			return nil, err
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse:
			if strings.HasSuffix(h.Name, ".ovf") {
				return nil, input.Unsupported("unpack it first, with gunzip or its like", "a compressed appliance")
			}
			o.names = append(o.names, "tar")
			return &lastMember{t, r}, nil
		}
	}
}

// lastMember is a member of a tar that no other one may follow.
type lastMember struct {
	t       *tar.Reader
	archive io.Reader // that t reads
}

func (m *lastMember) Read(p []byte) (int, error) {
	n, err := m.t.Read(p)
	if err != io.EOF {
		return n, err
	}
	switch h, err := m.t.Next(); {
	case err == io.EOF:
		// The checksum of what it is compressed with comes behind the end of the
		// archive.
		if _, err := io.Copy(io.Discard, m.archive); err != nil {
			return n, err
		}
		return n, io.EOF
	case err != nil:
		return n, err
	default:
		return n, input.Unsupported("unpack it first", "several files in the tar, one of them %.100q", path.Base(h.Name))
	}
}

// spread writes what r has to f, without the zeros.
func (o *opener) spread(f *os.File, r io.Reader) error {
	out := output.NewFile(f)
	defer out.Stop()
	const grain = 4 << 10
	buf := make([]byte, 1<<20)
	for pos := int64(0); ; {
		if err := o.ctx.Err(); err != nil {
			return err
		}
		n, err := 0, error(nil)
		for n < len(buf) && err == nil {
			var k int
			k, err = r.Read(buf[n:])
			n += k
		}
		if err != nil && err != io.EOF {
			return err
		}
		for from := 0; from < n; {
			to := from
			for to < n && !output.IsZero(buf[to:min(to+grain, n)]) {
				to = min(to+grain, n)
			}
			if to > from {
				if _, err := out.WriteAt(buf[from:to], pos+int64(from)); err != nil {
					return err
				}
			}
			from = to
			for from < n && output.IsZero(buf[from:min(from+grain, n)]) {
				from = min(from+grain, n)
			}
		}
		pos += int64(n)
		if err != nil {
			return out.Extend(pos)
		}
	}
}

// counter counts what is read of a compressed file.
type counter struct {
	r           io.Reader
	o           *opener
	done, total int64
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.o.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	if c.done += int64(n); c.o.opt.Progress != nil && n > 0 {
		c.o.opt.Progress(c.done, c.total)
	}
	return n, err
}
