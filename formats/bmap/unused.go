package bmap

import (
	"io"

	"imgbuild/disk"
	"imgbuild/partition"
)

// reader finds the free space of one kind of file system on the size bytes of r.
// It returns nothing where there is none, or where it does not know enough to be
// sure.
type reader func(r io.ReaderAt, size int64) spans

var readers = [...]reader{ext4Free, xfsFree, fatFree}

// unused returns what of a disk has no meaning.
func unused(img *disk.Image) spans {
	t, err := partition.Read(img, img.Size(), 0)
	if err != nil {
		return nil // another table, or none: nothing is known
	}
	// Up to here goes what every GPT has in front of the first partition.
	const sizeTable = 34 * 4096
	free := spans{{sizeTable, img.Size() - sizeTable}}
	var used spans
	for _, p := range t.Partitions {
		used = append(used, span{p.Start, p.End()})
	}
	free = free.normal().subtract(used.normal())
	for _, p := range t.Partitions {
		r := io.NewSectionReader(img, p.Start, p.Size)
		for _, read := range readers {
			if found := read(r, p.Size).normal(); len(found) > 0 {
				inside := spans{{0, p.Size}}
				free = append(free, inside.subtract(inside.subtract(found)).shift(p.Start)...)
				break
			}
		}
	}
	return free.normal()
}

// read reads n bytes, which the caller has bounded, or returns nil.
func read(r io.ReaderAt, off, n int64) []byte {
	if off < 0 || n <= 0 {
		return nil
	}
	b := make([]byte, n)
	if k, _ := r.ReadAt(b, off); int64(k) < n {
		return nil
	}
	return b
}
