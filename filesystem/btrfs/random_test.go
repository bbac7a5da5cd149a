package btrfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"imgbuild/filesystem"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

type chooser struct{ fstest.Chooser }

// name returns a name of up to 200 bytes of any value, that no other n has.
func (c *chooser) name(n int) string {
	b := []byte(fmt.Sprint(n, "-"))
	for range c.UpTo(190) / (1 + c.UpTo(8)) {
		b = append(b, byte(n*31+len(b)*7)|1)
	}
	return strings.ReplaceAll(string(b), "/", "_")
}

// tree returns a small tree of everything btrfs can hold, and the paths of some
// of its directories.
func (c *chooser) tree(t testing.TB) (root *tree.Inode, paths []string) {
	root = tree.NewDir(0o755)
	dirs := []*tree.Inode{root}
	paths = []string{""}
	var files []*tree.Inode
	alike := map[*tree.Inode]int{} // bytes of a directory's entries with the same hash
	for n := 0; len(c.B) > 0 && n < 1000; n++ {
		at := c.UpTo(len(dirs) - 1)
		dir, name := dirs[at], c.name(n)
		var i *tree.Inode
		switch c.UpTo(10) {
		case 0:
			i = tree.NewDir(0o700)
			dirs = append(dirs, i)
			paths = append(paths, paths[at]+"/"+name)
		case 1:
			i = tree.NewLink(strings.Repeat("t", 1+c.UpTo(maxTarget-1)))
		case 2:
			i = &tree.Inode{Mode: tree.TypeChar | 0o600, Major: uint32(c.UpTo(maxMajor)), Minor: uint32(c.UpTo(60000))}
		case 3:
			i = fstest.Scattered(t, c.UpTo(600))
		case 4:
			for k := range c.UpTo(900) {
				dir.Set(fmt.Sprint(name[:min(len(name), 200)], k), fstest.File(""))
			}
			i = fstest.File("")
		case 5:
			for k := range c.UpTo(60) {
				same := collision(fmt.Sprint(n, "-", k, strings.Repeat("z", c.UpTo(100))))
				if alike[dir] += sizeDirItem + len(same); alike[dir] > maxItem {
					break // TestRefused has more
				}
				dir.Set(same, fstest.File(""))
			}
			i = fstest.File("")
		case 6:
			i = text(c.UpTo(60000) * (1 + c.UpTo(20)))
		case 7:
			if len(files) > 0 {
				dir.Set(name, files[c.UpTo(len(files)-1)])
				continue
			}
			fallthrough
		case 8:
			i = protected(t, fstest.Noise(uint64(n), c.UpTo(60000)))
		default:
			i = tree.NewFile(uint32(c.UpTo(0o7777)), fstest.Noise(uint64(n), c.UpTo(60000)/(1+c.UpTo(20))))
			files = append(files, i)
		}
		i.UID, i.GID = uint32(c.UpTo(1<<16)), uint32(c.UpTo(1<<16))<<8
		i.Mtime = int64(c.UpTo(1<<16)) << c.UpTo(40)
		if c.UpTo(2) == 0 {
			size := []int{20, 100, 300, 3100, 16000}[c.UpTo(4)]
			for k := range c.UpTo(80) {
				i.SetXattr([]string{"user.", "security.", "trusted."}[c.UpTo(2)]+fmt.Sprint(k, strings.Repeat("n", c.UpTo(40))), strings.Repeat("v", c.UpTo(size)))
			}
		}
		dir.Set(name, i)
	}
	return root, paths
}

// options returns options of any kind.
func (c *chooser) options(paths []string) Options {
	opt := testOptions()
	how := []Compression{{}, {Zstd, 1}, {Zstd, 9}, {Zlib, 0}}
	opt.Compress = how[c.UpTo(3)]
	opt.SingleMetadata, opt.BlockGroupTree = c.UpTo(1) == 0, c.UpTo(1) == 0
	opt.Checksum = Checksum(c.UpTo(2))
	for _, p := range paths[1:] {
		switch c.UpTo(5) {
		case 0:
			opt.Subvolumes = append(opt.Subvolumes, Subvolume{Path: p, ReadOnly: c.UpTo(1) == 0, Compress: how[c.UpTo(3)]})
		case 1:
			opt.NoDataCow = append(opt.NoDataCow, p)
		}
	}
	if k := len(opt.Subvolumes); k > 0 {
		opt.Default = opt.Subvolumes[c.UpTo(k-1)].Path
	}
	return opt
}

// FuzzWrite has btrfs check look at trees of any shape, in a file system that
// just holds them.
func FuzzWrite(f *testing.F) {
	r := rand.NewChaCha8([32]byte{1})
	for _, n := range []int{0, 10, 100, 1000, 3000} {
		b := make([]byte, n)
		r.Read(b)
		f.Add(b, uint16(n))
	}
	f.Add(bytes.Repeat([]byte{60}, 1000), uint16(0)) // a directory of names with the same hash
	f.Fuzz(func(t *testing.T, b []byte, free uint16) {
		c := chooser{fstest.Chooser{B: b}}
		root, paths := c.tree(t)
		opt := packedOptions(t, root, c.options(paths))
		size, err := Size(root, int64(free)*10000, opt)
		if err != nil {
			t.Fatal(err)
		}
		extents, err := Write(context.Background(), root, size, opt)
		if err != nil {
			t.Fatal(err)
		}
		check(t, fstest.Materialise(t, extents, size))
		var small *filesystem.TooSmallError
		_, err = Write(context.Background(), root, size/2, opt)
		if free == 0 && err != nil && (!errors.As(err, &small) || small.Need != size) {
			t.Fatalf("half of %d bytes: %v", size, err)
		}
	})
}

// FuzzParseCompression reads values of the mount option.
func FuzzParseCompression(f *testing.F) {
	for _, s := range []string{"", "no", "none", "zstd", "zstd:1", "zstd:-15", "zlib:9", "zlib:10", "lzo", "zstd:0", "gzip"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCompression(s)
		if err != nil {
			return
		}
		if again, err := ParseCompression(c.String()); err != nil || again != c {
			t.Errorf("%q is %+v, and that is %q: %+v, %v", s, c, c, again, err)
		}
		if c.Algorithm == NoCompression {
			return
		}
		z, err := newCompressor(c)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := z.compress(nil, make([]byte, maxCompressed)); err != nil || len(b) > 1000 {
			t.Errorf("%q: %d bytes, %v", s, len(b), err)
		}
	})
}

// TestRandom checks random trees, many where IMGBUILD_SOAK is set.
func TestRandom(t *testing.T) {
	n := uint64(25)
	if os.Getenv("IMGBUILD_SOAK") != "" {
		n = 2000
	}
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 2))
			b := make([]byte, r.IntN(1+r.IntN(3000)))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			c := chooser{fstest.Chooser{B: b}}
			root, paths := c.tree(t)
			opt := packedOptions(t, root, c.options(paths))
			size, err := Size(root, int64(r.IntN(2))*r.Int64N(1<<32), opt)
			if err != nil {
				t.Fatal(err)
			}
			check(t, writeImage(t, root, size, opt))
		})
	}
}

// TestMillion checks a million files, where IMGBUILD_SOAK is set.
func TestMillion(t *testing.T) {
	if os.Getenv("IMGBUILD_SOAK") == "" {
		t.Skip("takes minutes: make soak runs it")
	}
	root := fstest.Objects(1_000_000)
	opt := testOptions()
	size, err := Size(root, 0, opt)
	if err != nil {
		t.Fatal(err)
	}
	check(t, writeImage(t, root, size, opt))
}
