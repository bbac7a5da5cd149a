package layouts

import (
	"fmt"
	"math"
)

// Place is where a partition is, in bytes.
type Place struct{ Start, Size int64 }

// End returns the offset behind it.
func (p Place) End() int64 { return p.Start + p.Size }

// TooSmallError says that partitions do not fit a disk of Size bytes, and that
// Need bytes would do.
type TooSmallError struct{ Size, Need int64 }

func (e *TooSmallError) Error() string {
	return fmt.Sprintf("the partitions need a disk of %d bytes, and %d are given", e.Need, e.Size)
}

// Align rounds up to the grain.
func (l *Layout) Align(n int64) int64 { return (n + l.Grain - 1) / l.Grain * l.Grain }

// arrayBytes is the size of a GPT's entry array.
const arrayBytes = 128 * 128

// header returns the bytes in front of the first partition that are not free.
func (l *Layout) header() int64 {
	if l.Table == DOS {
		return l.SectorSize
	}
	return 2*l.SectorSize + arrayBytes
}

// start returns the offset of the first partition. As with image-builder, an
// offset is added to the table unless it is absolute.
func (l *Layout) start() int64 {
	at := l.header() + l.StartOffset
	if l.AbsoluteStart {
		at = max(l.header(), l.StartOffset)
	}
	return l.Align(at)
}

// tail returns the bytes at the end of the disk that are not free: the backup of
// a GPT, and padding.
func (l *Layout) tail() int64 {
	tail := roundUp(l.Padding, l.SectorSize)
	if l.Table == GPT {
		tail += l.Align(l.header() - l.SectorSize)
	}
	return tail
}

// Need returns the size of the smallest disk that holds partitions of the sizes,
// one for each partition of the layout.
func (l *Layout) Need(sizes []int64) (int64, error) {
	end := l.start()
	for i, n := range sizes {
		if n <= 0 {
			return 0, fmt.Errorf("%s: size %d", l.Title(i), n)
		}
		if n > math.MaxInt64/4-end {
			return 0, fmt.Errorf("the sizes of the partitions add up to more than a disk can hold")
		}
		end += l.Align(n)
	}
	return l.Align(end + l.tail()), nil
}

// Place puts partitions of the sizes onto a disk of size bytes, one behind the
// other. With grow, the last one, which is root, takes what is left. A disk that
// is too small is a *[TooSmallError].
func (l *Layout) Place(sizes []int64, size int64, grow bool) ([]Place, error) {
	need, err := l.Need(sizes)
	if err != nil {
		return nil, err
	}
	if size < need {
		return nil, &TooSmallError{Size: size, Need: need}
	}
	places := make([]Place, len(sizes))
	at := l.start()
	for i, n := range sizes {
		places[i] = Place{Start: at, Size: l.Align(n)}
		at += l.Align(n)
	}
	if last := len(places) - 1; grow && last >= 0 {
		// As much as ends on the grain in front of the backup table.
		places[last].Size += (size - l.tail() - at) / l.Grain * l.Grain
	}
	return places, nil
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
