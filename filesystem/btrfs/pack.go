package btrfs

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/tree"
)

// Packed is the content of files in the form in which it goes to the disk.
//
// Where everything lies depends on how well content is compressed, and what is
// written depends on where it lies. So that nothing is compressed twice, the
// compressed bytes are kept in a file: a spool as those of the layers, which the
// disk refers to. Content that does not get smaller stays where it was, and
// checksums are taken on the way.
type Packed struct {
	spool    *content.Spool
	files    map[packedKey]*packedFile
	checksum Checksum
}

// packedKey identifies the content of a file, compressed in one of the ways that
// subvolumes ask for.
type packedKey struct {
	inode *tree.Inode
	how   Compression
}

// packedFile is the content of a file.
type packedFile struct {
	pieces []piece
	inline content.Ref // compressed, instead of pieces
	sums   []byte      // of all sectors on the disk, in the order of the file
}

const (
	packSegment = 32 << 20 // bytes of one file that a worker takes, a multiple of maxCompressed
	packBatch   = 4 << 20  // bytes of several files that a worker takes
	packBuffer  = 1 << 20  // compressed bytes that are written at once
)

// Pack compresses the content of files as the options say, on all processors,
// and writes it to the empty file f, which the result owns. progress, which may
// be nil, is told of the bytes that were read, by several goroutines at once.
func Pack(ctx context.Context, root *tree.Inode, opt Options, f *os.File, progress func(n int64)) (*Packed, error) {
	opt.Packed = nil
	if err := opt.validate(); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("btrfs: %w", err), "")
	}
	c, err := collect(ctx, root, &opt)
	if err != nil {
		return nil, err
	}
	p := &packer{collection: c, csum: opt.Checksum.algorithm(), f: f, progress: progress}
	if progress == nil {
		p.progress = func(int64) {}
	}
	jobs := p.jobs()
	g, gctx := errgroup.WithContext(ctx)
	next := atomic.Int64{}
	for range min(runtime.GOMAXPROCS(0), len(jobs)) {
		g.Go(func() error {
			w := &packWorker{packer: p, in: make([]byte, maxCompressed), compressors: map[Compression]compressor{}}
			for {
				i := int(next.Add(1)) - 1
				if i >= len(jobs) {
					return w.flush()
				}
				for k := range jobs[i] {
					if err := gctx.Err(); err != nil {
						return err
					}
					s := &jobs[i][k]
					if err := w.pack(s); err != nil {
						return fmt.Errorf("btrfs: %s: %w", c.path(s.node), err)
					}
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return p.result(jobs, opt.Checksum), nil
}

// Close closes the file of the compressed content.
func (p *Packed) Close() error { return p.spool.Close() }

// Size returns how many bytes of compressed content there are.
func (p *Packed) Size() int64 { return p.spool.Size() }

// file returns the content of a file as it was packed. A nil Packed has none.
func (p *Packed) file(i *tree.Inode, how Compression) (*packedFile, bool) {
	if p == nil || how.Algorithm == NoCompression {
		return nil, false
	}
	f, ok := p.files[packedKey{i, how}]
	return f, ok
}

// compressedInline tells whether the content goes into the tree, compressed. A nil
// file does not.
func (f *packedFile) compressedInline() bool { return f != nil && f.inline.Size() > 0 }

// join returns a Ref of two that lie one behind the other in the spool.
func (p *Packed) join(a, b content.Ref) (content.Ref, bool) {
	f, off, ok := a.File()
	g, behind, also := b.File()
	if !ok || !also || f != g || off+a.Size() != behind {
		return content.Ref{}, false
	}
	if own, _, _ := p.spool.Ref(0, 1).File(); own != f {
		return content.Ref{}, false
	}
	return p.spool.Ref(off, a.Size()+b.Size()), true
}

// packer is one call of Pack.
type packer struct {
	*collection
	csum     *checksum
	f        *os.File
	end      atomic.Int64 // of what is written, or will be
	progress func(int64)
}

// packSpan is a part of a file, and what became of it.
type packSpan struct {
	node     uint32
	first    bool // of the file
	off, end int64
	pieces   []piece
	inlined  int // bytes of the compressed content that goes into the tree
	inlineAt int64
	sums     []byte
}

// jobs divides the content that is to be compressed.
func (p *packer) jobs() (jobs [][]packSpan) {
	seen := map[packedKey]bool{}
	var batch []packSpan
	bytes := int64(0)
	for i := range p.nodes {
		n := &p.nodes[i]
		how := p.subOf(uint32(i)).compress
		if !n.inode.IsFile() || how.Algorithm == NoCompression || n.flags&nodeNoDataCow != 0 || n.inode.Content.Size() == 0 {
			continue
		}
		k := packedKey{n.inode, how}
		if seen[k] {
			continue
		}
		seen[k] = true
		begun, end := false, int64(0)
		for off, size := range n.inode.Content.Data() {
			// Holes have no spans, however large they are.
			for start := max(off&^(packSegment-1), end); start < off+size; start = end {
				end = min(start+packSegment, n.inode.Content.Size())
				batch = append(batch, packSpan{node: uint32(i), off: start, end: end, first: !begun})
				begun = true
				if bytes += end - start + sectorSize; bytes >= packBatch {
					jobs, batch, bytes = append(jobs, batch), nil, 0
				}
			}
		}
	}
	if batch != nil {
		jobs = append(jobs, batch)
	}
	return jobs
}

// result joins what the workers did.
func (p *packer) result(jobs [][]packSpan, c Checksum) *Packed {
	out := &Packed{spool: content.NewSpool(p.f, p.end.Load(), nil), files: map[packedKey]*packedFile{}, checksum: c}
	var last *packedFile
	for _, job := range jobs {
		for i := range job {
			s := &job[i]
			if s.first {
				n := &p.nodes[s.node]
				last = &packedFile{}
				out.files[packedKey{n.inode, p.subOf(s.node).compress}] = last
			}
			if s.inlined > 0 {
				last.inline = out.spool.Ref(s.inlineAt, int64(s.inlined))
			}
			for _, q := range s.pieces {
				last.add(q)
			}
			if last.sums == nil {
				last.sums = s.sums
			} else {
				last.sums = append(last.sums, s.sums...)
			}
		}
	}
	return out
}

// add appends a piece, as part of the last one where both are stored as they
// are.
func (f *packedFile) add(q piece) {
	if k := len(f.pieces) - 1; k >= 0 && q.disk == 0 {
		p := &f.pieces[k]
		if p.disk == 0 && p.first+uint64(p.ram) == q.first && p.ram+q.ram <= maxExtent>>sectorShift {
			p.ram += q.ram
			return
		}
	}
	f.pieces = append(f.pieces, q)
}

// packWorker compresses spans, one after the other.
type packWorker struct {
	*packer
	compressors map[Compression]compressor
	in, out     []byte
	pending     []packed // what is in out
}

// packed is a compressed piece of a span, or its inline content when piece is
// negative, whose offset is one within packWorker.out still.
type packed struct {
	span  *packSpan
	piece int
}

// pack compresses a span.
func (w *packWorker) pack(s *packSpan) error {
	n := &w.nodes[s.node]
	how := w.subOf(s.node).compress
	c, ok := w.compressors[how]
	if !ok {
		var err error
		if c, err = newCompressor(how); err != nil {
			return err
		}
		w.compressors[how] = c
	}
	if size := n.inode.Content.Size(); size < sectorSize && hasData(n.inode.Content) {
		done, err := w.inline(s, n.inode.Content, c)
		if done || err != nil {
			return err
		}
		if size <= maxInline {
			return nil // into the tree as it is
		}
	}
	for first, count := range filesystem.DataBlocks(n.inode.Content.Slice(s.off, s.end-s.off), sectorShift) {
		for count > 0 {
			k := min(count, maxCompressed>>sectorShift)
			if err := w.piece(s, n.inode.Content, s.off>>sectorShift+int64(first), int(k), c); err != nil {
				return err
			}
			first, count = first+k, count-k
		}
	}
	return nil
}

// inline compresses content that is to go into the tree. It tells whether that
// is of use.
func (w *packWorker) inline(s *packSpan, ref content.Ref, c compressor) (bool, error) {
	b := w.in[:ref.Size()]
	if _, err := ref.ReadAt(b, 0); err != nil && err != io.EOF {
		return false, err
	}
	w.progress(ref.Size())
	start := len(w.out)
	out, err := c.compress(w.out, b)
	if err != nil {
		return false, err
	}
	size := len(out) - start
	if size >= len(b) || size > maxInline {
		w.out = out[:start]
		return false, nil
	}
	w.out = out
	s.inlined, s.inlineAt = size, int64(start)
	w.pending = append(w.pending, packed{s, -1})
	return true, w.full()
}

// piece compresses count sectors of a file, from the sector first on.
func (w *packWorker) piece(s *packSpan, ref content.Ref, first int64, count int, c compressor) error {
	off := first << sectorShift
	b := w.in[:count<<sectorShift]
	n := int(min(int64(len(b)), ref.Size()-off))
	if _, err := ref.ReadAt(b[:n], off); err != nil && err != io.EOF {
		return err
	}
	clear(b[n:])
	w.progress(int64(n))
	p := piece{first: uint64(first), ram: uint32(count)}
	if count > 1 { // one sector does not become fewer
		start := len(w.out)
		out, err := c.compress(w.out, b)
		if err != nil {
			return err
		}
		whole := (len(out) - start + sectorSize - 1) &^ (sectorSize - 1)
		if whole < len(b) {
			out = append(out, make([]byte, start+whole-len(out))...)
			p.disk, p.off = uint32(whole>>sectorShift), int64(start)
			b = out[start:]
			w.out = out
			w.pending = append(w.pending, packed{s, len(s.pieces)})
		} else {
			w.out = out[:start]
		}
	}
	for at := 0; at < len(b); at += sectorSize {
		var sum [32]byte
		w.csum.sum(sum[:], b[at:at+sectorSize])
		s.sums = append(s.sums, sum[:w.csum.size]...)
	}
	s.pieces = append(s.pieces, p)
	return w.full()
}

// full writes what is compressed when it is enough.
func (w *packWorker) full() error {
	if len(w.out) < packBuffer {
		return nil
	}
	return w.flush()
}

// flush writes what is compressed to the end of the spool, wherever that is by
// now: places in the spool do not reach the disk.
func (w *packWorker) flush() error {
	if size := int64(len(w.out)); size > 0 {
		at := w.end.Add(size) - size
		if _, err := w.f.WriteAt(w.out, at); err != nil {
			return fault.New(fault.Output, fmt.Errorf("compressed content: %w", err), "")
		}
		for _, k := range w.pending {
			if k.piece < 0 {
				k.span.inlineAt += at
			} else {
				k.span.pieces[k.piece].off += at
			}
		}
	}
	w.out, w.pending = w.out[:0], w.pending[:0]
	return nil
}
