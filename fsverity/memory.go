package fsverity

import (
	"context"
	"errors"
	"fmt"
	"io"

	"imgbuild/content"
)

// Memory is a Store in memory, of a fixed size, for trees that are small.
type Memory []byte

// NewMemory returns a store with room for the trees of contents.
func NewMemory(contents ...content.Ref) Memory {
	n := int64(0)
	for _, c := range contents {
		n += TreeSize(c.Size())
	}
	return make(Memory, n)
}

// ReadAt implements io.ReaderAt.
func (m Memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (m Memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m)) {
		return 0, fmt.Errorf("write at %d of a store of %d bytes", off, len(m))
	}
	n := copy(m[off:], p)
	if n < len(p) {
		return n, errors.New("write beyond the end of a store in memory")
	}
	return n, nil
}

// Of returns the metadata of one content, with the tree in memory.
func Of(ctx context.Context, c content.Ref) (Metadata, error) {
	list, err := Measure(ctx, []content.Ref{c}, NewMemory(c), nil)
	if err != nil {
		return Metadata{}, err
	}
	return list[0], nil
}
