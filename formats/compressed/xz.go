package compressed

import (
	"encoding/binary"
	"hash/crc32"
	"hash/crc64"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

const (
	// xzDictionary is the size of the dictionary in bytes. Measured with the
	// library: larger ones are slower by more than they save.
	xzDictionary = 1 << 20
	// xzDictionaryCode is that size in the properties of LZMA2: 2 << (code/2+11).
	xzDictionaryCode = 16
)

const (
	xzFilterLZMA2 = 0x21
	// xzCheckCRC64 is the check of each block: the default of xz.
	xzCheckCRC64 = 4
	// xzSizes says that a block header has both sizes of the block, which lets
	// readers decompress blocks in parallel.
	xzSizes = 0xc0
)

var crc64Table = crc64.MakeTable(crc64.ECMA)

type xzEncoder struct {
	config lzma.Writer2Config
	probe  *zstd.Encoder
	trial  []byte
	body   []byte
}

func newXZEncoder() (*xzEncoder, error) {
	c := lzma.Writer2Config{DictCap: xzDictionary, Matcher: lzma.HashTable4}
	probe, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(xzDictionary), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return &xzEncoder{config: c, probe: probe}, c.Verify()
}

// stored tells whether compressing src is not worth it: it is compressed already, and
// LZMA2 would take most of a second for each megabyte to find that out. zstd knows
// in milliseconds.
func (e *xzEncoder) stored(src []byte) bool {
	e.trial = e.probe.EncodeAll(src, e.trial[:0])
	return len(e.trial) > len(src)-len(src)/64
}

// appendStored appends src to b as chunks of LZMA2 that are not compressed.
func appendStored(b, src []byte) []byte {
	const (
		reset, more = 1, 2 // uncompressed, with and without a new dictionary
		chunk       = 1 << 16
	)
	control := byte(reset)
	for len(src) > 0 {
		n := min(len(src), chunk)
		b = binary.BigEndian.AppendUint16(append(b, control), uint16(n-1))
		b = append(b, src[:n]...)
		src, control = src[n:], more
	}
	return append(b, 0)
}

// Write takes what the compressor gives.
func (e *xzEncoder) Write(p []byte) (int, error) {
	e.body = append(e.body, p...)
	return len(p), nil
}

// encode makes a block (section 3). Its check is counted in its unpadded size,
// its padding is not.
func (e *xzEncoder) encode(u *unit, src []byte) error {
	if e.body = e.body[:0]; e.stored(src) {
		e.body = appendStored(e.body, src)
	} else if err := e.compress(src); err != nil {
		return err
	}
	b := append(u.data[:0], 0, xzSizes)
	b = binary.AppendUvarint(b, uint64(len(e.body)))
	b = binary.AppendUvarint(b, uint64(len(src)))
	b = append(b, xzFilterLZMA2, 1, xzDictionaryCode)
	b = xzPad(b)
	b[0] = byte(len(b) / 4) // the checksum that follows included, less one
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	b = xzPad(append(b, e.body...))
	u.data, u.size = binary.LittleEndian.AppendUint64(b, crc64.Checksum(src, crc64Table)), int64(len(src))
	return nil
}

// compress appends src to the body as LZMA2.
func (e *xzEncoder) compress(src []byte) error {
	w, err := e.config.NewWriter2(e)
	if err != nil {
		return err
	}
	if _, err := w.Write(src); err != nil {
		return err
	}
	return w.Close()
}

// xzPad appends zeros up to a multiple of four bytes.
func xzPad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// xzContainer is a stream.
type xzContainer struct{ records []xzRecord }

// xzRecord is count records of the index that are equal.
type xzRecord struct{ unpadded, size, count int64 }

// xzFlags are the stream flags.
var xzFlags = [...]byte{0, xzCheckCRC64}

func (*xzContainer) head() []byte {
	b := append([]byte{0xfd, '7', 'z', 'X', 'Z', 0}, xzFlags[:]...)
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(xzFlags[:]))
}

func (x *xzContainer) add(u *unit) {
	// The padding is in front of the check. It is found from the size of the
	// compressed data, which the header names.
	r := xzRecord{unpadded: xzUnpadded(u.data), size: u.size}
	if n := len(x.records); n > 0 && x.records[n-1].unpadded == r.unpadded && x.records[n-1].size == r.size {
		x.records[n-1].count++
		return
	}
	r.count = 1
	x.records = append(x.records, r)
}

// xzUnpadded returns the unpadded size of a block.
func xzUnpadded(block []byte) int64 {
	header := 4 * (int64(block[0]) + 1)
	body, _ := binary.Uvarint(block[2:])
	return header + int64(body) + crc64.Size
}

// tail returns the index and the footer.
func (x *xzContainer) tail() []byte {
	count := int64(0)
	for _, r := range x.records {
		count += r.count
	}
	b := binary.AppendUvarint([]byte{0}, uint64(count))
	for _, r := range x.records {
		for range r.count {
			b = binary.AppendUvarint(b, uint64(r.unpadded))
			b = binary.AppendUvarint(b, uint64(r.size))
		}
	}
	b = xzPad(b)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))

	footer := binary.LittleEndian.AppendUint32(nil, uint32(len(b)/4-1)) // size of the index
	footer = append(footer, xzFlags[:]...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(footer))
	b = append(b, footer...)
	return append(b, 'Y', 'Z')
}
