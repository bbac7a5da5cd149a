package mount

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"imgbuild/filesystem/squashfs"
	"imgbuild/tree"
)

// squashfsOptions are those of random images.
func squashfsOptions(r *rand.Rand) squashfs.Options {
	algorithms := []squashfs.Algorithm{squashfs.Zstd, squashfs.Zstd, squashfs.Gzip, squashfs.NoCompression}
	opt := squashfs.Options{
		Compression: squashfs.Compression{Algorithm: algorithms[r.IntN(len(algorithms))]},
		BlockSize:   4 << 10 << r.IntN(9), TailEnds: r.IntN(2) == 0, Time: 1700000000,
	}
	if opt.Compression.Algorithm == squashfs.Zstd {
		opt.Compression.Level = 1
	}
	return opt
}

// squashfsImage writes an image of a tree to a new file.
func squashfsImage(t testing.TB, root *tree.Inode, opt squashfs.Options) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image.squashfs"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := squashfs.Write(t.Context(), f, root, opt); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// TestSquashfs has the kernel mount images of random trees and compares what it
// shows. IMGBUILD_SOAK draws many.
func TestSquashfs(t *testing.T) {
	needRoot(t)
	n := uint64(6)
	if os.Getenv("IMGBUILD_SOAK") != "" {
		n = 1000
	}
	for seed := range n {
		r := rand.New(rand.NewPCG(seed, 7))
		root := randomTree(t, r)
		opt := squashfsOptions(r)
		if seed == 0 {
			opt = squashfs.Options{Compression: squashfs.Compression{Algorithm: squashfs.XZ}}
		}
		t.Run(fmt.Sprint(seed, opt.Compression.Algorithm, opt.BlockSize), func(t *testing.T) {
			tree.Walk(root, func(_ string, i *tree.Inode) error {
				i.Mtime = min(i.Mtime, 1<<32-1)
				i.Flags = 0
				return nil
			})
			device := attach(t, squashfsImage(t, root, opt))
			mounted(t, "squashfs", "ro", device, func(dir string) {
				if d := Compare(root, dir); d != "" {
					t.Error(d)
				}
			})
		})
	}
}
