package squashfs

import "encoding/binary"

// metaWriter makes a table of metadata: blocks of 8 KiB, each compressed and with
// its size in front.
type metaWriter struct {
	compress compressor
	pending  []byte // less than a block
	out      []byte // finished blocks
	starts   []int  // of those, in out
}

// pos returns the place of the next byte.
func (m *metaWriter) pos() metaRef {
	return metaRef{block: uint64(len(m.out)), offset: uint16(len(m.pending))}
}

// write appends b.
func (m *metaWriter) write(b []byte) error {
	for len(b) > 0 {
		k := min(metadataBlock-len(m.pending), len(b))
		m.pending = append(m.pending, b[:k]...)
		b = b[k:]
		if len(m.pending) == metadataBlock {
			if err := m.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush ends the block.
func (m *metaWriter) flush() error {
	if len(m.pending) == 0 {
		return nil
	}
	start := len(m.out)
	out, err := m.compress.compress(append(m.out, 0, 0), m.pending)
	if err != nil {
		return err
	}
	head := uint16(len(out) - start - 2)
	if len(out)-start-2 >= len(m.pending) {
		out = append(out[:start+2], m.pending...)
		head = uint16(len(m.pending)) | plainMetadata
	}
	binary.LittleEndian.PutUint16(out[start:], head)
	m.out, m.starts, m.pending = out, append(m.starts, start), m.pending[:0]
	return nil
}

// table ends a table that begins at the place start of the image, and returns the
// list of its blocks.
func (m *metaWriter) table(start int64) ([]byte, error) {
	if err := m.flush(); err != nil {
		return nil, err
	}
	var list []byte
	for _, s := range m.starts {
		list = binary.LittleEndian.AppendUint64(list, uint64(start)+uint64(s))
	}
	return list, nil
}
