package vmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"imgbuild/fault"
	"imgbuild/formats/input"
)

const sparseMagic = "KDMV"

// Flags that are only read.
const (
	flagRedundant headerFlags = 1 << 1 // there is a redundant grain directory
	flagZeroGrain headerFlags = 1 << 2 // a grain table entry of 1 is a grain of zeros
)

// Limits of what is read. QEMU's limit of grains is larger; no program makes
// grains of more than 64 KiB.
const (
	minGrainSectors = 1
	maxGrainSectors = 32 << 10 // 16 MiB
	maxTableGrains  = 512
	maxDescriptor   = 1 << 20 // bytes
	maxSparseHeader = 3       // version
)

// zeroGrain is the grain table entry of a grain of zeros.
const zeroGrain = 1

// Probe tells whether a file that begins with b is of this format: a sparse
// extent, or a descriptor that names the files of a disk.
func Probe(b []byte) bool {
	return len(b) >= 4 && (string(b[:4]) == sparseMagic || string(b[:4]) == cowdMagic) || isDescriptor(b)
}

// cowdMagic begins sparse disks of ESX, which have another layout.
const cowdMagic = "COWD"

// OpenFile opens a file that a descriptor names, which is in the directory of the
// descriptor. The name has no directory.
type OpenFile func(name string) (*input.File, error)

// Open returns the disk in the file, which is not trusted: a sparse extent,
// compressed (streamOptimized) or not (monolithicSparse), or a descriptor of a
// disk in one or several files (monolithicFlat, twoGbMaxExtentSparse,
// twoGbMaxExtentFlat, vmfs). A nil openFile refuses descriptors.
//
// Errors are of class fault.BadImage for what is damaged, and fault.Unsupported
// for disks with a parent, single parts of a disk in several files, and the sparse
// formats of ESX. More can come when the disk is read.
func Open(f *input.File, openFile OpenFile) (*input.Disk, error) {
	b, err := f.Read(0, min(f.Size(), maxDescriptor))
	if err != nil {
		return nil, err
	}
	switch {
	case !Probe(b):
		return nil, input.ErrFormat
	case string(b[:4]) == cowdMagic:
		return nil, input.Unsupported("clone it with vmkfstools -i, or use qemu-img convert", "a sparse disk of ESX (vmfsSparse)")
	case isDescriptor(b):
		return openDescriptor(b, openFile)
	}
	s, err := openSparse(f)
	if err != nil {
		return nil, err
	}
	d := &input.Disk{Details: "monolithicSparse"}
	if s.compressed {
		d.Details = "streamOptimized"
	}
	if len(bytes.Trim(s.descriptor, "\x00")) == 0 { // QEMU leaves the room for one
		return nil, input.Unsupported("name the file with the descriptor, which is text and lists all parts", "a part of a disk: there is no descriptor in it")
	}
	parsed, err := parseDescriptor(s.descriptor)
	if err != nil {
		return nil, err
	}
	if parsed.kind != "" {
		d.Details = parsed.kind
	}
	d.Image, err = input.New(f, s.size, s)
	return d, err
}

// sparse is a sparse extent that is read.
type sparse struct {
	f          *input.File
	size       int64 // of the disk in bytes
	grain      int64 // bytes
	perTable   int64 // entries of a grain table
	directory  *input.Table
	tables     *input.Cache[int64] // by their sector
	flags      headerFlags
	compressed bool
	descriptor []byte // embedded, or nil
	inflaters  inflaters
}

var _ input.Mapper = (*sparse)(nil)

// readable is the header as far as it is read. Offsets are sectors.
type readable struct {
	version          uint32
	flags            headerFlags
	capacity, grain  uint64
	descriptor       uint64
	descriptorLength uint64
	perTable         uint32
	directory        uint64
	compression      uint16
}

func decodeHeader(b []byte) readable {
	le := binary.LittleEndian
	return readable{
		version: le.Uint32(b[0x04:]), flags: headerFlags(le.Uint32(b[0x08:])), capacity: le.Uint64(b[0x0c:]), grain: le.Uint64(b[0x14:]),
		descriptor: le.Uint64(b[0x1c:]), descriptorLength: le.Uint64(b[0x24:]), perTable: le.Uint32(b[0x2c:]),
		directory: le.Uint64(b[0x38:]), compression: le.Uint16(b[0x4d:]),
	}
}

// readHeader reads the header, and the footer where that has the rest.
func readHeader(f *input.File) (readable, error) {
	b, err := f.Read(0, sizeHeader)
	if err != nil {
		return readable{}, err
	}
	h := decodeHeader(b)
	if h.directory == directoryAtEnd {
		// Marker, footer, end-of-stream marker.
		if b, err = f.Read(f.Size()-2*sectorSize, sizeHeader); err != nil {
			return h, fmt.Errorf("footer: %w", err)
		}
		if string(b[:4]) != sparseMagic {
			return h, input.Bad("no footer at the end: the file is incomplete")
		}
		h = decodeHeader(b)
	}
	return h, h.check()
}

func (h *readable) check() error {
	switch {
	case h.version < 1 || h.version > maxSparseHeader:
		return input.Unsupported("", "version %d", h.version)
	case h.grain < minGrainSectors || h.grain > maxGrainSectors || h.grain&(h.grain-1) != 0:
		return input.Bad("grains of %d sectors", h.grain)
	case h.perTable < 1 || h.perTable > maxTableGrains:
		return input.Bad("grain tables of %d entries", h.perTable)
	case h.capacity > 1<<53:
		return input.Bad("a capacity of %d sectors", h.capacity)
	case h.directory >= 1<<53:
		return input.Bad("the grain directory is at sector %d", h.directory)
	case h.flags&flagCompressed != 0 && h.compression != compressionDeflate:
		return input.Unsupported("", "compression %d", h.compression)
	}
	return nil
}

func openSparse(f *input.File) (*sparse, error) {
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	s := &sparse{
		f: f, size: int64(h.capacity) * sectorSize, grain: int64(h.grain) * sectorSize, perTable: int64(h.perTable),
		flags: h.flags, compressed: h.flags&flagCompressed != 0, tables: input.NewCache[int64](tableCache),
	}
	n := divUp(s.size, s.grain*s.perTable)
	if s.directory, err = input.NewTable(f, int64(h.directory)*sectorSize, n, 4); err != nil {
		return nil, fmt.Errorf("grain directory: %w", err)
	}
	if h.descriptor != 0 && h.descriptor < 1<<40 {
		if length := int64(min(h.descriptorLength, maxDescriptor/sectorSize)) * sectorSize; length > 0 {
			if s.descriptor, err = f.Read(int64(h.descriptor)*sectorSize, length); err != nil {
				return nil, fmt.Errorf("descriptor: %w", err)
			}
		}
	}
	return s, nil
}

// tableCache is the number of grain tables that are kept: 128 GiB of a disk, at 2
// KiB each.
const tableCache = 4096

// entry returns the grain table entry of a grain: a sector, or what is special.
func (s *sparse) entry(number int64) (uint32, error) {
	b, err := s.directory.Entry(number / s.perTable)
	if err != nil {
		return 0, err
	}
	at := int64(binary.LittleEndian.Uint32(b))
	if at == 0 {
		return 0, nil
	}
	table, err := s.tables.Get(at, func() ([]byte, error) { return s.f.Read(at*sectorSize, 4*s.perTable) })
	if err != nil {
		return 0, fmt.Errorf("grain table: %w", err)
	}
	e := binary.LittleEndian.Uint32(table[4*(number%s.perTable):])
	if e == zeroGrain && s.flags&flagZeroGrain != 0 {
		return 0, nil
	}
	return e, nil
}

// Map implements input.Mapper.
func (s *sparse) Map(off int64) (input.Run, error) {
	number, inner := off/s.grain, off%s.grain
	if b, err := s.directory.Entry(number / s.perTable); err != nil {
		return input.Run{}, err
	} else if binary.LittleEndian.Uint32(b) == 0 {
		return input.Run{Size: (s.perTable-number%s.perTable)*s.grain - inner}, nil
	}
	e, err := s.entry(number)
	if err != nil {
		return input.Run{}, err
	}
	run := input.Run{Size: s.grain - inner}
	switch {
	case e == 0:
	case s.compressed:
		run.Kind, run.Unit = input.Packed, s.grain
	default:
		run.Kind, run.Off = input.Plain, int64(e)*sectorSize+inner
	}
	return run, nil
}

// Unpack implements input.Mapper.
func (s *sparse) Unpack(dst []byte, start int64) error {
	e, err := s.entry(start / s.grain)
	if err != nil {
		return err
	}
	at, n := int64(e)*sectorSize, 2*s.grain
	if s.flags&flagMarkers != 0 {
		b, err := s.f.Read(at, sizeGrainMarker)
		if err != nil {
			return err
		}
		if n = int64(binary.LittleEndian.Uint32(b[8:])); n == 0 || n > 2*s.grain {
			return input.Bad("a grain of %d compressed bytes at %d of the file", n, at)
		}
		at += sizeGrainMarker
	} else if n = min(n, s.f.Size()-at); n <= 0 {
		return input.Bad("a grain at %d of the file, which has %d bytes", at, s.f.Size())
	}
	src, err := s.f.Read(at, n)
	if err != nil {
		return err
	}
	got, err := s.inflaters.inflate(dst, src)
	// Some programs leave out what the last grain has beyond the disk.
	if err == nil && int64(got) < min(s.grain, s.size-start) {
		err = fmt.Errorf("%d of %d bytes", got, len(dst))
	}
	if err != nil {
		return fault.Default(fault.BadImage, fmt.Errorf("compressed grain at %d of the file: %w", at, err))
	}
	return nil
}
