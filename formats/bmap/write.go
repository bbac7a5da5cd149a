// Package bmap writes the block map of a virtual disk: the file beside a raw
// image from which bmaptool knows what of the image to write to a medium, and
// how to check it.
//
// Specification: the comments in the files of bmaptool, format version 2.0, with
// blocks of 4 KiB and SHA-256 checksums of all ranges.
//
// What is not mapped keeps what the medium had before. Therefore zeros are mapped
// as well, unlike in the maps that bmaptool makes of sparse files: an empty file
// allocation table or journal has to be empty on the medium, too. Not mapped is
// what is known to be unused: space between the partitions, and blocks that an
// ext4, XFS or FAT32 file system counts as free.
package bmap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/ordered"
)

const (
	blockSize = 4 << 10
	// maxRange is the size of the longest range in bytes, and the alignment where
	// one is cut: hashing is done on all cores, by range.
	maxRange = 64 << 20
	// minUnused is the size in bytes of the smallest range that is left out.
	// Leaving out less saves no time and makes the map long.
	minUnused = 64 << 10
)

// Options are the optional arguments of Write.
type Options struct {
	// Progress is called now and then, from one goroutine at a time, with the
	// number of bytes done. It may be nil.
	Progress func(done int64)
}

// Write writes the block map of the raw image of img to f, a new empty file, and
// makes it durable. It reads all of the disk that is mapped, and all data. The bytes
// are a function of the content of img, not of where its holes are.
//
// An error of the file carries a class of package fault; f is then in no
// defined state.
func Write(ctx context.Context, img *disk.Image, f *os.File, opt Options) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if img.Size() == 0 {
		return fault.New(fault.Unsupported, errors.New("bmap: a disk of no bytes"), "")
	}
	list, err := mapped(ctx, img)
	if err != nil {
		return err
	}
	ranges, err := hash(ctx, img, cut(list), opt.Progress)
	if err != nil {
		return err
	}
	out := output.NewFile(f)
	defer out.Stop()
	if _, err := out.WriteAt(encode(img.Size(), ranges), 0); err != nil {
		return err
	}
	return out.Sync()
}

// mapped returns what of the disk is to be written, in whole blocks.
func mapped(ctx context.Context, img *disk.Image) (spans, error) {
	// What is not zero is mapped, whatever the file systems say.
	free := unused(img)
	data, err := written(ctx, img, free)
	if err != nil {
		return nil, err
	}
	return spans{{0, img.Size()}}.subtract(leftOut(free.subtract(data))), nil
}

// written returns the blocks in the spans that are not zero. Where the disk has data
// they are read: whether zeros are stored must not make another map.
func written(ctx context.Context, img *disk.Image, list spans) (out spans, err error) {
	var data spans
	for off, n := range img.Data(blockSize) {
		data = append(data, span{off, off + n})
	}
	buf := make([]byte, 1<<20)
	for _, s := range list.subtract(list.subtract(data)) {
		s.from = s.from / blockSize * blockSize
		for s.from < s.to {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			b := buf[:min(int64(len(buf)), divUp(s.to-s.from, blockSize)*blockSize, img.Size()-s.from)]
			if _, err := img.ReadAt(b, s.from); err != nil {
				return nil, err
			}
			for ; len(b) > 0 && s.from < s.to; s.from += blockSize {
				n := min(blockSize, len(b))
				if !output.IsZero(b[:n]) {
					out = append(out, span{s.from, s.from + int64(n)})
				}
				b = b[n:]
			}
		}
	}
	return out.normal(), nil
}

// leftOut returns what of the free spans is left out: whole blocks, not too few.
func leftOut(free spans) (out spans) {
	for _, s := range free {
		s.from = divUp(s.from, blockSize) * blockSize
		s.to = s.to / blockSize * blockSize
		if s.to-s.from >= minUnused {
			out = append(out, s)
		}
	}
	return out
}

// cut cuts ranges at the multiples of maxRange.
func cut(list spans) (out spans) {
	for _, s := range list {
		for s.from < s.to {
			to := min((s.from/maxRange+1)*maxRange, s.to)
			out = append(out, span{s.from, to})
			s.from = to
		}
	}
	return out
}

// mappedRange is a range of the map.
type mappedRange struct {
	span
	sum [sha256.Size]byte
}

// hash hashes the ranges.
func hash(ctx context.Context, img *disk.Image, list spans, progress func(int64)) ([]mappedRange, error) {
	type slot struct {
		mappedRange
		buf []byte
	}
	slots := make([]*slot, 2*ordered.Workers(32))
	for i := range slots {
		slots[i] = &slot{buf: make([]byte, 1<<20)}
	}
	// Most long ranges are nothing but zeros.
	zero := sha256.New()
	if _, err := io.CopyN(zero, zeros{}, maxRange); err != nil {
		return nil, err
	}
	var zeroSum [sha256.Size]byte
	zero.Sum(zeroSum[:0])

	empty := holes(img)
	ranges := make([]mappedRange, 0, len(list))
	done, next := int64(0), 0
	err := ordered.Run(ctx, slots, ordered.Stages[*slot]{
		Fill: func(s *slot) bool {
			if next == len(list) {
				return false
			}
			s.span = list[next]
			next++
			return true
		},
		Work: func(_ int, s *slot) error {
			if s.to-s.from == maxRange && empty(s.span) {
				s.sum = zeroSum
				return nil
			}
			h := sha256.New()
			for pos := s.from; pos < s.to && ctx.Err() == nil; {
				b := s.buf[:min(int64(len(s.buf)), s.to-pos)]
				if _, err := img.ReadAt(b, pos); err != nil {
					return err
				}
				h.Write(b)
				pos += int64(len(b))
			}
			h.Sum(s.sum[:0])
			return ctx.Err()
		},
		Emit: func(s *slot) error {
			ranges = append(ranges, s.mappedRange)
			if done += s.to - s.from; progress != nil {
				progress(done)
			}
			return nil
		},
	})
	return ranges, err
}

// zeros is a reader of zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// encode returns the file. Its checksum is that of itself with zeros in the place
// of the checksum.
func encode(size int64, ranges []mappedRange) []byte {
	blocks := int64(0)
	for _, r := range ranges {
		blocks += divUp(r.to-r.from, blockSize)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<?xml version="1.0" ?>
<!-- Block map of a disk image, for bmaptool. What is not in it is unused space
     of the image. -->

<bmap version="2.0">
    <ImageSize> %d </ImageSize>
    <BlockSize> %d </BlockSize>
    <BlocksCount> %d </BlocksCount>
    <MappedBlocksCount> %d </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> `, size, blockSize, divUp(size, blockSize), blocks)
	at := b.Len()
	fmt.Fprintf(&b, "%0*d </BmapFileChecksum>\n    <BlockMap>\n", 2*sha256.Size, 0)
	for _, r := range ranges {
		first, last := r.from/blockSize, divUp(r.to, blockSize)-1
		fmt.Fprintf(&b, `        <Range chksum="%x"> %d`, r.sum, first)
		if last > first {
			fmt.Fprintf(&b, "-%d", last)
		}
		b.WriteString(" </Range>\n")
	}
	b.WriteString("    </BlockMap>\n</bmap>\n")
	text := b.Bytes()
	sum := sha256.Sum256(text)
	hex.Encode(text[at:], sum[:])
	return text
}

func divUp(n, d int64) int64 { return (n + d - 1) / d }
