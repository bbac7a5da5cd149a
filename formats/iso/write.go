package iso

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"

	"imgbuild/content"
	"imgbuild/formats/output"
)

const (
	// chunkSize is the number of bytes handed from the reader to the hash and to
	// the file; a multiple of the units of the media checksum.
	chunkSize = 1 << 20
	// chunks bounds how far they are apart.
	chunks = 6
	// grain is the size and alignment of zeros that are left out of the file.
	grain = 4 << 10
)

// segment is bytes of the ISO; between segments there are zeros.
type segment struct {
	off, size int64
	data      content.Ref
	stream    *Stream // in place of data
}

// segments returns all of the ISO, ascending: its table of contents.
func (p *plan) segments() ([]segment, error) {
	var out []segment
	bytesAt := func(block int64, b []byte) {
		out = append(out, segment{off: block * BlockSize, size: int64(len(b)), data: content.Bytes(b)})
	}
	var tail []segment
	if p.partitioned {
		parts, err := p.table()
		if err != nil {
			return nil, fmt.Errorf("iso: %w", err)
		}
		for _, part := range parts {
			for _, e := range part.Extents {
				s := segment{off: part.Off + e.Off, size: e.Data.Size(), data: e.Data}
				if s.off < systemArea*BlockSize {
					out = append(out, s)
				} else {
					tail = append(tail, s)
				}
			}
		}
	}
	// 1. Descriptors.
	bytesAt(systemArea, p.descriptors(0, p.total))
	if p.partitioned {
		bytesAt(secondSet, p.descriptors(1, p.total-partitionBase))
	}
	// 2. Path tables and directories.
	for set := range 2 {
		if set == 0 || p.partitioned {
			bytesAt(p.primary.at[set].tableL, p.primary.encode(set))
			bytesAt(p.joliet.at[set].tableL, p.joliet.encode(set))
		}
	}
	// 3. What the machine starts.
	if entries := p.bootEntries(); len(entries) > 0 {
		bytesAt(p.catalog, encodeCatalog(entries))
	}
	// 4. Files, and the EFI system partition behind them.
	if p.boot != nil {
		b, err := p.boot.data.ReadAll(maxBootImage)
		if err != nil {
			return nil, fmt.Errorf("iso: %s: %w", p.opt.BIOS.Path, err)
		}
		patchBootImage(b, p.boot.block)
		p.boot.data = content.Bytes(b)
	}
	for _, f := range p.files {
		if f != p.esp && f.size > 0 {
			out = append(out, segment{off: f.block * BlockSize, size: f.size, data: f.data, stream: f.stream})
		}
	}
	if p.esp != nil {
		out = append(out, segment{off: p.esp.block * BlockSize, size: p.esp.size, data: p.esp.data})
	}
	// 5. Backup of the partition table.
	return append(out, tail...), nil
}

// descriptors returns a set of volume descriptors for a volume of n blocks.
func (p *plan) descriptors(set int, n int64) []byte {
	b := volume{&p.opt, n, p.primary, set}.encode()
	if set == 0 && p.catalog != 0 {
		b = append(b, encodeBoot(p.catalog)...)
	}
	b = append(b, volume{&p.opt, n, p.joliet, set}.encode()...)
	return append(b, encodeEnd()...)
}

// bootEntries returns what the boot catalog lists.
func (p *plan) bootEntries() []bootEntry {
	var out []bootEntry
	if p.boot != nil {
		out = append(out, bootEntry{platformX86, p.boot.block, biosLoad})
	}
	if p.esp != nil {
		out = append(out, bootEntry{platformEFI, p.esp.block, p.esp.size / virtualSector})
	}
	return out
}

// bootSector returns the MBR's code, told where the core image is.
func (p *plan) bootSector() []byte {
	b := bytes.Clone(p.opt.BIOS.MBR)
	binary.LittleEndian.PutUint64(b[mbrCore:], uint64(p.boot.block*sectorsInBlock+sizeCDBoot/virtualSector))
	return b
}

// chunk is bytes of the ISO on their way.
type chunk struct {
	off  int64
	data []byte
	zero bool
}

// write writes the ISO.
func (p *plan) write(ctx context.Context, f *os.File) error {
	segments, err := p.segments()
	if err != nil {
		return err
	}
	o := emission{segments: segments, size: p.size(), sum: !p.opt.OmitChecksum, progress: p.opt.Progress}
	return o.write(ctx, f)
}

// emission is an ISO on its way into a file.
type emission struct {
	segments []segment // ascending
	size     int64     // bytes
	sum      bool      // implant the media checksum, whose room is blank
	progress func(done, total int64)
}

// write writes the ISO to a file, and makes it durable.
func (o *emission) write(ctx context.Context, f *os.File) error {
	out := output.NewFile(f)
	defer out.Stop()
	if err := out.Extend(o.size); err != nil {
		return err
	}
	sum, err := o.stream(ctx, func(c *chunk) error { return writeChunk(out, c) })
	if err != nil {
		return err
	}
	if o.sum {
		if _, err := out.WriteAt(sum, systemArea*BlockSize+volUse); err != nil {
			return err
		}
	}
	return out.Sync()
}

// stream reads and hashes the ISO and hands it to put, each in its own goroutine.
// It returns the media checksum, if that is wanted.
func (o *emission) stream(ctx context.Context, put func(*chunk) error) ([]byte, error) {
	sum := newMediaSum(o.size)
	g, inner := errgroup.WithContext(ctx)
	free := make(chan *chunk, chunks)
	toHash, toPut := make(chan *chunk, chunks), make(chan *chunk, chunks)
	for range chunks {
		free <- &chunk{data: make([]byte, chunkSize)}
	}
	g.Go(func() error {
		defer close(toHash)
		r := &reader{segments: o.segments, size: o.size}
		defer r.close()
		for {
			select {
			case <-inner.Done():
				return inner.Err()
			case c := <-free:
				if err := r.fill(inner, c); errors.Is(err, errEnd) {
					return nil
				} else if err != nil {
					return err
				}
				toHash <- c // has room for all
			}
		}
	})
	g.Go(func() error {
		defer close(toPut)
		for c := range toHash {
			if o.sum {
				sum.add(c.data)
			}
			toPut <- c
		}
		return nil
	})
	g.Go(func() error {
		for c := range toPut {
			if err := inner.Err(); err != nil {
				return err
			}
			if err := put(c); err != nil {
				return err
			}
			if o.progress != nil {
				o.progress(c.off+int64(len(c.data)), o.size)
			}
			free <- c
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	if !o.sum {
		return nil, nil
	}
	return sum.text(), nil
}

// writeChunk writes what of a chunk is not zero.
func writeChunk(out *output.File, c *chunk) error {
	if c.zero {
		return nil
	}
	for _, r := range output.AppendRuns(nil, c.data, grain) {
		if _, err := out.WriteAt(c.data[r.From:r.To], c.off+int64(r.From)); err != nil {
			return err
		}
	}
	return nil
}

// errEnd says that the whole ISO was read.
var errEnd = errors.New("end of the ISO")

// reader reads the segments in order.
type reader struct {
	segments []segment
	size     int64
	off      int64         // of the next chunk
	open     io.ReadCloser // the stream of the first segment
}

func (r *reader) close() {
	if r.open != nil {
		r.open.Close()
	}
}

// fill makes c the next chunk.
func (r *reader) fill(ctx context.Context, c *chunk) error {
	if r.off == r.size {
		return errEnd
	}
	c.off, c.data, c.zero = r.off, c.data[:min(chunkSize, r.size-r.off)], true
	clear(c.data)
	end := r.off + int64(len(c.data))
	for len(r.segments) > 0 && r.segments[0].off < end {
		s := &r.segments[0]
		from, to := max(s.off, r.off), min(s.off+s.size, end)
		b := c.data[from-r.off : to-r.off]
		if err := r.read(ctx, s, b, from-s.off); err != nil {
			return err
		}
		c.zero = false
		if to < s.off+s.size {
			break
		}
		if err := r.finish(s); err != nil {
			return err
		}
		r.segments = r.segments[1:]
	}
	r.off = end
	return nil
}

// read reads the bytes of a segment from off on.
func (r *reader) read(ctx context.Context, s *segment, b []byte, off int64) error {
	if s.stream == nil {
		if n, err := s.data.ReadAt(b, off); n < len(b) {
			return fmt.Errorf("iso: read content: %w", err)
		}
		return nil
	}
	if off == 0 {
		var err error
		if r.open, err = s.stream.Open(ctx); err != nil {
			return fmt.Errorf("iso: read content: %w", err)
		}
	}
	if n, err := io.ReadFull(r.open, b); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return fmt.Errorf("iso: content of %d bytes ends after %d", s.size, off+int64(n))
		}
		return fmt.Errorf("iso: read content: %w", err)
	}
	return nil
}

// finish ends the stream of a segment: only at its end it tells whether its
// digest was right.
func (r *reader) finish(s *segment) error {
	if s.stream == nil {
		return nil
	}
	var one [1]byte
	n, err := io.ReadFull(r.open, one[:])
	cerr := r.open.Close()
	r.open = nil
	switch {
	case n > 0:
		return fmt.Errorf("iso: content of %d bytes goes on behind them", s.size)
	case err != io.EOF:
		return fmt.Errorf("iso: read content: %w", err)
	case cerr != nil:
		return fmt.Errorf("iso: read content: %w", cerr)
	}
	return nil
}
