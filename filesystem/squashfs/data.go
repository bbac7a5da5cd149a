package squashfs

import (
	"context"
	"io"
	"iter"

	"imgbuild/content"
	"imgbuild/filesystem"
	"imgbuild/ordered"
)

// part is a piece of a file.
type part struct {
	file uint32
	off  int64
	n    int
}

// unit is a block of the image: of one file, or of the tails of several.
type unit struct {
	parts    []part
	block    int // index in the file
	fragment bool

	in, out []byte // buffers
	stored  []byte // what goes to the image: one of them, empty for zeros
	plain   bool   // it is not compressed
}

// units yields the blocks of all files in the order of the image: file by file,
// and the tails in blocks that follow the file that filled them.
func (c *collection) units() iter.Seq[unit] {
	return func(yield func(unit) bool) {
		var tails []part
		filled, fragments := 0, uint32(0)
		for k := range c.files {
			f := &c.files[k]
			for at, n := range c.data(uint32(k)) {
				if !yield(unit{parts: []part{{uint32(k), int64(at) << c.blockLog, n}}, block: at}) {
					return
				}
			}
			if f.tail == 0 {
				continue
			}
			if filled+f.tail > c.opt.BlockSize {
				if !yield(unit{parts: tails, fragment: true}) {
					return
				}
				tails, filled = nil, 0
				fragments++
			}
			f.fragment, f.fragOffset = fragments, uint32(filled)
			tails = append(tails, part{uint32(k), int64(f.blocks) << c.blockLog, f.tail})
			filled += f.tail
		}
		if filled > 0 {
			yield(unit{parts: tails, fragment: true})
		}
	}
}

// data yields the blocks of a file that may hold anything but zeros, without its
// tail, and their lengths.
func (c *collection) data(k uint32) iter.Seq2[int, int] {
	return func(yield func(block, n int) bool) {
		f, ref := &c.files[k], c.content(k)
		for first, n := range filesystem.DataBlocks(ref, c.blockLog) {
			for at := int(first); at < min(int(first+n), f.blocks); at++ {
				if !yield(at, int(min(int64(c.opt.BlockSize), ref.Size()-int64(at)<<c.blockLog))) {
					return
				}
			}
		}
	}
}

// content compresses all blocks and writes them.
func (w *writer) content(ctx context.Context) error {
	// Enough that no processor waits for one whose block is hard to compress.
	slots := make([]*unit, 3*ordered.Workers(1<<10))
	for i := range slots {
		slots[i] = &unit{in: make([]byte, 0, w.opt.BlockSize), out: make([]byte, 0, w.opt.BlockSize+1<<10)}
	}
	compressors := make([]compressor, ordered.Workers(len(slots)))
	for i := range compressors {
		var err error
		if compressors[i], err = newCompressor(w.opt.Compression, w.opt.BlockSize); err != nil {
			return err
		}
	}
	next, stop := iter.Pull(w.units())
	defer stop()
	return ordered.Run(ctx, slots, ordered.Stages[*unit]{
		Fill: func(slot *unit) bool {
			u, ok := next()
			slot.parts, slot.block, slot.fragment = u.parts, u.block, u.fragment
			return ok
		},
		Work: func(worker int, u *unit) error { return w.compress(compressors[worker], u) },
		Emit: w.emit,
	})
}

// compress reads and compresses a unit.
func (w *writer) compress(c compressor, u *unit) error {
	u.in = u.in[:0]
	for _, p := range u.parts {
		at := len(u.in)
		u.in = u.in[:at+p.n]
		if _, err := w.collection.content(p.file).ReadAt(u.in[at:], p.off); err != nil && err != io.EOF {
			return w.readError(w.files[p.file].node, err)
		}
	}
	if !u.fragment && content.IsZero(u.in) {
		u.stored, u.plain = nil, false
		return nil
	}
	var err error
	if u.out, err = c.compress(u.out[:0], u.in); err != nil {
		return err
	}
	u.stored, u.plain = u.out, false
	if len(u.out) >= len(u.in) {
		u.stored, u.plain = u.in, true
	}
	return nil
}

// emit writes a unit.
func (w *writer) emit(u *unit) error {
	size := uint32(len(u.stored))
	if u.plain {
		size |= plainBlock
	}
	start := uint64(w.file.pos)
	if u.fragment {
		w.fragments = append(w.fragments, fragment{start, size})
	} else if f := &w.files[u.parts[0].file]; len(u.stored) > 0 {
		if f.sizes == nil {
			f.start, f.sizes = start, make([]uint32, f.blocks)
		}
		f.sizes[u.block] = size
		f.stored += int64(len(u.in))
	}
	if err := w.file.write(u.stored); err != nil {
		return err
	}
	w.opt.Progress(int64(len(u.in)))
	return nil
}
