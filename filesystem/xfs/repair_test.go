package xfs

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

const (
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

// named returns a directory of n names, made by format, of one file.
func named(format string, n int) *tree.Inode {
	d, f := tree.NewDir(0o755), fstest.File("")
	for i := range n {
		d.Set(fmt.Sprintf(format, i), f)
	}
	return d
}

func value(n int) string { return strings.Repeat("v", n) }

// row is a file system that xfs_repair has to find clean.
type row struct {
	name string
	size int64
	root *tree.Inode
	opt  func(*Options)
}

// TestRepair has xfs_repair check file systems at the limits of the format.
func TestRepair(t *testing.T) {
	var rows []row
	rows = append(rows, directoryRows()...)
	rows = append(rows, attributeRows()...)
	rows = append(rows, fileRows(t)...)
	rows = append(rows, sizeRows()...)
	for _, n := range []int{100, 300, 20000} { // one to three levels of owners
		rows = append(rows, row{fmt.Sprint(n, " owners"), 600 * mib, fstest.DirOf("f", fstest.Scattered(t, n)), func(o *Options) { o.Features, o.AGCount = DefaultFeatures|Rmapbt, 2 }})
	}
	// The same with parent pointers, of which a file has one for each name.
	for _, r := range slices.Concat(directoryRows(), attributeRows(), fileRows(t)) {
		if mostNames(r.root) > 20_000 && os.Getenv("IMGBUILD_SOAK") == "" {
			continue // xfs_repair takes minutes: the square of their number
		}
		rows = append(rows, row{"parents: " + r.name, max(r.size, gib), r.root, func(o *Options) {
			if r.opt != nil {
				r.opt(o)
			}
			o.Features = newest
		}})
	}
	rows = append(rows, parentRows()...)
	for _, r := range rows {
		// Entries are sorted when they are first asked for.
		tree.Walk(r.root, func(_ string, i *tree.Inode) error { i.Entries(); return nil })
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			opt := testOptions()
			if r.opt != nil {
				r.opt(&opt)
			}
			repair(t, writeImage(t, r.root, r.size, opt))
		})
	}
}

// mostNames returns the largest number of names of one file.
func mostNames(root *tree.Inode) (most int) {
	names := map[*tree.Inode]int{}
	_ = tree.Walk(root, func(_ string, i *tree.Inode) error {
		names[i]++
		most = max(most, names[i])
		return nil
	})
	return most
}

// parentRows are files whose parent pointers are on the limits: of the short form,
// of one leaf, of several, among attributes of all sizes.
func parentRows() (rows []row) {
	add := func(name string, root *tree.Inode) {
		rows = append(rows, row{name, gib, root, func(o *Options) { o.Features = newest }})
	}
	// The short form has room for 280 bytes, 4 of them a header, and an entry of
	// 15 and the name each.
	for _, n := range []int{1, 255} {
		for _, value := range []int{0, 1, 2, 3, 200, 250, 254, 255, 256} {
			f := fstest.XattrFile("user.a", strings.Repeat("v", value))
			add(fmt.Sprint("parent of a name of ", n, " and a value of ", value), fstest.DirOf(strings.Repeat("n", n), f))
		}
	}
	// Names of 100 take 128 bytes in a leaf, so that 31 fill one.
	for _, names := range []int{2, 3, 4, 30, 31, 32, 33, 61, 62, 63, 64, 65} {
		d, f, l := tree.NewDir(0o755), fstest.File("x"), tree.NewLink(value(200))
		for k := range names {
			d.Set(fmt.Sprintf("%0100d", k), f)
			d.Set(fmt.Sprintf("l%099d", k), l)
		}
		add(fmt.Sprint(names, " long names"), fstest.DirOf("d", d))
	}
	// Next to attributes of every size, some of which must leave the leaves.
	for _, size := range []int{10, 1000, 1200, 1230, 1231, 1400, 3050, 3070, 20000} {
		f := fstest.File("x")
		for k := range 9 {
			f.SetXattr(fmt.Sprint([]string{"user.", "trusted.", "security."}[k%3], k), value(size+k))
		}
		d := tree.NewDir(0o755)
		for k := range 120 {
			d.Set(fmt.Sprintf("%0*d", 1+k*2, k), f)
		}
		add(fmt.Sprint("names next to values of ", size), fstest.DirOf("d", d))
	}
	// Names of one hash in one directory, and one name in many.
	same := fstest.File("x")
	d := tree.NewDir(0o755)
	for k := range 400 {
		d.Set(collision(k), same)
	}
	many := fstest.DirOf("d", d)
	for k := range 2000 {
		many.Set(fmt.Sprint("sub-", k), fstest.DirOf("name", same))
	}
	add("names of one hash, and one name in many directories", many)
	dirs := tree.NewDir(0o755)
	for k := range 300 {
		sub := fstest.DirOf(fmt.Sprint(k), fstest.File("x"))
		sub.SetXattr("user.a", value(k*20))
		dirs.Set(fmt.Sprintf("%0*d", 1+k%255, k), sub)
	}
	add("directories with attributes", fstest.DirOf("d", dirs))
	return rows
}

// directoryRows are directories around the changes of form.
func directoryRows() (rows []row) {
	add := func(name string, root *tree.Inode) { rows = append(rows, row{name: name, size: 300 * mib, root: root}) }
	// The short form has room for 330 bytes of entries, 8 and the name each.
	// With a label of 27 bytes, 288 are left of 336.
	for _, n := range []int{0, 1, 29, 30, 31} {
		add(fmt.Sprint("short of ", n), fstest.DirOf("d", named("%03d", n)))
		d := named("%03d", n-min(n, 5))
		d.SetXattr("security.selinux", "system_u:object_r:usr_t:s0\x00")
		add(fmt.Sprint("labelled short of ", n-min(n, 5)), fstest.DirOf("d", d))
	}
	// A block: 64 bytes of header, 24 and 8 for each of names of 4 to 12 bytes,
	// 40 for "." and "..", 8 of tail.
	for _, n := range []int{122, 123, 124} {
		add(fmt.Sprint("block of ", n), fstest.DirOf("d", named("%012d", n)))
	}
	for _, n := range []int{0, 1, 2, 3} { // to 4088, 4096, 4104 and 4112 bytes
		d := named("%012d", 124-n)
		for i := range n {
			d.Set(fmt.Sprintf("longer %06d", i), fstest.File(""))
		}
		add(fmt.Sprint("block with longer names: ", n), fstest.DirOf("d", d))
	}
	for _, n := range []int{1, 2, 3, 12, 13, 14, 15} {
		add(fmt.Sprint(n, " long names"), fstest.DirOf("d", named("%0255d", n)))
	}
	// One leaf: 64 bytes of header, 8 for each entry, 2 for each block.
	for n := 495; n <= 504; n++ {
		add(fmt.Sprint("leaf of ", n), fstest.DirOf("d", named("%04d", n)))
		add(fmt.Sprint("leaf above four blocks of ", n), fstest.DirOf("d", named("%020d", n)))
	}
	add("10,000 entries", fstest.DirOf("d", named("entry-%d", 10000)))
	add("200,000 entries", fstest.DirOf("d", named("this is entry %d", 200000)))
	add("two levels of nodes", fstest.DirOf("d", named("%d", (nodeFanout+1)*leafFill)))
	add("several free indices", fstest.DirOf("d", named("%0255d", 2016*14+100)))
	high := tree.NewDir(0o755)
	for i := range 1000 {
		high.Set(fmt.Sprintf("%d \xff\x80ÄÖÜß€\xfe %d", i, i*7919), fstest.File(""))
	}
	add("names beyond ASCII", fstest.DirOf("d", high))
	add("large root", named("%0200d", 1000))
	for _, n := range []int{2, 400, 503, 504} {
		d := colliding(n)
		for i := range 300 {
			d.Set(fmt.Sprint("other-", i), fstest.File(""))
		}
		add(fmt.Sprint(n, " names of one hash"), fstest.DirOf("d", d))
	}
	many := tree.NewDir(0o755)
	for i := range 3000 {
		many.Set(fmt.Sprint(i), tree.NewDir(0o700))
	}
	add("3,000 directories", fstest.DirOf("d", many))
	deep := tree.NewDir(0o755)
	for range 500 {
		deep = fstest.DirOf("d", deep)
	}
	add("500 levels", deep)
	return rows
}

// colliding returns a directory of n names with the same hash.
func colliding(n int) *tree.Inode {
	// The first four characters are rotated to where the last ones of 32 are
	// not, so each pair can be changed in two places that cancel.
	d := tree.NewDir(0o755)
	f := fstest.File("")
	for i := 0; d.Len() < n; i++ {
		d.Set(collision(i), f)
	}
	return d
}

// collision returns a name whose hash does not depend on i: bit 0 of a
// character counts as bit 7 of the next one, which is its sign.
func collision(i int) string {
	b := []byte(strings.Repeat("aa", 16))
	for bit := range 15 {
		if i>>bit&1 == 1 {
			b[2*bit] ^= 1
			b[2*bit+1] ^= 0x80
		}
	}
	return string(b)
}

// attributeRows are attributes around the changes of form.
func attributeRows() (rows []row) {
	add := func(name string, i *tree.Inode) {
		rows = append(rows, row{name: name, size: 300 * mib, root: fstest.DirOf("f", i)})
	}
	// Short: 280 bytes with 4 of header and 3, name and value for each; a value
	// of 255 at most. Local: up to 3,071 bytes with 3 and the name.
	for _, n := range []int{0, 1, 28, 29, 254, 255, 256, 3063, 3064, 3067, 3068, 3069, 4040, 4041, 8080, 8081, 65536} {
		add(fmt.Sprint("attribute of ", n), fstest.XattrFile("user.a", value(n)))
		link := tree.NewLink("target")
		link.SetXattr("trusted.abc", value(n))
		add(fmt.Sprint("attribute of a link of ", n), link)
		device := &tree.Inode{Mode: tree.TypeChar | 0o600, Major: 1, Minor: 3}
		device.SetXattr("security.abc", value(n))
		device.SetXattr("security.b", value(60))
		add(fmt.Sprint("attribute of a device of ", n), device)
	}
	for _, n := range []int{11, 12, 13, 14, 61, 62, 63} {
		add(fmt.Sprint("short attributes with ", n), fstest.XattrFile("user.a", value(200), "user.b", value(n)))
	}
	for _, n := range []int{10, 40, 60, 300, 3000, 20000} {
		f := fstest.File("")
		for i := range n {
			f.SetXattr(fmt.Sprintf("user.attribute-%02d", i), value(i%60+20))
		}
		add(fmt.Sprint(n, " attributes"), f)
	}
	// A leaf has 4,016 bytes, 8 and 3, name and value rounded up for each.
	for _, n := range []int{991, 992, 993, 994, 995, 996, 997} {
		add(fmt.Sprint("full leaf with ", n), fstest.XattrFile("user.a", value(992), "user.b", value(992), "user.c", value(992), "user.d", value(n)))
	}
	one := fstest.File("")
	for i := range 40 {
		one.SetXattr(fmt.Sprintf("%s.%0250d", []string{"user", "trusted", "security"}[i%3], i/3), value(i*150))
	}
	add("names in three name spaces", one)
	same := fstest.File("")
	for i := range 12 {
		same.SetXattr("user."+collision(i), value(i*200))
	}
	add("names of one hash", same)
	add("access control lists", fstest.With(fstest.XattrFile("system.posix_acl_access", fstest.ACL, "trusted.SGI_ACL_FILE", "\x00\x00\x00\x00"), func(i *tree.Inode) {
		i.Mode |= 0o4000
	}))
	add("default access control list", fstest.With(tree.NewDir(0o700), func(d *tree.Inode) { d.SetXattr("system.posix_acl_default", fstest.ACL) }))
	shared := tree.NewDir(0o755)
	for i := range 3000 {
		shared.Set(fmt.Sprint(i), fstest.XattrFile("user.large", value(500), "security.selinux", "system_u:object_r:usr_t:s0\x00"))
	}
	add("shared attributes", shared)
	return rows
}

// fileRows are files of all types.
func fileRows(t testing.TB) (rows []row) {
	add := func(name string, size int64, root *tree.Inode) {
		rows = append(rows, row{name: name, size: size, root: root})
	}
	links := tree.NewDir(0o755)
	for _, n := range []int{1, 287, 288, 289, 335, 336, 337, 1022, 1023} {
		links.Set(fmt.Sprint(n), tree.NewLink(value(n)))
		links.Set(fmt.Sprint(n, "l"), fstest.With(tree.NewLink(value(n)), func(i *tree.Inode) { i.SetXattr("security.selinux", value(30)) }))
		links.Set(fmt.Sprint(n, "x"), fstest.With(tree.NewLink(value(n)), func(i *tree.Inode) { i.SetXattr("security.selinux", value(300)) }))
	}
	add("symbolic links", 300*mib, links)
	// An inode has room for 21 extents, a block of their tree for 251.
	for _, n := range []int{0, 1, 20, 21, 22, 251, 252, 4399, 4400, 4401, 4420} {
		add(fmt.Sprint(n, " extents"), 300*mib, fstest.DirOf("f", fstest.Scattered(t, n)))
	}
	for _, n := range []int{17, 18, 19, 3, 4} {
		f := fstest.Scattered(t, n)
		f.SetXattr("user.a", value(34))
		g := fstest.Scattered(t, n)
		g.SetXattr("user.a", value(250))
		add(fmt.Sprint(n, " extents and attributes"), 300*mib, fstest.DirOf("f", f, "g", g))
	}
	last := content.Piece{Off: 1<<63 - 2, Ref: content.String("z")}
	add("largest file", 300*mib, fstest.DirOf("f", tree.NewFile(0o644, fstest.Sparse(t, 1<<63-1, content.Piece{Ref: content.String("a")}, last))))
	add("largest hole", 300*mib, fstest.DirOf("f", tree.NewFile(0o644, fstest.Sparse(t, 1<<63-1))))
	add("over all groups", 2*gib, fstest.DirOf("f", tree.NewFile(0o644, fstest.Zeros(1800*mib)), "g", fstest.File("x")))
	add("full extents", 40*gib, fstest.DirOf("f", tree.NewFile(0o644, fstest.Zeros(30*gib)), "g", fstest.File("x")))
	for _, n := range []int{64999, 65535, 65536, 140000} {
		add(fmt.Sprint(n, " links"), 300*mib, fstest.DirOf("d", named("%d", n)))
	}
	special := tree.NewDir(0o1777)
	for _, n := range [][2]uint32{{0, 0}, {8, 1}, {255, 255}, {256, 0}, {0, 256}, {maxMajor, maxMinor}} {
		special.Set(fmt.Sprint("c", n), &tree.Inode{Mode: tree.TypeChar | 0o600, Major: n[0], Minor: n[1]})
		special.Set(fmt.Sprint("b", n), &tree.Inode{Mode: tree.TypeBlock | 0o600, Major: n[0], Minor: n[1]})
	}
	special.Set("fifo", &tree.Inode{Mode: tree.TypeFIFO | 0o644, UID: 1 << 31, GID: 70000})
	special.Set("socket", fstest.With(&tree.Inode{Mode: tree.TypeSock | 0o755}, func(i *tree.Inode) { i.SetXattr("security.selinux", "s\x00") }))
	special.Set("suid", fstest.With(fstest.File("s"), func(i *tree.Inode) { i.Mode |= 0o6000 }))
	for _, s := range []int64{-1 << 62, minTime, -1, 0, maxTime, 1 << 31, 1 << 32, maxBigtime, maxBigtime + 1, 1 << 62} {
		special.Set(fmt.Sprint("time", s), fstest.With(fstest.File(""), func(i *tree.Inode) { i.Mtime = s }))
	}
	immutable := func(i *tree.Inode) { i.Flags = tree.Immutable }
	special.Set("immutable", fstest.With(fstest.DirOf("f", fstest.With(fstest.File("i"), immutable)), immutable))
	add("special files", 300*mib, special)
	// 63 more than the root and the two of the realtime part fill a chunk.
	for _, n := range []int{60, 61, 62, 252*64*4 - 3, 252*64*4 + 2000} {
		d := tree.NewDir(0o755)
		for i := range n - 1 {
			d.Set(fmt.Sprint(i), fstest.File(""))
		}
		add(fmt.Sprint(n, " inodes"), gib, d)
	}
	return rows
}

// sizeRows are sizes, geometries and features.
func sizeRows() (rows []row) {
	root := fstest.DirOf("d", named("%d", 1000), "f", tree.NewFile(0o644, fstest.Zeros(20*mib)), "l", fstest.XattrFile("user.a", value(5000)))
	for i := range 300 {
		root.Set(fmt.Sprint("dir", i), fstest.DirOf("f", fstest.File("x"), "g", fstest.XattrFile("security.selinux", value(30))))
	}
	for _, size := range []int64{
		300 * mib, 300*mib + 1, 301*mib - 1, 1 * gib, 1*gib + 5*4096, 2*gib + 100*mib, 20 * gib, 100*gib + 12345, 1*tib - 4096, 1 * tib,
		4*tib - 4096, 4 * tib, 4*tib + 16*mib, 8 * tib, 15 * tib,
	} {
		rows = append(rows, row{fmt.Sprint("size ", size), size, root, nil})
	}
	options := func(name string, size int64, opt func(*Options)) {
		rows = append(rows, row{name, size, root, opt})
	}
	options("label", 300*mib, func(o *Options) { o.Label = "twelve bytes" })
	options("late", 300*mib, func(o *Options) { o.Time = 1<<31 + 5 })
	for _, f := range []Features{
		NoFeatures, Finobt, Finobt | InobtCount, Reflink, Bigtime, NrExt64, DefaultFeatures | Rmapbt, Rmapbt, Finobt | Reflink,
		DefaultFeatures | Rmapbt | NrExt64, DefaultFeatures | NrExt64,
	} {
		for _, size := range []int64{300 * mib, 10 * gib} {
			options(fmt.Sprintf("features %#x of %d", f, size), size, func(o *Options) { o.Features = f })
			options(fmt.Sprintf("features %#x with sectors of 4096 of %d", f, size), size, func(o *Options) { o.Features, o.SectorSize = f, 4096 })
		}
	}
	for _, n := range []int64{2, 3, 5, 16} {
		options(fmt.Sprint(n, " groups"), 2*gib, func(o *Options) { o.AGCount = n })
	}
	options("100 groups", 100*gib, func(o *Options) { o.AGCount = 100 })
	for _, s := range [][2]int64{{4096, 4096}, {8192, 3 * 8192}, {64 << 10, 256 << 10}, {256 << 10, 512 << 10}, {512 << 10, 2 << 20}, {1 * mib, 10 * mib}} {
		for _, size := range []int64{gib, 20*gib + 5*mib, 600 * gib} {
			options(fmt.Sprint("stripes ", s, " of ", size), size, func(o *Options) {
				o.StripeUnit, o.StripeWidth = s[0], s[1]
				if s[0] == 64<<10 {
					o.SectorSize, o.Features = 4096, DefaultFeatures|Rmapbt
				}
			})
		}
	}
	options("large log", 20*gib, func(o *Options) { o.LogSize = 1*gib - 4096 })
	options("largest log", 20*gib, func(o *Options) { o.LogSize = maxLog })
	return rows
}
