package qcow2

import (
	"encoding/binary"
	"fmt"
	"strings"

	"imgbuild/fault"
	"imgbuild/formats/input"
)

// Limits of what is read, those of QEMU.
const (
	minClusterBits = 9
	maxClusterBits = 21
	maxL1          = 32 << 20 // bytes
	maxBackingName = 1023     // bytes
)

// l2Cache bounds the L2 tables that are kept, in bytes: 128 GiB of a disk with
// clusters of 64 KiB.
const l2Cache = 16 << 20

// subclusters is the number of parts that extended L2 entries cut a cluster in.
const subclusters = 32

// Bits of L1 and L2 entries that are read.
const (
	offsetMask = 0x00fffffffffffe00
	entryZero  = 1 << 0 // of an L2 entry of version 3: reads as zeros
)

// Probe tells whether a file that begins with b is of this format.
func Probe(b []byte) bool {
	return len(b) >= 8 && binary.BigEndian.Uint32(b) == magic && binary.BigEndian.Uint32(b[4:]) >= 2
}

// Open returns the disk in the file, which is not trusted: a version 2 or 3 image
// with clusters of 512 bytes to 2 MiB, compressed or not, with extended L2 entries
// or without. The current state is read, snapshots are not looked at. Refcounts
// are not read, so that lazy ones do no harm.
//
// Errors are of class fault.BadImage for what is damaged, and fault.Unsupported
// for backing and external data files, encryption, unknown features and images
// that are marked as dirty or corrupt. More can come when the disk is read.
func Open(f *input.File) (*input.Disk, error) {
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	r := &reader{
		f: f, bits: h.clusterBits, cluster: 1 << h.clusterBits, extended: h.incompatible&incompatExtendedL2 != 0,
		version: h.version, typ: h.compression, unpackers: newUnpackers(h.compression),
	}
	r.entrySize = 8
	if r.extended {
		r.entrySize = 16
	}
	r.perTable = r.cluster / r.entrySize
	r.tables = input.NewCache[int64](int(max(l2Cache/r.cluster, 4)))

	n := divUp(divUp(h.size, r.cluster), r.perTable)
	if n > h.l1Entries {
		return nil, input.Bad("an L1 table of %d entries, a disk of %d bytes needs %d", h.l1Entries, h.size, n)
	}
	if n > maxL1/8 {
		return nil, input.Unsupported("", "an L1 table of %d entries", n)
	}
	b, err := f.Read(h.l1Offset, 8*n)
	if err != nil {
		return nil, fmt.Errorf("L1 table: %w", err)
	}
	r.l1 = b
	d := &input.Disk{Details: h.details()}
	switch {
	case h.snapshots == 1:
		d.Notes = append(d.Notes, "its snapshot is left out")
	case h.snapshots > 1:
		d.Notes = append(d.Notes, fmt.Sprintf("its %d snapshots are left out", h.snapshots))
	}
	d.Image, err = input.New(f, h.size, r)
	return d, err
}

// readable is the header as far as it is read.
type readable struct {
	version      uint32
	clusterBits  uint
	size         int64
	l1Entries    int64
	l1Offset     int64
	snapshots    uint32
	incompatible uint64
	compression  uint8
}

// Lengths of headers in bytes.
const (
	sizeHeader2 = 72
	sizeHeader3 = 104 // the least
)

func readHeader(f *input.File) (*readable, error) {
	b, err := f.Read(0, sizeHeader2)
	if err != nil {
		return nil, err
	}
	if !Probe(b) {
		return nil, input.ErrFormat
	}
	be := binary.BigEndian
	h := &readable{
		version: be.Uint32(b[4:]), clusterBits: uint(be.Uint32(b[20:])), size: int64(be.Uint64(b[24:])),
		l1Entries: int64(be.Uint32(b[36:])), l1Offset: int64(be.Uint64(b[40:])), snapshots: be.Uint32(b[60:]),
	}
	switch h.version {
	case 2:
	case 3:
		if b, err = f.Read(0, sizeHeader3); err != nil {
			return nil, err
		}
		h.incompatible = be.Uint64(b[72:])
		length := be.Uint32(b[100:])
		if length < sizeHeader3 {
			return nil, input.Bad("a header of %d bytes", length)
		}
		if length > sizeHeader3 {
			if b, err = f.Read(0, sizeHeader3+1); err != nil {
				return nil, err
			}
			h.compression = b[sizeHeader3]
		}
	default:
		return nil, input.Unsupported("", "version %d", h.version)
	}
	switch {
	case h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits:
		return nil, input.Bad("clusters of 2^%d bytes", h.clusterBits)
	case h.size < 0 || h.size%sectorSize != 0:
		return nil, input.Bad("a disk of %d bytes, which are no whole sectors", uint64(h.size))
	case h.l1Offset < 0 || h.l1Offset&(1<<h.clusterBits-1) != 0:
		return nil, input.Bad("the L1 table is at %d, between clusters", uint64(h.l1Offset))
	}
	if n := be.Uint32(b[32:]); n != 0 {
		return nil, input.Unsupported("decrypt it first, with qemu-img convert", "the image is encrypted (method %d)", n)
	}
	if err := checkBacking(f, b); err != nil {
		return nil, err
	}
	return h, h.checkFeatures()
}

// checkBacking refuses backing files: they are paths that a file which is not
// trusted chooses.
func checkBacking(f *input.File, b []byte) error {
	off, n := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:])
	if off == 0 {
		return nil
	}
	name := ""
	if n <= maxBackingName && off < 1<<maxClusterBits {
		if b, err := f.Read(int64(off), int64(n)); err == nil {
			name = fmt.Sprintf(" %.200q", b)
		}
	}
	return input.Unsupported("put both into one file with qemu-img convert -O qcow2",
		"the image has a backing file%s, which is not opened", name)
}

func (h *readable) checkFeatures() error {
	if h.incompatible&incompatDirty != 0 {
		return input.Unsupported("repair it with qemu-img check -r all", "the image is marked as dirty: it was not closed properly")
	}
	if h.incompatible&incompatCorrupt != 0 {
		return fault.New(fault.BadImage, fmt.Errorf("the image is marked as corrupt"), "repair it with qemu-img check -r all")
	}
	if h.incompatible&incompatExternalData != 0 {
		return input.Unsupported("put both into one file with qemu-img convert -O qcow2",
			"the image has an external data file, which is not opened")
	}
	known := uint64(incompatCompressionType | incompatExtendedL2)
	for bit := range 64 {
		if h.incompatible&^known>>bit&1 != 0 {
			return input.Unsupported("", "the image has the unknown incompatible feature %d", bit)
		}
	}
	if h.compression != typeZlib && h.compression != typeZstd {
		return input.Unsupported("", "the image has the unknown compression type %d", h.compression)
	}
	if h.incompatible&incompatExtendedL2 != 0 && h.clusterBits < 14 {
		return input.Bad("extended L2 entries with clusters of %d bytes", 1<<h.clusterBits)
	}
	return nil
}

func (h *readable) details() string {
	parts := []string{fmt.Sprintf("version %d", h.version), fmt.Sprintf("clusters of %d KiB", max(1<<h.clusterBits>>10, 1))}
	if h.clusterBits < 10 {
		parts[1] = "clusters of 512 bytes"
	}
	if h.compression == typeZstd {
		parts = append(parts, "compression zstd")
	}
	if h.incompatible&incompatExtendedL2 != 0 {
		parts = append(parts, "extended L2 entries")
	}
	return strings.Join(parts, ", ")
}

// reader is an image that is read.
type reader struct {
	f         *input.File
	bits      uint
	cluster   int64 // bytes
	extended  bool
	version   uint32
	typ       uint8
	entrySize int64
	perTable  int64 // entries of an L2 table
	l1        []byte
	tables    *input.Cache[int64] // by their index in the L1 table
	unpackers *unpackers
}

var _ input.Mapper = (*reader)(nil)

// entry is an L2 entry.
type entry struct {
	descriptor uint64
	alloc      uint32 // bitmap of subclusters that have data
	zero       uint32 // bitmap of those that read as zeros
}

func (e entry) compressed() bool { return e.descriptor&entryCompressed != 0 }
func (e entry) off() int64       { return int64(e.descriptor & offsetMask) }

// table returns an L2 table, or nil where there is none.
func (r *reader) table(index int64) ([]byte, error) {
	off := int64(binary.BigEndian.Uint64(r.l1[8*index:]) & offsetMask)
	if off == 0 {
		return nil, nil
	}
	if off&(r.cluster-1) != 0 {
		return nil, input.Bad("an L2 table at %d, between clusters", off)
	}
	return r.tables.Get(index, func() ([]byte, error) {
		b, err := r.f.Read(off, r.cluster)
		if err != nil {
			return nil, fmt.Errorf("L2 table: %w", err)
		}
		return b, nil
	})
}

// entry decodes the entry with the number index of a table, and checks it.
func (r *reader) entry(table []byte, index int64) (entry, error) {
	b := table[index*r.entrySize:]
	e := entry{descriptor: binary.BigEndian.Uint64(b)}
	if e.compressed() {
		return e, nil
	}
	switch {
	case r.extended:
		bitmap := binary.BigEndian.Uint64(b[8:])
		e.alloc, e.zero = uint32(bitmap), uint32(bitmap>>32)
		if e.alloc&e.zero != 0 {
			return e, input.Bad("a subcluster that has both data and zeros")
		}
		if e.alloc != 0 && e.off() == 0 {
			return e, input.Bad("a subcluster with data, of a cluster without a place")
		}
	case e.off() != 0 && (r.version < 3 || e.descriptor&entryZero == 0):
		e.alloc = 1<<subclusters - 1
	}
	if e.alloc != 0 && e.off()&(r.cluster-1) != 0 {
		return e, input.Bad("a cluster at %d, between clusters", e.off())
	}
	return e, nil
}

// Map implements input.Mapper.
func (r *reader) Map(off int64) (input.Run, error) {
	number, inner := off>>r.bits, off&(r.cluster-1)
	table, err := r.table(number / r.perTable)
	if err != nil {
		return input.Run{}, err
	}
	index := number % r.perTable
	if table == nil {
		return input.Run{Kind: input.Hole, Size: (r.perTable-index)*r.cluster - inner}, nil
	}
	e, err := r.entry(table, index)
	if err != nil {
		return input.Run{}, err
	}
	if e.compressed() {
		return input.Run{Kind: input.Packed, Size: r.cluster - inner, Unit: r.cluster}, nil
	}
	run := r.part(e, inner)
	// As long as it goes on in the next clusters of the table.
	for end := inner + run.Size; end == r.cluster && index+1 < r.perTable; {
		index++
		next, err := r.entry(table, index)
		if err != nil || next.compressed() {
			break // the next call says so
		}
		more := r.part(next, 0)
		if more.Kind != run.Kind || run.Kind == input.Plain && more.Off != run.Off+run.Size {
			break
		}
		run.Size += more.Size
		end = more.Size
	}
	return run, nil
}

// part returns what begins at the offset inner of a cluster, up to the end of the
// cluster at most. QEMU may leave the end of the last cluster out of the file, where it
// is zero.
func (r *reader) part(e entry, inner int64) input.Run {
	switch e.alloc {
	case 0:
		return input.Run{Kind: input.Hole, Size: r.cluster - inner}
	case 1<<subclusters - 1:
		return input.Run{Kind: input.Plain, Size: r.cluster - inner, Off: e.off() + inner, Short: true}
	}
	size := r.cluster / subclusters
	first := inner / size
	data := func(i int64) bool { return e.alloc>>i&1 != 0 }
	last := first
	for last+1 < subclusters && data(last+1) == data(first) {
		last++
	}
	run := input.Run{Kind: input.Hole, Size: (last+1)*size - inner}
	if data(first) {
		run.Kind, run.Off, run.Short = input.Plain, e.off()+inner, true
	}
	return run
}

// Unpack implements input.Mapper.
func (r *reader) Unpack(dst []byte, start int64) error {
	number := start >> r.bits
	table, err := r.table(number / r.perTable)
	if err != nil {
		return err
	}
	e, err := r.entry(table, number%r.perTable)
	if err != nil {
		return err
	}
	// The compressed cluster descriptor: a byte offset, and how many sectors the
	// data goes on for behind the one it begins in.
	shift := 62 - (r.bits - 8)
	off := int64(e.descriptor & (1<<shift - 1))
	sectors := int64(e.descriptor &^ (entryCompressed | entryCopied) >> shift)
	n := (sectors+1)*sectorSize - off%sectorSize
	if off >= r.f.Size() {
		return input.Bad("compressed data at %d of the file, which has %d bytes", off, r.f.Size())
	}
	// The last sector of the file may be a part of one.
	src, err := r.f.Read(off, min(n, r.f.Size()-off))
	if err != nil {
		return err
	}
	if err := r.unpackers.unpack(dst, src); err != nil {
		return fault.Default(fault.BadImage, fmt.Errorf("compressed data at %d of the file: %w", off, err))
	}
	return nil
}
