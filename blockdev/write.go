package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"imgbuild/disk"
	"imgbuild/ordered"
)

// Target is a disk that is written: a [Device], or something that fails on
// demand.
type Target interface {
	io.ReaderAt
	io.WriterAt
	// Zero makes a range read as zeros.
	Zero(off, n int64) error
	// Sync makes what was written so far durable.
	Sync() error
	Size() int64
	SectorSize() int
}

// Range is size bytes from off.
type Range struct{ Off, Size int64 }

// End returns the offset behind the range.
func (r Range) End() int64 { return r.Off + r.Size }

// Plan is what goes on a disk. Both images have the disk's size.
//
// Unlike a new file a disk is full of what was there before, so a plan says where
// it matters that there are zeros. What neither an extent nor such a range covers
// keeps its old content: free space of file systems, of which nobody reads a byte
// before it is written.
type Plan struct {
	Content *disk.Image // everything but the tables
	// Zero are the ranges that must read as zeros where Content has no extent,
	// in any order.
	Zero []Range
	// Tables are the partition tables and the boot sector. The disk can neither be
	// booted nor mounted without.
	Tables *disk.Image
	// Held is the part of the disk that cannot be written yet; nil without one.
	Held *Held
}

// Held is the tail of a disk that something else is in, such as what Content is
// read from.
type Held struct {
	From int64 // where it begins, in bytes; a multiple of the grain of partitions
	// Release gives it free. Content cannot be read any more.
	Release func() error
}

const (
	// Block is what writes are multiples of: the page of the cache, and the
	// physical sector of most disks.
	block = 4 << 10
	// unit is the size of a write.
	unit = 1 << 20
	// longZero is what is worth a command of its own. A shorter range of zeros is
	// written with the content around it.
	longZero = 1 << 20
	// maxZero bounds the time between looks at the context.
	maxZero = 128 << 20
	// slots is how many units are read ahead.
	slots = 8
	// ends is what is zeroed of both ends of the disk before anything else: the old
	// tables and boot code, and the superblocks of RAIDs. Partitions begin behind
	// it.
	ends = 1 << 20
)

// Bytes returns how much is written, zeros included.
func (p *Plan) Bytes() int64 {
	total := int64(0)
	for _, j := range p.jobs() {
		total += j.Size
	}
	return total
}

// Write puts the plan on the disk, in an order in which a disk that is not
// complete does not boot:
//
//  1. the old tables and boot code become zeros, durably,
//  2. the content is written in ascending order, and becomes durable; what belongs
//     where the disk is held is kept in free space for a while,
//  3. the tables are written without the first sector, and become durable,
//  4. the first sector, by which firmware and kernels know that there is a table,
//     completes the disk with a single write.
//
// Progress, which may be nil, is called with the number of bytes done of those
// that [Plan.Bytes] counts. After an error, or when ctx ends, the disk has no
// partition table, unless the error came from the very last flush.
func Write(ctx context.Context, t Target, p *Plan, progress func(done int64)) error {
	if p.Content.Size() != t.Size() || p.Tables.Size() != t.Size() {
		return fmt.Errorf("blockdev: a plan of %d bytes for a disk of %d", p.Content.Size(), t.Size())
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := Invalidate(t); err != nil {
		return err
	}
	if err := p.writeContent(ctx, t, progress); err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.writeTables(t)
}

// Invalidate makes a disk one that has no partition table and does not boot.
func Invalidate(t Target) error {
	n := min(ends, t.Size())
	// Written, not discarded: some disks take their time with the latter.
	zeros := make([]byte, n)
	for _, off := range []int64{0, t.Size() - n} {
		if _, err := t.WriteAt(zeros, off); err != nil {
			return err
		}
	}
	return t.Sync()
}

// job is a range that is either written as it reads or zeroed.
type job struct {
	Range
	zero bool
}

// jobs returns what is to be written of the content: ascending, in whole blocks,
// not overlapping.
func (p *Plan) jobs() []job {
	data := make([]Range, 0, len(p.Content.Extents()))
	for _, e := range p.Content.Extents() {
		data = append(data, Range{e.Off, e.Data.Size()})
	}
	data = normal(data, p.Content.Size())
	all := normal(append(slices.Clone(data), p.Zero...), p.Content.Size())
	var jobs []job
	for _, r := range all {
		// Within r: long stretches without data are zeros, the rest is written.
		pos := r.Off
		for pos < r.End() {
			for len(data) > 0 && data[0].End() <= pos {
				data = data[1:]
			}
			from := r.End()
			if len(data) > 0 {
				from = min(max(data[0].Off, pos), from)
			}
			if from-pos >= longZero {
				jobs = append(jobs, job{Range{pos, from - pos}, true})
				pos = from
				continue
			}
			// The data from here on, with the gaps that are not worth a command.
			end := from
			for len(data) > 0 && data[0].Off < r.End() && data[0].Off-end < longZero {
				end = data[0].End()
				data = data[1:]
			}
			if r.End()-end < longZero {
				end = r.End()
			}
			jobs = append(jobs, job{Range{pos, end - pos}, false})
			pos = end
		}
	}
	return jobs
}

// normal rounds ranges out to blocks, but not beyond size, sorts them, and joins
// those that touch.
func normal(list []Range, size int64) []Range {
	out := list[:0]
	slices.SortFunc(list, func(a, b Range) int { return cmp.Compare(a.Off, b.Off) })
	for _, r := range list {
		from, to := max(r.Off, 0)&^(block-1), min((r.End()+block-1)&^(block-1), size)
		if from >= to {
			continue
		}
		if n := len(out); n > 0 && from <= out[n-1].End() {
			out[n-1].Size = max(out[n-1].End(), to) - out[n-1].Off
			continue
		}
		out = append(out, Range{from, to - from})
	}
	return out
}

// writeContent writes the content.
func (p *Plan) writeContent(ctx context.Context, t Target, progress func(done int64)) error {
	done := int64(0)
	report := func(n int64) {
		if done += n; progress != nil {
			progress(done)
		}
	}
	jobs := p.jobs()
	if p.Held == nil {
		return transfer(ctx, p.Content, t, jobs, report)
	}
	head, tail := split(jobs, p.Held.From)
	if err := transfer(ctx, p.Content, t, head, report); err != nil {
		return err
	}
	kept, err := p.stash(ctx, t, head, tail)
	if err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	if err := p.Held.Release(); err != nil {
		return err
	}
	return kept.restore(ctx, t, tail, report)
}

// piece is a unit on its way.
type piece struct {
	job
	buf []byte
}

// transfer does jobs front to back; what is written is read from r in parallel.
func transfer(ctx context.Context, r io.ReaderAt, t Target, jobs []job, report func(n int64)) error {
	jobs = slices.Clone(jobs)
	pieces := make([]*piece, slots)
	for i := range pieces {
		pieces[i] = &piece{buf: make([]byte, unit)}
	}
	return ordered.Run(ctx, pieces, ordered.Stages[*piece]{
		Fill: func(s *piece) bool {
			if len(jobs) == 0 {
				return false
			}
			j := &jobs[0]
			n := min(j.Size, unit-j.Off&(unit-1))
			if j.zero {
				n = min(j.Size, maxZero)
			}
			s.job = job{Range{j.Off, n}, j.zero}
			j.Off += n
			if j.Size -= n; j.Size == 0 {
				jobs = jobs[1:]
			}
			return true
		},
		Work: func(_ int, s *piece) error {
			if s.zero {
				return nil
			}
			_, err := r.ReadAt(s.buf[:s.Size], s.Off)
			return err
		},
		Emit: func(s *piece) error {
			var err error
			if s.zero {
				err = t.Zero(s.Off, s.Size)
			} else {
				_, err = t.WriteAt(s.buf[:s.Size], s.Off)
			}
			if err == nil {
				report(s.Size)
			}
			return err
		},
	})
}

// writeTables writes the tables, the first sector last.
func (p *Plan) writeTables(t Target) error {
	ss := int64(t.SectorSize())
	sectors := make([]Range, 0, len(p.Tables.Extents()))
	for _, e := range p.Tables.Extents() {
		from := e.Off &^ (ss - 1)
		sectors = append(sectors, Range{from, (e.End()+ss-1)&^(ss-1) - from})
	}
	if len(sectors) == 0 || sectors[0].Off != 0 {
		return errors.New("blockdev: a plan without a first sector")
	}
	for _, r := range sectors {
		if r.Off == 0 {
			r = Range{ss, r.Size - ss}
		}
		if err := p.writeTable(t, r); err != nil {
			return err
		}
	}
	if err := t.Sync(); err != nil {
		return err
	}
	if err := p.writeTable(t, Range{0, ss}); err != nil {
		return err
	}
	return t.Sync()
}

func (p *Plan) writeTable(t Target, r Range) error {
	if r.Size == 0 {
		return nil
	}
	b := make([]byte, r.Size)
	if _, err := p.Tables.ReadAt(b, r.Off); err != nil {
		return err
	}
	_, err := t.WriteAt(b, r.Off)
	return err
}
