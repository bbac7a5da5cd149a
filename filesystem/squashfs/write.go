package squashfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"imgbuild/fault"
)

// writer writes the image of a collection.
type writer struct {
	*collection
	meta    compressor
	file    fileWriter
	super   superblock
	inodes  metaWriter
	dirs    metaWriter
	scratch []byte
}

// image writes everything, the superblock last.
func (w *writer) image(ctx context.Context) error {
	_, id, _, _, _ := w.opt.Compression.Algorithm.properties()
	w.super = superblock{
		inodes: uint32(len(w.nodes)), time: uint32(w.opt.Time), blockSize: uint32(w.opt.BlockSize), compression: id,
		blockLog: uint16(w.blockLog), ids: uint16(len(w.ids)), flags: withDuplicates | exportable,
	}
	steps := []func(context.Context) error{
		w.compressorOptions,
		w.content,
		w.inodesAndDirectories,
		w.fragmentTable,
		w.exportTable,
		w.ownerTable,
		w.xattrTable,
		w.superblock,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) compressorOptions(context.Context) error {
	if w.opt.Compression.Algorithm == NoCompression {
		w.super.flags |= plainAll
	}
	b := w.opt.Compression.options()
	if b == nil {
		return nil
	}
	w.super.flags |= compressOptions
	b = append(binary.LittleEndian.AppendUint16(nil, uint16(len(b))|plainMetadata), b...)
	return w.file.write(b)
}

func (w *writer) inodesAndDirectories(ctx context.Context) error {
	w.inodes.compress, w.dirs.compress = w.meta, w.meta
	names, err := w.writeDir(ctx, 0)
	if err != nil {
		return err
	}
	if err := w.writeInode(0, names); err != nil {
		return err
	}
	w.super.rootInode = w.nodes[0].place.pack()
	for _, t := range []struct {
		meta  *metaWriter
		start *int64
	}{{&w.inodes, &w.super.inodeTable}, {&w.dirs, &w.super.directoryTable}} {
		if err := t.meta.flush(); err != nil {
			return err
		}
		*t.start = w.file.pos
		if err := w.file.write(t.meta.out); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) fragmentTable(context.Context) (err error) {
	b := make([]byte, 0, len(w.fragments)*sizeFragment)
	for i := range w.fragments {
		b = w.fragments[i].append(b)
	}
	w.super.fragments = uint32(len(w.fragments))
	w.super.fragmentTable, err = w.table(b, nil)
	return err
}

func (w *writer) exportTable(context.Context) (err error) {
	b := make([]byte, 0, len(w.nodes)*8)
	for i := range w.nodes {
		b = binary.LittleEndian.AppendUint64(b, w.nodes[i].place.pack())
	}
	w.super.exportTable, err = w.table(b, nil)
	return err
}

func (w *writer) ownerTable(context.Context) (err error) {
	var b []byte
	for _, id := range w.ids {
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	w.super.idTable, err = w.table(b, nil)
	return err
}

func (w *writer) xattrTable(context.Context) (err error) {
	if w.xattrs.count() == 0 {
		w.super.flags |= noXattrs
		w.super.xattrTable = noTable
		return nil
	}
	if err := w.xattrs.meta.flush(); err != nil {
		return err
	}
	head := binary.LittleEndian.AppendUint64(make([]byte, 0, sizeXattrTable), uint64(w.file.pos))
	head = binary.LittleEndian.AppendUint32(head, uint32(w.xattrs.count()))
	head = binary.LittleEndian.AppendUint32(head, 0)
	if err := w.file.write(w.xattrs.meta.out); err != nil {
		return err
	}
	w.super.xattrTable, err = w.table(w.xattrs.ids, head)
	return err
}

// table writes a table and behind it head and the list of its blocks, and returns
// the place of those.
func (w *writer) table(b, head []byte) (start int64, err error) {
	m := metaWriter{compress: w.meta}
	if err := m.write(b); err != nil {
		return 0, err
	}
	list, err := m.table(w.file.pos)
	if err != nil {
		return 0, err
	}
	if err := w.file.write(m.out); err != nil {
		return 0, err
	}
	start = w.file.pos
	if err := w.file.write(head); err != nil {
		return 0, err
	}
	return start, w.file.write(list)
}

// superblock ends the image.
func (w *writer) superblock(context.Context) error {
	w.super.bytesUsed = w.file.pos
	if err := w.file.write(make([]byte, alignUp(w.file.pos, padding)-w.file.pos)); err != nil {
		return err
	}
	if err := w.file.flush(); err != nil {
		return err
	}
	var b [sizeSuperblock]byte
	w.super.encode(&b)
	_, err := w.file.w.WriteAt(b[:], 0)
	return outputError(err)
}

// fileWriter gathers what is written front to back.
type fileWriter struct {
	w      io.WriterAt
	pos    int64 // of the next byte
	buffer []byte
}

// gather is how many bytes go to the file at once.
const gather = 1 << 20

func (f *fileWriter) write(b []byte) error {
	f.buffer = append(f.buffer, b...)
	f.pos += int64(len(b))
	if len(f.buffer) >= gather {
		return f.flush()
	}
	return nil
}

func (f *fileWriter) flush() error {
	_, err := f.w.WriteAt(f.buffer, f.pos-int64(len(f.buffer)))
	f.buffer = f.buffer[:0]
	return outputError(err)
}

func outputError(err error) error {
	if err == nil {
		return nil
	}
	return fault.Default(fault.Output, fmt.Errorf("squashfs: %w", err))
}
