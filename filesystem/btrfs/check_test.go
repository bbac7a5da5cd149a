package btrfs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/fsverity"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// text returns a file of n bytes that compress well.
func text(n int) *tree.Inode {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	b := make([]byte, 0, n+20)
	for len(b) < n {
		b = fmt.Appendf(b, "line %d of %d\n", r.IntN(1000), n)
	}
	return tree.NewFile(0o644, content.Bytes(b[:n]))
}

func noise(n int) *tree.Inode { return tree.NewFile(0o644, fstest.Noise(uint64(n), n)) }

func zeros(n int64) *tree.Inode { return tree.NewFile(0o644, fstest.Zeros(n)) }

// named returns a directory of n names, made by format, of files that have many
// names each.
func named(format string, n int) *tree.Inode {
	d := tree.NewDir(0o755)
	var f *tree.Inode
	for i := range n {
		if i%300 == 0 { // btrfs check takes the square of it
			f = fstest.File("")
		}
		d.Set(fmt.Sprintf(format, i), f)
	}
	return d
}

// collision returns a name that is one of those with the same hash, of prefix
// and four bytes.
func collision(prefix string) string {
	const target = 0x12345678
	undo := func(crc uint32) uint32 {
		for range 4 {
			for i, v := range castagnoli {
				if v>>24 == crc>>24 {
					crc = (crc^v)<<8 | uint32(i)
					break
				}
			}
		}
		return crc
	}
	for i := 0; ; i++ {
		name := fmt.Sprint(prefix, i)
		last := le.AppendUint32(nil, undo(target)^nameHash(name))
		name += string(last)
		if nameHash(name) != target {
			panic("no collision")
		}
		if tree.ValidName(name) {
			return name
		}
	}
}

// protected returns a regular file with fs-verity.
func protected(t testing.TB, c content.Ref) *tree.Inode {
	t.Helper()
	m, err := fsverity.Of(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	i := tree.NewFile(0o644, c)
	i.Verity = &m
	return i
}

// row is a file system that btrfs check has to find clean.
type row struct {
	name string
	size int64
	root *tree.Inode
	opt  func(*Options)
}

func TestCheck(t *testing.T) {
	for _, rows := range [][]row{fileRows(t), directoryRows(), attributeRows(), optionRows(t), sizeRows()} {
		for _, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				opt := testOptions()
				if r.opt != nil {
					r.opt(&opt)
				}
				check(t, writeImage(t, r.root, r.size, opt))
			})
		}
	}
}

func fileRows(t testing.TB) (rows []row) {
	add := func(name string, size int64, pairs ...any) {
		rows = append(rows, row{name, size, fstest.DirOf(pairs...), nil})
	}
	add("empty", 256*mib)
	inline := tree.NewDir(0o755)
	for _, n := range []int{0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 128*kib - 1, 128 * kib, 128*kib + 1, mib} {
		inline.Set(fmt.Sprint("text", n), text(n))
		inline.Set(fmt.Sprint("noise", n), noise(n))
	}
	add("inline limits", 256*mib, "d", inline)
	rows = append(rows, row{"compressed", 256 * mib, fstest.DirOf("d", inline), func(o *Options) { o.Compress = Compression{Zstd, 1} }},
		row{"zlib", 256 * mib, fstest.DirOf("d", inline), func(o *Options) { o.Compress = Compression{Zlib, 9} }})
	add("extents of 128 MiB", 2*gib, "f", zeros(128*mib-1), "g", zeros(128*mib), "h", zeros(128*mib+1), "i", zeros(500*mib))
	add("several block groups", 5*gib, "f", zeros(1200*mib+5), "g", text(70_000), "h", zeros(300*mib))
	add("large sparse file", 256*mib,
		"f", tree.NewFile(0o644, fstest.Sparse(t, 1<<62+5, content.Piece{Off: 1 << 40, Ref: content.String("x")}, content.Piece{Off: 1<<62 - 1, Ref: content.String("yz")})),
		"g", tree.NewFile(0o644, fstest.Sparse(t, 1<<63-1)), "small", tree.NewFile(0o644, fstest.Sparse(t, 100)))
	for _, n := range []int{1, 2, 100, 3000} {
		add(fmt.Sprint(n, " extents"), 256*mib, "f", fstest.Scattered(t, n))
	}
	add("types", 256*mib, "char", &tree.Inode{Mode: tree.TypeChar | 0o600, Major: maxMajor, Minor: maxMinor},
		"block", &tree.Inode{Mode: tree.TypeBlock | 0o600, Major: 8, Minor: 1}, "fifo", &tree.Inode{Mode: tree.TypeFIFO | 0o600},
		"socket", &tree.Inode{Mode: tree.TypeSock | 0o600}, "link", tree.NewLink("target"), "long", tree.NewLink(strings.Repeat("t", maxTarget)),
		"immutable", fstest.With(fstest.File("x"), func(i *tree.Inode) { i.Flags = tree.Immutable }),
		"dir", fstest.With(tree.NewDir(0o7777), func(i *tree.Inode) { i.Flags, i.UID, i.GID = tree.Immutable, 1<<32-2, 1<<31 }),
		"early", fstest.With(fstest.File("x"), func(i *tree.Inode) { i.Mtime = -1 << 62 }), "late", fstest.With(fstest.File("x"), func(i *tree.Inode) { i.Mtime = 1 << 62 }))
	verity := tree.NewDir(0o755)
	for _, n := range []int{0, 1, 4096, 4097, 128*4096 + 1, 3 * mib} {
		verity.Set(fmt.Sprint(n), protected(t, fstest.Noise(uint64(n), n)))
	}
	add("fs-verity", 256*mib, "d", verity)
	return rows
}

func directoryRows() (rows []row) {
	add := func(name string, size int64, pairs ...any) {
		rows = append(rows, row{name, size, fstest.DirOf(pairs...), nil})
	}
	for _, n := range []int{1, 50, 1000, 200_000} {
		add(fmt.Sprint(n, " names"), 512*mib, "d", named("name-%06d", n))
	}
	add("names of 255 bytes", 256*mib, "d", named(strings.Repeat("n", 249)+"%06d", 1000))
	one := fstest.File("linked")
	links := tree.NewDir(0o755)
	for i := range 2000 { // beyond one item of references
		links.Set(fmt.Sprintf("%04d-%s", i, strings.Repeat("n", i%250)), one)
	}
	add("links in one directory", 256*mib, "d", links)
	dirs := tree.NewDir(0o755)
	for i := range 1000 {
		dirs.Set(fmt.Sprint(i), fstest.DirOf("x", one, "y", one, "own", fstest.DirOf()))
	}
	add("links in many directories", 256*mib, "d", dirs)
	hashes := tree.NewDir(0o755)
	for i := range 100 {
		hashes.Set(collision(fmt.Sprint("n", i, "-")), fstest.File(""))
	}
	add("names of one hash", 256*mib, "d", hashes)
	deep := tree.NewDir(0o755)
	at := deep
	for range 1000 {
		next := tree.NewDir(0o755)
		at.Set("d", next)
		at = next
	}
	add("deep", 256*mib, "d", deep)
	return rows
}

func attributeRows() (rows []row) {
	d := tree.NewDir(0o755)
	for _, n := range []int{0, 1, 255, 4000, maxXattr - len("user.a")} {
		d.Set(fmt.Sprint("file", n), fstest.XattrFile("user.a", strings.Repeat("v", n)))
		link := tree.NewLink("x")
		link.SetXattr("trusted.a", strings.Repeat("v", min(n, 16000)))
		d.Set(fmt.Sprint("link", n), link)
	}
	d.Set("acl", fstest.XattrFile("system.posix_acl_access", fstest.ACL, "security.selinux", "system_u:object_r:usr_t:s0\x00"))
	d.Set("empty acl", fstest.XattrFile("system.posix_acl_access", "\x02\x00\x00\x00"))
	d.Set("long name", fstest.XattrFile("user."+strings.Repeat("n", 250), "x"))
	many, same := fstest.File("x"), fstest.File("x")
	for i := range 5000 {
		many.SetXattr(fmt.Sprint("user.", i), strings.Repeat("v", i%100))
	}
	for i := range 60 {
		same.SetXattr(collision(fmt.Sprint("user.", i, "-")), "value")
	}
	d.Set("many", many)
	d.Set("same hash", same)
	return []row{{"attributes", 256 * mib, d, nil}}
}

func optionRows(t testing.TB) (rows []row) {
	root := func() *tree.Inode {
		root := fstest.DirOf("a", fstest.DirOf("b", fstest.DirOf("c", fstest.Objects(300), "f", text(200_000)), "f", text(300_000)),
			"d", named("%d", 3000), "f", text(400_000), "g", noise(100_000), "h", fstest.Scattered(t, 300))
		tree.Lookup(root, "a/b/f").SetXattr("user.a", "b")
		return root
	}
	add := func(name string, opt func(*Options)) { rows = append(rows, row{name, 512 * mib, root(), opt}) }
	add("label", func(o *Options) { o.Label = strings.Repeat("l", maxLabel) })
	add("single", func(o *Options) { o.SingleMetadata = true })
	add("block group tree", func(o *Options) { o.BlockGroupTree = true })
	for _, c := range []Checksum{XXHash64, SHA256} {
		add(fmt.Sprint("checksum ", c), func(o *Options) { o.Checksum = c })
		add(fmt.Sprint("compressed with checksum ", c), func(o *Options) { o.Checksum, o.Compress.Algorithm, o.BlockGroupTree = c, Zstd, true })
	}
	for _, level := range []int{-15, 1, 3, 7, 15} {
		add(fmt.Sprint("level ", level), func(o *Options) { o.Compress = Compression{Zstd, level} })
	}
	add("subvolumes", func(o *Options) {
		o.Subvolumes = []Subvolume{{Path: "a/b/c", Compress: Compression{Zstd, 1}}, {Path: "/a", ReadOnly: true}, {Path: "d"}, {Path: "a//b/", Compress: Compression{Zlib, 0}}}
		o.Default = "a/b"
	})
	add("in place", func(o *Options) {
		o.Compress.Algorithm = Zstd
		o.NoDataCow = []string{"a", "f"}
		o.Subvolumes = []Subvolume{{Path: "a/b", Compress: Compression{Zstd, 1}}}
	})
	one := fstest.File(strings.Repeat("shared ", 1000))
	shared := fstest.DirOf("a", fstest.DirOf("x", one, "y", one), "b", fstest.DirOf("x", one), "x", one)
	rows = append(rows, row{"linked over subvolumes", 256 * mib, shared, func(o *Options) {
		o.Subvolumes = []Subvolume{{Path: "a", Compress: Compression{Zstd, 1}}, {Path: "b"}}
	}})
	volumes := tree.NewDir(0o755)
	for i := range 300 {
		volumes.Set(fmt.Sprint(i), fstest.DirOf("f", fstest.File("x")))
	}
	rows = append(rows, row{"many subvolumes", 512 * mib, volumes, func(o *Options) {
		for i := range 300 {
			o.Subvolumes = append(o.Subvolumes, Subvolume{Path: fmt.Sprint(i)})
		}
	}})
	return rows
}

func sizeRows() (rows []row) {
	root := fstest.DirOf("d", named("%d", 1000), "f", zeros(20*mib), "g", text(100_000))
	for _, size := range []int64{
		minSize, minSize + 1, minSize + 4095, minSize + 4096, 128 * mib, 333*mib + 12345, 1 * gib, 50 * gib, 50*gib + 4096, 60 * gib,
		256*gib + 4095, 256*gib + 4096, 300 * gib, 10 * tib, 15 * tib,
	} {
		rows = append(rows, row{fmt.Sprint("size ", size), size, root, nil})
	}
	// Content lies over all copies of the superblock. It has no checksums, which
	// would take as long as reading it.
	over := fstest.DirOf("a", zeros(258*gib), "b", noise(5*mib))
	for _, single := range []bool{false, true} {
		rows = append(rows, row{fmt.Sprint("over superblocks, single ", single), 300 * gib, over, func(o *Options) {
			o.NoDataCow, o.SingleMetadata = []string{"a"}, single
		}})
	}
	return rows
}

// TestMeta checks that complaints are found at all.
func TestMeta(t *testing.T) {
	image := writeImage(t, fstest.DirOf("f", noise(mib), "d", named("%d", 100)), 256*mib, testOptions())
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	data, err := fstest.Noise(mib, mib).ReadAll(mib)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), string(data[:4096]))
	for name, off := range map[string]int{"content": at + 5, "a node": 17*mib + 500} {
		f, err := os.OpenFile(image, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{b[off] ^ 1}, int64(off)); err != nil {
			t.Fatal(err)
		}
		if complaints(t, image) == "" {
			t.Errorf("a wrong bit in %s is not found", name)
		}
		if _, err := f.WriteAt([]byte{b[off]}, int64(off)); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	check(t, image)
}

// TestRefused names what btrfs cannot hold.
func TestRefused(t *testing.T) {
	dir := fstest.DirOf("x", fstest.File("x"))
	crowd, sameAttr := tree.NewDir(0o755), fstest.File("x")
	for i := range 70 {
		crowd.Set(collision(fmt.Sprintf("%03d-%s", i, strings.Repeat("n", 240))), fstest.File(""))
		sameAttr.SetXattr(collision(fmt.Sprintf("user.%03d-%s", i, strings.Repeat("n", 200))), strings.Repeat("v", 100))
	}
	other := protected(t, content.String("content"))
	other.Content = content.String("something else")
	for name, c := range map[string]struct {
		root *tree.Inode
		want string
	}{
		"attribute":    {fstest.DirOf("bad", fstest.XattrFile("user.a", strings.Repeat("v", maxXattr-len("user.a")+1))), "/bad"},
		"name space":   {fstest.DirOf("bad", fstest.XattrFile("other.a", "v")), "name space"},
		"property":     {fstest.DirOf("bad", fstest.XattrFile("btrfs.compression", "zstd")), "name space"},
		"long name":    {fstest.DirOf("bad", fstest.XattrFile("user."+strings.Repeat("n", 251), "v")), "/bad"},
		"ACL":          {fstest.DirOf("bad", fstest.XattrFile("system.posix_acl_access", "v")), "/bad"},
		"same hash":    {fstest.DirOf("bad", crowd), "/bad"},
		"same attr":    {fstest.DirOf("bad", sameAttr), "/bad"},
		"link":         {fstest.DirOf("bad", tree.NewLink(strings.Repeat("t", maxTarget+1))), "/bad"},
		"empty link":   {fstest.DirOf("bad", tree.NewLink("")), "/bad"},
		"major":        {fstest.DirOf("bad", &tree.Inode{Mode: tree.TypeChar, Major: maxMajor + 1}), "/bad"},
		"minor":        {fstest.DirOf("bad", &tree.Inode{Mode: tree.TypeChar, Minor: maxMinor + 1}), "/bad"},
		"type":         {fstest.DirOf("bad", &tree.Inode{Mode: 0o644}), "/bad"},
		"immutable":    {fstest.DirOf("bad", &tree.Inode{Mode: tree.TypeFIFO, Flags: tree.Immutable}), "/bad"},
		"twice":        {fstest.DirOf("a", dir, "bad", dir), "/bad"},
		"no inode":     {fstest.DirOf("bad", (*tree.Inode)(nil)), "/bad"},
		"other verity": {fstest.DirOf("bad", other), "/bad"},
	} {
		_, err := Write(context.Background(), c.root, 256*mib, testOptions())
		if err == nil || !strings.Contains(err.Error(), c.want) || fault.ClassOf(err) != fault.BadImage {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Write(context.Background(), fstest.File("x"), 256*mib, testOptions()); err == nil {
		t.Error("a file as root")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Write(ctx, fstest.Objects(10), 256*mib, testOptions()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestOptionsRefused names options that are not valid.
func TestOptionsRefused(t *testing.T) {
	root := fstest.DirOf("a", fstest.DirOf("b", fstest.DirOf()), "f", fstest.File("x"))
	for name, set := range map[string]func(*Options){
		"UUID":              func(o *Options) { o.UUID = [16]byte{} },
		"label":             func(o *Options) { o.Label = strings.Repeat("l", maxLabel+1) },
		"label newline":     func(o *Options) { o.Label = "a\nb" },
		"time":              func(o *Options) { o.Time = -1 },
		"checksum":          func(o *Options) { o.Checksum = 9 },
		"level":             func(o *Options) { o.Compress = Compression{Zstd, 16} },
		"level of zlib":     func(o *Options) { o.Subvolumes = []Subvolume{{Path: "a", Compress: Compression{Zlib, -1}}} },
		"subvolume":         func(o *Options) { o.Subvolumes = []Subvolume{{Path: "c"}} },
		"subvolume file":    func(o *Options) { o.Subvolumes = []Subvolume{{Path: "f"}} },
		"subvolume root":    func(o *Options) { o.Subvolumes = []Subvolume{{Path: "/"}} },
		"subvolume twice":   func(o *Options) { o.Subvolumes = []Subvolume{{Path: "a"}, {Path: "/a"}} },
		"default":           func(o *Options) { o.Default = "a" },
		"in place":          func(o *Options) { o.NoDataCow = []string{"c"} },
		"default not there": func(o *Options) { o.Default = "c" },
	} {
		opt := testOptions()
		set(&opt)
		_, err := Size(root, 0, opt)
		if err == nil || fault.ClassOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	opt := testOptions()
	opt.Compress.Algorithm = Zstd
	if _, err := Size(root, 0, opt); err == nil {
		t.Error("compression without packed content")
	}
}

// TestSize checks that the least size is one, and that it leaves free space.
func TestSize(t *testing.T) {
	for name, root := range map[string]*tree.Inode{
		"empty":     tree.NewDir(0o755),
		"one file":  fstest.DirOf("f", zeros(100*mib)),
		"objects":   fstest.Objects(5000),
		"scattered": fstest.DirOf("f", fstest.Scattered(t, 3000)),
		"large":     fstest.DirOf("f", zeros(1200*mib)),
		"names":     named(strings.Repeat("n", 200)+"%d", 40000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, set := range []func(*Options){func(*Options) {}, func(o *Options) { o.SingleMetadata = true }, func(o *Options) { o.Compress.Algorithm = Zstd }} {
				opt := testOptions()
				set(&opt)
				if name == "large" && opt.Compress.Algorithm != NoCompression {
					continue
				}
				opt = packedOptions(t, root, opt)
				for _, free := range []int64{0, 100 * mib, 20 * gib} {
					size, err := Size(root, free, opt)
					if err != nil {
						t.Fatal(err)
					}
					if size%mib != 0 || size < free {
						t.Errorf("%d bytes for %d free ones", size, free)
					}
					extents, err := Write(context.Background(), root, size, opt)
					if err != nil {
						t.Fatal(err)
					}
					if free == 0 {
						check(t, fstest.Materialise(t, extents, size))
						var small *filesystem.TooSmallError
						if _, err := Write(context.Background(), root, size-size/20-2*mib, opt); !errors.As(err, &small) || small.Need != size || fault.ClassOf(err) != fault.NoSpace {
							t.Errorf("less than %d bytes: %v", size, err)
						}
					}
				}
			}
		})
	}
	if _, err := Size(tree.NewDir(0o755), -1, testOptions()); err == nil {
		t.Error("less than nothing free")
	}
	if _, err := Size(tree.NewDir(0o755), 1<<62, testOptions()); err == nil {
		t.Error("too much free")
	}
	if _, err := Write(context.Background(), tree.NewDir(0o755), 1<<60, testOptions()); err == nil {
		t.Error("too large")
	}
}
