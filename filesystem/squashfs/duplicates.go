package squashfs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"os"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"imgbuild/content"
	"imgbuild/filesystem"
)

// region is a range of a file of the host, which two files of the tree may share.
type region struct {
	f         *os.File
	off, size int64
}

// findDuplicates lets files of equal content share it. Candidates are those of
// one size; what is not known to be the same bytes is hashed.
func (c *collection) findDuplicates(ctx context.Context) error {
	same := make([]uint32, len(c.files)) // index of the file that has the content
	byRegion := map[region]uint32{}
	bySize := map[int64][]uint32{}
	for k := range c.files {
		same[k] = uint32(k)
		ref := c.content(uint32(k))
		if ref.Size() == 0 {
			continue
		}
		if f, off, ok := ref.File(); ok {
			r := region{f, off, ref.Size()}
			if first, ok := byRegion[r]; ok {
				same[k] = first
				continue
			}
			byRegion[r] = uint32(k)
		}
		bySize[ref.Size()] = append(bySize[ref.Size()], uint32(k))
	}
	var candidates []uint32
	for _, list := range bySize {
		if len(list) > 1 {
			candidates = append(candidates, list...)
		}
	}
	slices.Sort(candidates) // the order in which they are read
	sums, err := c.hash(ctx, candidates)
	if err != nil {
		return err
	}
	bySum := make(map[[sha256.Size]byte]uint32, len(candidates))
	for i, k := range candidates {
		if first, ok := bySum[sums[i]]; ok {
			same[k] = first
		} else {
			bySum[sums[i]] = k
		}
	}
	c.share(same)
	return nil
}

// content returns that of a file.
func (c *collection) content(k uint32) content.Ref { return c.nodes[c.files[k].node].inode.Content }

// share keeps one file of those that are the same.
func (c *collection) share(same []uint32) {
	now := make([]uint32, len(c.files)) // index after the others are gone
	kept := c.files[:0]
	for k, f := range c.files {
		first := same[k] // not behind k
		if first == uint32(k) {
			now[k] = uint32(len(kept))
			kept = append(kept, f)
			continue
		}
		now[k] = now[first]
		c.duplicates++
	}
	c.files = kept
	for k := range c.nodes {
		if n := &c.nodes[k]; n.inode.IsFile() {
			n.file = now[n.file]
		}
	}
}

// hash returns the sums of the content of files, and where it lies in them: of two
// files of which one has a hole where the other has zeros, they differ.
func (c *collection) hash(ctx context.Context, files []uint32) ([][sha256.Size]byte, error) {
	sums := make([][sha256.Size]byte, len(files))
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(runtime.GOMAXPROCS(0), len(files)) {
		g.Go(func() error {
			const shift = 12
			buffer := make([]byte, 128<<10)
			h := sha256.New()
			for {
				i := int(next.Add(1)) - 1
				if i >= len(files) {
					return nil
				}
				ref := c.content(files[i])
				h.Reset()
				h.Write(binary.LittleEndian.AppendUint64(nil, uint64(ref.Size())))
				for first, n := range filesystem.DataBlocks(ref, shift) {
					h.Write(binary.LittleEndian.AppendUint64(nil, first))
					h.Write(binary.LittleEndian.AppendUint64(nil, n))
					pos := int64(first) << shift
					end := min(pos+int64(n)<<shift, ref.Size())
					for pos < end {
						if err := ctx.Err(); err != nil {
							return err
						}
						p := buffer[:min(int64(len(buffer)), end-pos)]
						if _, err := ref.ReadAt(p, pos); err != nil && err != io.EOF {
							return c.readError(c.files[files[i]].node, err)
						}
						h.Write(p)
						pos += int64(len(p))
					}
				}
				h.Sum(sums[i][:0])
			}
		})
	}
	return sums, g.Wait()
}
