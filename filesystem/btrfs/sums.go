package btrfs

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"imgbuild/content"
)

const (
	sumBuffer = 256 << 10 // bytes read at once
	sumBatch  = 4 << 20   // bytes that a worker takes at once
)

// computeSums reads what has checksums and is not packed, on all processors.
func (l *layout) computeSums(ctx context.Context) error {
	l.sums = make([]byte, l.summed*uint64(l.csum.size))
	var batches []int // first extents
	bytes := uint64(sumBatch)
	for i := range l.extents {
		if bytes >= sumBatch {
			batches, bytes = append(batches, i), 0
		}
		bytes += uint64(l.extents[i].disk)<<sectorShift + sectorSize
	}
	batches = append(batches, len(l.extents))
	g, ctx := errgroup.WithContext(ctx)
	next := atomic.Int64{}
	for range min(runtime.GOMAXPROCS(0), len(batches)-1) {
		g.Go(func() error {
			buffer := make([]byte, sumBuffer)
			for {
				k := int(next.Add(1))
				if k >= len(batches) {
					return nil
				}
				for i := batches[k-1]; i < batches[k]; i++ {
					if err := ctx.Err(); err != nil {
						return err
					}
					if err := l.sumExtent(i, buffer); err != nil {
						return fmt.Errorf("btrfs: %s: %w", l.path(l.extents[i].node), err)
					}
				}
			}
		})
	}
	return g.Wait()
}

// sumExtent computes the checksums of an extent.
func (l *layout) sumExtent(i int, buffer []byte) error {
	e := &l.extents[i]
	if e.sums == noSums {
		return nil
	}
	size := uint64(l.csum.size)
	out := l.sums[e.sums*size:][:uint64(e.disk)*size]
	n := &l.nodes[e.node]
	if n.packed != nil && l.opt.Packed.checksum == l.opt.Checksum {
		// Those of a file are one behind the other.
		copy(out, n.packed.sums[(e.sums-l.extents[n.first].sums)*size:])
		return nil
	}
	return sumSectors(l.csum, out, l.data[i].Data, buffer)
}

// sumSectors writes the checksums of the sectors of content to out. The last one
// is filled with zeros.
func sumSectors(c *checksum, out []byte, ref content.Ref, buffer []byte) error {
	for off := int64(0); off < ref.Size(); off += int64(len(buffer)) {
		n := int(min(ref.Size()-off, int64(len(buffer))))
		if _, err := ref.ReadAt(buffer[:n], off); err != nil && err != io.EOF {
			return err
		}
		whole := (n + sectorSize - 1) &^ (sectorSize - 1)
		clear(buffer[n:whole])
		for at := 0; at < whole; at += sectorSize {
			c.sum(out[:c.size], buffer[at:at+sectorSize])
			out = out[c.size:]
		}
	}
	return nil
}
