package btrfs

import "fmt"

// Superblocks are at these offsets of the device, as far as it reaches. What a
// chunk has there is never given out.
var superOffsets = [...]uint64{64 << 10, 64 << 20, 256 << 30}

const (
	mebi = 1 << 20
	gibi = 1 << 30

	firstChunk    = 1 * mebi // BTRFS_DEVICE_RANGE_RESERVED: what is before is not given out
	systemSize    = 8 * mebi
	minMetadata   = 32 * mebi
	maxMetadata   = 256 * mebi // of a chunk
	largeDevice   = 50 * gibi  // from here on chunks of metadata are larger
	largeMetadata = 1 * gibi
	maxDataChunk  = 1 * gibi
	minDataChunk  = 8 * mebi
)

// chunk is a piece of the logical address space, all of it of one kind, and
// where it is on the device.
type chunk struct {
	profile profile
	start   uint64 // logical
	length  uint64
	stripes [2]uint64 // on the device
	copies  int       // how many of them

	next  uint64 // logical: what is before is in use, but for holes
	used  uint64
	holes []run // ascending, not touching

	// The blocks or the extents in it: indices in layout.addresses or
	// layout.extents.
	first, last uint32
}

// run is the bytes from start to end, exclusive.
type run struct{ start, end uint64 }

func (c *chunk) end() uint64 { return c.start + c.length }

// skipSuper returns the first address, from at on, that is not that of a
// superblock, and the next that is.
func (c *chunk) skipSuper(at uint64) (from, to uint64) {
	from, to = at, c.end()
	for again := true; again; {
		again = false
		to = c.end()
		for _, super := range superOffsets {
			for _, stripe := range c.stripes[:c.copies] {
				if super < stripe || super-stripe >= c.length {
					continue
				}
				reserved := c.start + super - stripe
				switch {
				case reserved+stripeLen <= from:
				case reserved <= from:
					from, again = reserved+stripeLen, true
				default:
					to = min(to, reserved)
				}
			}
		}
	}
	return from, max(from, to)
}

// take gives out up to n bytes that lie together, and nothing where there are
// not least bytes together any more.
func (c *chunk) take(n, least uint64) run {
	at := c.next
	for at < c.end() {
		from, to := c.skipSuper(at)
		if to-from >= least && to > from {
			if from > c.next {
				c.holes = append(c.holes, run{c.next, from})
			}
			r := run{from, from + min(n, to-from)}
			c.next = r.end
			c.used += r.end - r.start
			return r
		}
		at = max(to, at+1)
	}
	return run{}
}

// free returns what is not in use, ascending and not touching.
func (c *chunk) free() []run {
	list := c.holes
	if c.next < c.end() {
		list = append(list[:len(list):len(list)], run{c.next, c.end()})
	}
	return list
}

// reset takes everything back.
func (c *chunk) reset() { c.next, c.used, c.holes = c.start, 0, nil }

// item returns the chunk as struct btrfs_chunk.
func (c *chunk) item(device [16]byte) []byte {
	b := make([]byte, sizeChunkHead, sizeChunkHead+2*sizeStripe)
	le.PutUint64(b[0:], c.length)
	le.PutUint64(b[8:], extentTree) // owner
	le.PutUint64(b[16:], stripeLen)
	le.PutUint64(b[24:], uint64(c.profile))
	le.PutUint32(b[32:], stripeLen) // io_align
	le.PutUint32(b[36:], stripeLen) // io_width
	le.PutUint32(b[40:], sectorSize)
	le.PutUint16(b[44:], uint16(c.copies))
	le.PutUint16(b[46:], 1) // sub_stripes
	for _, s := range c.stripes[:c.copies] {
		b = le.AppendUint64(b, 1) // devid
		b = le.AppendUint64(b, s)
		b = append(b, device[:]...)
	}
	return b
}

// physical returns where a logical address of the chunk is on the device.
func (c *chunk) physical(logical uint64, copied int) uint64 {
	return c.stripes[copied] + logical - c.start
}

// space gives out the device to chunks, one after the other.
type space struct {
	size     uint64 // of the device
	single   bool   // metadata once
	chunks   []*chunk
	logical  uint64
	physical uint64
	data     int // chunks[data:] are of data
}

// shortfall says how many bytes a file system has too few at least.
type shortfall struct{ bytes uint64 }

func (s *shortfall) Error() string { return fmt.Sprintf("%d bytes too few", s.bytes) }

// newSpace returns the space of a device with chunks for the chunk tree and for
// need bytes of other metadata.
func newSpace(size uint64, single bool, need uint64) (*space, error) {
	s := &space{size: size, single: single, logical: firstChunk, physical: firstChunk}
	if size < minSize {
		return nil, &shortfall{minSize - size}
	}
	if _, err := s.add(profileSystem, systemSize); err != nil {
		return nil, err
	}
	most := uint64(maxMetadata)
	if size > largeDevice {
		most = largeMetadata
	}
	usual := most
	if most > size/10 {
		usual = max(size/20&^(stripeLen-1), minMetadata)
	}
	// A device of nothing but metadata would be of no use, and what the files
	// need goes first.
	need = max(need, usual)
	for need > 0 {
		length := min(need+stripeLen-1, most) &^ (stripeLen - 1)
		if _, err := s.add(profileMetadata, length); err != nil {
			return nil, err
		}
		need -= min(need, length)
	}
	s.data = len(s.chunks)
	return s, nil
}

// add adds a chunk.
func (s *space) add(p profile, length uint64) (*chunk, error) {
	c := &chunk{profile: p, start: s.logical, length: length, copies: 1, next: s.logical}
	if p != profileData && !s.single {
		c.profile |= profileDUP
		c.copies = 2
	}
	total := length * uint64(c.copies)
	if left := s.unallocated(); total > left {
		return nil, &shortfall{total - left}
	}
	for i := range c.copies {
		c.stripes[i] = s.physical
		s.physical += length
	}
	s.logical += length
	s.chunks = append(s.chunks, c)
	return c, nil
}

func (s *space) unallocated() uint64 { return s.size - min(s.size, s.physical) }

// dataChunk adds a chunk of data: as large as Linux would make it, or what is
// left.
func (s *space) dataChunk() (*chunk, error) {
	length := min(max(s.size/10&^(mebi-1), minDataChunk), maxDataChunk)
	length = min(length, s.unallocated()&^(stripeLen-1))
	if length == 0 {
		return nil, &shortfall{stripeLen}
	}
	return s.add(profileData, length)
}

// take gives out up to n bytes for data, which are least bytes together.
func (s *space) take(n, least uint64) (*chunk, run, error) {
	if len(s.chunks) == s.data {
		if _, err := s.dataChunk(); err != nil {
			return nil, run{}, err
		}
	}
	for {
		c := s.chunks[len(s.chunks)-1]
		if r := c.take(n, least); r.end > r.start {
			return c, r, nil
		}
		if _, err := s.dataChunk(); err != nil {
			return nil, run{}, err
		}
	}
}

// allocated returns the bytes of the device that belong to chunks.
func (s *space) allocated() uint64 {
	n := uint64(0)
	for _, c := range s.chunks {
		n += c.length * uint64(c.copies)
	}
	return n
}

// free returns the bytes that new content of files can have.
func (s *space) free() uint64 {
	n := s.unallocated() &^ (stripeLen - 1)
	for _, c := range s.chunks[s.data:] {
		n += c.length - c.used
	}
	return n
}

// chunkOf returns the chunk of a logical address.
func (s *space) chunkOf(logical uint64) *chunk {
	lo, hi := 0, len(s.chunks)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; s.chunks[mid].start <= logical {
			lo = mid
		} else {
			hi = mid
		}
	}
	return s.chunks[lo]
}
