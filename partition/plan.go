package partition

import (
	"errors"
	"fmt"
	"math"

	"imgbuild/fault"
)

// Grain is what partitions start and end at multiples of, in bytes: as sfdisk
// and image-builder have it, and the largest erase or stripe size that matters.
const Grain = 1 << 20

// Request asks for a partition. Its place follows from the order of requests.
type Request struct {
	Name       string
	Type, ID   GUID
	Size       int64 // bytes, rounded up to the grain; the least size when Grow is set
	Attributes Attributes
	Grow       bool // take all room that is left; one request at most
}

// TooSmallError says that partitions do not fit a disk of Size bytes, and that
// Need bytes would do.
type TooSmallError struct{ Size, Need int64 }

func (e *TooSmallError) Error() string {
	return fmt.Sprintf("the partitions need a disk of %d bytes, and %d are given", e.Need, e.Size)
}

// Plan returns the table of a disk of size bytes with the requested partitions
// in order, the first one at 1 MiB, each on the grain. The growing partition
// takes what is left up to the last multiple of the grain in front of the backup
// table, as with sfdisk: a disk of whole MiB keeps a tail of 1 MiB. A disk that is
// too small is a *[TooSmallError].
func Plan(diskID GUID, size int64, sectorSize int, requests []Request) (*Table, error) {
	g, err := newGeometry(size, sectorSize)
	if err != nil {
		return nil, err
	}
	need, err := MinSize(requests)
	if err != nil {
		return nil, err
	}
	usableEnd := (g.lastUsable + 1) * g.sector / Grain * Grain
	// need counts the whole grain behind the last partition.
	spare := usableEnd - (need - Grain)
	if spare < 0 {
		return nil, fault.New(fault.NoSpace, &TooSmallError{Size: size, Need: need}, "")
	}
	t := &Table{DiskID: diskID, Size: size, SectorSize: sectorSize}
	pos := int64(Grain)
	for i, r := range requests {
		p := Partition{
			Number:     i + 1,
			Name:       r.Name,
			Type:       r.Type,
			ID:         r.ID,
			Start:      pos,
			Size:       r.least(),
			Attributes: r.Attributes,
		}
		if r.Grow {
			p.Size += spare
		}
		t.Partitions = append(t.Partitions, p)
		pos = p.End()
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return t, nil
}

// MinSize returns the size in bytes, a multiple of the grain, of the smallest
// disk that holds the requested partitions, with either sector size.
func MinSize(requests []Request) (int64, error) {
	if len(requests) > maxEntries {
		return 0, fmt.Errorf("partition table: %d partitions, at most %d are possible", len(requests), maxEntries)
	}
	size, grow := int64(2*Grain), false
	for i, r := range requests {
		switch {
		case r.Size < 0, r.Size == 0 && !r.Grow:
			return 0, fmt.Errorf("partition %d: size %d", i+1, r.Size)
		case r.Grow && grow:
			return 0, fmt.Errorf("partition %d: another one grows already", i+1)
		case r.Size > math.MaxInt64-2*Grain-size:
			return 0, errors.New("partition table: the sizes add up to more than a disk can hold")
		}
		grow = grow || r.Grow
		size += r.least()
	}
	return size, nil
}

// least returns the size that the partition has at least: whole grains, and one
// for a growing partition that asks for nothing.
func (r Request) least() int64 { return max((r.Size+Grain-1)/Grain, 1) * Grain }
