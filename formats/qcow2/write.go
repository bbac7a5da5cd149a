// Package qcow2 writes a virtual disk as a QEMU copy-on-write image.
//
// Specification: docs/interop/qcow2.txt (now qcow2.rst) of QEMU. Written is
// version 3 ("compat 1.1") with clusters of 64 KiB, refcounts of 16 bits and
// compressed, plain and unallocated clusters; no backing file, encryption,
// snapshots, bitmaps, external data or extended L2 entries.
//
// The file is written in ascending order, but for the header, which comes last:
//
//	cluster 0    header with the feature name table
//	             groups of compressed data, plain clusters and L2 tables
//	             L1 table
//	             refcount blocks
//	             refcount table
package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"os"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/formats/pieces"
	"imgbuild/ordered"
)

// Options are the optional arguments of Write. The zero value is zlib.
type Options struct {
	Compression Compression
	// Level is the level of the compression, or 0 for its default. See
	// [ParseCompression].
	Level int
	// Progress is called now and then, from one goroutine at a time, with the
	// number of bytes done of all that img.Data(64 KiB) yields. It may be nil.
	Progress func(done int64)
}

// Write writes img to f, a new empty file, and makes it durable. The bytes are
// a function of the content of img, the compression and its level alone. The
// size of the disk is rounded up to a multiple of 512 bytes.
//
// An error of the file carries a class of package fault; f is then in no
// defined state, and its header is not written.
func Write(ctx context.Context, img *disk.Image, f *os.File, opt Options) error {
	if opt.Compression == Zlib {
		w, err := NewWriter(img.Size(), f, opt)
		if err != nil {
			return err
		}
		return pieces.Write(ctx, img, []pieces.Format{w}, opt.Progress)
	}
	out := output.NewFile(f)
	defer out.Stop()
	if _, err := WriteTo(ctx, img, out, opt); err != nil {
		return err
	}
	return out.Sync()
}

// WriteTo writes img to out as Write does, with another compression than Zlib, but
// does not make it durable. It returns the length of the image in bytes, which is
// a multiple of 64 KiB.
func WriteTo(ctx context.Context, img *disk.Image, out *output.File, opt Options) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	w, err := newWriter(img.Size(), out, opt)
	if err != nil {
		return 0, err
	}
	if err := w.writeClusters(ctx, img, opt); err != nil {
		return 0, err
	}
	return w.finish()
}

// writer is the state of an image that is being written.
type writer struct {
	size   int64 // of the disk in bytes
	typ    Compression
	stream *stream
	l1     []uint64
	l2     []uint64 // of the L2 table that clusters are added to, or nil
	l2At   int      // its index in l1
}

func newWriter(size int64, out *output.File, opt Options) (*writer, error) {
	if err := checkLevel(opt.Compression, opt.Level); err != nil {
		return nil, err
	}
	if size > maxSize {
		return nil, fault.New(fault.Unsupported, fmt.Errorf("qcow2: a disk of %d bytes, more than the %d that qemu opens", size, int64(maxSize)), "")
	}
	return &writer{
		size: size, typ: opt.Compression,
		stream: newStream(out),
		l1:     make([]uint64, divUp(size, l2Entries*clusterSize)),
	}, nil
}

// finish writes everything behind the clusters, and returns the length of the
// image.
func (w *writer) finish() (int64, error) {
	if err := w.finishL2(); err != nil {
		return 0, err
	}
	if err := w.stream.finish(); err != nil {
		return 0, err
	}
	if err := w.writeTables(); err != nil {
		return 0, err
	}
	return w.stream.end, nil
}

// writeClusters writes the data and its L2 tables.
func (w *writer) writeClusters(ctx context.Context, img *disk.Image, opt Options) error {
	slots := newBatches()
	encoders := make([]encoder, ordered.Workers(len(slots)))
	for i := range encoders {
		var err error
		if encoders[i], err = newEncoder(opt.Compression, opt.Level); err != nil {
			return err
		}
	}
	next, stop := iter.Pull2(img.Data(clusterSize))
	defer stop()

	plan := planner{next: next}
	done := int64(0)
	return ordered.Run(ctx, slots, ordered.Stages[*batch]{
		Fill: plan.fill,
		Work: func(worker int, b *batch) error { return b.prepare(img, encoders[worker]) },
		Emit: func(b *batch) error {
			for i, c := range b.clusters {
				if err := w.add(b.first+int64(i), c); err != nil {
					return err
				}
			}
			if done += b.n; opt.Progress != nil {
				opt.Progress(done)
			}
			return nil
		},
	})
}

// add writes the cluster with the number index of the disk.
func (w *writer) add(index int64, c cluster) error {
	if c.kind == zero {
		return nil
	}
	if at := int(index / l2Entries); w.l2 == nil || at != w.l2At {
		if err := w.finishL2(); err != nil {
			return err
		}
		w.l2, w.l2At = make([]uint64, l2Entries), at
	}
	entry := &w.l2[index%l2Entries]
	if c.kind == compressed {
		return w.stream.addCompressed(c.data, entry)
	}
	return w.stream.addPlain(c.data, entry)
}

// finishL2 writes the L2 table, if there is one.
func (w *writer) finishL2() error {
	if w.l2 == nil {
		return nil
	}
	l2 := w.l2
	w.l2 = nil
	return w.stream.addTable(l2, &w.l1[w.l2At])
}

// writeTables writes everything behind the data, then the header.
func (w *writer) writeTables() error {
	h := header{Size: divUp(w.size, sectorSize) * sectorSize, L1Entries: len(w.l1), CompressionTyp: typeZlib}
	if w.typ == Zstd {
		h.Incompatible |= incompatCompressionType
		h.CompressionTyp = typeZstd
	}

	var err error
	if h.L1Offset, err = w.stream.append(encodeUint64s(w.l1)); err != nil {
		return err
	}
	if h.TableOffset, h.TableClusters, err = w.writeRefcounts(); err != nil {
		return err
	}
	b := make([]byte, clusterSize)
	h.encode(b)
	_, err = w.stream.out.WriteAt(b, 0)
	return err
}

// writeRefcounts writes the refcount blocks and their table, which count
// themselves, too. It returns offset and length in clusters of the table.
func (w *writer) writeRefcounts() (off int64, clusters int, err error) {
	s := w.stream
	used := int64(len(s.refs))
	blocks, tables := int64(0), int64(0)
	for {
		n := divUp(used+blocks+tables, blockEntries)
		if n == blocks {
			break
		}
		blocks, tables = n, divUp(8*n, clusterSize)
	}
	s.extend(s.end + (blocks+tables)*clusterSize)
	for i := used; i < used+blocks+tables; i++ {
		s.refs[i] = 1
	}

	table := make([]uint64, blocks)
	block := make([]byte, clusterSize)
	for i := range blocks {
		refs := s.refs[i*blockEntries : min((i+1)*blockEntries, int64(len(s.refs)))]
		clear(block)
		for k, n := range refs {
			binary.BigEndian.PutUint16(block[2*k:], n)
		}
		off := (used + i) * clusterSize
		table[i] = uint64(off)
		if _, err := s.out.WriteAt(block, off); err != nil {
			return 0, 0, err
		}
	}
	p := make([]byte, tables*clusterSize)
	copy(p, encodeUint64s(table))
	off = (used + blocks) * clusterSize
	_, err = s.out.WriteAt(p, off)
	return off, int(tables), err
}

func divUp(n, d int64) int64 { return (n + d - 1) / d }
