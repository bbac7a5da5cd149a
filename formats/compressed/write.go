// Package compressed writes a virtual disk as its bytes, compressed with gzip, xz
// or zstd.
//
// Specifications: RFC 1952 and RFC 1951 for gzip, "The .xz File Format" 1.2.0,
// RFC 8878 for zstd. The disk is cut into units of a fixed size, which are
// compressed on all cores, each on its own:
//
//	gzip  one member, with a flush point behind each unit; without a level,
//	      these are the pieces of package pieces
//	xz    one stream, each unit a block with its sizes, as xz -T writes it
//	zstd  each unit a frame with its size and checksum, as pzstd writes it
//
// All of them are read by the ordinary tools; xz -T and pzstd decompress them on
// all cores, too.
package compressed

import (
	"context"
	"io"
	"os"

	"imgbuild/disk"
	"imgbuild/formats/output"
	"imgbuild/formats/pieces"
	"imgbuild/ordered"
)

// Options are the optional arguments of Write. The zero value is gzip.
type Options struct {
	Compression Compression
	// Level is the level of the compression, or 0 for its default. See
	// [ParseCompression].
	Level int
	// Progress is called now and then, from one goroutine at a time, with the
	// number of bytes done of all that img.Data yields in units of
	// [Compression.Unit], or of 64 KiB for gzip without a level. It may be nil.
	Progress func(done int64)
}

// Write writes img to f, a new empty file, and makes it durable. The bytes are
// a function of the content of img, the compression and its level alone. The
// size of the disk is not rounded.
//
// An error of the file carries a class of package fault; f is then in no
// defined state, and no whole stream.
func Write(ctx context.Context, img *disk.Image, f *os.File, opt Options) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkLevel(opt.Compression, opt.Level); err != nil {
		return err
	}
	if opt.Compression == Gzip && opt.Level == 0 {
		w, err := NewGzipWriter(f, nil, img.Size(), 0)
		if err != nil {
			return err
		}
		return pieces.Write(ctx, img, []pieces.Format{w}, opt.Progress)
	}
	out := output.NewFile(f)
	defer out.Stop()
	s := output.NewStream(out, 0)
	if err := write(ctx, img, s, opt); err != nil {
		return err
	}
	if err := s.Flush(); err != nil {
		return err
	}
	return out.Sync()
}

// maxMemory bounds the bytes of the disk that are in memory on hosts with many
// cores.
const maxMemory = 128 << 20

// unit is a compressed piece of the disk.
type unit struct {
	output.Piece
	data []byte // as it is stored
	size int64  // before compression, in bytes
	crc  uint32 // of what was compressed; for gzip only
}

// encoder compresses units. What it returns for one does not depend on those
// before.
type encoder interface {
	// encode sets data, size and crc of u from the bytes of src.
	encode(u *unit, src []byte) error
}

// container is what stands around the units.
type container interface {
	// head returns what comes first.
	head() []byte
	// add takes note of the next unit.
	add(u *unit)
	// tail returns what comes last.
	tail() []byte
}

func write(ctx context.Context, img *disk.Image, w io.Writer, opt Options) error {
	unitSize := opt.Compression.Unit()
	// One for each core, and two for reading ahead and writing.
	units := make([]*unit, min(ordered.Workers(1<<10)+2, int(maxMemory/unitSize)))
	for i := range units {
		units[i] = &unit{}
	}
	encoders := make([]encoder, ordered.Workers(len(units)))
	for i := range encoders {
		e, err := newEncoder(opt.Compression, opt.Level)
		if err != nil {
			return err
		}
		encoders[i] = e
	}
	zeroEncoder, err := newEncoder(opt.Compression, opt.Level)
	if err != nil {
		return err
	}
	z := &writer{w: w, container: newContainer(opt.Compression), encoder: zeroEncoder, unitSize: unitSize}
	if _, err := w.Write(z.container.head()); err != nil {
		return err
	}
	cutter := output.NewCutter(img, unitSize, unitSize)
	defer cutter.Stop()

	done := int64(0)
	err = ordered.Run(ctx, units, ordered.Stages[*unit]{
		Fill: func(u *unit) bool { return cutter.Next(&u.Piece) },
		Work: func(worker int, u *unit) error {
			if err := u.Read(img); err != nil {
				return err
			}
			return encoders[worker].encode(u, u.Data)
		},
		Emit: func(u *unit) error {
			if err := z.zeros(ctx, u.Off-z.pos); err != nil {
				return err
			}
			if err := z.add(u); err != nil {
				return err
			}
			if done += u.size; opt.Progress != nil {
				opt.Progress(done)
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	return z.end(ctx, img.Size())
}

// writer is the state of a file that is being written.
type writer struct {
	w         io.Writer
	container container
	unitSize  int64
	pos       int64 // on the disk
	encoder   encoder
	zero      unit // a whole unit of zeros, or nothing yet
}

func (z *writer) add(u *unit) error {
	z.container.add(u)
	z.pos += u.size
	_, err := z.w.Write(u.data)
	return err
}

// zeros writes n bytes of zeros, whole units.
func (z *writer) zeros(ctx context.Context, n int64) error {
	if n > 0 && z.zero.size == 0 {
		if err := z.encoder.encode(&z.zero, make([]byte, z.unitSize)); err != nil {
			return err
		}
	}
	for ; n > 0; n -= z.unitSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := z.add(&z.zero); err != nil {
			return err
		}
	}
	return nil
}

// end writes the zeros up to the size of the disk, and the tail.
func (z *writer) end(ctx context.Context, size int64) error {
	rest := size - z.pos
	part := rest % z.unitSize
	if err := z.zeros(ctx, rest-part); err != nil {
		return err
	}
	if part > 0 {
		var last unit
		if err := z.encoder.encode(&last, make([]byte, part)); err != nil {
			return err
		}
		if err := z.add(&last); err != nil {
			return err
		}
	}
	_, err := z.w.Write(z.container.tail())
	return err
}
