// Package pieces cuts the content of a disk into pieces and prepares them, once for
// all formats that are made of it together.
//
// Those that store it as it is, raw, VHD, VHDX and VDI, share its reading and the
// search for zeros. Those that compress it share that, too: qcow2, VMDK and gzip
// all hold 64 KiB of the disk, or may, as a stream of RFC 1951, and differ in what
// they put around it. So that each of them is the same bytes by itself and beside
// others, all of them take what serves the most particular one.
//
// That is QEMU, which inflates clusters with a window of 4 KiB. Measured with a
// disk that holds 614 MB, sizes in MB: qcow2 375 and VMDK 375 with this window;
// VMDK 366 with one of 32 KiB, in 1.4 times the time; qemu-img makes 359 in 3
// times the time.
package pieces

import (
	"context"
	"hash/crc32"

	"golang.org/x/sync/errgroup"

	"imgbuild/disk"
	"imgbuild/formats/output"
	"imgbuild/ordered"
)

const (
	// Size is the number of bytes of a piece.
	Size = 64 << 10
	// Grain is the size and alignment in bytes of the zeros that are left out where
	// pieces are stored as they are: the block of nearly all file systems.
	Grain = 4 << 10
)

// Piece is 64 KiB of a disk that are not zero.
type Piece struct {
	Number int64  // of the piece: its offset on the disk, divided by Size
	Plain  []byte // Size bytes, with zeros behind the end of the disk
	Stream []byte // compressed, with Last at the end, where one format wants it
	Sums   Sums   // of Plain
}

// Blocks returns the compressed piece without Last.
func (p *Piece) Blocks() []byte { return p.Stream[:len(p.Stream)-len(Last)] }

// Sums are the checksums that formats keep of pieces, as far as one of them wants
// them.
type Sums struct {
	CRC   uint32 // of RFC 1952
	Adler uint32 // of RFC 1950
}

// Batch is some adjacent pieces of a disk, up to BatchSize bytes, and does not reach
// over a multiple of that.
type Batch struct {
	Off    int64         // on the disk, in bytes: a multiple of Size
	Data   []byte        // up to the end of the disk at most
	Runs   []output.Span // what of Data is not zero, in units of Grain
	Pieces []Piece       // those that are not zero
}

// BatchSize is the largest size of a [Batch] in bytes.
const BatchSize = 8 * Size

// Want says what a format wants of a piece but its bytes.
type Want struct {
	Stream     bool
	CRC, Adler bool // of Sums
}

// Format is a file that is made of the pieces of a disk.
type Format interface {
	// Want returns what Add looks at.
	Want() Want
	// Add takes the next batch, which is not all zero. Batches come in ascending
	// order. Nothing of one may be kept.
	Add(ctx context.Context, b *Batch) error
	// Finish writes what comes behind the pieces, and makes the file durable.
	Finish(ctx context.Context) error
	// Stop ends the work on the file. It is called in every case, last.
	Stop()
}

// copySlots bounds the batches in memory, on hosts with many cores, where nothing is
// compressed.
const copySlots = 16

// slot is where a batch is made.
type slot struct {
	batch Batch
	read  output.Piece
	out   []byte // what the streams are cut from
}

// Write makes all formats of img, side by side. Progress, which may be nil, is
// called now and then, from one goroutine at a time, with the number of bytes done
// of all that img.Data(64 KiB) yields.
func Write(ctx context.Context, img *disk.Image, formats []Format, progress func(done int64)) error {
	defer func() {
		for _, f := range formats {
			f.Stop()
		}
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := addAll(ctx, img, formats, progress); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range formats {
		g.Go(func() error { return f.Finish(ctx) })
	}
	return g.Wait()
}

// addAll gives the pieces to all formats.
func addAll(ctx context.Context, img *disk.Image, formats []Format, progress func(done int64)) error {
	var want Want
	for _, f := range formats {
		w := f.Want()
		want = Want{Stream: want.Stream || w.Stream, CRC: want.CRC || w.CRC, Adler: want.Adler || w.Adler}
	}
	// A few readers are enough to stay ahead of writing.
	n := copySlots
	if want.Stream {
		// Two for each core, so that none has to wait while a result waits for its
		// turn, and two more for reading ahead and writing.
		n = 2*ordered.Workers(1<<10) + 2
	}
	slots := make([]*slot, n)
	for i := range slots {
		slots[i] = &slot{}
	}
	compressors := make([]*Compressor, ordered.Workers(n))
	for i := range compressors {
		if !want.Stream {
			break
		}
		var err error
		if compressors[i], err = NewCompressor(); err != nil {
			return err
		}
	}
	cutter := output.NewCutter(img, Size, BatchSize)
	defer cutter.Stop()
	done := int64(0)
	return ordered.Run(ctx, slots, ordered.Stages[*slot]{
		Fill: func(s *slot) bool { return cutter.Next(&s.read) },
		Work: func(worker int, s *slot) error { return s.prepare(img, compressors[worker], want) },
		Emit: func(s *slot) error {
			if len(s.batch.Runs) > 0 {
				// Some formats hash what they write, and all wait for the host.
				var g errgroup.Group
				for _, f := range formats {
					g.Go(func() error { return f.Add(ctx, &s.batch) })
				}
				if err := g.Wait(); err != nil {
					return err
				}
			}
			if done += int64(len(s.batch.Data)); progress != nil {
				progress(done)
			}
			return nil
		},
	})
}

// prepare reads the batch, and makes what is wanted of those pieces that are not
// zero.
func (s *slot) prepare(img *disk.Image, c *Compressor, want Want) error {
	if err := s.read.Read(img); err != nil {
		return err
	}
	b := &s.batch
	b.Off, b.Data = s.read.Off, s.read.Data
	b.Runs = output.AppendRuns(b.Runs[:0], b.Data, Grain)
	s.read.Pad(Size)
	b.Pieces, s.out = b.Pieces[:0], s.out[:0]
	runs := b.Runs
	for pos := 0; pos < len(s.read.Data); pos += Size {
		for len(runs) > 0 && runs[0].To <= pos {
			runs = runs[1:]
		}
		if len(runs) == 0 || runs[0].From >= pos+Size {
			continue // zero
		}
		p := Piece{Number: (b.Off + int64(pos)) / Size, Plain: s.read.Data[pos : pos+Size]}
		if want.Stream {
			start := len(s.out)
			out, err := c.Append(s.out, p.Plain)
			if err != nil {
				return err
			}
			// A later append may move s.out; what was cut from it stays valid.
			s.out = append(out, Last...)
			p.Stream = s.out[start:]
		}
		if want.CRC {
			p.Sums.CRC = crc32.ChecksumIEEE(p.Plain)
		}
		if want.Adler {
			p.Sums.Adler = Adler32(p.Plain)
		}
		b.Pieces = append(b.Pieces, p)
	}
	return nil
}
