package xfs

import (
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

// name returns a name of up to 200 bytes of any value.
func (c *chooser) name(n int) string {
	b := []byte(fmt.Sprint(n))
	for range c.UpTo(190) / (1 + c.UpTo(8)) {
		b = append(b, byte(n*31+len(b)*7)|1)
	}
	return strings.ReplaceAll(string(b), "/", "_")
}

// tree returns a small tree of everything XFS can hold.
func (c *chooser) tree(t testing.TB) *tree.Inode {
	root := tree.NewDir(0o755)
	dirs := []*tree.Inode{root}
	var files []*tree.Inode
	for n := 0; len(c.B) > 0 && n < 2000; n++ {
		dir := dirs[c.UpTo(len(dirs)-1)]
		name := c.name(n)
		var i *tree.Inode
		switch c.UpTo(10) {
		case 0:
			i = tree.NewDir(0o700)
			dirs = append(dirs, i)
		case 1:
			i = tree.NewLink(strings.Repeat("t", 1+c.UpTo(maxTarget-1)))
		case 2:
			i = &tree.Inode{Mode: tree.TypeChar | 0o600, Major: uint32(c.UpTo(maxMajor)), Minor: uint32(c.UpTo(60000))}
		case 3:
			i = &tree.Inode{Mode: tree.TypeFIFO | 0o600}
		case 4:
			i = fstest.Scattered(t, c.UpTo(600))
		case 5:
			for k := range c.UpTo(900) {
				dir.Set(fmt.Sprint(name[:min(len(name), 200)], k), fstest.File(""))
			}
			i = fstest.File("")
		case 6:
			for k := range c.UpTo(600) {
				dir.Set(collision(k)+strings.Repeat("z", 4*c.UpTo(3)), fstest.File(""))
			}
			i = fstest.File("")
		case 7:
			if len(files) > 0 {
				dir.Set(name, files[c.UpTo(len(files)-1)])
				continue
			}
			fallthrough
		default:
			i = tree.NewFile(uint32(c.UpTo(0o7777)), fstest.Zeros(int64(c.UpTo(60000))))
			files = append(files, i)
		}
		i.UID, i.GID = uint32(c.UpTo(1<<16)), uint32(c.UpTo(1<<16))<<8
		i.Mtime = int64(c.UpTo(1<<16)) << c.UpTo(40)
		if c.UpTo(2) == 0 {
			size := []int{20, 100, 300, 3100, 65536}[c.UpTo(4)]
			for k := range c.UpTo(80) {
				name := fmt.Sprint(k, strings.Repeat("n", c.UpTo(40)))
				if c.UpTo(20) == 0 && k < 14 {
					name = collision(k)
				}
				i.SetXattr([]string{"user.", "security.", "trusted."}[c.UpTo(2)]+name, strings.Repeat("v", c.UpTo(size)))
			}
		}
		dir.Set(name, i)
	}
	return root
}

// options returns options of any kind.
func (c *chooser) options() Options {
	opt := testOptions()
	opt.Features = []Features{0, NoFeatures, DefaultFeatures | Rmapbt, DefaultFeatures | Rmapbt | NrExt64, Bigtime, Finobt, DefaultFeatures | Rmapbt | NrExt64 | ExchangeRange | Parent}[c.UpTo(6)]
	opt.SectorSize = []int64{0, 4096}[c.UpTo(1)]
	opt.AGCount = []int64{0, 2, 3, 17}[c.UpTo(3)]
	opt.StripeUnit = []int64{0, 0, 4096, 64 << 10, 1 << 20}[c.UpTo(4)]
	opt.StripeWidth = opt.StripeUnit * int64(1+c.UpTo(9))
	return opt
}

// FuzzWrite has xfs_repair check trees of any shape, in a file system that just
// holds them.
func FuzzWrite(f *testing.F) {
	r := rand.NewChaCha8([32]byte{1})
	for _, n := range []int{0, 10, 100, 1000, 3000} {
		b := make([]byte, n)
		r.Read(b)
		f.Add(b, uint16(n))
	}
	f.Fuzz(func(t *testing.T, b []byte, free uint16) {
		c := chooser{fstest.Chooser{B: b}}
		opt := c.options()
		root := c.tree(t)
		size, err := Size(root, int64(free)*10000, opt)
		if err != nil {
			t.Fatal(err)
		}
		image := writeImage(t, root, size, opt)
		repair(t, image)
		var small *filesystem.TooSmallError
		_, err = Write(context.Background(), root, size/2, opt)
		if free == 0 && err != nil && (!errors.As(err, &small) || small.Need != size) {
			t.Fatalf("half of %d bytes: %v", size, err)
		}
	})
}

// FuzzACL reads access control lists of any form.
func FuzzACL(f *testing.F) {
	f.Add(fstest.ACL)
	f.Add(fstest.ACL[:4])
	f.Add("")
	f.Fuzz(func(t *testing.T, value string) {
		a, err := newACL(aclAccess, value)
		if err != nil {
			return
		}
		if want := (len(value) - 4) / 8; a.value != "" && len(a.value) != 4+12*want {
			t.Errorf("%d bytes from %d", len(a.value), len(value))
		}
		if a.value != "" {
			if err := validateACL(a.value); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestRandom checks random trees, many where IMGBUILD_SOAK is set.
func TestRandom(t *testing.T) {
	n := uint64(20)
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
			opt := c.options()
			root := c.tree(t)
			size, err := Size(root, int64(r.IntN(2))*r.Int64N(1<<32), opt)
			if err != nil {
				t.Fatal(err)
			}
			repair(t, writeImage(t, root, size, opt))
		})
	}
}
