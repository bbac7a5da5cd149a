package ext4

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

// named returns a directory of n names made by format, of empty files that have
// many names each.
func named(format string, n int) *tree.Inode {
	d := tree.NewDir(0o755)
	var f *tree.Inode
	for i := range n {
		if i%60000 == 0 {
			f = tree.NewFile(0o600, content.Ref{})
		}
		d.Set(fmt.Sprintf(format, i), f)
	}
	return d
}

// leavesOf returns the number of leaves of a directory of n names of 255 bytes.
func leavesOf(n int) int {
	seed := testOptions().HashSeed
	d := named("%0255d", n)
	var list []dirent
	for _, e := range d.Entries() {
		x := dirent{name: e.Name}
		x.hash, x.minor = dirHash(x.name, &seed)
		list = append(list, x)
	}
	sortDirents(list)
	return len(fillLeaves(list))
}

// TestFsck has e2fsck check file systems at the limits of the format.
func TestFsck(t *testing.T) {
	type row struct {
		name string
		size int64
		root *tree.Inode
		opt  func(*Options)
	}
	none := tree.NewDir(0o755)
	var rows []row
	add := func(name string, size int64, root *tree.Inode) {
		rows = append(rows, row{name, size, root, func(*Options) {}})
	}
	for _, size := range []int64{
		200 * kib, 1 * mib, 3*mib - 1, 3 * mib, 8*mib - blockSize, 8 * mib, 8*mib + 1, 100 * mib, 127 * mib, 128 * mib,
		128*mib + blockSize, 128*mib + 4*mib, 512*mib - blockSize, 512 * mib, 2 * gib, 2*gib + 100*mib, 20 * gib,
	} {
		add(fmt.Sprint("empty ", size), size, none)
	}

	// A block has room for 4084 bytes, 24 of them for "." and "..".
	full := func() *tree.Inode { d := named("%04d", 337); d.Set("8letters", fstest.File("")); return d }
	add("one block", 64*mib, fstest.DirOf("d", full()))
	add("one entry more", 64*mib, fstest.DirOf("d", fstest.With(full(), func(d *tree.Inode) { d.Set("x", fstest.File("")) })))
	add("10,000 entries", 64*mib, fstest.DirOf("d", named("entry-%d", 10000)))
	add("200,000 entries", 128*mib, fstest.DirOf("d", named("this is entry %d", 200000)))
	n := 6000
	for leavesOf(n) < maxRootEntries {
		n += max(1, (maxRootEntries-leavesOf(n))*5)
	}
	for leavesOf(n) > maxRootEntries {
		n--
	}
	add("root full", 64*mib, fstest.DirOf("d", named("%0255d", n)))
	for leavesOf(n) == maxRootEntries {
		n++
	}
	add("first node", 64*mib, fstest.DirOf("d", named("%0255d", n)))
	add("collision", 64*mib, fstest.DirOf("d", colliding(t)))
	high := tree.NewDir(0o755)
	for i := range 1000 {
		high.Set(fmt.Sprintf("%d \xff\x80ÄÖÜß€\xfe %d", i, i*7919), fstest.File(""))
	}
	add("names beyond ASCII", 64*mib, fstest.DirOf("d", high))
	add("large root", 64*mib, named("%0200d", 1000))

	value := func(n int) string { return strings.Repeat("v", n) }
	for _, n := range []int{0, 1, 67, 68, 69, 4039, 4040} {
		add(fmt.Sprint("attribute of ", n), 64*mib, fstest.DirOf("f", fstest.XattrFile("user.a", value(n))))
	}
	add("both full", 64*mib, fstest.DirOf("f", fstest.XattrFile("user.a", value(68), "user.b", value(4040))))
	many := fstest.File("")
	for i := range 40 {
		many.SetXattr(fmt.Sprintf("user.attribute-%02d", i), value(i+20))
	}
	add("40 attributes", 64*mib, fstest.DirOf("f", many))
	shared := tree.NewDir(0o755)
	for i := range 2*maxXattrRefs + 1 {
		shared.Set(fmt.Sprint(i), fstest.XattrFile("user.large", value(500), "security.selinux", "system_u:object_r:usr_t:s0\x00"))
	}
	shared.SetXattr("user.large", value(500))
	add("shared attributes", 64*mib, fstest.DirOf("d", shared))
	add("access control lists", 64*mib, fstest.DirOf("f", fstest.XattrFile("system.posix_acl_access", fstest.ACL), "d",
		fstest.With(tree.NewDir(0o700), func(d *tree.Inode) { d.SetXattr("system.posix_acl_default", fstest.ACL) })))
	root := tree.NewDir(0o755)
	root.SetXattr("user.root", value(1000))
	lost := tree.NewDir(0o700)
	lost.SetXattr("security.selinux", value(30))
	lost.SetXattr("user.more", value(300))
	lost.Set("found", fstest.File("x"))
	root.Set("lost+found", lost)
	add("lost+found given", 64*mib, root)
	add("lost+found large", 64*mib, fstest.DirOf("lost+found", named("%0100d", 1000)))

	links := tree.NewDir(0o755)
	for _, n := range []int{1, 58, 59, 60, 61, 4095} {
		links.Set(fmt.Sprint(n), tree.NewLink(value(n)))
		links.Set(fmt.Sprint(n, "x"), fstest.With(tree.NewLink(value(n)), func(i *tree.Inode) { i.SetXattr("security.selinux", value(200)) }))
	}
	add("symbolic links", 64*mib, links)

	for _, n := range []int{0, 1, 4, 5, 340, 341, 4 * 340, 4*340 + 1} {
		add(fmt.Sprint(n, " extents"), 64*mib, fstest.DirOf("f", fstest.Scattered(t, n)))
	}
	last := content.Piece{Off: maxFileSize - 1, Ref: content.String("z")}
	add("largest file", 64*mib, fstest.DirOf("f", tree.NewFile(0o644, fstest.Sparse(t, maxFileSize, content.Piece{Ref: content.String("a")}, last))))
	add("largest hole", 64*mib, fstest.DirOf("f", tree.NewFile(0o644, fstest.Sparse(t, maxFileSize))))
	add("over several groups", 2*gib, fstest.DirOf("f", tree.NewFile(0o644, fstest.Zeros(1800*mib))))

	for _, n := range []int{maxLinks - 1, maxLinks, maxLinks + 1, 2*maxLinks + 1} {
		d, f := tree.NewDir(0o755), fstest.File("linked")
		for i := range n {
			d.Set(fmt.Sprint(i), f)
		}
		add(fmt.Sprint(n, " links"), 64*mib, fstest.DirOf("d", d))
	}
	special := tree.NewDir(0o1777)
	for _, n := range [][2]uint32{{0, 0}, {8, 1}, {255, 255}, {256, 0}, {0, 256}, {maxMajor, maxMinor}} {
		special.Set(fmt.Sprint("c", n), &tree.Inode{Mode: tree.TypeChar | 0o600, Major: n[0], Minor: n[1]})
		special.Set(fmt.Sprint("b", n), &tree.Inode{Mode: tree.TypeBlock | 0o600, Major: n[0], Minor: n[1]})
	}
	special.Set("fifo", &tree.Inode{Mode: tree.TypeFIFO | 0o644, UID: 1 << 31, GID: 70000})
	special.Set("socket", fstest.With(&tree.Inode{Mode: tree.TypeSock | 0o755}, func(i *tree.Inode) { i.SetXattr("security.selinux", "s\x00") }))
	special.Set("suid", fstest.With(fstest.File("s"), func(i *tree.Inode) { i.Mode |= 0o6000 }))
	for _, s := range []int64{-1 << 62, minTime, -1, 0, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, maxTime, maxTime + 1, 1 << 62} {
		special.Set(fmt.Sprint("time", s), fstest.With(fstest.File(""), func(i *tree.Inode) { i.Mtime = s }))
	}
	special.Set("immutable", fstest.With(fstest.DirOf("f", fstest.With(fstest.File("i"), func(i *tree.Inode) { i.Flags = tree.Immutable })), func(i *tree.Inode) { i.Flags = tree.Immutable }))
	add("special files", 64*mib, special)

	options := func(name string, size int64, opt func(*Options)) {
		rows = append(rows, row{name, size, fstest.DirOf("d", named("%d", 1000), "f", fstest.File("x")), opt})
	}
	options("verity", 64*mib, func(o *Options) { o.Verity = true })
	options("label", 64*mib, func(o *Options) { o.Label = "sixteen letters!" })
	options("no journal", 64*mib, func(o *Options) { o.JournalSize = -1 })
	options("large journal", 2*gib, func(o *Options) { o.JournalSize = 1*gib - blockSize })
	options("nothing reserved", 64*mib, func(o *Options) { o.ReservedPercent = -1 })
	options("half reserved", 64*mib, func(o *Options) { o.ReservedPercent = 50 })
	options("many inodes", 9*gib, func(o *Options) { o.BytesPerInode = 1 })
	options("few inodes", 9*gib, func(o *Options) { o.BytesPerInode = 1 << 40 })
	options("no identity", 64*mib, func(o *Options) { *o = Options{} })
	options("late", 64*mib, func(o *Options) { o.Time = 1<<31 + 5 })

	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			opt := testOptions()
			r.opt(&opt)
			fsck(t, writeImage(t, r.root, r.size, opt))
		})
	}
}

// colliding returns a directory in which two names of the same hash are in two
// leaves.
func colliding(t *testing.T) *tree.Inode {
	seed := testOptions().HashSeed
	const perLeaf = 13 // of 264 bytes, with 816 left free
	byHash := map[uint32]string{}
	var list []dirent
	for i := 0; ; i++ {
		name := fmt.Sprintf("%0255d", i)
		hash, minor := dirHash(name, &seed)
		other, ok := byHash[hash]
		if !ok {
			byHash[hash] = name
			list = append(list, dirent{name: name, hash: hash, minor: minor})
			continue
		}
		d := fstest.DirOf(name, fstest.File(""), other, fstest.File(""))
		for k := range list {
			if list[k].hash < hash && d.Len() < perLeaf-1+2 {
				d.Set(list[k].name, fstest.File(""))
			}
		}
		above := 0
		for k := range list {
			if list[k].hash > hash && above < 50 {
				d.Set(list[k].name, fstest.File(""))
				above++
			}
		}
		var entries []dirent
		for _, e := range d.Entries() {
			h, m := dirHash(e.Name, &seed)
			entries = append(entries, dirent{name: e.Name, hash: h, minor: m})
		}
		sortDirents(entries)
		if leaves := fillLeaves(entries); leaves[1].hash != hash|1 {
			t.Fatalf("the second leaf begins with %#x, not with the collision %#x", leaves[1].hash, hash|1)
		}
		return d
	}
}

// TestFsckLarge checks file systems whose files are not written, only what
// describes them.
func TestFsckLarge(t *testing.T) {
	write := func(t *testing.T, root *tree.Inode, size int64) []disk.Extent {
		opt := testOptions()
		c, err := collect(context.Background(), root, &opt)
		if err != nil {
			t.Fatal(err)
		}
		l, err := c.placeIn(uint64(size) / blockSize)
		if err != nil {
			t.Fatal(err)
		}
		l.fileData = nil
		extents, err := l.write(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return extents
	}
	t.Run("three levels of extents", func(t *testing.T) {
		const n = 4*maxExtentsInBlock*maxExtentsInBlock + 1
		fsck(t, fstest.Materialise(t, write(t, fstest.DirOf("f", fstest.Scattered(t, n)), 4*gib), 4*gib))
	})
	t.Run("files up to the end", func(t *testing.T) {
		root := fstest.DirOf("a", tree.NewFile(0o644, fstest.Zeros(30*gib)), "b", tree.NewFile(0o644, fstest.Zeros(7*gib+12345)))
		size, err := Size(root, 0, testOptions())
		if err != nil {
			t.Fatal(err)
		}
		fsck(t, fstest.Materialise(t, write(t, root, size), size))
	})
	t.Run("65,000 directories", func(t *testing.T) {
		root := tree.NewDir(0o755)
		for _, n := range []int{maxLinks - 2, maxLinks - 1} {
			d := tree.NewDir(0o755)
			for i := range n {
				d.Set(fmt.Sprint(i), tree.NewDir(0o755))
			}
			root.Set(fmt.Sprint(n), d)
		}
		image := fstest.Materialise(t, write(t, root, 2*gib), 2*gib)
		fsck(t, image)
		out := debugfs(t, image, "stat /64998", "stat /64999")
		if !strings.Contains(out, "Links: 65000 ") || !strings.Contains(out, "Links: 1 ") {
			t.Error(out)
		}
	})
}

// TestHuge checks file systems of more than 16 TiB.
func TestHuge(t *testing.T) {
	const size = 17 * tib
	root := fstest.DirOf("d", named("%d", 1000), "f", fstest.File("x"))
	extents, err := Write(context.Background(), root, size, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(extents); n > 10000 {
		t.Errorf("%d extents", n)
	}
	image, err := disk.New(size, extents)
	if err != nil {
		t.Fatal(err)
	}
	var f *os.File
	for _, dir := range []string{t.TempDir(), "/dev/shm"} { // ext4 itself has no files of this size
		if f, err = os.CreateTemp(dir, "ext4"); err != nil {
			continue
		}
		defer os.Remove(f.Name())
		defer f.Close()
		if err = f.Truncate(size); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, mib)
	for off, n := range image.Data(blockSize) {
		for n > 0 {
			k := min(n, int64(len(buf)))
			if _, err := image.ReadAt(buf[:k], off); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(buf[:k], off); err != nil {
				t.Fatal(err)
			}
			off, n = off+k, n-k
		}
	}
	fsck(t, f.Name())
}

// TestRefused checks that what ext4 cannot hold is refused, with its path.
func TestRefused(t *testing.T) {
	loop := tree.NewDir(0o755)
	loop.Set("self", loop)
	twice := tree.NewDir(0o755)
	for name, i := range map[string]*tree.Inode{
		"file too large":        tree.NewFile(0o644, fstest.Sparse(t, maxFileSize+1)),
		"attribute too large":   fstest.XattrFile("user.a", strings.Repeat("v", 4041)),
		"attributes too large":  fstest.XattrFile("user.a", strings.Repeat("v", 4040), "user.b", strings.Repeat("v", 69)),
		"attribute unknown":     fstest.XattrFile("other.a", "v"),
		"attribute of system":   fstest.XattrFile("system.a", "v"),
		"attribute unnamed":     fstest.XattrFile("user.", "v"),
		"attribute name long":   fstest.XattrFile("user."+strings.Repeat("n", 256), "v"),
		"ACL invalid":           fstest.XattrFile("system.posix_acl_access", "\x01\x00\x00\x00"),
		"ACL cut":               fstest.XattrFile("system.posix_acl_access", fstest.ACL[:len(fstest.ACL)-1]),
		"ACL tag":               fstest.XattrFile("system.posix_acl_access", "\x02\x00\x00\x00\x03\x00\x06\x00\xff\xff\xff\xff"),
		"link empty":            tree.NewLink(""),
		"link too long":         tree.NewLink(strings.Repeat("l", 4096)),
		"link with NUL":         tree.NewLink("a\x00b"),
		"link immutable":        fstest.With(tree.NewLink("x"), func(i *tree.Inode) { i.Flags = tree.Immutable }),
		"major":                 {Mode: tree.TypeChar, Major: maxMajor + 1},
		"minor":                 {Mode: tree.TypeBlock, Minor: maxMinor + 1},
		"type":                  {Mode: 0o110000},
		"no inode":              nil,
		"directory with itself": loop,
		"directory twice":       fstest.DirOf("a", twice, "b", fstest.DirOf("c", twice)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Write(context.Background(), fstest.DirOf("etc", fstest.DirOf("bad", i)), 64*mib, testOptions())
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), "/etc/bad") {
				t.Errorf("%v: without the path", err)
			}
		})
	}
	if _, err := Write(context.Background(), fstest.DirOf("lost+found", fstest.File("")), 64*mib, testOptions()); err == nil {
		t.Error("lost+found that is a file is accepted")
	}
	if _, err := Write(context.Background(), fstest.File(""), 64*mib, testOptions()); err == nil {
		t.Error("root that is a file is accepted")
	}
	for _, change := range []func(*Options){
		func(o *Options) { o.Label = "seventeen letters" },
		func(o *Options) { o.Time = -1 },
		func(o *Options) { o.Time = 1 << 40 },
		func(o *Options) { o.ReservedPercent = 51 },
		func(o *Options) { o.JournalSize = 4*mib - 1 },
		func(o *Options) { o.BytesPerInode = -1 },
	} {
		opt := testOptions()
		change(&opt)
		if _, err := Write(context.Background(), tree.NewDir(0o755), 64*mib, opt); err == nil {
			t.Errorf("%+v is accepted", opt)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Write(ctx, tree.NewDir(0o755), 64*mib, testOptions()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestResize grows file systems offline with resize2fs.
func TestResize(t *testing.T) {
	root := fstest.DirOf("d", named("%d", 3000), "f", tree.NewFile(0o644, fstest.Zeros(50*mib)))
	for _, size := range []int64{100 * mib, 900 * mib, 3 * gib} {
		image := writeImage(t, root, size, testOptions())
		if err := os.Truncate(image, 2*size); err != nil {
			t.Fatal(err)
		}
		if out, err := tool(t, "resize2fs", image); err != nil {
			t.Fatal(out)
		}
		fsck(t, image)
	}
}
