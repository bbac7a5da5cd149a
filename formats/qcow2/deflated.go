package qcow2

import (
	"context"
	"os"

	"imgbuild/formats/output"
	"imgbuild/formats/pieces"
)

// Writer writes an image whose clusters are compressed with Zlib, from pieces that
// other formats may be made of, too.
type Writer struct {
	w    *writer
	out  *output.File
	size int64 // of the image, once it is finished
	sync bool
}

var _ pieces.Format = (*Writer)(nil)

// NewWriter returns the Writer of a disk of size bytes, which writes what [Write]
// does. Of the options, the compression is Zlib.
func NewWriter(size int64, f *os.File, opt Options) (*Writer, error) {
	w, err := NewWriterTo(size, output.NewFile(f), opt)
	if err == nil {
		w.sync = true
	}
	return w, err
}

// NewWriterTo returns the Writer that writes to out and leaves it to others to make
// it durable.
func NewWriterTo(size int64, out *output.File, opt Options) (*Writer, error) {
	w, err := newWriter(size, out, opt)
	if err == nil && opt.Compression != Zlib {
		err = usage("%v: not made of pieces", opt.Compression)
	}
	if err != nil {
		out.Stop()
		return nil, err
	}
	return &Writer{w: w, out: out}, nil
}

// Want implements pieces.Format.
func (*Writer) Want() pieces.Want { return pieces.Want{Stream: true} }

// Add implements pieces.Format.
func (w *Writer) Add(_ context.Context, b *pieces.Batch) error {
	for _, p := range b.Pieces {
		c := cluster{compressed, p.Stream}
		if len(p.Stream) > plainAbove {
			c = cluster{plain, p.Plain}
		}
		if err := w.w.add(p.Number, c); err != nil {
			return err
		}
	}
	return nil
}

// Finish implements pieces.Format.
func (w *Writer) Finish(context.Context) (err error) {
	if w.size, err = w.w.finish(); err != nil || !w.sync {
		return err
	}
	return w.out.Sync()
}

// Stop implements pieces.Format.
func (w *Writer) Stop() { w.out.Stop() }

// Size returns the length in bytes of an image that is finished.
func (w *Writer) Size() int64 { return w.size }

// A piece is a cluster.
var _ [clusterSize]byte = [pieces.Size]byte{}
