package qcow2

import "encoding/binary"

const (
	clusterBits = 16 // the default of qemu-img
	clusterSize = 1 << clusterBits
	sectorSize  = 512

	// l2Entries is the number of clusters that one L2 table maps, which is a
	// cluster itself: 512 MiB of the disk.
	l2Entries = clusterSize / 8

	refcountOrder = 4 // 16 bits
	// blockEntries is the number of clusters that one refcount block counts:
	// 2 GiB of the file.
	blockEntries = clusterSize / 2
)

// maxSize is the largest disk that QEMU opens: it refuses an L1 table above
// 32 MiB (QCOW_MAX_L1_SIZE).
const maxSize = 32 << 20 / 8 * l2Entries * clusterSize

// Bits of the entries of L1 and L2 tables.
const (
	// entryCopied says that the cluster has exactly one reference. It is never
	// set for compressed ones.
	entryCopied = 1 << 63
	// entryCompressed says that an L2 entry is a compressed cluster descriptor.
	entryCompressed = 1 << 62
	// sectorsShift is where, in a compressed cluster descriptor, the byte offset
	// ends and the number of sectors behind the first begins.
	sectorsShift = 62 - (clusterBits - 8)
)

// compressedEntry returns the L2 entry of n compressed bytes at off.
func compressedEntry(off int64, n int) uint64 {
	additional := (off+int64(n)-1)/sectorSize - off/sectorSize
	return entryCompressed | uint64(additional)<<sectorsShift | uint64(off)
}

// Incompatible feature bits.
const (
	incompatDirty           = 1 << 0
	incompatCorrupt         = 1 << 1
	incompatExternalData    = 1 << 2
	incompatCompressionType = 1 << 3 // it is not zlib
	incompatExtendedL2      = 1 << 4
)

// Compression types of the header.
const (
	typeZlib = 0
	typeZstd = 1
)

const (
	magic      = 0x514649fb // "QFI\xfb"
	version    = 3
	sizeHeader = 112

	extensionFeatureNames = 0x6803f857
	sizeFeatureName       = 48
	sizeExtension         = 8
)

// header is the header of version 3, big endian like everything in the format.
// Offsets are bytes of the file.
type header struct {
	Incompatible   uint64
	Size           int64 // of the disk in bytes
	L1Entries      int
	L1Offset       int64
	TableOffset    int64 // of the refcount table
	TableClusters  int
	CompressionTyp uint8
}

// featureNames is the table that tells an older reader the name of a feature it
// does not know, as QEMU 7.2 writes it.
var featureNames = [...]struct {
	kind, bit uint8 // kind 0 is incompatible, 1 compatible, 2 autoclear
	name      string
}{
	{0, 0, "dirty bit"},
	{0, 1, "corrupt bit"},
	{0, 2, "external data file"},
	{0, 3, "compression type"},
	{0, 4, "extended L2 entries"},
	{1, 0, "lazy refcounts"},
	{2, 0, "bitmaps"},
	{2, 1, "raw external data"},
}

// encode writes the header and its extensions to b, a zeroed cluster.
func (h *header) encode(b []byte) {
	be := binary.BigEndian
	be.PutUint32(b[0:], magic)
	be.PutUint32(b[4:], version)
	// 8 to 19: no backing file.
	be.PutUint32(b[20:], clusterBits)
	be.PutUint64(b[24:], uint64(h.Size))
	// 32: no encryption.
	be.PutUint32(b[36:], uint32(h.L1Entries))
	be.PutUint64(b[40:], uint64(h.L1Offset))
	be.PutUint64(b[48:], uint64(h.TableOffset))
	be.PutUint32(b[56:], uint32(h.TableClusters))
	// 60 to 71: no snapshots.
	be.PutUint64(b[72:], h.Incompatible)
	// 80 to 95: no compatible and no autoclear features.
	be.PutUint32(b[96:], refcountOrder)
	be.PutUint32(b[100:], sizeHeader)
	b[104] = h.CompressionTyp

	ext := b[sizeHeader:]
	be.PutUint32(ext[0:], extensionFeatureNames)
	be.PutUint32(ext[4:], uint32(len(featureNames)*sizeFeatureName))
	ext = ext[sizeExtension:]
	for i, f := range featureNames {
		e := ext[i*sizeFeatureName:][:sizeFeatureName]
		e[0], e[1] = f.kind, f.bit
		copy(e[2:], f.name)
	}
	// The extension with type 0 and length 0, which ends the list, is zeros.
}

// encodeUint64s encodes an L1 or a refcount table.
func encodeUint64s(values []uint64) []byte {
	b := make([]byte, 0, 8*len(values))
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}
