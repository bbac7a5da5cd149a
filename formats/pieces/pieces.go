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
	Number int64         // of the piece: its offset on the disk, divided by Size
	Plain  []byte        // Size bytes, with zeros behind the end of the disk
	Runs   []output.Span // what of Plain is not zero, in units of Grain, up to the end of the disk
	Stream []byte        // compressed, with Last at the end, where one format wants it
	Sums   Sums          // of Plain
}

// Blocks returns the compressed piece without Last.
func (p *Piece) Blocks() []byte { return p.Stream[:len(p.Stream)-len(Last)] }

// Sums are the checksums that formats keep of pieces, as far as one of them wants
// them.
type Sums struct {
	CRC   uint32 // of RFC 1952
	Adler uint32 // of RFC 1950
}

// Want says what a format wants of a piece but its bytes.
type Want struct {
	Stream     bool
	CRC, Adler bool // of Sums
}

// Format is a file that is made of the pieces of a disk.
type Format interface {
	// Want returns what Add looks at.
	Want() Want
	// Add takes the next piece. The pieces come in ascending order, those that are
	// zero are left out. Nothing of it may be kept.
	Add(ctx context.Context, p *Piece) error
	// Finish writes what comes behind the pieces, and makes the file durable.
	Finish(ctx context.Context) error
	// Stop ends the work on the file. It is called in every case, last.
	Stop()
}

// batchSize is the number of adjacent bytes that are read at once and handed from
// one goroutine to the other.
const batchSize = 8 * Size

// copySlots bounds the batches in memory, on hosts with many cores, where nothing is
// compressed.
const copySlots = 16

// batch is some adjacent pieces of the disk.
type batch struct {
	output.Piece
	size   int64 // bytes of the disk
	pieces []Piece
	runs   []output.Span // what the runs of the pieces are cut from
	out    []byte        // the same of the streams
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
	slots := make([]*batch, n)
	for i := range slots {
		slots[i] = &batch{}
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
	cutter := output.NewCutter(img, Size, batchSize)
	defer cutter.Stop()
	done := int64(0)
	return ordered.Run(ctx, slots, ordered.Stages[*batch]{
		Fill: func(b *batch) bool { return cutter.Next(&b.Piece) },
		Work: func(worker int, b *batch) error { return b.prepare(img, compressors[worker], want) },
		Emit: func(b *batch) error {
			// Some formats hash what they write, and all wait for the host.
			var g errgroup.Group
			for _, f := range formats {
				g.Go(func() error {
					for i := range b.pieces {
						if err := f.Add(ctx, &b.pieces[i]); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				return err
			}
			if done += b.size; progress != nil {
				progress(done)
			}
			return nil
		},
	})
}

// prepare reads the pieces of b, and makes what is wanted of those that are not
// zero.
func (b *batch) prepare(img *disk.Image, c *Compressor, want Want) error {
	if err := b.Read(img); err != nil {
		return err
	}
	b.size = int64(len(b.Data))
	end := len(b.Data) // of the disk, perhaps
	b.Pad(Size)
	// A later append may move b.runs and b.out; what was cut from them stays valid.
	b.pieces, b.runs, b.out = b.pieces[:0], b.runs[:0], b.out[:0]
	for pos := 0; pos < end; pos += Size {
		run := len(b.runs)
		b.runs = output.AppendRuns(b.runs, b.Data[pos:min(pos+Size, end)], Grain)
		if len(b.runs) == run {
			continue
		}
		p := Piece{Number: (b.Off + int64(pos)) / Size, Plain: b.Data[pos : pos+Size], Runs: b.runs[run:]}
		if want.Stream {
			start := len(b.out)
			out, err := c.Append(b.out, p.Plain)
			if err != nil {
				return err
			}
			b.out = append(out, Last...)
			p.Stream = b.out[start:]
		}
		if want.CRC {
			p.Sums.CRC = crc32.ChecksumIEEE(p.Plain)
		}
		if want.Adler {
			p.Sums.Adler = Adler32(p.Plain)
		}
		b.pieces = append(b.pieces, p)
	}
	return nil
}
