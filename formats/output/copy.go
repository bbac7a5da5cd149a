package output

import (
	"context"

	"imgbuild/disk"
	"imgbuild/ordered"
)

const (
	// CopyUnit is the size and alignment in bytes of the pieces that [Copy]
	// places. Larger ones gain nothing.
	CopyUnit = 1 << 20
	// CopyGrain is the size and alignment of the zeros that Copy leaves out: the
	// block of nearly all file systems.
	CopyGrain = 4 << 10
	// copySlots bounds memory on hosts with many cores: writing to one file is
	// sequential, and a few readers are enough to stay ahead of it.
	copySlots = 8
)

// Copy writes what of img is not zero to f, 4 KiB at a time at least. The bytes
// of the disk from off, a multiple of CopyUnit, up to the next one go where place
// says. It is asked once for each unit that is not zero, in ascending order, in
// the goroutine that called Copy.
//
// Progress, which may be nil, is called with the number of bytes done of all
// that img.Data(4 KiB) yields.
func Copy(ctx context.Context, img *disk.Image, f *File, place func(off int64) (int64, error), progress func(done int64)) error {
	cutter := NewCutter(img, CopyGrain, CopyUnit)
	defer cutter.Stop()
	pieces := make([]*Piece, copySlots)
	for i := range pieces {
		pieces[i] = &Piece{}
	}
	unit, at := int64(-1), int64(0) // the last one placed
	done := int64(0)
	return ordered.Run(ctx, pieces, ordered.Stages[*Piece]{
		Fill: cutter.Next,
		Work: func(_ int, p *Piece) error {
			if err := p.Read(img); err != nil {
				return err
			}
			p.FindRuns(CopyGrain)
			return nil
		},
		Emit: func(p *Piece) error {
			inner := p.Off & (CopyUnit - 1)
			if off := p.Off - inner; len(p.Runs) > 0 && off != unit {
				var err error
				if at, err = place(off); err != nil {
					return err
				}
				unit = off
			}
			for _, r := range p.Runs {
				if _, err := f.WriteAt(p.Data[r.From:r.To], at+inner+int64(r.From)); err != nil {
					return err
				}
			}
			if done += int64(len(p.Data)); progress != nil {
				progress(done)
			}
			return nil
		},
	})
}
