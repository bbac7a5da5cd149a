package mount

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"imgbuild/content"
	"imgbuild/filesystem/ext4"
	"imgbuild/tree"
)

// acl returns an access control list as the value of its attribute: u::rw-,
// u:1000:r--, g::r--, g:70000:rw-, m::rw-, o::r--.
func acl() string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{
		{0x01, 6, 1<<32 - 1}, {0x02, 4, 1000}, {0x04, 4, 1<<32 - 1}, {0x08, 6, 70000}, {0x10, 6, 1<<32 - 1}, {0x20, 4, 1<<32 - 1},
	} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return string(b)
}

func noise(seed byte, n int) content.Ref {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return content.Bytes(b)
}

// richTree returns a tree of everything that a Linux file system keeps.
func richTree(t testing.TB) *tree.Inode {
	root := tree.NewDir(0o755)
	root.Mtime = 1700000000
	put := func(path string, i *tree.Inode) *tree.Inode {
		if err := tree.Put(root, path, i); err != nil {
			t.Fatal(err)
		}
		return i
	}
	for i, n := range []int{0, 1, 4095, 4096, 4097, 70000, 1<<20 + 1, 5 << 20} {
		put(fmt.Sprint("sizes/", n), tree.NewFile(0o644, noise(byte(i), n)))
	}
	sparse, err := content.Sparse(50<<20+1, []content.Piece{
		{Off: 10, Ref: noise(20, 1)}, {Off: 8191, Ref: noise(21, 2)}, {Off: 30 << 20, Ref: noise(22, 100000)}, {Off: 50 << 20, Ref: noise(23, 1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	put("sizes/sparse", tree.NewFile(0o600, sparse))
	var pieces []content.Piece
	for i := range 2000 {
		pieces = append(pieces, content.Piece{Off: int64(i) * 8192, Ref: noise(byte(i), 5)})
	}
	scattered, err := content.Sparse(2000*8192, pieces)
	if err != nil {
		t.Fatal(err)
	}
	put("sizes/scattered", tree.NewFile(0o600, scattered))

	for _, perm := range []uint32{0, 0o7777, 0o4755, 0o2755, 0o1777} {
		put(fmt.Sprintf("modes/file-%o", perm), tree.NewFile(perm, content.String("x"))).UID = perm * 65537
		put(fmt.Sprintf("modes/dir-%o", perm), tree.NewDir(perm)).GID = 1<<32 - 2 - perm
	}
	for _, s := range []int64{-1 << 31, -1, 0, 1, 1<<31 - 1, 1 << 31, 1<<32 + 5, 3<<32 - 1<<31 - 1} {
		put(fmt.Sprint("times/", s), tree.NewFile(0o644, content.Ref{})).Mtime = s
	}
	for _, n := range [][2]uint32{{0, 0}, {1, 3}, {255, 255}, {256, 1}, {4095, 1<<20 - 1}} {
		put(fmt.Sprint("devices/c", n), &tree.Inode{Mode: tree.TypeChar | 0o666, Major: n[0], Minor: n[1]})
		put(fmt.Sprint("devices/b", n), &tree.Inode{Mode: tree.TypeBlock | 0o660, Major: n[0], Minor: n[1]})
	}
	put("devices/fifo", &tree.Inode{Mode: tree.TypeFIFO | 0o640}).SetXattr("security.selinux", "fifo\x00")
	put("devices/socket", &tree.Inode{Mode: tree.TypeSock | 0o777})
	for _, n := range []int{1, 59, 60, 61, 500, 4095} {
		put(fmt.Sprint("links/", n), tree.NewLink(strings.Repeat("l", n)))
		put(fmt.Sprint("links/labelled-", n), tree.NewLink(strings.Repeat("l", n))).SetXattr("security.selinux", strings.Repeat("s", n/10+1))
	}
	for _, n := range []int{0, 1, 60, 68, 69, 1000, 3000} {
		f := put(fmt.Sprint("attributes/", n), tree.NewFile(0o644, content.String("x")))
		f.SetXattr("user.test", strings.Repeat("v", n))
		f.SetXattr("security.selinux", "system_u:object_r:usr_t:s0\x00")
		f.SetXattr("trusted.overlay.opaque", "y")
	}
	f := put("attributes/list", tree.NewFile(0o664, content.String("x")))
	f.SetXattr("system.posix_acl_access", acl())
	f.SetXattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for i := range 40 {
		f.SetXattr(fmt.Sprintf("user.attribute-%d", i), strings.Repeat("v", i))
	}
	put("attributes/dir", tree.NewDir(0o775)).SetXattr("system.posix_acl_default", acl())

	one := put("hard/one", tree.NewFile(0o644, noise(30, 5000)))
	put("hard/two", one)
	put("elsewhere/three", one)
	put("hard/symlink", tree.NewLink("one"))
	put("elsewhere/symlink", tree.Lookup(root, "hard/symlink"))

	put("immutable/file", tree.NewFile(0o644, content.String("x"))).Flags = tree.Immutable
	tree.Lookup(root, "immutable").Flags = tree.Immutable

	large := put("large", tree.NewDir(0o755))
	for i := range 20000 {
		large.Set(fmt.Sprintf("%d-ünïcödé-\xff\x80-%s", i, strings.Repeat("n", i%200)), one)
	}
	subdirs := put("subdirs", tree.NewDir(0o755))
	for i := range 3000 {
		subdirs.Set(fmt.Sprint(i), tree.NewDir(0o755))
	}
	put("deep/"+strings.Repeat("d/", 500)+"file", tree.NewFile(0o644, content.String("deep")))
	put(strings.Repeat("n", 255), tree.NewFile(0o644, content.String("x")))
	return root
}

func ext4Image(t testing.TB, root *tree.Inode, size int64, opt ext4.Options) string {
	t.Helper()
	extents, err := ext4.Write(context.Background(), root, size, opt)
	if err != nil {
		t.Fatal(err)
	}
	return materialise(t, extents, size)
}

func ext4Options() ext4.Options {
	return ext4.Options{UUID: [16]byte{1, 2, 3}, HashSeed: [16]byte{4, 5, 6}, Label: "test", Time: 1700000000}
}

// ext4Check fails the test when e2fsck finds something, or the kernel counted
// an error.
func ext4Check(t testing.TB, image string) {
	t.Helper()
	// Linux splits what is full in half, and e2fsck offers to join it again.
	out := strings.ReplaceAll(run(t, "e2fsck", "-fn", image), "Optimize? no", "")
	for _, bad := range []string{"Fix?", "? no", "WARNING"} {
		if strings.Contains(out, bad) {
			t.Fatal(out)
		}
	}
	if out := run(t, "dumpe2fs", "-h", image); strings.Contains(out, "FS Error count") {
		t.Fatal(out)
	}
}

// TestExt4ReadOnly compares a file system with its tree.
func TestExt4ReadOnly(t *testing.T) {
	needRoot(t)
	root := richTree(t)
	opt := ext4Options()
	tight, err := ext4.Size(root, 0, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{tight, 500 << 20, 10 << 30} {
		for _, verity := range []bool{false, true} {
			opt.Verity = verity
			image := ext4Image(t, root, size, opt)
			before, err := os.Stat(image)
			if err != nil {
				t.Fatal(err)
			}
			mounted(t, "ext4", "ro", attach(t, image, "-r"), func(dir string) {
				if d := Compare(root, dir, "lost+found"); d != "" {
					t.Errorf("%d bytes:\n%s", size, d)
				}
			})
			if after, err := os.Stat(image); err != nil || after.ModTime() != before.ModTime() {
				t.Errorf("the image was written: %v", err)
			}
		}
	}
}

// TestExt4Write has the kernel change a file system.
func TestExt4Write(t *testing.T) {
	needRoot(t)
	root := richTree(t)
	opt := ext4Options()
	for _, size := range []int64{300 << 20, 3 << 30} {
		image := ext4Image(t, root, size, opt)
		device := attach(t, image)
		mounted(t, "ext4", "rw", device, func(dir string) {
			if d := Compare(root, dir, "lost+found"); d != "" {
				t.Errorf("%d bytes:\n%s", size, d)
			}
			change(t, dir)
			grow(t, image, device)
			for i := range 200 {
				write(t, filepath.Join(dir, "lost+found", fmt.Sprint(i)), 100_000)
			}
		})
		ext4Check(t, image)
		mounted(t, "ext4", "ro", device, func(dir string) {
			for name, want := range map[string]int{"large": 20000 + 500, "lost+found": 200, "subdirs": 3000 - 300} {
				list, err := os.ReadDir(filepath.Join(dir, name))
				if err != nil || len(list) != want {
					t.Errorf("%s: %d entries, want %d: %v", name, len(list), want, err)
				}
			}
		})
	}
}

// grow has the kernel grow a mounted file system, past what the group
// descriptors of today hold. Linux wants CAP_SYS_RESOURCE for it, which root
// does not have in every container.
func grow(t testing.TB, image, device string) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	if data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		t.Log("without CAP_SYS_RESOURCE: online growth is not tested")
		return
	}
	if err := os.Truncate(image, 9<<30); err != nil {
		t.Fatal(err)
	}
	run(t, "losetup", "-c", device)
	run(t, "resize2fs", device)
}

func write(t testing.TB, name string, n int) {
	t.Helper()
	if err := os.WriteFile(name, make([]byte, n), 0o644); err != nil {
		t.Fatal(err)
	}
}

// change writes 1,000 files into a large directory and removes half of them,
// removes directories, changes attributes, and makes files longer and shorter.
func change(t testing.TB, dir string) {
	t.Helper()
	for i := range 1000 {
		write(t, filepath.Join(dir, "large", fmt.Sprint("new-", i)), i*10)
	}
	for i := range 500 {
		if err := os.Remove(filepath.Join(dir, "large", fmt.Sprint("new-", i*2))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 300 {
		if err := os.Remove(filepath.Join(dir, "subdirs", fmt.Sprint(i*7))); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{0, 60, 69, 1000, 3000} {
		name := filepath.Join(dir, "attributes", fmt.Sprint(n))
		run(t, "chcon", "-h", "system_u:object_r:etc_t:s0:c1.c1023", name)
		write(t, name, 10)
	}
	for name, size := range map[string]int64{"scattered": 20 << 20, "sparse": 60 << 20, "4096": 10000, "5242880": 0} {
		if err := os.Truncate(filepath.Join(dir, "sizes", name), size); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, "sizes", "scattered"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 { // into the holes
		if _, err := f.WriteAt([]byte("hole"), int64(i)*8192+5000); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "immutable", "file"), nil, 0); err == nil {
		t.Error("an immutable file was written")
	}
	if err := os.RemoveAll(filepath.Join(dir, "deep")); err != nil {
		t.Fatal(err)
	}
}
