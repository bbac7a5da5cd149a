//go:build unix

package btrfs

import (
	"context"
	"testing"

	"imgbuild/disk"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

func BenchmarkWrite(b *testing.B) {
	root := fstest.Objects(100_000)
	for b.Loop() {
		if _, err := Write(context.Background(), root, 20*gib, testOptions()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTrees encodes all metadata of 100,000 files, once.
func BenchmarkTrees(b *testing.B) {
	root, opt := fstest.Objects(100_000), testOptions()
	opt.SingleMetadata = true
	c, err := prepare(context.Background(), root, &opt)
	if err != nil {
		b.Fatal(err)
	}
	l, err := c.placeIn(context.Background(), 20*gib, 0)
	if err != nil {
		b.Fatal(err)
	}
	l.sums = make([]byte, l.summed*uint64(l.csum.size))
	block := make([]byte, nodeSize)
	for b.Loop() {
		for i := range l.addresses {
			if err := l.encodeBlock(uint32(i), block); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(len(l.addresses)), "blocks")
}

func TestLinear(t *testing.T) {
	fstest.Linear(t, func(root *tree.Inode) ([]disk.Extent, error) {
		return Write(context.Background(), root, 20*gib, testOptions())
	})
}
