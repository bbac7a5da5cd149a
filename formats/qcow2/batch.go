package qcow2

import (
	"imgbuild/disk"
	"imgbuild/formats/output"
	"imgbuild/ordered"
)

// batchClusters is the number of adjacent clusters that are read at once and
// handed from one goroutine to the other.
const batchClusters = 8

type kind uint8

const (
	zero kind = iota
	plain
	compressed
)

// cluster is what becomes of a cluster of the disk.
type cluster struct {
	kind kind
	data []byte // as it is stored, nil where it is zero
}

// batch is some adjacent clusters of the disk.
type batch struct {
	first    int64 // number of the first cluster
	n        int64 // bytes; only at the end of the disk no multiple of clusterSize
	clusters []cluster
	in       []byte // content
	out      []byte // compressed content
}

func newBatches() []*batch {
	// Two for each core, so that none has to wait while a result waits for its
	// turn, and two more for reading ahead and writing.
	batches := make([]*batch, 2*ordered.Workers(1<<10)+2)
	for i := range batches {
		batches[i] = &batch{in: make([]byte, batchClusters*clusterSize)}
	}
	return batches
}

// planner cuts the data of a disk into batches.
type planner struct {
	next   func() (off, n int64, ok bool)
	off, n int64 // what is left of the current range
}

// fill sets first and n of b. It returns false when nothing is left.
func (p *planner) fill(b *batch) bool {
	if p.n == 0 {
		var ok bool
		if p.off, p.n, ok = p.next(); !ok {
			return false
		}
	}
	b.first = p.off / clusterSize
	b.n = min(p.n, batchClusters*clusterSize)
	p.off += b.n
	p.n -= b.n
	return true
}

// prepare reads the clusters of b and compresses them. Without an encoder all
// are plain.
func (b *batch) prepare(img *disk.Image, e encoder) error {
	b.clusters, b.out = b.clusters[:0], b.out[:0]
	size := divUp(b.n, clusterSize) * clusterSize
	clear(b.in[b.n:size])
	if _, err := img.ReadAt(b.in[:b.n], b.first*clusterSize); err != nil {
		return err
	}
	for pos := int64(0); pos < size; pos += clusterSize {
		c, err := b.encode(b.in[pos:pos+clusterSize], e)
		if err != nil {
			return err
		}
		b.clusters = append(b.clusters, c)
	}
	return nil
}

func (b *batch) encode(src []byte, e encoder) (cluster, error) {
	if output.IsZero(src) {
		return cluster{}, nil
	}
	if e == nil {
		return cluster{plain, src}, nil
	}
	start := len(b.out)
	out, err := e.compress(b.out, src)
	if err != nil {
		return cluster{}, err
	}
	if len(out)-start > plainAbove {
		b.out = out[:start]
		return cluster{plain, src}, nil
	}
	// A later append may move b.out; what was cut from it stays valid.
	b.out = out
	return cluster{compressed, out[start:]}, nil
}
