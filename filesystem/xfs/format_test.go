package xfs

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// TestHash compares hashes with those of xfs_db.
func TestHash(t *testing.T) {
	for name, want := range map[string]uint32{"..": 0x172e, "selinux": 0xcd3a75d6, "entry-number-00000": 0x1cf4e5e6} {
		if got := nameHash(name); got != want {
			t.Errorf("%q: %#x, want %#x", name, got, want)
		}
	}
	var names, commands []string
	for n := 1; n <= 255; n += 1 + n/9 {
		names = append(names, strings.Repeat("abcdefghijk", 24)[:n])
	}
	for _, name := range names {
		commands = append(commands, "hash "+name)
	}
	out := strings.Fields(db(t, writeImage(t, tree.NewDir(0o755), 300*mib, testOptions()), commands...))
	for i, name := range names {
		if want := fmt.Sprintf("%#x", nameHash(name)); i >= len(out) || out[i] != want {
			t.Fatalf("%q: %s, xfs_db says %q", name, want, out)
		}
	}
	for i := range 1 << 15 {
		if h := nameHash(collision(i)); h != nameHash(collision(0)) {
			t.Fatalf("collision %d has the hash %#x", i, h)
		}
	}
}

// TestGolden compares structures with those that the kernel and mkfs.xfs made.
func TestGolden(t *testing.T) {
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %s, want %s", what, got, want)
		}
	}
	e := newExtent(0, 424, 3)
	check("extent", fmt.Sprintf("%016x%016x", e.hi, e.lo), "00000000000000000000000035000003")
	e = newExtent(1<<54-1, 1<<52-1, maxExtentLen)
	check("largest extent", fmt.Sprintf("%016x%016x", e.hi, e.lo), "7fffffffffffffffffffffffffffffff")
	if e.logical() != 1<<54-1 || e.start() != 1<<52-1 || e.n() != maxExtentLen {
		t.Errorf("%d, %d, %d", e.logical(), e.start(), e.n())
	}
	var b [inodeSize]byte
	d := diskInode{time: 1700000000, bigtime: true}
	d.encode(b[:])
	check("time", hex.EncodeToString(b[40:48]), "356501fe362a0000")
	check("device", hex.EncodeToString(deviceNumber(&tree.Inode{Mode: tree.TypeBlock, Major: 8, Minor: 17})), "00200011")
	var row blockRow
	set, err := newAttrSet(&row, []attr{{name: "z", value: "1"}}, 100)
	if err != nil {
		t.Fatal(err)
	}
	check("attribute", hex.EncodeToString(set.local), "000901000101007a31")
	addRemote(&row, "ab")
	check("remote value", hex.EncodeToString(row.data[len(row.data)-58:]), "5841524d"+"00000000"+"00000002"+strings.Repeat("00", 36)+"ffffffffffffffff"+"6162")
	a, err := newACL(aclAccess, fstest.ACL)
	if err != nil {
		t.Fatal(err)
	}
	check("access control list", hex.EncodeToString([]byte(a.value)), "00000005"+"00000001ffffffff00060000"+
		"00000002000003e800040000"+"00000004ffffffff00040000"+"00000010ffffffff00060000"+"00000020ffffffff00000000")
	for name, got := range map[string][2]int{
		"bnobt": {byBlockTree.maxLeaf, byBlockTree.maxNode}, "inobt": {inodeTree.maxLeaf, inodeTree.maxNode},
		"rmapbt": {rmapTree.maxLeaf, rmapTree.maxNode}, "refcountbt": {refcountTree.maxLeaf, refcountTree.maxNode},
	} {
		want := map[string][2]int{"bnobt": {505, 336}, "inobt": {252, 505}, "rmapbt": {168, 91}, "refcountbt": {336, 505}}[name]
		if got != want {
			t.Errorf("%s holds %d, want %d", name, got, want)
		}
	}
}

// TestRmapKeys checks the keys of the tree of owners, of which xfs_repair looks
// at the low ones only.
func TestRmapKeys(t *testing.T) {
	leaf := func(list ...owned) []byte { return appendRmapKeys(nil, ownedList(list).encode(), 0) }
	key := func(start uint32, owner, offset uint64) string {
		return fmt.Sprintf("%08x%016x%016x", start, owner, offset)
	}
	a := leaf(owned{10, 5, 131, 100}, owned{15, 3, ownAG, 0}, owned{20, 4, 131, 7 | rmapAttr})
	b := leaf(owned{30, 5, 131, rmapBmbt}, owned{40, 1, ownInodes, 0}, owned{50, 3, 132, rmapBmbt | rmapAttr})
	c := leaf(owned{60, 8, ownInobt, 0})
	for i, x := range []struct {
		got  []byte
		want string
	}{
		{a, key(10, 131, 100) + key(23, 131, 10|rmapAttr)},
		{b, key(30, 131, rmapBmbt) + key(52, 132, rmapBmbt|rmapAttr)},
		{c, key(60, ownInobt, 0) + key(67, ownInobt, 0)},
		{appendRmapKeys(nil, slices.Concat(a, b, c), 1), key(10, 131, 100) + key(67, ownInobt, 0)},
	} {
		if got := hex.EncodeToString(x.got); got != x.want {
			t.Errorf("%d: keys %s, want %s", i, got, x.want)
		}
	}
}

// TestInodes compares what xfs_db says of inodes and their forks.
func TestInodes(t *testing.T) {
	f := fstest.XattrFile("user.a", "1", "trusted.b", "2", "security.c", "3")
	f.UID, f.GID, f.Mtime, f.Mode = 70001, 80002, 1<<32+5, tree.TypeFile|0o6751
	f.Flags = tree.Immutable
	large := fstest.XattrFile("user.large", value(5000))
	root := fstest.DirOf("f", f, "g", f, "large", large, "many", fstest.Scattered(t, 600))
	image := writeImage(t, root, 300*mib, testOptions())
	numbers := map[string]string{}
	for i, name := range []string{"f", "large", "many"} {
		numbers[name] = fmt.Sprint("inode ", 128+3+i)
	}
	for _, c := range []struct {
		name  string
		wants []string
	}{
		{"f", []string{
			"core.mode = 0106751", "core.nlinkv2 = 2", "core.uid = 70001", "core.gid = 80002", "core.immutable = 1", "core.nblocks = 1",
			"core.mtime.sec = Sun Feb  7 06:28:21 2106", "v3.crtime.sec = Sun Feb  7 06:28:21 2106", "core.aformat = 1 (local)",
			"a.sfattr.hdr.count = 3", "root = 1", "secure = 1", "v3.bigtime = 1", "core.size = 1", "(correct)",
		}},
		{"large", []string{"core.aformat = 2 (extents)", "core.naextents = 1", "core.nblocks = 4", "core.forkoff = 37"}},
		{"many", []string{"core.format = 3 (btree)", "core.nextents = 600", "core.nblocks = 603", "u3.bmbt.level = 1", "u3.bmbt.numrecs = 3"}},
	} {
		out := db(t, image, numbers[c.name], "print")
		for _, want := range c.wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s without %q:\n%s", c.name, want, out)
			}
		}
	}
}

// TestDamage has xfs_repair find every part of a file system that was damaged.
func TestDamage(t *testing.T) {
	root := fstest.DirOf("short", named("%d", 3), "block", named("%d", 50), "leaf", named("%d", 300), "node", named("%d", 3000),
		"short attribute", fstest.XattrFile("user.a", "b"), "attributes", fstest.XattrFile("user.a", value(300), "user.b", value(5000)),
		"link", tree.NewLink(value(1000)), "scattered", fstest.Scattered(t, 300))
	opt := testOptions()
	opt.Features = DefaultFeatures | Rmapbt
	ctx := context.Background()
	c, err := collect(ctx, root, &opt)
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.placeIn(ctx, 300*mib/blockSize, 0)
	if err != nil {
		t.Fatal(err)
	}
	extents, err := l.write(ctx)
	if err != nil {
		t.Fatal(err)
	}
	image := fstest.Materialise(t, extents, 300*mib)
	repair(t, image)
	seen := map[string]int64{"superblock": 100, "agf": 512 + 56, "agi": 1024 + 16, "agfl": 1536 + 41, "copy of the superblock": int64(l.agBlocks)<<blockShift + 20}
	for i := range l.nodes {
		n := &l.nodes[i]
		ag, agino := uint64(n.number)>>(l.agBlockLog+inodesPerBlkLog), uint64(n.number)&(1<<(l.agBlockLog+inodesPerBlkLog)-1)
		at := int64(l.linear(ag, agino/inodesPerBlock))<<blockShift + int64(agino%inodesPerBlock)*inodeSize
		seen[fmt.Sprintf("links of %q", n.name)] = at + 19
		seen[fmt.Sprintf("size of %q", n.name)] = at + 60
		seen[fmt.Sprintf("blocks of %q", n.name)] = at + 71
	}
	for i := range l.row.blocks {
		b := &l.row.blocks[i]
		magic := l.row.data[b.off : b.off+10]
		seen[fmt.Sprintf("block %x %x", magic[:4], magic[8:10])] = int64(b.address)<<blockShift + 70
	}
	if len(seen) < 5+3*10+15 {
		t.Errorf("only %d places", len(seen))
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for what, at := range seen {
		var b [1]byte
		flip := func() {
			if _, err := f.ReadAt(b[:], at); err != nil {
				t.Fatal(err)
			}
			b[0] ^= 0x10
			if _, err := f.WriteAt(b[:], at); err != nil {
				t.Fatal(err)
			}
		}
		flip()
		if complaints(t, image) == "" {
			t.Errorf("xfs_repair does not find the damage of the %s at %d", what, at)
		}
		flip()
	}
	repair(t, image)
}

// TestRefused checks the errors of what XFS cannot hold.
func TestRefused(t *testing.T) {
	dir := tree.NewDir(0o755)
	tooMany := fstest.File("")
	for i := range 100 {
		tooMany.SetXattr("user."+strings.Repeat("z", 120)+collision(i)+strings.Repeat("z", 80), value(3))
	}
	for name, c := range map[string]struct {
		root *tree.Inode
		want string
	}{
		"nil":        {nil, "not a directory"},
		"file":       {fstest.File(""), "not a directory"},
		"target":     {fstest.DirOf("l", tree.NewLink(value(1024))), "/l: invalid target of 1024 bytes"},
		"no target":  {fstest.DirOf("d", fstest.DirOf("l", tree.NewLink(""))), "/d/l: invalid target"},
		"NUL":        {fstest.DirOf("l", tree.NewLink("a\x00")), "/l: invalid target"},
		"name space": {fstest.DirOf("f", fstest.XattrFile("system.nfs4_acl", "x")), `/f: attribute "system.nfs4_acl": XFS does not have`},
		"no name":    {fstest.DirOf("f", fstest.XattrFile("user.", "x")), `"user.": invalid name`},
		"long name":  {fstest.DirOf("f", fstest.XattrFile("user."+value(256), "x")), "invalid name"},
		"value":      {fstest.DirOf("f", fstest.XattrFile("user.a", value(65537))), "value of 65537 bytes, more than 65536"},
		"acl":        {fstest.DirOf("f", fstest.XattrFile("system.posix_acl_access", "abc")), "/f: attribute \"system.posix_acl_access\": invalid access control list of 3 bytes"},
		"acl tag":    {fstest.DirOf("f", fstest.XattrFile("system.posix_acl_access", fstest.ACL[:4]+"\x03\x00\x06\x00\xff\xff\xff\xff")), "tag 0x3"},
		"raw acl":    {fstest.DirOf("f", fstest.XattrFile("trusted.SGI_ACL_FILE", "\x00\x00\x00\x01")), "invalid access control list"},
		"hashes":     {fstest.DirOf("f", tooMany), "/f: too many extended attributes whose names have the same hash"},
		"major":      {fstest.DirOf("c", &tree.Inode{Mode: tree.TypeChar, Major: 512}), "/c: device number 512:0"},
		"minor":      {fstest.DirOf("c", &tree.Inode{Mode: tree.TypeBlock, Minor: 1 << 18}), "/c: device number 0:262144"},
		"type":       {fstest.DirOf("x", &tree.Inode{Mode: 0o150000}), "/x: unknown file type"},
		"immutable":  {fstest.DirOf("l", fstest.With(tree.NewLink("x"), func(i *tree.Inode) { i.Flags = tree.Immutable })), "/l: only files and directories"},
		"twice":      {fstest.DirOf("a", dir, "b", dir), "/b: the directory is also /a"},
	} {
		_, err := Write(context.Background(), c.root, gib, testOptions())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		} else if strings.HasPrefix(c.want, "/") && fault.ClassOf(err) != fault.BadImage {
			t.Errorf("%s: class %d", name, fault.ClassOf(err))
		}
		if _, err := Size(c.root, 0, testOptions()); err == nil {
			t.Errorf("%s: Size accepts it", name)
		}
	}
	loop := fstest.DirOf("a", tree.NewDir(0o755))
	loop.Child("a").Set("b", loop)
	if _, err := Write(context.Background(), loop, gib, testOptions()); err == nil || !strings.Contains(err.Error(), "also /") {
		t.Errorf("loop: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Write(ctx, tree.NewDir(0o755), gib, testOptions()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestOptions checks that options are validated.
func TestOptions(t *testing.T) {
	for name, set := range map[string]func(*Options){
		"no UUID":        func(o *Options) { o.UUID = [16]byte{} },
		"label":          func(o *Options) { o.Label = "thirteen byte" },
		"time":           func(o *Options) { o.Time = -1 },
		"feature":        func(o *Options) { o.Features = 1 << 20 },
		"none and one":   func(o *Options) { o.Features = NoFeatures | Finobt },
		"inobtcount":     func(o *Options) { o.Features = InobtCount },
		"sector":         func(o *Options) { o.SectorSize = 2048 },
		"one group":      func(o *Options) { o.AGCount = 1 },
		"negative":       func(o *Options) { o.AGCount = -5 },
		"odd stripe":     func(o *Options) { o.StripeUnit, o.StripeWidth = 1000, 2000 },
		"no width":       func(o *Options) { o.StripeUnit = 4096 },
		"no unit":        func(o *Options) { o.StripeWidth = 4096 },
		"odd width":      func(o *Options) { o.StripeUnit, o.StripeWidth = 8192, 12288 },
		"small log":      func(o *Options) { o.LogSize = minLog - 1 },
		"large log":      func(o *Options) { o.LogSize = maxLog + 1 },
		"negative width": func(o *Options) { o.StripeUnit, o.StripeWidth = 4096, -4096 },
	} {
		opt := testOptions()
		set(&opt)
		_, err := Write(context.Background(), tree.NewDir(0o755), gib, opt)
		if fault.ClassOf(err) != fault.Usage {
			t.Errorf("%s: Write: %v", name, err)
		}
		if _, err := Size(tree.NewDir(0o755), 0, opt); fault.ClassOf(err) != fault.Usage {
			t.Errorf("%s: Size: %v", name, err)
		}
	}
	opt := testOptions()
	opt.AGCount = 2
	if _, err := Write(context.Background(), tree.NewDir(0o755), 3*tib, opt); fault.ClassOf(err) != fault.Usage {
		t.Errorf("groups of 1.5 TiB: %v", err)
	}
	if _, err := Write(context.Background(), tree.NewDir(0o755), maxSize+1, testOptions()); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("more than the largest size: %v", err)
	}
}

// TestTooSmall checks the size that is said to be needed.
func TestTooSmall(t *testing.T) {
	ctx := context.Background()
	var small *filesystem.TooSmallError
	for _, size := range []int64{-1, 0, 300*mib - 1} {
		_, err := Write(ctx, tree.NewDir(0o755), size, testOptions())
		if !errors.As(err, &small) || small.Need != 300*mib || fault.ClassOf(err) != fault.NoSpace {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	groups := func(n int64) Options { o := testOptions(); o.AGCount = n; return o }
	stripes := testOptions()
	stripes.StripeUnit, stripes.StripeWidth = 512*mib, 1024*mib
	for name, c := range map[string]struct {
		root *tree.Inode
		opt  Options
	}{
		"large":      {fstest.DirOf("f", tree.NewFile(0o644, fstest.Zeros(3*gib+1))), testOptions()},
		"hole":       {fstest.DirOf("f", tree.NewFile(0o644, fstest.Sparse(t, 1<<50))), testOptions()},
		"many":       {named("%d", 100_000), testOptions()},
		"inodes":     {fstest.Objects(20_000), testOptions()},
		"scattered":  {fstest.DirOf("f", fstest.Scattered(t, 200_000)), testOptions()},
		"groups":     {tree.NewDir(0o755), groups(1000)},
		"stripes":    {tree.NewDir(0o755), stripes},
		"two groups": {fstest.DirOf("f", tree.NewFile(0o644, fstest.Zeros(3*gib+1))), groups(2)},
	} {
		size, err := Size(c.root, 0, c.opt)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := Write(ctx, c.root, size, c.opt); err != nil {
			t.Errorf("%s in %d bytes: %v", name, size, err)
		}
		if size == 300*mib {
			continue
		}
		if _, err := Write(ctx, c.root, size*19/20, c.opt); !errors.As(err, &small) || small.Need != size {
			t.Errorf("%s in 5%% less than %d bytes: %v", name, size, err)
		}
		more, err := Size(c.root, 5*gib, c.opt)
		if err != nil || more < max(size-size/100, 5*gib) {
			t.Errorf("%s with 5 GiB free: %d: %v", name, more, err)
		}
	}
	if _, err := Size(fstest.DirOf("f", tree.NewFile(0o644, fstest.Zeros(2<<50))), 0, testOptions()); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("2 PiB: %v", err)
	}
	for _, free := range []int64{-1, 1 << 62} {
		if _, err := Size(tree.NewDir(0o755), free, testOptions()); fault.ClassOf(err) != fault.Unsupported {
			t.Errorf("%d free: %v", free, err)
		}
	}
}

// TestManyFiles checks 100,000 files, and 1,000,000 and more sizes where
// IMGBUILD_SOAK is set.
func TestManyFiles(t *testing.T) {
	n, size := 100_000, int64(20*gib)
	if os.Getenv("IMGBUILD_SOAK") != "" {
		n, size = 1_000_000, 60*gib
	}
	root := tree.NewDir(0o755)
	for i := range n / 100 {
		d := tree.NewDir(0o755)
		for k := range 100 {
			f := tree.NewFile(0o644, content.Ref{})
			f.SetXattr("security.selinux", fmt.Sprintf("system_u:object_r:type%d_t:s0\x00", k))
			d.Set(fmt.Sprintf("file-%d", k), f)
		}
		root.Set(fmt.Sprint(i), d)
	}
	opt := testOptions()
	opt.Features = DefaultFeatures | Rmapbt
	repair(t, writeImage(t, root, size, opt))
}

// TestOwners checks that every block of a file system has one owner or is free:
// xfs_repair does not miss the blocks of inode trees.
func TestOwners(t *testing.T) {
	opt := testOptions()
	opt.Features, opt.AGCount, opt.StripeUnit, opt.StripeWidth = DefaultFeatures|Rmapbt, 2, 64<<10, 128<<10
	ctx := context.Background()
	root := fstest.Objects(50_000)
	root.Set("scattered", fstest.Scattered(t, 3000))
	c, err := collect(ctx, root, &opt)
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.placeIn(ctx, 4*gib/blockSize, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{layout: l}
	for ag := range l.groups {
		list, more := w.owners(uint64(ag))
		g := &l.groups[ag]
		if more == 0 || g.inobt == 0 {
			t.Errorf("group %d: %d blocks of owners, %d of inodes", ag, more, g.inobt)
		}
		type part struct {
			run
			what uint64
		}
		var parts []part
		for _, o := range list {
			parts = append(parts, part{run{uint64(o.start), uint64(o.n)}, o.owner})
		}
		for _, r := range g.gaps {
			parts = append(parts, part{r, 0})
		}
		slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.start, b.start) })
		at := uint64(0)
		for _, p := range parts {
			if p.start != at {
				t.Fatalf("group %d: %d blocks of %#x at %d, not at %d", ag, p.n, p.what, p.start, at)
			}
			at = p.end()
		}
		if want := g.next + uint64(more); at != want {
			t.Errorf("group %d: the last owned block is before %d, not %d", ag, at, want)
		}
	}
}
