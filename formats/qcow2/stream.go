package qcow2

import (
	"encoding/binary"

	"imgbuild/formats/output"
)

// groupSize is the number of bytes that are laid out and written together.
const groupSize = 8 << 20

// stream lays out clusters behind each other and writes them in ascending order.
//
// Compressed data is packed without gaps, plain clusters and tables are aligned.
// Where one follows the other a gap is left. Therefore a group of clusters is
// gathered first, and gets addresses when it is complete: all that is compressed
// in one run, all the rest in another. On the layers of a bootc image, of which
// a third are incompressible, this saves 1 % of the file over addresses that
// ascend with those of the disk.
type stream struct {
	out  *output.File
	end  int64    // where the next group begins: a multiple of clusterSize
	refs []uint16 // reference counts of the clusters up to end

	// The compressed run. It goes to the offset packedAt, or to a new cluster
	// where that is 0: a previous group left the beginning of that cluster,
	// which is before end.
	packed   []byte
	packedAt int64
	pieces   []piece
	// The aligned run.
	whole  []byte
	plains []*uint64
	tables []table
}

// piece is n bytes of compressed data.
type piece struct {
	n     int
	entry *uint64 // the L2 entry to set
}

// table is an L2 table, whose entries are complete when the group is.
type table struct {
	entries []uint64
	entry   *uint64 // the L1 entry to set
}

func newStream(out *output.File) *stream {
	return &stream{
		out:  out,
		end:  clusterSize, // behind the header
		refs: []uint16{1},
		// Room for a full group: growing would leave as much behind as garbage.
		packed: make([]byte, 0, groupSize+clusterSize),
		whole:  make([]byte, 0, groupSize+clusterSize),
	}
}

// addCompressed adds compressed data, less than a cluster, and sets the L2 entry
// when its address is known. It keeps a copy of p, as addPlain does.
func (s *stream) addCompressed(p []byte, entry *uint64) error {
	s.packed = append(s.packed, p...)
	s.pieces = append(s.pieces, piece{len(p), entry})
	return s.flushIfFull()
}

// addPlain adds a cluster and sets the L2 entry when its address is known.
func (s *stream) addPlain(p []byte, entry *uint64) error {
	s.whole = append(s.whole, p...)
	s.plains = append(s.plains, entry)
	return s.flushIfFull()
}

// addTable adds an L2 table and sets the L1 entry when its address is known.
func (s *stream) addTable(entries []uint64, entry *uint64) error {
	s.tables = append(s.tables, table{entries, entry})
	return s.flushIfFull()
}

func (s *stream) flushIfFull() error {
	if len(s.packed)+len(s.whole)+len(s.tables)*clusterSize < groupSize {
		return nil
	}
	return s.flush()
}

// flush lays out and writes what was added, but for the last cluster of the
// compressed run when the next group can continue it.
func (s *stream) flush() error {
	// Where compressed data was left, it goes on first; else it comes last, so
	// that the next group can continue it.
	packedFirst := s.packedAt != 0
	var wholeAt int64
	if packedFirst {
		s.placePacked()
		wholeAt = s.placeWhole()
	} else {
		wholeAt = s.placeWhole()
		s.placePacked()
	}
	// Only now all entries are known.
	for _, t := range s.tables {
		for _, e := range t.entries {
			s.whole = binary.BigEndian.AppendUint64(s.whole, e)
		}
	}
	s.tables = s.tables[:0]

	if !packedFirst {
		if err := s.writeWhole(wholeAt); err != nil {
			return err
		}
		return s.writePacked()
	}
	if err := s.writePacked(); err != nil {
		return err
	}
	if len(s.whole) > 0 {
		if err := s.closePacked(); err != nil {
			return err
		}
	}
	return s.writeWhole(wholeAt)
}

// placePacked gives the pieces their addresses.
func (s *stream) placePacked() {
	if len(s.pieces) == 0 {
		return
	}
	if s.packedAt == 0 {
		s.packedAt = s.end
	}
	end := s.packedAt + int64(len(s.packed))
	s.extend(divUp(end, clusterSize) * clusterSize)

	off := end
	for _, p := range s.pieces {
		off -= int64(p.n)
	}
	for _, p := range s.pieces {
		*p.entry = compressedEntry(off, p.n)
		end := off + int64(p.n)
		// This cannot overflow: no compressed cluster is shorter than two bytes.
		for c := off / clusterSize; c <= (end-1)/clusterSize; c++ {
			s.refs[c]++
		}
		off = end
	}
	s.pieces = s.pieces[:0]
}

// placeWhole gives plain clusters and tables their addresses. It returns that of
// the first.
func (s *stream) placeWhole() int64 {
	start := s.end
	for _, entry := range s.plains {
		*entry = s.allocate()
	}
	for _, t := range s.tables {
		*t.entry = s.allocate()
	}
	s.plains = s.plains[:0]
	return start
}

// writePacked writes the whole clusters of the compressed run. What remains is
// the beginning of the cluster at packedAt.
func (s *stream) writePacked() error {
	n := len(s.packed) / clusterSize * clusterSize
	if _, err := s.out.WriteAt(s.packed[:n], s.packedAt); err != nil {
		return err
	}
	s.packed = append(s.packed[:0], s.packed[n:]...)
	s.packedAt += int64(n)
	if len(s.packed) == 0 {
		s.packedAt = 0
	}
	return nil
}

// closePacked writes the last cluster of the compressed run, if there is one.
func (s *stream) closePacked() error {
	if s.packedAt == 0 {
		return nil
	}
	cluster := make([]byte, clusterSize)
	copy(cluster, s.packed)
	_, err := s.out.WriteAt(cluster, s.packedAt)
	s.packed, s.packedAt = s.packed[:0], 0
	return err
}

// writeWhole writes the aligned run.
func (s *stream) writeWhole(at int64) error {
	_, err := s.out.WriteAt(s.whole, at)
	s.whole = s.whole[:0]
	return err
}

// allocate adds a cluster with one reference, and returns the entry for it.
func (s *stream) allocate() uint64 {
	off := s.end
	s.extend(off + clusterSize)
	s.refs[off/clusterSize] = 1
	return uint64(off) | entryCopied
}

// extend moves the end to the offset.
func (s *stream) extend(end int64) {
	s.end = end
	s.refs = append(s.refs, make([]uint16, int(end/clusterSize)-len(s.refs))...)
}

// finish writes what flush leaves. Only append can follow.
func (s *stream) finish() error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.closePacked()
}

// append writes p to as many clusters as it needs, with one reference each, and
// returns the offset of the first.
func (s *stream) append(p []byte) (int64, error) {
	start := s.end
	for pos := 0; pos < len(p); pos += clusterSize {
		s.allocate()
	}
	n := len(p)
	p = append(p, make([]byte, int(s.end-start)-n)...)
	_, err := s.out.WriteAt(p, start)
	return start, err
}
