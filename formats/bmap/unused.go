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

// Free returns the ranges (offset, length in bytes) that the file system in size
// bytes of r counts as free: nothing in them is ever read before it is written.
// There are none where it is no clean ext4, XFS or FAT32.
func Free(r io.ReaderAt, size int64) [][2]int64 {
	for _, read := range readers {
		found := read(r, size).normal()
		if len(found) == 0 {
			continue
		}
		inside := spans{{0, size}}
		var list [][2]int64
		for _, s := range inside.subtract(inside.subtract(found)) {
			list = append(list, [2]int64{s.from, s.to - s.from})
		}
		return list
	}
	return nil
}

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
		for _, f := range Free(io.NewSectionReader(img, p.Start, p.Size), p.Size) {
			free = append(free, span{p.Start + f[0], p.Start + f[0] + f[1]})
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
