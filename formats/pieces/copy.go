package pieces

import (
	"context"

	"imgbuild/formats/output"
)

// CopyUnit is the size and alignment in bytes of what a [Copier] places: two
// batches.
const CopyUnit = 1 << 20

// Copier writes what of a disk is not zero as it is, 4 KiB at a time at least. It is
// most of a [Format] that does so.
type Copier struct {
	f        *output.File
	place    func(off int64) (int64, error)
	unit, at int64 // the last one placed, and where
}

// NewCopier returns the Copier that writes to f. The bytes of the disk from off, a
// multiple of CopyUnit, up to the next one go where place says. It is asked once
// for each unit that is not zero, in ascending order, in the goroutine that calls
// Add.
func NewCopier(f *output.File, place func(off int64) (int64, error)) *Copier {
	return &Copier{f: f, place: place, unit: -1}
}

// Want implements Format.
func (*Copier) Want() Want { return Want{} }

// Add implements Format.
func (c *Copier) Add(_ context.Context, b *Batch) error {
	inner := b.Off & (CopyUnit - 1)
	if unit := b.Off - inner; unit != c.unit {
		at, err := c.place(unit)
		if err != nil {
			return err
		}
		c.unit, c.at = unit, at
	}
	for _, r := range b.Runs {
		if _, err := c.f.WriteAt(b.Data[r.From:r.To], c.at+inner+int64(r.From)); err != nil {
			return err
		}
	}
	return nil
}

// Stop implements Format.
func (c *Copier) Stop() { c.f.Stop() }
