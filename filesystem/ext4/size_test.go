package ext4

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"imgbuild/filesystem"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// TestSize checks that Size is the smallest size that Write accepts.
func TestSize(t *testing.T) {
	many := tree.NewDir(0o755)
	for i := range 40000 {
		many.Set(fmt.Sprint(i), fstest.File("content"))
	}
	for name, root := range map[string]*tree.Inode{
		"empty":     tree.NewDir(0o755),
		"one file":  fstest.DirOf("f", tree.NewFile(0o644, fstest.Zeros(100*mib))),
		"many":      fstest.DirOf("d", many),
		"scattered": fstest.DirOf("f", fstest.Scattered(t, 3000)),
		"large":     fstest.DirOf("f", tree.NewFile(0o644, fstest.Zeros(40*gib))),
	} {
		t.Run(name, func(t *testing.T) {
			opt := testOptions()
			size, err := Size(root, 0, opt)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Write(context.Background(), root, size, opt); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
			var small *filesystem.TooSmallError
			if _, err := Write(context.Background(), root, size-blockSize, opt); !errors.As(err, &small) {
				t.Errorf("%d bytes: %v", size-blockSize, err)
			} else if small.Need != size || small.Size != size-blockSize {
				t.Errorf("%+v, want a need of %d", small, size)
			}
			for _, free := range []int64{1, 10 * mib, 3 * gib} {
				size, err := Size(root, free, opt)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range []int64{-blockSize, 0} {
					got, ok := freeBytes(t, root, size+d, opt)
					if enough := ok && got >= free; enough != (d == 0) {
						t.Errorf("free %d: a file system of %d bytes has %d", free, size+d, got)
					}
				}
			}
		})
	}
}

// TestSizeSmallest looks for a smaller size than Size returns, among contents
// that end near the end of a group.
func TestSizeSmallest(t *testing.T) {
	opt := testOptions()
	for _, blocks := range []int64{100, 7000, 30_000, 31_000, 60_000, 62_000, 64_000, 125_000, 500_000, 1_000_000} {
		for _, free := range []int64{0, 20 * mib} {
			root := fstest.DirOf("f", tree.NewFile(0o644, fstest.Zeros(blocks*blockSize)))
			size, err := Size(root, free, opt)
			if err != nil {
				t.Fatal(err)
			}
			for s := size - blockSize; s > size-5000*blockSize && s > 0; s -= blockSize {
				if got, ok := freeBytes(t, root, s, opt); ok && (free == 0 || got >= free) {
					t.Fatalf("%d blocks and %d bytes: %d bytes are enough, not %d", blocks, free, s, size)
				}
			}
		}
	}
}

// freeBytes returns what anyone may use of a file system.
func freeBytes(t *testing.T, root *tree.Inode, size int64, opt Options) (int64, bool) {
	c, err := collect(context.Background(), root, &opt)
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.placeIn(uint64(size) / blockSize)
	if err != nil {
		return 0, false
	}
	return (int64(l.geometry.blocks) - int64(l.usedBlocks()) - int64(l.rootBlocks)) * blockSize, true
}

// A size above an accepted one need not be accepted, where the journal grows.
// SizeFrom finds the next that is.
func TestSizeFrom(t *testing.T) {
	root := tree.NewDir(0o755)
	for i := range 2 {
		root.Set(fmt.Sprint(i), fstest.File(strings.Repeat("x", 3500<<10)))
	}
	least, err := Size(root, 0, Options{})
	if err != nil || least >= 8<<20 {
		t.Fatal(least, err)
	}
	if _, err := Write(context.Background(), root, 8<<20, Options{}); err == nil {
		t.Fatal("8 MiB, with a journal, holds it, too")
	}
	for _, from := range []int64{0, least, 8 << 20, 8<<20 + 1, 20 << 20, 128 << 20} {
		n, err := SizeFrom(root, from, 0, Options{})
		if err != nil || n < from || n < least {
			t.Fatalf("from %d: %d, %v", from, n, err)
		}
		if _, err := Write(context.Background(), root, n, Options{}); err != nil {
			t.Errorf("from %d: %v", from, err)
		}
		if from >= 20<<20 && n != from {
			t.Errorf("from %d: %d", from, n)
		}
	}
}
