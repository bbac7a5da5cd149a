package initramfs

import (
	"fmt"
	"io"
	"math"
)

// Writer writes a plain archive of files that are not in memory, one after the
// other. Such archives can be put behind one another, and behind compressed ones.
type Writer struct{ a archive }

// NewWriter returns a writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{archive{w: w}} }

// Dir adds a directory of root's.
func (w *Writer) Dir(name string) error {
	return w.add(name, header{mode: 0o040755, nlink: 2}, nil)
}

// File adds a regular file of root's, whose content has size bytes.
func (w *Writer) File(name string, size int64, content io.Reader) error {
	if size < 0 || size > math.MaxUint32 {
		return fmt.Errorf("initramfs: %s: %d bytes, more than the format can express", name, size)
	}
	return w.add(name, header{mode: 0o100644, nlink: 1, size: uint32(size)}, content)
}

func (w *Writer) add(name string, h header, content io.Reader) error {
	if len(name) >= maxName {
		return fmt.Errorf("initramfs: the path %.40q has more than %d bytes", name, maxName-1)
	}
	w.a.inodes++
	h.ino = w.a.inodes
	if err := w.a.entry(&h, name, content); err != nil {
		return fmt.Errorf("initramfs: %s: %w", name, err)
	}
	return nil
}

// Close ends the archive.
func (w *Writer) Close() error { return w.a.entry(&header{nlink: 1}, trailer, nil) }

// EntrySize returns the length in an archive of an entry with a name and so many
// bytes of content.
func EntrySize(name string, size int64) int64 {
	head := sizeHeader + int64(len(name)) + 1
	return head + padding(head) + size + padding(size)
}

// EndSize is the length of what ends an archive.
func EndSize() int64 { return EntrySize(trailer, 0) }
