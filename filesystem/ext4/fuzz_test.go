package ext4

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	"imgbuild/filesystem"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

type chooser struct{ fstest.Chooser }

// tree returns a small tree of everything ext4 can hold.
func (c *chooser) tree(t testing.TB) *tree.Inode {
	root := tree.NewDir(0o755)
	dirs := []*tree.Inode{root}
	var files []*tree.Inode
	for n := 0; len(c.B) > 0 && n < 2000; n++ {
		dir := dirs[c.UpTo(len(dirs)-1)]
		name := fmt.Sprint(n, strings.Repeat(string(rune(' '+1+c.UpTo(90))), c.UpTo(80)))
		name = strings.ReplaceAll(name, "/", "_")
		var i *tree.Inode
		switch c.UpTo(9) {
		case 0:
			i = tree.NewDir(0o700)
			dirs = append(dirs, i)
		case 1:
			i = tree.NewLink(strings.Repeat("t", 1+c.UpTo(4094)))
		case 2:
			i = &tree.Inode{Mode: tree.TypeChar | 0o600, Major: uint32(c.UpTo(maxMajor)), Minor: uint32(c.UpTo(60000))}
		case 3:
			i = &tree.Inode{Mode: tree.TypeFIFO | 0o600}
		case 4:
			i = fstest.Scattered(t, c.UpTo(400))
		case 5:
			for k := range c.UpTo(300) {
				dir.Set(fmt.Sprint(name[:min(len(name), 200)], k), fstest.File(""))
			}
			i = fstest.File("")
		case 6:
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
			for k := range c.UpTo(11) { // 12 of the largest are more than ext4 has room for
				i.SetXattr([]string{"user.", "security.", "trusted."}[c.UpTo(2)]+fmt.Sprint(k, strings.Repeat("n", c.UpTo(40))), strings.Repeat("v", c.UpTo(300)))
			}
		}
		dir.Set(name, i)
	}
	return root
}

// FuzzWrite has e2fsck check small trees of any shape, in a file system that
// just holds them.
func FuzzWrite(f *testing.F) {
	r := rand.NewChaCha8([32]byte{1})
	for _, n := range []int{0, 10, 100, 1000, 5000} {
		b := make([]byte, n)
		r.Read(b)
		f.Add(b, uint16(n))
	}
	f.Fuzz(func(t *testing.T, b []byte, free uint16) {
		c := chooser{fstest.Chooser{B: b}}
		root := c.tree(t)
		opt := testOptions()
		opt.ReservedPercent = int(free%60) - 9
		size, err := Size(root, int64(free)*1000, opt)
		if opt.ReservedPercent > 50 {
			if err == nil {
				t.Fatal("accepted")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		fsck(t, writeImage(t, root, size, opt))
		var small *filesystem.TooSmallError
		if _, err := Write(context.Background(), root, size-blockSize, opt); free == 0 && !errors.As(err, &small) {
			t.Fatalf("%d bytes are enough too: %v", size-blockSize, err)
		}
	})
}

// FuzzACL reads access control lists of any form.
func FuzzACL(f *testing.F) {
	f.Add(fstest.ACL)
	f.Add(fstest.ACL[:4])
	f.Add("")
	f.Fuzz(func(t *testing.T, value string) {
		disk, err := diskACL(value)
		if err == nil && len(disk) > len(value) {
			t.Errorf("%d bytes from %d", len(disk), len(value))
		}
	})
}

// TestXattrsFit compares the choice of what goes into the inode with all
// possible ones.
func TestXattrsFit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 3000 {
		n := 2 + r.IntN(8)
		var attrs []tree.Xattr
		var sizes []int
		for i := range n {
			x := tree.Xattr{Name: fmt.Sprintf("user.%d%s", i, strings.Repeat("n", r.IntN(20))), Value: strings.Repeat("v", r.IntN(40))}
			if i == n-1 { // makes the sum nearly as much as there is room for
				rest := xattrInlineRoom + xattrBlockRoom - 24 - r.IntN(60)
				for _, s := range sizes {
					rest -= s
				}
				x = tree.Xattr{Name: "user.z", Value: strings.Repeat("v", min(rest, 4036-r.IntN(8)))}
			}
			attrs = append(attrs, x)
			s, err := newXattr(x)
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, s.size())
		}
		possible := false
		for choice := range 1 << n {
			inode, block := 0, 0
			for rest := choice; rest != 0; rest &= rest - 1 {
				inode += sizes[bits.TrailingZeros(uint(rest))]
			}
			for i := range n {
				if choice>>i&1 == 0 {
					block += sizes[i]
				}
			}
			possible = possible || inode <= xattrInlineRoom && block <= xattrBlockRoom
		}
		if _, err := newXattrSet(attrs); (err == nil) != possible {
			t.Fatalf("sizes %v: %v, possible: %v", sizes, err, possible)
		}
		if !possible {
			refused++
		}
	}
	if refused == 0 || refused == 3000 {
		t.Errorf("%d refused: no test", refused)
	}
}

// TestHash compares hashes with those of debugfs.
func TestHash(t *testing.T) {
	seed := testOptions().HashSeed
	var commands []string
	var names []string
	for _, n := range []int{1, 3, 4, 5, 31, 32, 33, 64, 255} {
		names = append(names, strings.Repeat("abcdefgh", 32)[:n])
	}
	names = append(names, "umläut", "\xff\xfe\x80", "日本語")
	for _, name := range names {
		commands = append(commands, fmt.Sprintf("dx_hash -h half_md4 -s %s %s", fstest.UUIDString(seed), name))
	}
	out := debugfs(t, writeImage(t, tree.NewDir(0o755), 8*mib, testOptions()), commands...)
	for _, name := range names {
		major, minor := dirHash(name, &seed)
		if want := fmt.Sprintf("Hash of %s is %#x (minor %#x)", name, major, minor); !strings.Contains(out, want) {
			t.Errorf("%q is not in what debugfs says:\n%s", want, out)
		}
	}
}
