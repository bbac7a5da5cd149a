package partition

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"imgbuild/fault"
)

// ErrNoTable says that a disk has no GUID partition table at all.
var ErrNoTable = errors.New("no GUID partition table")

// maxArray bounds the entry array that [Read] takes, in bytes: 64 times the
// common one.
const maxArray = 1 << 20

// Read returns the table of a disk of size bytes. It is strict: the protective
// MBR and both copies of the table must be there, have right checksums, agree
// with each other and be where the size says; partitions must be as
// [Table.Validate] wants them. A sectorSize of 0 tries 512 and 4096.
//
// The error wraps [ErrNoTable] when there is no primary header.
func Read(r io.ReaderAt, size int64, sectorSize int) (*Table, error) {
	sizes := []int{sectorSize}
	if sectorSize == 0 {
		sizes = []int{512, 4096}
	}
	var t *Table
	var err error
	for _, ss := range sizes {
		if t, err = read(r, size, ss); !errors.Is(err, ErrNoTable) {
			break
		}
	}
	if err != nil {
		return nil, fault.Default(fault.BadImage, fmt.Errorf("partition table: %w", err))
	}
	return t, nil
}

func read(r io.ReaderAt, size int64, sectorSize int) (*Table, error) {
	if sectorSize != 512 && sectorSize != 4096 {
		return nil, fmt.Errorf("sector size %d is neither 512 nor 4096", sectorSize)
	}
	ss := int64(sectorSize)
	last := size/ss - 1 // sector
	if size%ss != 0 || last < 2 {
		return nil, fmt.Errorf("%w in %d bytes", ErrNoTable, size)
	}
	primary, err := readHeader(r, 1, ss)
	if err != nil {
		return nil, fmt.Errorf("primary header: %w", err)
	}
	if err := checkMBR(r); err != nil {
		return nil, err
	}
	if err := primary.check(1, last); err != nil {
		return nil, fmt.Errorf("primary header: %w", err)
	}
	backup, err := readHeader(r, last, ss)
	if err != nil {
		return nil, fmt.Errorf("backup header: %w", err)
	}
	if err := backup.check(last, 1); err != nil {
		return nil, fmt.Errorf("backup header: %w", err)
	}
	if backup.content() != primary.content() {
		return nil, errors.New("the two headers differ")
	}
	// What lies where: header, array, usable sectors, array, header.
	sectors := (primary.arrayBytes() + uint64(ss) - 1) / uint64(ss)
	switch {
	case primary.ArrayLBA < 2 || primary.ArrayLBA > uint64(last) || primary.ArrayLBA+sectors > primary.FirstUsable:
		return nil, fmt.Errorf("entries at sector %d are outside their area", primary.ArrayLBA)
	case primary.FirstUsable > primary.LastUsable || primary.LastUsable >= uint64(last):
		return nil, fmt.Errorf("usable sectors %d to %d are not on the disk", primary.FirstUsable, primary.LastUsable)
	case backup.ArrayLBA <= primary.LastUsable || backup.ArrayLBA > uint64(last) || backup.ArrayLBA+sectors > uint64(last):
		return nil, fmt.Errorf("backup entries at sector %d are outside their area", backup.ArrayLBA)
	}
	array, err := readArray(r, primary, ss)
	if err != nil {
		return nil, fmt.Errorf("primary entries: %w", err)
	}
	if _, err := readArray(r, backup, ss); err != nil {
		return nil, fmt.Errorf("backup entries: %w", err)
	}
	t := &Table{DiskID: primary.DiskID, Size: size, SectorSize: sectorSize}
	if err := t.decodeArray(array, primary); err != nil {
		return nil, err
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return t, nil
}

// checkMBR returns an error when the disk has no protective MBR.
func checkMBR(r io.ReaderAt) error {
	b := make([]byte, sizeMBR)
	if err := readFull(r, b, 0); err != nil {
		return err
	}
	if b[0x1FE] != 0x55 || b[0x1FF] != 0xAA {
		return errors.New("the MBR has no signature")
	}
	for at := mbrRecord; at < 0x1FE; at += sizeRecord {
		if b[at+4] == protectiveType {
			return nil
		}
	}
	return errors.New("the MBR does not protect the table")
}

// readHeader reads a header and checks what it says of itself.
func readHeader(r io.ReaderAt, lba, ss int64) (header, error) {
	b := make([]byte, ss)
	if err := readFull(r, b, lba*ss); err != nil {
		return header{}, err
	}
	if string(b[:len(headerMagic)]) != headerMagic {
		return header{}, fmt.Errorf("%w at sector %d", ErrNoTable, lba)
	}
	h, err := decodeHeader(b)
	if err != nil {
		return header{}, fmt.Errorf("sector %d: %w", lba, err)
	}
	return h, nil
}

// check compares the places that the header gives with those where it and its
// copy must be.
func (h header) check(at, other int64) error {
	switch {
	case h.MyLBA != uint64(at):
		return fmt.Errorf("it claims to be at sector %d, and is at %d", h.MyLBA, at)
	case h.AlternateLBA != uint64(other):
		return fmt.Errorf("its copy should be at sector %d, the disk has room for it at %d", h.AlternateLBA, other)
	case h.EntrySize < sizeEntry || h.EntrySize&(h.EntrySize-1) != 0:
		return fmt.Errorf("entries of %d bytes", h.EntrySize)
	case h.arrayBytes() > maxArray:
		return fmt.Errorf("%d entries of %d bytes are more than any disk has", h.EntryCount, h.EntrySize)
	}
	return nil
}

// arrayBytes returns the size of the entry array.
func (h header) arrayBytes() uint64 { return uint64(h.EntryCount) * uint64(h.EntrySize) }

// content returns the header without what differs between the copies.
func (h header) content() header {
	h.MyLBA, h.AlternateLBA, h.ArrayLBA = 0, 0, 0
	return h
}

// readArray reads the entries of a checked header.
func readArray(r io.ReaderAt, h header, ss int64) ([]byte, error) {
	b := make([]byte, h.arrayBytes())
	if err := readFull(r, b, int64(h.ArrayLBA)*ss); err != nil {
		return nil, err
	}
	if sum := crc32.ChecksumIEEE(b); sum != h.ArrayChecksum {
		return nil, fmt.Errorf("checksum %08x, want %08x", sum, h.ArrayChecksum)
	}
	return b, nil
}

// decodeArray adds the partitions of the entry array.
func (t *Table) decodeArray(array []byte, h header) error {
	ss := uint64(t.SectorSize)
	for n := range int(h.EntryCount) {
		e := decodeEntry(array[n*int(h.EntrySize):])
		if e.Type.IsZero() {
			continue
		}
		if e.FirstLBA > e.LastLBA || e.FirstLBA < h.FirstUsable || e.LastLBA > h.LastUsable {
			return fmt.Errorf("partition %d: sectors %d to %d are not usable ones", n+1, e.FirstLBA, e.LastLBA)
		}
		t.Partitions = append(t.Partitions, Partition{
			Number:     n + 1,
			Name:       e.name(),
			Type:       e.Type,
			ID:         e.ID,
			Start:      int64(e.FirstLBA * ss),
			Size:       int64((e.LastLBA - e.FirstLBA + 1) * ss),
			Attributes: e.Attributes,
		})
	}
	return nil
}

// readFull fills b from offset off.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read at %d: %w", off, err)
}
