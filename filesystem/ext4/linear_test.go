//go:build unix

package ext4

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

func TestLinear(t *testing.T) {
	fstest.Linear(t, func(root *tree.Inode) ([]disk.Extent, error) {
		return Write(context.Background(), root, 20*gib, testOptions())
	})
}
