package ext4

import (
	"io"
	"sort"

	"imgbuild/filesystem"
)

// packedBlocks is a row of blocks of metadata, most of them nearly empty, that
// keeps of each only the bytes at its start and at its end. It is a
// content.Source.
type packedBlocks struct {
	data   []byte
	blocks []packedBlock
}

// packedBlock is a block: data[off:off+head] at its start, the tail bytes
// behind that at its end, zeros between them.
type packedBlock struct {
	off        int
	head, tail uint16
}

// add appends a block and returns its index. The two parts are at most
// blockSize bytes together.
func (p *packedBlocks) add(head, tail []byte) uint64 {
	p.blocks = append(p.blocks, packedBlock{len(p.data), uint16(len(head)), uint16(len(tail))})
	p.data = append(append(p.data, head...), tail...)
	return uint64(len(p.blocks) - 1)
}

// addEmpty appends a block whose head and tail are set with set later.
func (p *packedBlocks) addEmpty() uint64 { return p.add(nil, nil) }

// set replaces a block.
func (p *packedBlocks) set(i uint64, head, tail []byte) {
	p.blocks[i] = packedBlock{len(p.data), uint16(len(head)), uint16(len(tail))}
	p.data = append(append(p.data, head...), tail...)
}

// head returns the bytes kept at the start of a block, to be modified in place.
func (p *packedBlocks) head(i uint64) []byte {
	b := p.blocks[i]
	return p.data[b.off : b.off+int(b.head)]
}

// len returns the number of blocks.
func (p *packedBlocks) len() uint64 { return uint64(len(p.blocks)) }

// expand writes a block to out, blockSize bytes.
func (p *packedBlocks) expand(i uint64, out []byte) {
	b := p.blocks[i]
	head := int(b.head)
	tail := blockSize - int(b.tail)
	copy(out, p.data[b.off:b.off+head])
	clear(out[head:tail])
	copy(out[tail:], p.data[b.off+head:b.off+head+int(b.tail)])
}

// ReadAt implements io.ReaderAt.
func (p *packedBlocks) ReadAt(out []byte, off int64) (int, error) {
	return filesystem.ReadUnits(out, off, blockSize, len(p.blocks), func(i int, unit []byte) error {
		p.expand(uint64(i), unit)
		return nil
	})
}

// placed is where a row of blocks lies on the disk.
type placed struct {
	runs  []run
	first []uint64 // index in the row of the first block of each run
}

// add puts the next blocks of the row to r.
func (p *placed) add(r run) {
	next := uint64(0)
	if k := len(p.runs); k > 0 {
		if p.runs[k-1].end() == r.start {
			p.runs[k-1].n += r.n
			return
		}
		next = p.first[k-1] + p.runs[k-1].n
	}
	p.runs = append(p.runs, r)
	p.first = append(p.first, next)
}

// at returns the run of blocks, n at most, that holds the row from index on.
func (p *placed) at(index, n uint64) run {
	k := sort.Search(len(p.first), func(k int) bool { return p.first[k] > index }) - 1
	skip := index - p.first[k]
	return run{p.runs[k].start + skip, min(n, p.runs[k].n-skip)}
}

var _ io.ReaderAt = (*packedBlocks)(nil)
