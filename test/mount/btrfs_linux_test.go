package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"imgbuild/content"
	"imgbuild/filesystem/btrfs"
	"imgbuild/tree"
)

// text returns n bytes that compress well.
func text(seed uint64, n int) content.Ref {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+20)
	for len(b) < n {
		b = fmt.Appendf(b, "line %d of %d\n", r.IntN(1000), n)
	}
	return content.Bytes(b[:n])
}

// btrfsTree returns richTree and more of what btrfs has several forms of.
func btrfsTree(t testing.TB) *tree.Inode {
	root := richTree(t)
	large := tree.Lookup(root, "large") // btrfs check takes the square of the names of a file
	for i, e := range large.Entries() {
		if i%10 > 0 {
			large.Remove(e.Name)
		}
	}
	put := func(path string, i *tree.Inode) *tree.Inode {
		if err := tree.Put(root, path, i); err != nil {
			t.Fatal(err)
		}
		return i
	}
	for _, dir := range []string{"sizes", "volumes/a", "volumes/a/inner", "volumes/b", "volumes/inplace", "inplace"} {
		for i, n := range []int{0, 1, 100, 2047, 2048, 2049, 4095, 4096, 4097, 8191, 8192, 8193, 128<<10 - 1, 128 << 10, 128<<10 + 1, 300_000, 1<<20 + 1} {
			put(fmt.Sprint(dir, "/noise-", n), tree.NewFile(0o644, noise(byte(i), n)))
			put(fmt.Sprint(dir, "/text-", n), tree.NewFile(0o644, text(uint64(i), n)))
		}
		mixed, err := content.Sparse(3<<20, []content.Piece{
			{Off: 0, Ref: text(1, 500_000)}, {Off: 500_000, Ref: noise(1, 300_000)}, {Off: 1 << 20, Ref: text(2, 9000)},
			{Off: 1<<20 + 50_000, Ref: noise(2, 9000)}, {Off: 2 << 20, Ref: text(3, 400_000)},
		})
		if err != nil {
			t.Fatal(err)
		}
		put(dir+"/mixed", tree.NewFile(0o644, mixed))
		put(dir+"/zeros", tree.NewFile(0o644, content.Bytes(make([]byte, 1<<20))))
		hole, err := content.Sparse(1<<60, []content.Piece{{Off: 1<<60 - 5, Ref: text(4, 5)}})
		if err != nil {
			t.Fatal(err)
		}
		put(dir+"/link", tree.NewLink("text-1"))
		put(dir+"/other name", tree.Lookup(root, dir+"/text-300000"))
		if dir == "sizes" {
			put("huge/hole", tree.NewFile(0o644, hole))
		}
	}
	tree.Lookup(root, "volumes/a/inner").Mode = tree.TypeDir | 0o2775
	tree.Lookup(root, "volumes/b").SetXattr("user.volume", "b")
	for _, n := range []int{254, 255, 4000, 8000, 16228 - len("user.test")} {
		put(fmt.Sprint("attributes/file-", n), tree.NewFile(0o644, content.String("x"))).SetXattr("user.test", strings.Repeat("v", n))
	}
	many := put("attributes/many", tree.NewFile(0o644, content.String("x")))
	for i := range 2000 {
		many.SetXattr(fmt.Sprintf("%s.%d", []string{"user", "trusted", "security"}[i%3], i/3), strings.Repeat("v", i%400))
	}
	return root
}

// btrfsVariants are options that change the format. Each has a UUID of its own.
func btrfsVariants() map[string]btrfs.Options {
	volumes := func(c string) []btrfs.Subvolume {
		how, err := btrfs.ParseCompression(c)
		if err != nil {
			panic(err)
		}
		return []btrfs.Subvolume{{Path: "volumes/b", Compress: how, ReadOnly: true}, {Path: "volumes/a/inner"}, {Path: "volumes/a", Compress: how}, {Path: "volumes/inplace", Compress: how}}
	}
	variants := map[string]btrfs.Options{
		"default": {},
		"single":  {SingleMetadata: true, Checksum: btrfs.XXHash64},
		"zstd":    {Compress: btrfs.Compression{Algorithm: btrfs.Zstd, Level: 1}, Subvolumes: volumes("zstd:15"), NoDataCow: []string{"inplace", "volumes/inplace"}},
		"zlib":    {Compress: btrfs.Compression{Algorithm: btrfs.Zlib}, Subvolumes: volumes("zstd"), BlockGroupTree: true, Checksum: btrfs.SHA256},
	}
	for name, opt := range variants {
		copy(opt.UUID[:], "btrfs "+name)
		opt.Label, opt.Time = "test "+name, 1700000000
		variants[name] = opt
	}
	return variants
}

// btrfsPacked returns the options with packed content.
func btrfsPacked(t testing.TB, root *tree.Inode, opt btrfs.Options) btrfs.Options {
	t.Helper()
	if !opt.Compresses() {
		return opt
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := btrfs.Pack(context.Background(), root, opt, f, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packed.Close() })
	opt.Packed = packed
	return opt
}

func btrfsImage(t testing.TB, root *tree.Inode, size int64, opt btrfs.Options) string {
	t.Helper()
	extents, err := btrfs.Write(context.Background(), root, size, opt)
	if err != nil {
		t.Fatal(err)
	}
	return materialise(t, extents, size)
}

// btrfsCheck fails the test when btrfs check finds something.
func btrfsCheck(t testing.TB, image string) {
	t.Helper()
	out := run(t, "btrfs", "check", "--readonly", "--check-data-csum", image)
	if !strings.Contains(out, "no error found\n") || strings.Contains(strings.ToLower(out), "warning") {
		t.Fatal(out)
	}
}

func btrfsLog(device string, since int) (complaints string, end int) {
	return kernelLogOf("(device "+filepath.Base(device)+")", []string{"BTRFS error", "BTRFS warning", "BTRFS critical", "BTRFS alert", "forced readonly"}, since)
}

// TestBtrfsReadOnly compares file systems with their tree.
func TestBtrfsReadOnly(t *testing.T) {
	needRoot(t)
	root := btrfsTree(t)
	for name, opt := range btrfsVariants() {
		t.Run(name, func(t *testing.T) {
			opt := btrfsPacked(t, root, opt)
			for _, free := range []int64{0, 1 << 30, 30 << 30} {
				size, err := btrfs.Size(root, free, opt)
				if err != nil {
					t.Fatal(err)
				}
				image := btrfsImage(t, root, size, opt)
				if free == 0 {
					btrfsCheck(t, image)
				}
				device := attach(t, image, "-r")
				_, start := btrfsLog(device, 0)
				mounted(t, "btrfs", "ro", device, func(dir string) {
					if d := Compare(root, dir); d != "" {
						t.Errorf("%d bytes:\n%s", size, d)
					}
					compareFlags(t, dir, opt)
				})
				if said, _ := btrfsLog(device, start); said != "" {
					t.Errorf("%d bytes: %s", size, said)
				}
			}
		})
	}
}

// compareFlags compares what Compare knows nothing of: subvolumes, and files
// that are written in place.
func compareFlags(t testing.TB, dir string, opt btrfs.Options) {
	t.Helper()
	list := run(t, "btrfs", "subvolume", "list", dir)
	if n := strings.Count(list, "\n"); n != len(opt.Subvolumes) {
		t.Errorf("%d subvolumes:\n%s", n, list)
	}
	for i, s := range opt.Subvolumes {
		if want := fmt.Sprintf("ID %d gen ", 256+i); !strings.Contains(list, want) || !strings.Contains(list, " path "+s.Path+"\n") {
			t.Errorf("without subvolume %s:\n%s", s.Path, list)
		}
		if got, want := run(t, "btrfs", "property", "get", filepath.Join(dir, s.Path), "ro"), fmt.Sprintf("ro=%v\n", s.ReadOnly); got != want {
			t.Errorf("%s: %s, want %s", s.Path, got, want)
		}
	}
	for name, want := range map[string]bool{
		"inplace": len(opt.NoDataCow) > 0, "inplace/mixed": len(opt.NoDataCow) > 0, "inplace/text-1": len(opt.NoDataCow) > 0,
		"volumes/inplace/text-300000": len(opt.NoDataCow) > 0, "sizes": false, "sizes/mixed": false, "volumes/a/mixed": false,
	} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		f.Close()
		const noCow = 0x00800000 // FS_NOCOW_FL
		if err != nil || flags&noCow != 0 != want {
			t.Errorf("%s: flags %#x, want written in place: %v: %v", name, flags, want, err)
		}
	}
}

// TestBtrfsDefault mounts the default subvolume, and another one by its name.
func TestBtrfsDefault(t *testing.T) {
	needRoot(t)
	root := btrfsTree(t)
	opt := btrfsVariants()["zstd"]
	opt.Default = "/volumes/a"
	opt = btrfsPacked(t, root, opt)
	device := attach(t, btrfsImage(t, root, 3<<30, opt))
	for options, path := range map[string]string{"ro": "volumes/a", "ro,subvol=/volumes/b": "volumes/b", "ro,subvolid=257": "volumes/a/inner", "ro,subvolid=5": ""} {
		mounted(t, "btrfs", options, device, func(dir string) {
			if d := Compare(tree.Lookup(root, path), dir); d != "" {
				t.Errorf("%s:\n%s", options, d)
			}
		})
	}
}

// TestBtrfsLinks compares a file with as many names as Linux allows, most of them
// in extended references, and one with more, which becomes two.
func TestBtrfsLinks(t *testing.T) {
	needRoot(t)
	root := tree.NewDir(0o755)
	names := func(dir string, n int) *tree.Inode {
		one := tree.NewFile(0o600, noise(99, 5000))
		for i := range n {
			if err := tree.Put(root, fmt.Sprintf("%s/%d/%d-%s", dir, i%3, i, strings.Repeat("n", i%200)), one); err != nil {
				t.Fatal(err)
			}
		}
		return one
	}
	names("most", 65535)
	names("more", 65536)
	device := attach(t, btrfsImage(t, root, 1<<30, btrfsVariants()["default"]))
	_, start := btrfsLog(device, 0)
	mounted(t, "btrfs", "rw", device, func(dir string) {
		if d := Compare(tree.Lookup(root, "most"), filepath.Join(dir, "most")); d != "" {
			t.Error(d)
		}
		var a, b unix.Stat_t
		list := tree.Lookup(root, "more/2").Entries()
		if err := errors.Join(unix.Stat(filepath.Join(dir, "more/0/0-"), &a), unix.Stat(filepath.Join(dir, "more/2", list[len(list)-1].Name), &b)); err != nil {
			t.Fatal(err)
		}
		if a.Nlink+b.Nlink != 65536 || a.Ino == b.Ino || a.Size != 5000 || b.Size != 5000 {
			t.Errorf("%d and %d links of the inodes %d and %d", a.Nlink, b.Nlink, a.Ino, b.Ino)
		}
		for i := range 60000 {
			if err := os.Remove(filepath.Join(dir, fmt.Sprintf("most/%d/%d-%s", i%3, i, strings.Repeat("n", i%200)))); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Link(filepath.Join(dir, "more/0/0-"), filepath.Join(dir, "new")); !errors.Is(err, unix.EMLINK) {
			t.Errorf("one more name: %v", err)
		}
	})
	if said, _ := btrfsLog(device, start); said != "" {
		t.Error(said)
	}
}

// TestBtrfsWrite has the kernel change, grow and scrub file systems.
func TestBtrfsWrite(t *testing.T) {
	needRoot(t)
	root := btrfsTree(t)
	for name, opt := range btrfsVariants() {
		t.Run(name, func(t *testing.T) {
			opt := btrfsPacked(t, root, opt)
			size, err := btrfs.Size(root, 300<<20, opt)
			if err != nil {
				t.Fatal(err)
			}
			image := btrfsImage(t, root, size, opt)
			device := attach(t, image)
			_, start := btrfsLog(device, 0)
			mounted(t, "btrfs", "rw,compress=zstd", device, func(dir string) {
				var st unix.Statfs_t
				if err := unix.Statfs(dir, &st); err != nil || int64(st.Bavail)*st.Bsize < 300<<20 {
					t.Errorf("%d bytes available: %v", int64(st.Bavail)*st.Bsize, err)
				}
				scrub(t, dir)
				btrfsUse(t, dir, opt)
				if err := os.Truncate(image, 5<<30); err != nil {
					t.Fatal(err)
				}
				run(t, "losetup", "-c", device)
				run(t, "btrfs", "filesystem", "resize", "max", dir)
				if err := unix.Statfs(dir, &st); err != nil || int64(st.Blocks)*st.Bsize != 5<<30 {
					t.Errorf("%d bytes after growing: %v", int64(st.Blocks)*st.Bsize, err)
				}
				for i := range 200 {
					write(t, filepath.Join(dir, "sizes", fmt.Sprint("late-", i)), 1_000_000)
				}
				run(t, "btrfs", "subvolume", "snapshot", dir, filepath.Join(dir, "snapshot"))
			})
			mounted(t, "btrfs", "rw", device, func(dir string) {
				run(t, "btrfs", "balance", "start", "--full-balance", dir)
				scrub(t, dir)
			})
			if said, _ := btrfsLog(device, start); said != "" {
				t.Error(said)
			}
			btrfsCheck(t, image)
		})
	}
}

// scrub fails the test when the kernel finds a wrong checksum.
func scrub(t testing.TB, dir string) {
	t.Helper()
	if out := run(t, "btrfs", "scrub", "start", "-B", dir); !strings.Contains(out, "no errors found") {
		t.Error(out)
	}
}

// btrfsUse writes 10,000 files and removes most, and changes what is there.
func btrfsUse(t testing.TB, dir string, opt btrfs.Options) {
	t.Helper()
	change(t, dir)
	dirs := []string{"sizes", "large", "attributes", "inplace", "volumes/a", "volumes/a/inner"}
	for i := range 10000 {
		write(t, filepath.Join(dir, dirs[i%len(dirs)], fmt.Sprint("new-", i)), i)
	}
	for i := range 9000 {
		if err := os.Remove(filepath.Join(dir, dirs[i%len(dirs)], fmt.Sprint("new-", i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		name := fmt.Sprintf("%s.%d", []string{"user", "trusted", "security"}[i%3], i/3)
		if err := unix.Removexattr(filepath.Join(dir, "attributes/many"), name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sizes/mixed", "volumes/a/mixed", "inplace/mixed", "sizes/text-300000", "inplace/text-2048", "sizes/text-4095"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for off := range int64(20) {
			if _, err := f.WriteAt(bytes.Repeat([]byte("w"), 5000), off*50_000+100); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	err := os.WriteFile(filepath.Join(dir, "volumes/b/new"), nil, 0o644)
	if readOnly := len(opt.Subvolumes) > 0 && opt.Subvolumes[0].ReadOnly; readOnly != errors.Is(err, unix.EROFS) {
		t.Errorf("writing to volumes/b: %v", err)
	}
}
