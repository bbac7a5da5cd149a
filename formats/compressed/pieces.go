package compressed

import (
	"context"
	"hash/crc32"
	"os"

	"imgbuild/formats/output"
	"imgbuild/formats/pieces"
)

// GzipWriter writes a gzip member from pieces that other formats may be made of,
// too. The content may be more than the disk: what comes ahead, and zeros behind.
type GzipWriter struct {
	out    *output.File
	stream *output.Stream
	member gzipContainer
	c      *pieces.Compressor
	pos    int64 // in the content
	lead   int64 // bytes ahead of the disk
	end    int64 // of the disk in the content
	total  int64 // bytes of the content
	zeros  []zeros
}

var _ pieces.Format = (*GzipWriter)(nil)

// zeros are n zeros, compressed.
type zeros struct {
	n    int64
	crc  uint32
	data []byte
}

// NewGzipWriter returns the Writer of head, a disk of size bytes and tail zeros. It
// writes to f, a new empty file.
func NewGzipWriter(f *os.File, head []byte, size, tail int64) (*GzipWriter, error) {
	w := &GzipWriter{lead: int64(len(head)), end: int64(len(head)) + size, total: int64(len(head)) + size + tail}
	var err error
	if w.c, err = pieces.NewCompressor(); err != nil {
		return nil, err
	}
	// A disk is mostly zeros: there is no need to compress them again and again.
	for _, n := range []int64{1 << 20, pieces.Size, output.TarBlock} {
		b := make([]byte, n)
		data, err := w.c.Append(nil, b)
		if err != nil {
			return nil, err
		}
		w.zeros = append(w.zeros, zeros{n, crc32.ChecksumIEEE(b), data})
	}
	w.out = output.NewFile(f)
	w.stream = output.NewStream(w.out, 0)
	if _, err := w.stream.Write(w.member.head()); err != nil {
		w.out.Stop()
		return nil, err
	}
	if err := w.add(head); err != nil {
		w.out.Stop()
		return nil, err
	}
	return w, nil
}

// add compresses b.
func (w *GzipWriter) add(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	data, err := w.c.Append(nil, b)
	if err != nil {
		return err
	}
	return w.write(data, crc32.ChecksumIEEE(b), int64(len(b)))
}

// write writes n bytes that are compressed.
func (w *GzipWriter) write(data []byte, crc uint32, n int64) error {
	w.member.addSum(crc, n)
	w.pos += n
	_, err := w.stream.Write(data)
	return err
}

// zerosTo writes zeros up to the offset.
func (w *GzipWriter) zerosTo(ctx context.Context, off int64) error {
	for _, z := range w.zeros {
		for off-w.pos >= z.n {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := w.write(z.data, z.crc, z.n); err != nil {
				return err
			}
		}
	}
	return w.add(make([]byte, off-w.pos))
}

// Want implements pieces.Format.
func (*GzipWriter) Want() pieces.Want { return pieces.Want{Stream: true, CRC: true} }

// Add implements pieces.Format.
func (w *GzipWriter) Add(ctx context.Context, b *pieces.Batch) error {
	for i := range b.Pieces {
		if err := w.addPiece(ctx, &b.Pieces[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *GzipWriter) addPiece(ctx context.Context, p *pieces.Piece) error {
	off := w.lead + p.Number*pieces.Size
	if err := w.zerosTo(ctx, off); err != nil {
		return err
	}
	if off+pieces.Size > w.end {
		return w.add(p.Plain[:w.end-off]) // the end of a disk that is no whole pieces
	}
	return w.write(p.Blocks(), p.Sums.CRC, pieces.Size)
}

// Finish implements pieces.Format.
func (w *GzipWriter) Finish(ctx context.Context) error {
	if err := w.zerosTo(ctx, w.total); err != nil {
		return err
	}
	if _, err := w.stream.Write(w.member.tail()); err != nil {
		return err
	}
	if err := w.stream.Flush(); err != nil {
		return err
	}
	return w.out.Sync()
}

// Stop implements pieces.Format.
func (w *GzipWriter) Stop() { w.out.Stop() }
