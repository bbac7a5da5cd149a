// Package vmdk writes a virtual disk as a stream-optimized VMware disk image, the
// kind that vSphere, ovftool and AWS import.
//
// Specification: VMware, "Virtual Disk Format 5.0" (2011), "Stream-Optimized
// Compressed Sparse Extents". Written is header version 3 with grains of 64 KiB,
// compressed with a zlib wrapper (RFC 1950) as all programs do though the
// specification names RFC 1951, and the grain directory behind the data. The file
// is one stream, front to back:
//
//	header, descriptor, padding up to 64 KiB
//	grains that are not zero, and behind those of each 32 MiB a grain table
//	grain directory
//	footer
//	end-of-stream marker
package vmdk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"os"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/formats/pieces"
	"imgbuild/partition"
)

// MaxSize is the largest disk in bytes: the limit of vSphere.
const MaxSize = 62 << 40

// maxSectors bounds the file: offsets in it have 32 bits.
const maxSectors = 1 << 32

// Options are the optional arguments of Write. The zero value is a disk for a
// SCSI controller.
type Options struct {
	Adapter Adapter
	// UUID is what the content identifier derives from. Zero stands for one that
	// all such disks share.
	UUID partition.GUID
	// Progress is called now and then, from one goroutine at a time, with the
	// number of bytes done of all that img.Data(64 KiB) yields. It may be nil.
	Progress func(done int64)
}

// Info is what was written.
type Info struct {
	Size      int64 // of the file in bytes
	Capacity  int64 // of the disk in bytes
	Populated int64 // bytes of the disk that are not left out
}

// Capacity returns the size in bytes of the disk that Write makes of one of size
// bytes: whole grains, as the specification wants it.
func Capacity(size int64) int64 { return divUp(size, grainSize) * grainSize }

// Write writes img to f, a new empty file, and makes it durable. The bytes are
// a function of the content of img and the options. The size of the disk is
// rounded up to a multiple of 64 KiB.
//
// An error of the file carries a class of package fault; f is then in no
// defined state, and has no footer.
func Write(ctx context.Context, img *disk.Image, f *os.File, opt Options) error {
	w, err := NewWriter(img.Size(), f, opt)
	if err != nil {
		return err
	}
	return pieces.Write(ctx, img, []pieces.Format{w}, opt.Progress)
}

// Writer writes a disk image from pieces that other formats may be made of, too.
type Writer struct {
	out    *output.File
	stream *output.Stream
	disk   *Stream
}

var _ pieces.Format = (*Writer)(nil)

// NewWriter returns the Writer of a disk of size bytes, which writes what [Write]
// does.
func NewWriter(size int64, f *os.File, opt Options) (*Writer, error) {
	out := output.NewFile(f)
	w := &Writer{out: out, stream: output.NewStream(out, 0)}
	var err error
	if w.disk, err = NewStream(size, w.stream, opt); err != nil {
		out.Stop()
		return nil, err
	}
	return w, nil
}

// Want implements pieces.Format.
func (*Writer) Want() pieces.Want { return pieces.Want{Stream: true, Adler: true} }

// Add implements pieces.Format.
func (w *Writer) Add(_ context.Context, b *pieces.Batch) error { return w.disk.Add(b) }

// Finish implements pieces.Format.
func (w *Writer) Finish(context.Context) error {
	if _, err := w.disk.Finish(); err != nil {
		return err
	}
	if err := w.stream.Flush(); err != nil {
		return err
	}
	return w.out.Sync()
}

// Stop implements pieces.Format.
func (w *Writer) Stop() { w.out.Stop() }

// Stream writes a disk image to anything, front to back. Errors of it come back as
// they are.
type Stream struct {
	w         io.Writer
	capacity  int64 // of the disk in sectors
	sector    int64 // where the next byte goes
	grains    int64 // written so far
	directory []uint32
	table     [tableGrains]uint32 // that grains are added to
	at        int64               // its index in directory, or -1
}

// NewStream returns the Stream of a disk of size bytes to w.
func NewStream(size int64, w io.Writer, opt Options) (*Stream, error) {
	if err := check(size, opt); err != nil {
		return nil, err
	}
	s := &Stream{w: w, capacity: Capacity(size) / sectorSize, directory: make([]uint32, divUp(size, tableGrains*grainSize)), at: -1}
	return s, s.writeHead(opt)
}

// Finish writes everything behind the grains, and says what was written.
func (s *Stream) Finish() (Info, error) {
	if err := s.finishTable(); err != nil {
		return Info{}, err
	}
	if err := s.writeTail(); err != nil {
		return Info{}, err
	}
	return Info{Size: s.sector * sectorSize, Capacity: s.capacity * sectorSize, Populated: s.grains * grainSize}, nil
}

func check(size int64, opt Options) error {
	switch {
	case opt.Adapter < LSILogic || opt.Adapter > BusLogic:
		return fault.New(fault.Usage, fmt.Errorf("vmdk: %v is not known", opt.Adapter), "use lsilogic, ide or buslogic")
	case size == 0:
		// A capacity of zero means that there is only a descriptor.
		return fault.New(fault.Unsupported, errors.New("vmdk: a disk of no bytes"), "")
	case size > MaxSize:
		return fault.New(fault.Unsupported, fmt.Errorf("vmdk: a disk of %d bytes, more than the %d of vSphere", size, int64(MaxSize)), "")
	}
	return nil
}

// write writes parts that together are whole sectors.
func (s *Stream) write(parts ...[]byte) error {
	n := 0
	for _, b := range parts {
		n += len(b)
	}
	if s.sector += int64(n) / sectorSize; s.sector > maxSectors {
		return fault.New(fault.Unsupported, fmt.Errorf("vmdk: more than %d bytes of compressed data", int64(maxSectors*sectorSize)), "make a smaller disk, or use another format")
	}
	for _, b := range parts {
		if _, err := s.w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stream) writeHead(opt Options) error {
	b := make([]byte, overhead*sectorSize)
	head := header{Capacity: s.capacity, DirectoryAt: directoryAtEnd}
	copy(b, head.encode())
	copy(b[descriptorAt*sectorSize:], descriptor(s.capacity, opt.Adapter, output.Identifier(opt.UUID, "vmdk")))
	return s.write(b)
}

// Add writes the grains of a batch.
func (s *Stream) Add(b *pieces.Batch) error {
	for i := range b.Pieces {
		if err := s.addGrain(&b.Pieces[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stream) addGrain(p *pieces.Piece) error {
	if at := p.Number / tableGrains; at != s.at {
		if err := s.finishTable(); err != nil {
			return err
		}
		s.at = at
	}
	s.table[p.Number%tableGrains] = uint32(s.sector)
	s.grains++

	// The stream itself is not copied on the way.
	n := len(zlibHeader) + len(p.Stream) + adler32.Size
	var head [sizeGrainMarker + len(zlibHeader)]byte
	putGrainMarker(head[:], p.Number, n)
	copy(head[sizeGrainMarker:], zlibHeader)
	pad := -(sizeGrainMarker + n) & (sectorSize - 1)
	var tail [adler32.Size + sectorSize]byte
	binary.BigEndian.PutUint32(tail[:], p.Sums.Adler)
	return s.write(head[:], p.Stream, tail[:adler32.Size+pad])
}

// zlibHeader is the header of RFC 1950 of a stream with a window of 32 KiB at most,
// compressed at the default level.
const zlibHeader = "\x78\x9c"

// A piece is a grain.
var _ [grainSize]byte = [pieces.Size]byte{}

// finishTable writes the grain table, if there is one.
func (s *Stream) finishTable() error {
	if s.at < 0 {
		return nil
	}
	at, err := s.writeMetadata(markerTable, encodeUint32s(s.table[:]))
	s.directory[s.at] = at
	s.table, s.at = [tableGrains]uint32{}, -1
	return err
}

// writeTail writes everything behind the grains.
func (s *Stream) writeTail() error {
	at, err := s.writeMetadata(markerDirectory, encodeUint32s(s.directory))
	if err != nil {
		return err
	}
	foot := header{Capacity: s.capacity, DirectoryAt: uint64(at)}
	if _, err := s.writeMetadata(markerFooter, foot.encode()); err != nil {
		return err
	}
	return s.write(marker(markerEnd, 0))
}

// writeMetadata writes whole sectors with their marker, and returns the sector
// that they begin at.
func (s *Stream) writeMetadata(t markerType, b []byte) (uint32, error) {
	if err := s.write(marker(t, len(b)/sectorSize)); err != nil {
		return 0, err
	}
	at := uint32(s.sector)
	return at, s.write(b)
}

// encodeUint32s encodes a table, padded to whole sectors.
func encodeUint32s(values []uint32) []byte {
	b := make([]byte, divUp(int64(4*len(values)), sectorSize)*sectorSize)
	for i, v := range values {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	return b
}

func divUp(n, d int64) int64 { return (n + d - 1) / d }
