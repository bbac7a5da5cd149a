package deflate

import (
	"context"
	"hash/crc32"

	"golang.org/x/sync/errgroup"

	"imgbuild/disk"
	"imgbuild/formats/output"
	"imgbuild/ordered"
)

// Piece is 64 KiB of a disk that are not zero.
type Piece struct {
	Number int64  // of the piece: its offset on the disk, divided by Size
	Plain  []byte // Size bytes, with zeros behind the end of the disk
	Stream []byte // compressed, with Last at the end
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

// Want says which checksums a format wants.
type Want struct{ CRC, Adler bool }

// Format is a file that is made of the pieces of a disk.
type Format interface {
	// Want returns which checksums Add looks at.
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

// batch is some adjacent pieces of the disk.
type batch struct {
	output.Piece
	size   int64 // bytes of the disk
	pieces []Piece
	out    []byte // what the streams are cut from
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
	// Two for each core, so that none has to wait while a result waits for its
	// turn, and two more for reading ahead and writing.
	slots := make([]*batch, 2*ordered.Workers(1<<10)+2)
	for i := range slots {
		slots[i] = &batch{}
	}
	compressors := make([]*Compressor, ordered.Workers(len(slots)))
	for i := range compressors {
		var err error
		if compressors[i], err = NewCompressor(); err != nil {
			return err
		}
	}
	var want Want
	for _, f := range formats {
		w := f.Want()
		want.CRC, want.Adler = want.CRC || w.CRC, want.Adler || w.Adler
	}
	cutter := output.NewCutter(img, Size, batchSize)
	defer cutter.Stop()
	done := int64(0)
	return ordered.Run(ctx, slots, ordered.Stages[*batch]{
		Fill: func(b *batch) bool { return cutter.Next(&b.Piece) },
		Work: func(worker int, b *batch) error { return b.compress(img, compressors[worker], want) },
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

// compress reads the pieces of b and compresses those that are not zero.
func (b *batch) compress(img *disk.Image, c *Compressor, want Want) error {
	if err := b.Read(img); err != nil {
		return err
	}
	b.size = int64(len(b.Data))
	b.Pad(Size)
	b.pieces, b.out = b.pieces[:0], b.out[:0]
	for pos := 0; pos < len(b.Data); pos += Size {
		plain := b.Data[pos : pos+Size]
		if output.IsZero(plain) {
			continue
		}
		start := len(b.out)
		out, err := c.Append(b.out, plain)
		if err != nil {
			return err
		}
		// A later append may move b.out; what was cut from it stays valid.
		b.out = append(out, Last...)
		p := Piece{Number: (b.Off + int64(pos)) / Size, Plain: plain, Stream: b.out[start:]}
		if want.CRC {
			p.Sums.CRC = crc32.ChecksumIEEE(plain)
		}
		if want.Adler {
			p.Sums.Adler = Adler32(plain)
		}
		b.pieces = append(b.pieces, p)
	}
	return nil
}
