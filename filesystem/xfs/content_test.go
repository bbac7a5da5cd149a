package xfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// TestDeterministic writes a tree twice.
func TestDeterministic(t *testing.T) {
	opt := testOptions()
	opt.Features = DefaultFeatures | Rmapbt
	digest := func() string {
		h := sha256.New()
		hashExtents(t, h, fstest.Objects(3000), 512*mib, opt)
		return fmt.Sprintf("%x", h.Sum(nil))
	}
	if a, b := digest(), digest(); a != b {
		t.Errorf("%s and %s", a, b)
	}
}

func hashExtents(t *testing.T, h hash.Hash, root *tree.Inode, size int64, opt Options) {
	extents, err := Write(context.Background(), root, size, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		fmt.Fprintln(h, e.Off, e.Data.Size())
		if _, err := io.Copy(h, e.Data.Reader()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestContent reads files back with the code of GRUB, which is not that of
// xfsprogs.
func TestContent(t *testing.T) {
	root := tree.NewDir(0o755)
	contents := map[string]content.Ref{}
	put := func(name string, c content.Ref) {
		contents[name] = c
		if err := tree.Put(root, name, tree.NewFile(0o640, c)); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range []int{1, blockSize - 1, blockSize, blockSize + 1, mib + 1, 3 * mib} {
		put(fmt.Sprint("size-", n), fstest.Noise(uint64(i), n))
	}
	put("sparse", fstest.Sparse(t, 9*mib+17,
		content.Piece{Off: 100, Ref: fstest.Noise(10, 10)},
		content.Piece{Off: blockSize - 1, Ref: fstest.Noise(11, 2)},
		content.Piece{Off: 5*mib + 1, Ref: fstest.Noise(12, 2*mib)},
		content.Piece{Off: 9*mib + 16, Ref: fstest.Noise(13, 1)}))
	for _, n := range []int{21, 22, 1500} {
		put(fmt.Sprint("scattered-", n), fstest.Scattered(t, n).Content)
	}
	for _, n := range []int{1, 40, 120, 300, 3000} {
		for i := range n {
			root2 := fmt.Sprintf("dir-%d/%04d", n, i)
			if i%100 == 0 || i == n-1 {
				put(root2, fstest.Noise(uint64(i), 10+i))
			} else if err := tree.Put(root, root2, fstest.File("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range []int{6, 400} {
		root.Set(fmt.Sprint("link-", n), tree.NewLink(strings.Repeat("./", n/2)+"size-1"))
		contents[fmt.Sprint("link-", n)] = contents["size-1"]
	}
	tree.Walk(root, func(_ string, i *tree.Inode) error {
		i.SetXattr("security.selinux", "system_u:object_r:boot_t:s0\x00")
		return nil
	})
	for _, features := range []Features{0, NoFeatures, DefaultFeatures | Rmapbt, newest} {
		opt := testOptions()
		opt.Features, opt.Label = features, "boot"
		image := writeImage(t, root, 320*mib, opt)
		repair(t, image)
		for name, c := range contents {
			want, err := c.ReadAll(64 * mib)
			if err != nil {
				t.Fatal(err)
			}
			if got := fstest.GRUB(t, image, "cat", "/"+name); !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes that differ from the %d written", name, len(got), len(want))
			}
		}
		for _, n := range []int{1, 40, 120, 300, 3000} {
			names := strings.Fields(string(fstest.GRUB(t, image, "ls", fmt.Sprintf("/dir-%d/", n))))
			slices.Sort(names)
			if len(names) != n || names[n-1] != fmt.Sprintf("%04d", n-1) {
				t.Errorf("dir-%d: %d names, the last %q", n, len(names), names[len(names)-1])
			}
		}
		if out := string(fstest.GRUB(t, image, "ls", "--", "-l", "(loop0)")); !strings.Contains(out, "xfs") || !strings.Contains(out, "boot") || !strings.Contains(out, fstest.UUIDString(opt.UUID)) {
			t.Errorf("the file system is\n%s", out)
		}
	}
}
