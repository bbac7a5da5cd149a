package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
)

// DOSTable is the partition table of a master boot record, with primary
// partitions only: extended ones and what is in them are neither written nor
// read.
type DOSTable struct {
	Signature  uint32 // of the disk, not zero: PARTUUIDs are made of it
	Size       int64  // of the disk, in bytes
	SectorSize int    // logical, in bytes: 512 or 4096
	Partitions []DOSPartition
}

// DOSPartition is one entry of a DOSTable.
type DOSPartition struct {
	Type        byte
	Active      bool  // what the BIOS boots from
	Start, Size int64 // bytes, multiples of the sector size
}

// End returns the offset behind the partition, in bytes.
func (p DOSPartition) End() int64 { return p.Start + p.Size }

const (
	maxDOSEntries = 4
	mbrSignature  = 0x1B8
	dosActive     = 0x80
	// maxCHS stands for a cylinder, head and sector that the 24 bits of an entry
	// cannot hold: 1023, 254, 63.
	maxCHS = "\xFE\xFF\xFF"
	// Geometry that everything translates by, of BIOSes since the nineties.
	chsHeads, chsSectors, chsCylinders = 255, 63, 1024
)

// dosEmpty is the type of an entry that is not in use.
const dosEmpty = 0x00

// isExtended tells whether a type is that of an extended partition.
func isExtended(typ byte) bool { return typ == 0x05 || typ == 0x0F || typ == 0x85 }

// Validate returns an error when the table cannot be written: a partition that
// overlaps another, the table or the end of the disk, is not made of whole
// sectors, ends beyond what 32 bits of sectors can address, or has a type that
// means something else.
func (t *DOSTable) Validate() error {
	ss := int64(t.SectorSize)
	switch {
	case ss != 512 && ss != 4096:
		return fmt.Errorf("partition table: sector size %d is neither 512 nor 4096", ss)
	case t.Size < ss || t.Size%ss != 0:
		return fmt.Errorf("partition table: disk size %d is not a multiple of the sector size %d", t.Size, ss)
	case t.Signature == 0:
		return errors.New("partition table: the disk has no signature")
	case len(t.Partitions) > maxDOSEntries:
		return fmt.Errorf("partition table: %d partitions, at most %d are possible", len(t.Partitions), maxDOSEntries)
	}
	var spans []Partition
	active := 0
	for i, p := range t.Partitions {
		switch {
		case p.Type == dosEmpty || p.Type == protectiveType || isExtended(p.Type):
			return fmt.Errorf("partition %d: type %02x", i+1, p.Type)
		case p.Start%ss != 0 || p.Size%ss != 0:
			return fmt.Errorf("partition %d: start %d and size %d are not multiples of the sector size %d", i+1, p.Start, p.Size, ss)
		case p.Size <= 0:
			return fmt.Errorf("partition %d: size %d", i+1, p.Size)
		case p.Start < ss:
			return fmt.Errorf("partition %d: start %d is in the table", i+1, p.Start)
		case p.Start > t.Size || p.Size > t.Size-p.Start:
			return fmt.Errorf("partition %d: start %d and size %d go beyond the disk of %d bytes", i+1, p.Start, p.Size, t.Size)
		case p.Start/ss > maxMBRSectors || p.Size/ss > maxMBRSectors:
			return fmt.Errorf("partition %d: start %d and size %d: an MBR addresses %d sectors", i+1, p.Start, p.Size, int64(maxMBRSectors))
		}
		if p.Active {
			active++
		}
		spans = append(spans, Partition{Start: p.Start, Size: p.Size})
	}
	if active > 1 {
		return fmt.Errorf("partition table: %d active partitions", active)
	}
	return checkOverlap(spans)
}

// Parts returns the table as the part of a disk that it is. Of bootCode the first
// 440 bytes are used; it may be empty.
func (t *DOSTable) Parts(bootCode []byte) ([]disk.Part, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	b := make([]byte, sizeMBR)
	copy(b[:sizeBootCode], bootCode)
	le := binary.LittleEndian
	le.PutUint32(b[mbrSignature:], t.Signature)
	ss := int64(t.SectorSize)
	for i, p := range t.Partitions {
		r := b[mbrRecord+i*sizeRecord:]
		if p.Active {
			r[0x0] = dosActive
		}
		copy(r[0x1:0x4], chs(p.Start/ss))
		r[0x4] = p.Type
		copy(r[0x5:0x8], chs(p.End()/ss-1))
		le.PutUint32(r[0x8:], uint32(p.Start/ss))
		le.PutUint32(r[0xC:], uint32(p.Size/ss))
	}
	b[0x1FE], b[0x1FF] = 0x55, 0xAA
	return []disk.Part{{Off: 0, Size: ss, Extents: []disk.Extent{{Data: content.Bytes(b)}}}}, nil
}

// chs returns a sector as cylinder, head and sector in the three bytes of an
// entry: head, sector with the high bits of the cylinder, cylinder.
func chs(lba int64) string {
	cylinder := lba / (chsHeads * chsSectors)
	if cylinder >= chsCylinders {
		return maxCHS
	}
	head, sector := lba/chsSectors%chsHeads, lba%chsSectors+1
	return string([]byte{byte(head), byte(sector) | byte(cylinder>>8<<6), byte(cylinder)})
}

// ReadDOS returns the table of a disk of size bytes. It is strict: no protective
// entries, no extended partitions, nothing that [DOSTable.Validate] would refuse,
// and no empty entry in front of one in use. The error wraps [ErrNoTable] where
// there is no boot record.
func ReadDOS(r io.ReaderAt, size int64, sectorSize int) (*DOSTable, error) {
	t, err := readDOS(r, size, sectorSize)
	if err != nil {
		return nil, fault.Default(fault.BadImage, fmt.Errorf("partition table: %w", err))
	}
	return t, nil
}

func readDOS(r io.ReaderAt, size int64, sectorSize int) (*DOSTable, error) {
	b := make([]byte, sizeMBR)
	if err := readFull(r, b, 0); err != nil {
		return nil, err
	}
	if b[0x1FE] != 0x55 || b[0x1FF] != 0xAA {
		return nil, fmt.Errorf("%w: no boot signature", ErrNoTable)
	}
	le, ss := binary.LittleEndian, int64(sectorSize)
	t := &DOSTable{Signature: le.Uint32(b[mbrSignature:]), Size: size, SectorSize: sectorSize}
	end := false
	for i := range maxDOSEntries {
		e := b[mbrRecord+i*sizeRecord:][:sizeRecord]
		if e[4] == dosEmpty && le.Uint32(e[0xC:]) == 0 {
			end = true
			continue
		}
		switch {
		case end:
			return nil, fmt.Errorf("entry %d follows an unused one", i+1)
		case e[0] != 0 && e[0] != dosActive:
			return nil, fmt.Errorf("entry %d: status %02x", i+1, e[0])
		}
		t.Partitions = append(t.Partitions, DOSPartition{
			Type: e[4], Active: e[0] == dosActive,
			Start: int64(le.Uint32(e[0x8:])) * ss, Size: int64(le.Uint32(e[0xC:])) * ss,
		})
	}
	return t, t.Validate()
}
