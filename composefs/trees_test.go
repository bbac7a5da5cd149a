package composefs

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/tree"
)

// object returns a regular file of size bytes whose object checksum is made up
// from seed.
func object(size int64, seed string) *tree.Inode {
	c, err := content.Sparse(size, nil)
	if err != nil {
		panic(err)
	}
	f := tree.NewFile(0o644, c)
	f.Object = sha256.Sum256([]byte(seed))
	return f
}

func with(i *tree.Inode, xattrs ...string) *tree.Inode {
	for k := 0; k < len(xattrs); k += 2 {
		sum := i.Object
		i.SetXattr(xattrs[k], xattrs[k+1])
		i.Object = sum
	}
	return i
}

func device(typ, major, minor uint32) *tree.Inode {
	return &tree.Inode{Mode: typ | 0o600, Major: major, Minor: minor}
}

// at returns a tree with the inodes at the paths.
func at(root *tree.Inode, pairs ...any) *tree.Inode {
	for k := 0; k < len(pairs); k += 2 {
		if err := tree.Put(root, pairs[k].(string), pairs[k+1].(*tree.Inode)); err != nil {
			panic(err)
		}
	}
	return root
}

// names returns a directory of n empty files with names of length bytes.
func names(n, length int) *tree.Inode {
	dir := tree.NewDir(0o755)
	for k := range n {
		dir.Set(fmt.Sprintf("%0*d", length, k), tree.NewFile(0o644, content.Ref{}))
	}
	return dir
}

// dirOfSize returns a directory whose only block has exactly size bytes, the
// dot entries included.
func dirOfSize(size int) *tree.Inode {
	const dots = 2*sizeDirent + 3
	dir := tree.NewDir(0o755)
	for rest, k := size-dots, 0; rest > 0; k++ {
		length := min(rest, sizeDirent+200)
		if left := rest - length; left > 0 && left <= sizeDirent+8 {
			length -= 40
		}
		name := fmt.Sprintf("%03d", k)
		dir.Set(name+strings.Repeat("x", length-sizeDirent-len(name)), tree.NewFile(0o600, content.Ref{}))
		rest -= length
	}
	return dir
}

type namedTree struct {
	name string
	make func() *tree.Inode
}

// trees are the trees that every test of images goes through.
func trees() []namedTree {
	root := func(pairs ...any) func() *tree.Inode {
		return func() *tree.Inode { return at(tree.NewDir(0o755), pairs...) }
	}
	list := []namedTree{
		{"empty", root()},
		{"one", root("/usr/bin/true", object(35000, "true"))},
		{"sizes", sizes},
		{"links", links},
		{"owners", owners},
		{"times", times},
		{"devices", devices},
		{"whiteouts", whiteouts},
		{"names", oddNames},
		{"acl", func() *tree.Inode {
			return at(tree.NewDir(0o755),
				"/a", with(object(1, "a"), "system.posix_acl_access", "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff"),
				"/d", with(tree.NewDir(0o2775), "system.posix_acl_default", "\x02\x00\x00\x00"),
				"/odd", with(object(1, "odd"), "system.posix_acl_access2", "x"))
		}},
		{"acl default only", root("/d", with(tree.NewDir(0o700), "system.posix_acl_default", "d"))},
		{"escapes", escapes},
		{"xattr names", xattrNames},
		{"xattr without suffix", root("/a", with(object(1, "a"), "user.", "x", "trusted.", "y", "security.", ""))},
		{"xattrs unshared", func() *tree.Inode { return manyXattrs(300, false) }},
		{"xattrs shared 127", func() *tree.Inode { return manyXattrs(127, true) }},
		{"xattrs shared 128", func() *tree.Inode { return manyXattrs(128, true) }},
		{"xattrs shared 129", func() *tree.Inode { return manyXattrs(129, true) }},
		{"xattrs shared 300", func() *tree.Inode { return manyXattrs(300, true) }},
		{"xattrs full", fullXattrs},
		{"shared order", sharedOrder},
		{"root label", func() *tree.Inode {
			r := with(tree.NewDir(0o555), "security.selinux", "system_u:object_r:root_t:s0\x00", "user.x", "y")
			r.UID, r.GID, r.Mtime = 7, 8, 9
			return at(r, "/00", object(3, "00"), "/fe", tree.NewDir(0o700), "/FF", object(9, "FF"))
		}},
		{"subdirectories 65533", func() *tree.Inode { return subdirs(65533) }},
		{"subdirectories 65534", func() *tree.Inode { return subdirs(65534) }},
		{"generated", func() *tree.Inode { return generated(5000, 1) }},
		{"generated small", func() *tree.Inode { return generated(300, 2) }},
	}
	for _, size := range []int{2047, 2048, 2049, 4095, 4096} {
		list = append(list, namedTree{fmt.Sprintf("directory of %d", size), root("/d", dirOfSize(size), "/e", dirOfSize(size))})
	}
	for _, n := range []int{1, 18, 130, 138, 139, 277, 292, 500} {
		list = append(list, namedTree{fmt.Sprintf("directory with %d entries", n), root("/d", names(n, 17))})
	}
	for _, n := range []int{14, 15, 16, 31} {
		list = append(list, namedTree{fmt.Sprintf("directory with %d long names", n), root("/d", names(n, 255))})
	}
	return list
}

func sizes() *tree.Inode {
	r := tree.NewDir(0o755)
	for _, size := range []int64{0, 1, 2, 64, 65, 4095, 4096, 4097, 8192, 8193, 1 << 20, 1<<32 - 2, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1<<40 + 5, maxFileSize - 1, maxFileSize} {
		at(r, fmt.Sprintf("/size/%d", size), object(size, fmt.Sprint(size)))
	}
	shared := object(5, "five")
	return at(r, "/a", shared, "/b", shared)
}

func links() *tree.Inode {
	r := tree.NewDir(0o755)
	for _, n := range []int{1, 31, 32, 33, 60, 2047, 2048, 2049, 3999, 4030, 4031, 4032, 4063, 4064, 4065, 4094, 4095} {
		at(r, fmt.Sprintf("/plain/%04d", n), tree.NewLink(strings.Repeat("t", n)))
		at(r, fmt.Sprintf("/xattr/%04d", n), with(tree.NewLink(strings.Repeat("t", n)), "user.n", fmt.Sprint(n)))
	}
	late := tree.NewLink(strings.Repeat("l", 4000))
	late.Mtime = 5
	big := with(tree.NewLink("x"), "user.big", strings.Repeat("b", 5000))
	return at(r, "/dash", tree.NewLink("-"), "/utf8", tree.NewLink("größe/\n\t\\"), "/late", late, "/big", big)
}

func owners() *tree.Inode {
	r := tree.NewDir(0o755)
	for k, id := range []uint32{0, 1, 1000, 65534, 65535, 65536, 1 << 20, 1<<32 - 1} {
		a, b, d := object(9, "a"), object(9, "b"), tree.NewDir(0o1777)
		a.UID, b.GID, d.UID, d.GID = id, id, id, id
		b.Mode |= 0o6000
		at(r, fmt.Sprintf("/%d/a", k), a, fmt.Sprintf("/%d/b", k), b, fmt.Sprintf("/%d/d", k), d)
	}
	return r
}

func times() *tree.Inode {
	r := tree.NewDir(0o755)
	r.Mtime = 1000
	for k, t := range []int64{1000, 1001, 999, 0, 1 << 31, 1 << 33, 1<<62 + 5} {
		f, l := object(1, "f"), tree.NewLink("l")
		f.Mtime, l.Mtime = t, t
		at(r, fmt.Sprintf("/f%d", k), f, fmt.Sprintf("/l%d", k), l)
	}
	return r
}

func devices() *tree.Inode {
	return at(tree.NewDir(0o755),
		"/dev/null", device(tree.TypeChar, 1, 3),
		"/dev/sda", device(tree.TypeBlock, 8, 0),
		"/dev/zero-block", device(tree.TypeBlock, 0, 0),
		"/dev/big", device(tree.TypeChar, 0xfff, 0xfffff),
		"/dev/minor", device(tree.TypeBlock, 259, 300),
		"/dev/fifo", device(tree.TypeFIFO, 0, 0),
		"/dev/sock", device(tree.TypeSock, 0, 0))
}

func whiteouts() *tree.Inode {
	w := func() *tree.Inode { return device(tree.TypeChar, 0, 0) }
	return at(tree.NewDir(0o755),
		"/gone", w(), "/ab", w(),
		"/d/gone", with(w(), "security.selinux", "label", "trusted.overlay.whiteout", ""),
		"/d/also", w(), "/e/f/g", w(),
		"/x", with(tree.NewDir(0o755), "trusted.overlay.opaque", "y", "user.overlay.other", "n"),
		"/x/gone", w())
}

func oddNames() *tree.Inode {
	r := tree.NewDir(0o755)
	for _, name := range []string{"!before", "-", ".-between", ".", "..after", "...", ".a", "~", "größe", "日本語", "\xff\xfe", "a b", "tab\t", "line\nfeed", "back\\slash", "=", strings.Repeat("n", 255)} {
		if tree.ValidName(name) {
			at(r, "/"+name, object(3, name), "/sub/"+name+"x"[:min(1, 255-len(name))], tree.NewDir(0o700))
		}
	}
	return r
}

func escapes() *tree.Inode {
	return at(tree.NewDir(0o755),
		"/f", with(object(77, "f"), "trusted.overlay.metacopy", "old", "trusted.overlay.redirect", "/x",
			"trusted.overlay.overlay.metacopy", "older", "trusted.overlay.", "", "trusted.other", "1", "user.overlay.opaque", "y"),
		"/empty", with(tree.NewFile(0o600, content.Ref{}), "trusted.overlay.metacopy", ""),
		"/long", with(object(1, "l"), "trusted.overlay."+strings.Repeat("l", 239), "v"),
		"/d", with(tree.NewDir(0o755), "trusted.overlay.opaque", "y"))
}

func xattrNames() *tree.Inode {
	r := tree.NewDir(0o755)
	for k, name := range []string{"user.a", "security.selinux", "security.capability", "trusted.x", "system.nfs4_acl", "lustre.x", "other", "u", "user.größe", "user.a=b c\n", strings.Repeat("n", 255), "user." + strings.Repeat("u", 250)} {
		at(r, fmt.Sprintf("/%d", k), with(object(1, "n"), name, "value\x00\xff= \n"))
		at(r, fmt.Sprintf("/e%d", k), with(tree.NewLink("t"), name, ""))
		at(r, fmt.Sprintf("/s%d", k%3), with(tree.NewDir(0o755), name, "shared"))
		at(r, fmt.Sprintf("/t%d", k), with(tree.NewDir(0o755), name, "shared"))
	}
	return r
}

func manyXattrs(n int, shared bool) *tree.Inode {
	r := tree.NewDir(0o755)
	for _, p := range []string{"/a", "/b", "/c/d"} {
		f := object(1, p)
		for k := range n {
			v := "value"
			if !shared {
				v = p
			}
			with(f, fmt.Sprintf("user.%c%03d", 'a'+k%5, k), v)
		}
		at(r, p, f)
	}
	return r
}

func fullXattrs() *tree.Inode {
	// One xattr that takes all the room there is, and one of many.
	one := with(object(1, "1"), "user.one", strings.Repeat("v", maxXattrBytes-firstXattrOverhead-xattrOverhead-len("user.one")))
	last := with(tree.NewDir(0o755), "user.a", strings.Repeat("a", 10000), "user.b", strings.Repeat("b", 10000), "user.c", strings.Repeat("c", 12000))
	return at(tree.NewDir(0o755), "/one", one, "/last", last, "/last/x", names(40, 60), "/link", with(tree.NewLink(strings.Repeat("l", 3000)), "user.a", strings.Repeat("z", 3000)))
}

func sharedOrder() *tree.Inode {
	r := tree.NewDir(0o755)
	for k, v := range []string{"", "a", "b", "aa", "ab", "\xff", "\x00", "aaa", "zz"} {
		at(r, fmt.Sprintf("/1/%d", k), with(tree.NewLink("x"), "user.k", v, "user.l", v, "security.k", v))
		at(r, fmt.Sprintf("/2/%d", k), with(object(2, v), "user.k", v, "user.m", v, "trusted.k", v))
	}
	return r
}

func subdirs(n int) *tree.Inode {
	d := tree.NewDir(0o755)
	for k := range n {
		d.Set(fmt.Sprintf("%x", k), tree.NewDir(0o755))
	}
	return at(tree.NewDir(0o755), "/d", d)
}

// generated returns a tree of n paths of all kinds, like that of an OS.
func generated(n int, seed uint64) *tree.Inode {
	rng := rand.New(rand.NewPCG(seed, 0))
	labels := []string{"bin_t", "lib_t", "usr_t", "etc_t", "var_t"}
	label := func(i *tree.Inode) *tree.Inode {
		return with(i, "security.selinux", "system_u:object_r:"+labels[rng.IntN(len(labels))]+":s0\x00")
	}
	root := label(tree.NewDir(0o755))
	dirs := []*tree.Inode{root}
	for k := range n {
		var i *tree.Inode
		switch r := rng.IntN(20); {
		case r < 3:
			i = tree.NewDir(0o755)
			dirs = append(dirs, i)
		case r < 6:
			i = tree.NewLink(strings.Repeat("../target", 1+rng.IntN(20)))
		case r == 6:
			i = tree.NewFile(0o644, content.Ref{})
		default:
			i = object(rng.Int64N(1<<rng.IntN(34)+1), fmt.Sprint(rng.IntN(n)))
		}
		label(i)
		if rng.IntN(10) == 0 {
			with(i, "user.k"+fmt.Sprint(rng.IntN(5)), strings.Repeat("v", rng.IntN(300)))
		}
		if rng.IntN(30) == 0 {
			i.UID, i.GID = rng.Uint32N(70000), rng.Uint32N(70000)
		}
		if rng.IntN(50) == 0 {
			i.Mtime = int64(rng.IntN(3))
		}
		dirs[rng.IntN(len(dirs))].Set(fmt.Sprintf("%s%d", strings.Repeat("n", rng.IntN(30)), k), i)
	}
	return root
}

// dump returns the tree in the composefs-dump(5) format.
func dump(t testing.TB, root *tree.Inode, ostree bool, digest func(*tree.Inode) ([32]byte, bool)) string {
	var b strings.Builder
	line := func(p string, i *tree.Inode) error {
		size, payload, sum := int64(0), "-", "-"
		switch {
		case i.IsFile() && i.Content.Size() > 0:
			size, payload = i.Content.Size(), objectPath(i.Object)
			if digest != nil {
				if d, ok := digest(i); ok {
					sum = fmt.Sprintf("%x", d)
				}
			}
		case i.IsLink():
			size, payload = int64(len(i.Target)), escape(i.Target)
		}
		mtime := i.Mtime
		if ostree {
			mtime = 0
		}
		rdev := i.Minor&0xff | i.Major<<8 | i.Minor>>8<<20
		fmt.Fprintf(&b, "%s %d %o 1 %d %d %d %d.0 %s - %s", escape(p), size, i.Mode, i.UID, i.GID, rdev, mtime, payload, sum)
		for _, x := range i.Xattrs {
			fmt.Fprintf(&b, " %s=%s", escape(x.Name), escape(x.Value))
		}
		b.WriteByte('\n')
		return nil
	}
	if err := tree.Walk(root, line); err != nil {
		t.Fatal(err)
	}
	for _, name := range ostreeDirs {
		if ostree && root.Child(name) == nil {
			line(path.Join("/", name), tree.NewDir(0o755))
		}
	}
	return b.String()
}

// escape escapes all bytes that the dump format gives a meaning.
func escape(s string) string {
	var b strings.Builder
	for k := range len(s) {
		if c := s[k]; c <= ' ' || c >= 0x7f || c == '\\' || c == '=' || s == "-" {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
