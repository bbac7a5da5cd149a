// Package partition plans and encodes partition tables.
//
// The format is that of the UEFI specification 2.10: chapter 5.2.3 (protective
// MBR) and 5.3 (GPT disk layout, header revision 1.0), for logical sectors of
// 512 and 4096 bytes. Written are the protective MBR with boot code, both
// headers and both arrays of 128 entries of 128 bytes. Read are tables of any
// array size whose two copies are sound and agree. [DOSTable] is the table of an
// MBR alone (the classic generic one, with a disk signature and four primary
// partitions). Hybrid MBRs and extended partitions are not supported.
package partition

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Partition is one entry of a table.
type Partition struct {
	// Number is the place in the table, from 1, that the kernel names the
	// partition by. 0 is the one behind the partition before it in the list.
	Number      int
	Name        string // at most 36 UTF-16 units
	Type        GUID
	ID          GUID
	Start, Size int64 // bytes, multiples of the sector size
	Attributes  Attributes
}

// End returns the offset behind the partition, in bytes.
func (p Partition) End() int64 { return p.Start + p.Size }

// Table is a GUID partition table.
type Table struct {
	DiskID     GUID
	Size       int64 // of the disk, in bytes
	SectorSize int   // logical, in bytes: 512 or 4096
	Partitions []Partition
}

// maxEntries is the length of the entry array that every tool writes. The
// specification asks for at least 16 KiB, which are 128 entries.
const maxEntries = 128

// maxName is the room for a partition's name, in UTF-16 units.
const maxName = 36

// arrayBytes is the size of the entry array; it is a multiple of both sector
// sizes.
const arrayBytes = maxEntries * sizeEntry

// geometry is where the parts of a table are, in sectors.
type geometry struct {
	sector      int64 // bytes
	last        int64 // last sector of the disk, of the backup header
	array       int64 // sectors of an entry array
	firstUsable int64
	lastUsable  int64
}

// newGeometry returns the geometry of a disk of size bytes.
func newGeometry(size int64, sectorSize int) (geometry, error) {
	if sectorSize != 512 && sectorSize != 4096 {
		return geometry{}, fmt.Errorf("partition table: sector size %d is neither 512 nor 4096", sectorSize)
	}
	ss := int64(sectorSize)
	if size < 0 || size%ss != 0 {
		return geometry{}, fmt.Errorf("partition table: disk size %d is not a multiple of the sector size %d", size, ss)
	}
	g := geometry{sector: ss, last: size/ss - 1, array: arrayBytes / ss}
	g.firstUsable = 2 + g.array
	g.lastUsable = g.last - 1 - g.array
	if g.lastUsable < g.firstUsable {
		return geometry{}, fmt.Errorf("partition table: a disk of %d bytes has no room for it", size)
	}
	return g, nil
}

// Validate returns an error when the table cannot be written, or would be
// refused by others: a partition that overlaps another or leaves the usable
// area, is not made of whole sectors, has no type, no ID or one that is used
// twice, or a name that does not fit.
func (t *Table) Validate() error {
	g, err := newGeometry(t.Size, t.SectorSize)
	if err != nil {
		return err
	}
	if t.DiskID.IsZero() {
		return errors.New("partition table: the disk has no ID")
	}
	if len(t.Partitions) > maxEntries {
		return fmt.Errorf("partition table: %d partitions, at most %d are possible", len(t.Partitions), maxEntries)
	}
	ids := map[GUID]int{t.DiskID: 0}
	number := 0
	for _, p := range t.Partitions {
		if p.Number != 0 && p.Number <= number {
			return fmt.Errorf("partition %d: its number is not above that of the one before", p.Number)
		}
		number = next(number, p)
		if number > maxEntries {
			return fmt.Errorf("partition %d: at most %d partitions are possible", number, maxEntries)
		}
		if err := p.validate(g); err != nil {
			return fmt.Errorf("partition %d: %w", number, err)
		}
		if other, ok := ids[p.ID]; ok {
			return fmt.Errorf("partition %d: ID %s is also that of %s", number, p.ID, owner(other))
		}
		ids[p.ID] = number
	}
	return checkOverlap(t.Partitions)
}

// next returns the number of p, which follows the partition numbered n.
func next(n int, p Partition) int {
	if p.Number != 0 {
		return p.Number
	}
	return n + 1
}

func owner(number int) string {
	if number == 0 {
		return "the disk"
	}
	return fmt.Sprintf("partition %d", number)
}

// validate checks what concerns p alone.
func (p Partition) validate(g geometry) error {
	switch {
	case p.Type.IsZero():
		return errors.New("no type")
	case p.ID.IsZero():
		return errors.New("no ID")
	case p.Start%g.sector != 0 || p.Size%g.sector != 0:
		return fmt.Errorf("start %d and size %d are not multiples of the sector size %d", p.Start, p.Size, g.sector)
	case p.Size <= 0:
		return fmt.Errorf("size %d", p.Size)
	case p.Start < g.firstUsable*g.sector:
		return fmt.Errorf("start %d is before the first usable byte %d", p.Start, g.firstUsable*g.sector)
	case p.Size > (g.lastUsable+1)*g.sector-p.Start:
		return fmt.Errorf("start %d and size %d go beyond the last usable byte %d", p.Start, p.Size, (g.lastUsable+1)*g.sector-1)
	}
	return validName(p.Name)
}

func validName(name string) error {
	switch {
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q is not UTF-8", name)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("name %q holds a NUL", name)
	}
	if n := len(utf16.Encode([]rune(name))); n > maxName {
		return fmt.Errorf("name %q has %d UTF-16 units, at most %d are possible", name, n, maxName)
	}
	return nil
}

// checkOverlap returns an error when two partitions share a byte.
func checkOverlap(parts []Partition) error {
	type span struct {
		number     int
		start, end int64
	}
	spans := make([]span, 0, len(parts))
	number := 0
	for _, p := range parts {
		number = next(number, p)
		spans = append(spans, span{number, p.Start, p.End()})
	}
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return a.number - b.number
	})
	for i := 1; i < len(spans); i++ {
		if a, b := spans[i-1], spans[i]; b.start < a.end {
			return fmt.Errorf("partition %d at %d overlaps partition %d, which ends at %d", b.number, b.start, a.number, a.end)
		}
	}
	return nil
}
