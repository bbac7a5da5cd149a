package rpm

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"slices"

	"imgbuild/packages/sqlite"
)

// The format of ndb (lib/backend/ndb/rpmpkg.c of RPM 4.20), little-endian: a header,
// slots in the first pages that say where the blob of each package is, and blobs in
// blocks of 16 bytes.
const (
	ndbMagic      = 'R' | 'p'<<8 | 'm'<<16 | 'P'<<24
	ndbSlotMagic  = 'S' | 'l'<<8 | 'o'<<16 | 't'<<24
	ndbBlobMagic  = 'B' | 'l'<<8 | 'b'<<16 | 'S'<<24
	ndbTailMagic  = 'B' | 'l'<<8 | 'b'<<16 | 'E'<<24
	ndbVersion    = 0
	ndbHeaderSize = 32 // magic, version, generation, pages of slots, next package
	ndbSlotSize   = 16 // magic, package, first block, number of blocks
	ndbBlobSize   = 16 // magic, package, generation, bytes
	ndbTailSize   = 12 // Adler-32, bytes, magic
	ndbBlock      = 16
	ndbPage       = 4096
)

// maxSlotPages bounds how many slots are read: 255 packages each.
const maxSlotPages = 2048

// ndbSlot is a slot of a package.
type ndbSlot struct{ pkg, block, blocks uint32 }

// openNDB opens a database of ndb.
func openNDB(_ Directory, f File) (headers, error) {
	head := make([]byte, ndbHeaderSize)
	if n, err := f.ReadAt(head, 0); n < len(head) {
		return nil, fmt.Errorf("header: %w", err)
	}
	if binary.LittleEndian.Uint32(head) != ndbMagic {
		return nil, errors.New("is no database of ndb")
	}
	if v := binary.LittleEndian.Uint32(head[4:]); v != ndbVersion {
		return nil, fmt.Errorf("version %d", v)
	}
	pages := binary.LittleEndian.Uint32(head[12:])
	if pages == 0 || pages > maxSlotPages || int64(pages)*ndbPage > f.Size() {
		return nil, fmt.Errorf("%d pages of slots", pages)
	}
	b := make([]byte, int(pages)*ndbPage)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("slots: %w", err)
	}
	var slots []ndbSlot
	for b = b[ndbHeaderSize:]; len(b) > 0; b = b[ndbSlotSize:] {
		if binary.LittleEndian.Uint32(b) != ndbSlotMagic {
			return nil, errors.New("a slot is damaged")
		}
		s := ndbSlot{binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])}
		if s.block != 0 && s.pkg != 0 {
			slots = append(slots, s)
		}
	}
	slices.SortFunc(slots, func(a, b ndbSlot) int { return cmp.Compare(a.pkg, b.pkg) })
	return func(ctx context.Context, fn func(h *header) error) error {
		total := int64(0)
		for _, s := range slots {
			if err := ctx.Err(); err != nil {
				return err
			}
			// No two packages share a blob: more than the file is a lie.
			if total += int64(s.blocks) * ndbBlock; total > f.Size() {
				return fmt.Errorf("package %d: more blobs than the file holds", s.pkg)
			}
			blob, err := s.read(f)
			if err != nil {
				return fmt.Errorf("package %d: %w", s.pkg, err)
			}
			if err := call(fn, blob, int64(s.pkg)); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// read reads the blob of a slot and checks it.
func (s *ndbSlot) read(f File) ([]byte, error) {
	off, size := int64(s.block)*ndbBlock, int64(s.blocks)*ndbBlock
	if size < ndbBlobSize+ndbTailSize || size > sqlite.MaxRow || off+size > f.Size() {
		return nil, fmt.Errorf("blob of %d bytes at %d", size, off)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, off); n < len(b) {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(b[12:]))
	tail := b[size-ndbTailSize:]
	switch {
	case binary.LittleEndian.Uint32(b) != ndbBlobMagic, binary.LittleEndian.Uint32(b[4:]) != s.pkg,
		binary.LittleEndian.Uint32(tail[8:]) != ndbTailMagic, int64(binary.LittleEndian.Uint32(tail[4:])) != n,
		n > size-ndbBlobSize-ndbTailSize:
		return nil, errors.New("its blob is damaged")
	}
	// The sum is over all before the tail.
	if adler32.Checksum(b[:size-ndbTailSize]) != binary.LittleEndian.Uint32(tail) {
		return nil, errors.New("its blob has another checksum")
	}
	return b[ndbBlobSize : ndbBlobSize+n], nil
}
