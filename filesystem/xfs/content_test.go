package xfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/tree"
)

// noise returns n bytes that depend on seed.
func noise(seed uint64, n int) content.Ref {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return content.Bytes(b)
}

// objects returns a tree like that of an ostree deployment: n files in 256
// directories, each with a second name in another one.
func objects(n int) *tree.Inode {
	root := tree.NewDir(0o755)
	repo, usr := tree.NewDir(0o755), tree.NewDir(0o755)
	root.Set("repo", repo)
	root.Set("usr", usr)
	spool := noise(1, 64<<10)
	for i := range n {
		name := fmt.Sprintf("%02x", i%256)
		if i < 256 {
			repo.Set(name, tree.NewDir(0o755))
		}
		if i%20 == 0 {
			usr.Set(fmt.Sprint(i/20), tree.NewDir(0o755))
		}
		sum := sha256.Sum256(binary.AppendUvarint(nil, uint64(i)))
		f := tree.NewFile(0o644, spool.Slice(int64(i%512), int64(i*31%60000)))
		f.SetXattr("security.selinux", fmt.Sprintf("system_u:object_r:type%d_t:s0\x00", i%50))
		repo.Child(name).Set(fmt.Sprintf("%x.file", sum[1:]), f)
		usr.Child(fmt.Sprint(i/20)).Set(fmt.Sprintf("file-%d", i), f)
	}
	tree.Walk(root, func(_ string, i *tree.Inode) error { i.Entries(); return nil })
	return root
}

// TestDeterministic writes a tree twice.
func TestDeterministic(t *testing.T) {
	opt := testOptions()
	opt.Features = DefaultFeatures | Rmapbt
	digest := func() string {
		h := sha256.New()
		hashExtents(t, h, objects(3000), 512*mib, opt)
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

// grub runs grub-fstest, which reads file systems with the code of GRUB.
func grub(t testing.TB, image string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("grub-fstest")
	if err != nil {
		t.Fatalf("this test needs grub-fstest, of grub-common: %v", err)
	}
	var stderr strings.Builder
	cmd := exec.Command(path, append([]string{image}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("grub-fstest %q: %v\n%s", args, err, stderr.String())
	}
	return out
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
		put(fmt.Sprint("size-", n), noise(uint64(i), n))
	}
	put("sparse", sparse(t, 9*mib+17,
		content.Piece{Off: 100, Ref: noise(10, 10)},
		content.Piece{Off: blockSize - 1, Ref: noise(11, 2)},
		content.Piece{Off: 5*mib + 1, Ref: noise(12, 2*mib)},
		content.Piece{Off: 9*mib + 16, Ref: noise(13, 1)}))
	for _, n := range []int{21, 22, 1500} {
		put(fmt.Sprint("scattered-", n), scattered(t, n).Content)
	}
	for _, n := range []int{1, 40, 120, 300, 3000} {
		for i := range n {
			root2 := fmt.Sprintf("dir-%d/%04d", n, i)
			if i%100 == 0 || i == n-1 {
				put(root2, noise(uint64(i), 10+i))
			} else if err := tree.Put(root, root2, file("x")); err != nil {
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
	for _, features := range []Features{0, NoFeatures, DefaultFeatures | Rmapbt} {
		opt := testOptions()
		opt.Features, opt.Label = features, "boot"
		image := writeImage(t, root, 320*mib, opt)
		repair(t, image)
		for name, c := range contents {
			want, err := c.ReadAll(64 * mib)
			if err != nil {
				t.Fatal(err)
			}
			if got := grub(t, image, "cat", "/"+name); !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes that differ from the %d written", name, len(got), len(want))
			}
		}
		for _, n := range []int{1, 40, 120, 300, 3000} {
			names := strings.Fields(string(grub(t, image, "ls", fmt.Sprintf("/dir-%d/", n))))
			slices.Sort(names)
			if len(names) != n || names[n-1] != fmt.Sprintf("%04d", n-1) {
				t.Errorf("dir-%d: %d names, the last %q", n, len(names), names[len(names)-1])
			}
		}
		if out := string(grub(t, image, "ls", "--", "-l", "(loop0)")); !strings.Contains(out, "xfs") || !strings.Contains(out, "boot") || !strings.Contains(out, uuidString(opt.UUID)) {
			t.Errorf("the file system is\n%s", out)
		}
	}
}
