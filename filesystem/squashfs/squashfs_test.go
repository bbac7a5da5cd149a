package squashfs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"imgbuild/content"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// memory is an image in memory.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > int64(len(m.b)) {
		m.b = append(m.b, make([]byte, end-int64(len(m.b)))...)
	}
	return copy(m.b[off:], p), nil
}

// written returns the image of a tree.
func written(t testing.TB, root *tree.Inode, opt Options) []byte {
	t.Helper()
	var m memory
	res, err := Write(context.Background(), &m, root, opt)
	if err != nil {
		t.Fatal(err)
	}
	if res.Size != int64(len(m.b)) {
		t.Fatalf("%d bytes, and the result says %d", len(m.b), res.Size)
	}
	return m.b
}

// roundTrip writes a tree, reads it again and compares.
func roundTrip(t testing.TB, root *tree.Inode, opt Options) *image {
	t.Helper()
	r, got := readImage(t, written(t, root, opt))
	for _, d := range compare(root, got) {
		t.Error(d)
	}
	links := map[*tree.Inode]uint32{}
	tree.Walk(got, func(_ string, i *tree.Inode) error {
		links[i]++
		if i.IsDir() {
			links[i] = 2
			for _, e := range i.Entries() {
				if e.Inode.IsDir() {
					links[i]++
				}
			}
		}
		return nil
	})
	for i, n := range links {
		if r.links[i] != n {
			t.Errorf("inode %d has %d links, want %d", r.numbers[i], r.links[i], n)
		}
	}
	return r
}

func text(n int) *tree.Inode {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d of a file that can be compressed\n", i)
	}
	return fstest.File(b.String()[:n])
}

// everything is a tree with everything that squashfs holds, on its limits.
func everything(t testing.TB) *tree.Inode {
	const block = 128 << 10
	sizes := tree.NewDir(0o755)
	for _, n := range []int{0, 1, 100, 4095, 4096, block - 1, block, block + 1, 2*block - 1, 2 * block, 3*block + 17} {
		sizes.Set(fmt.Sprint("text-", n), text(n))
		sizes.Set(fmt.Sprint("noise-", n), tree.NewFile(0o600, fstest.Noise(uint64(n), n)))
		sizes.Set(fmt.Sprint("zeros-", n), tree.NewFile(0o600, fstest.Zeros(int64(n))))
	}
	shared := fstest.With(text(1000), func(i *tree.Inode) { i.Mtime = 1<<32 - 1 })
	many := tree.NewDir(0o1777)
	for i := range 3000 {
		many.Set(fmt.Sprintf("%04d-%s", i, strings.Repeat("n", i%250)), fstest.File(fmt.Sprint(i%7)))
	}
	for i := range 10_000 {
		many.Set(fmt.Sprintf("e%05d", i), shared) // a listing of more than 64 KiB in one block of inodes
	}
	deep := fstest.DirOf("end", text(5))
	for i := range 300 {
		deep = fstest.DirOf(fmt.Sprint(i), deep)
	}
	attrs := tree.NewDir(0o755)
	attrs.SetXattr("security.selinux", "system_u:object_r:root_t:s0\x00")
	for i, n := range []int{0, 1, 127, 128, 129, 4000, 65536} {
		v := strings.Repeat("v", n)
		attrs.Set(fmt.Sprint("value-", n), fstest.XattrFile("user.a", v, "trusted.b", v, "security.c", v))
		attrs.Set(fmt.Sprint("again-", n), fstest.XattrFile("user.a", v, "trusted.b", v, "security.c", v))
		attrs.Set(fmt.Sprint("link-", n), fstest.With(tree.NewLink("x"), func(l *tree.Inode) { l.SetXattr("trusted.l", v) }))
		attrs.Set(fmt.Sprint("fifo-", n), fstest.With(&tree.Inode{Mode: tree.TypeFIFO | 0o600}, func(l *tree.Inode) {
			l.SetXattr("security."+strings.Repeat("f", 200+i), v)
		}))
	}
	for i := range 600 {
		attrs.Set(fmt.Sprint("set-", i), fstest.XattrFile("user.n", fmt.Sprint(i)))
	}
	root := fstest.DirOf(
		"sizes", sizes, "many", many, "deep", deep, "attrs", attrs, "empty", tree.NewDir(0o700),
		"shared", shared, "other name", shared,
		"link", tree.NewLink(strings.Repeat("t", 4095)), "short", tree.NewLink("t"),
		"char", &tree.Inode{Mode: tree.TypeChar | 0o620, Major: maxMajor, Minor: maxMinor},
		"block", &tree.Inode{Mode: tree.TypeBlock | 0o660, Major: 8, Minor: 17, GID: 6},
		"fifo", &tree.Inode{Mode: tree.TypeFIFO | 0o600}, "socket", &tree.Inode{Mode: tree.TypeSock | 0o777},
		"scattered", fstest.Scattered(t, 200),
		"hole", tree.NewFile(0o644, fstest.Sparse(t, 10<<20)),
		"owner", fstest.With(text(3), func(i *tree.Inode) { i.UID, i.GID, i.Mode = 1<<32-2, 1<<31, tree.TypeFile|0o7777 }),
		"early", fstest.With(text(3), func(i *tree.Inode) { i.Mtime = -5 }),
		"late", fstest.With(text(3), func(i *tree.Inode) { i.Mtime = 1 << 40 }),
		strings.Repeat("n", 255), text(2), "\xff\x01 odd", text(2),
	)
	root.Mode = tree.TypeDir | 0o750
	root.Mtime = 1700000000
	return root
}

// allOptions are options of all kinds.
func allOptions() []Options {
	return []Options{
		{},
		{TailEnds: true, Time: 1700000000},
		{Compression: Compression{Zstd, 1}, BlockSize: 1 << 20, TailEnds: true},
		{Compression: Compression{Algorithm: Gzip}},
		{Compression: Compression{Gzip, 1}, BlockSize: 4 << 10},
		{Compression: Compression{Algorithm: NoCompression}},
	}
}

func (o Options) name() string {
	return fmt.Sprint(o.Compression.Algorithm, " ", o.Compression.Level, " ", o.BlockSize, " ", o.TailEnds)
}

// list returns what unsquashfs lists, which reads all metadata.
func list(t testing.TB, image string) string {
	t.Helper()
	out, complaint, err := fstest.Tool(t, nil, "unsquashfs", "-lln", image)
	if err != nil || complaint != "" {
		t.Fatalf("unsquashfs: %v\n%s", err, complaint)
	}
	return out
}

// file writes an image to a file.
func imageFile(t testing.TB, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image.squashfs")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// tarOf returns the tree as an archive with all its metadata.
func tarOf(t testing.TB, root *tree.Inode) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	first := map[*tree.Inode]string{}
	tree.Walk(root, func(p string, i *tree.Inode) error {
		h := &tar.Header{Format: tar.FormatPAX, Name: strings.TrimPrefix(p, "/"), Mode: int64(i.Perm()), Uid: int(i.UID), Gid: int(i.GID),
			PAXRecords: map[string]string{}, Size: i.Content.Size()}
		h.ModTime = time.Unix(i.Mtime, 0)
		for _, x := range i.Xattrs {
			h.PAXRecords["SCHILY.xattr."+x.Name] = x.Value
		}
		types := map[uint32]byte{tree.TypeDir: tar.TypeDir, tree.TypeFile: tar.TypeReg, tree.TypeLink: tar.TypeSymlink,
			tree.TypeChar: tar.TypeChar, tree.TypeBlock: tar.TypeBlock, tree.TypeFIFO: tar.TypeFifo}
		h.Typeflag = types[i.Type()]
		h.Linkname, h.Devmajor, h.Devminor = i.Target, int64(i.Major), int64(i.Minor)
		if i.IsDir() {
			h.Name = "./" + h.Name + "/"
		}
		if name, ok := first[i]; ok {
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, name, 0, nil
		}
		first[i] = h.Name
		err := w.WriteHeader(h)
		if err == nil && h.Typeflag == tar.TypeReg {
			_, err = io.Copy(w, i.Content.Reader())
		}
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		return nil
	})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// mksquashfs makes an image of a tree with the program of the format's owners.
func mksquashfs(t testing.TB, root *tree.Inode, args ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "reference.squashfs")
	program, err := exec.LookPath("mksquashfs")
	if err != nil {
		t.Fatalf("this test needs mksquashfs: %v", err)
	}
	cmd := exec.Command(program, append([]string{"-", name, "-tar", "-no-progress", "-quiet", "-mkfs-time", "0"}, args...)...)
	cmd.Stdin = bytes.NewReader(tarOf(t, root))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mksquashfs: %v\n%s", err, out)
	}
	return name
}

func TestEverything(t *testing.T) {
	root := everything(t)
	for _, opt := range allOptions() {
		t.Run(opt.name(), func(t *testing.T) {
			r := roundTrip(t, root, opt)
			if r.indexes == 0 {
				t.Error("no directory has an index")
			}
			out := list(t, imageFile(t, r.b))
			if n := strings.Count(out, "\n"); n < 13_000 {
				t.Errorf("unsquashfs lists %d names", n)
			}
		})
	}
}

func TestXZ(t *testing.T) {
	root := fstest.DirOf("a", text(300_000), "b", tree.NewFile(0o600, fstest.Noise(1, 200_000)), "c", text(5000), "d", fstest.XattrFile("user.x", "y"))
	b := written(t, root, Options{Compression: Compression{Algorithm: XZ}})
	_, got := readImage(t, b)
	for _, d := range compare(root, got) {
		t.Error(d)
	}
	list(t, imageFile(t, b))
}

// TestExtract has unsquashfs write all files, which reads all content.
func TestExtract(t *testing.T) {
	root := everything(t)
	root.Remove("char")
	root.Remove("block")
	root.Remove("attrs")
	for _, algorithm := range []Algorithm{Zstd, XZ, Gzip, NoCompression} {
		image := imageFile(t, written(t, root, Options{Compression: Compression{Algorithm: algorithm}}))
		dir := filepath.Join(t.TempDir(), "out")
		out, complaint, err := fstest.Tool(t, nil, "unsquashfs", "-q", "-n", "-no-xattrs", "-d", dir, image)
		if err != nil || complaint != "" {
			t.Fatalf("unsquashfs: %v\n%s%s", err, out, complaint)
		}
		tree.Walk(root, func(p string, i *tree.Inode) error {
			switch name := filepath.Join(dir, p); {
			case i.IsFile() && !strings.HasPrefix(p, "/many/e"):
				fstest.CompareFile(t, name, i.Content)
			case i.IsLink():
				if target, err := os.Readlink(name); target != i.Target {
					t.Errorf("%s: %q, %v", p, target, err)
				}
			}
			return nil
		})
	}
}

// TestMksquashfs compares with what mksquashfs makes of the same tree: the lists
// of unsquashfs, the tree that is read, and the size.
func TestMksquashfs(t *testing.T) {
	root := everything(t)
	root.Remove("socket") // tar has none
	root.Remove("early")
	root.Remove("late")
	root.Child("attrs").Remove("value-65536")
	root.Child("attrs").Remove("again-65536")
	for _, n := range []int{0, 1, 127, 128, 129, 4000, 65536} {
		root.Child("attrs").Remove(fmt.Sprint("link-", n))
		root.Child("attrs").Remove(fmt.Sprint("fifo-", n))
	}
	// mksquashfs sets the root's own metadata itself.
	root = fstest.DirOf("top", root)
	// The size of a directory is that of its listing, of which ours has fewer headers.
	dirSize := regexp.MustCompile(`(?m)^(d\S+ +\S+) +\d+`)
	withoutRoot := func(list string) string {
		_, list, _ = strings.Cut(list[strings.Index(list, "squashfs-root\n"):], "\n")
		return dirSize.ReplaceAllString(list, "$1")
	}
	for _, c := range []struct {
		opt  Options
		args []string
		more float64 // how much larger ours may be
	}{
		{Options{}, []string{"-comp", "zstd"}, 1.05},
		{Options{Compression: Compression{Algorithm: Gzip}, TailEnds: true}, []string{"-comp", "gzip", "-tailends"}, 1.05},
		{Options{Compression: Compression{Algorithm: NoCompression}}, []string{"-noI", "-noD", "-noF", "-noX", "-noId"}, 1.2}, // zeros in fragments are not left out,
	} {
		t.Run(c.opt.name(), func(t *testing.T) {
			b := written(t, root, c.opt)
			reference := mksquashfs(t, root, c.args...)
			theirs, err := os.ReadFile(reference)
			if err != nil {
				t.Fatal(err)
			}
			_, tree := readImage(t, theirs)
			mixedUp := false
			for _, d := range compare(root.Child("top"), tree.Child("top")) {
				// mksquashfs 4.5 now and then mixes up the ends of files of an archive,
				// as unsquashfs sees, too.
				if strings.Contains(d, "content of") {
					mixedUp = true
					continue
				}
				t.Error("mksquashfs: ", d)
			}
			ours, want := withoutRoot(list(t, imageFile(t, b))), withoutRoot(list(t, reference))
			if ours != want {
				t.Errorf("lists differ:\n%s", firstDifference(ours, want))
			}
			t.Logf("%d bytes, mksquashfs %d", len(b), len(theirs))
			if !mixedUp && float64(len(b)) > c.more*float64(len(theirs)) {
				t.Errorf("%d bytes, and mksquashfs makes %d", len(b), len(theirs))
			}
		})
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[i] + "\n" + y[i]
		}
	}
	return fmt.Sprint(len(x), " lines, ", len(y))
}

// TestDeterministic writes with different numbers of processors.
func TestDeterministic(t *testing.T) {
	root := everything(t)
	var sums []string
	for _, cpus := range []int{1, 2, 7} {
		before := runtime.GOMAXPROCS(cpus)
		b := written(t, root, Options{})
		runtime.GOMAXPROCS(before)
		sums = append(sums, fmt.Sprintf("%x", sha256.Sum256(b)))
	}
	if sums[0] != sums[1] || sums[1] != sums[2] {
		t.Errorf("images differ: %v", sums)
	}
}

// TestDuplicates stores content once, whoever else has it.
func TestDuplicates(t *testing.T) {
	big := fstest.Noise(1, 300_000)
	bytes, err := big.ReadAll(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	spool, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	w := content.NewSpoolWriter(spool)
	w.Write(bytes)
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(bytes)
	changed[299_999]++
	root := fstest.DirOf(
		"1", tree.NewFile(0o644, big), "2", tree.NewFile(0o644, content.Bytes(bytes)), "3", tree.NewFile(0o644, s.Ref(0, 300_000)),
		"4", tree.NewFile(0o644, s.Ref(0, 300_000)), "5", tree.NewFile(0o644, content.Bytes(changed)),
		"6", fstest.File("same"), "7", fstest.File("same"), "8", fstest.File("some"),
	)
	var m memory
	res, err := Write(t.Context(), &m, root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Duplicates != 4 || res.Size > 610_000 {
		t.Errorf("%+v", res)
	}
	_, got := readImage(t, m.b)
	for _, d := range compare(root, got) {
		t.Error(d)
	}
}

func TestRefused(t *testing.T) {
	dir := tree.NewDir(0o755)
	owners := tree.NewDir(0o755)
	for i := range maxIDs {
		owners.Set(fmt.Sprint(i), fstest.With(fstest.File(""), func(f *tree.Inode) { f.UID = uint32(1 + i) }))
	}
	for name, c := range map[string]struct {
		root *tree.Inode
		opt  Options
		want string
	}{
		"no directory": {fstest.File(""), Options{}, "not a directory"},
		"two places":   {fstest.DirOf("a", dir, "b", fstest.DirOf("c", dir)), Options{}, "/b/c: the directory is also /a"},
		"acl":          {fstest.DirOf("a", fstest.XattrFile("system.posix_acl_access", fstest.ACL)), Options{}, "/a: attribute \"system.posix_acl_access\": squashfs does not have"},
		"large value":  {fstest.DirOf("a", fstest.XattrFile("user.a", strings.Repeat("v", 65537))), Options{}, "65537 bytes"},
		"huge":         {fstest.DirOf("a", tree.NewFile(0o644, fstest.Zeros(1<<41))), Options{}, "/a: file of 2199023255552 bytes"},
		"target":       {fstest.DirOf("a", tree.NewLink(strings.Repeat("t", 4096))), Options{}, "/a: invalid target of 4096 bytes"},
		"device":       {fstest.DirOf("a", &tree.Inode{Mode: tree.TypeChar, Major: 1 << 12}), Options{}, "/a: device number 4096:0"},
		"type":         {fstest.DirOf("a", &tree.Inode{Mode: 0o030000}), Options{}, "/a: unknown file type"},
		"owners":       {owners, Options{}, "more than 65535 owners"},
		"block size":   {dir, Options{BlockSize: 100_000}, "not a power of two"},
		"small block":  {dir, Options{BlockSize: 2048}, "not a power of two"},
		"level":        {dir, Options{Compression: Compression{Gzip, 10}}, "gzip has no level 10"},
		"xz level":     {dir, Options{Compression: Compression{XZ, 6}}, "xz has no level 6"},
		"time":         {dir, Options{Time: 1 << 32}, "time 4294967296"},
	} {
		_, err := Write(t.Context(), &memory{}, c.root, c.opt)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

type failing struct {
	memory
	after int
}

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if f.after--; f.after < 0 {
		return 0, io.ErrShortWrite
	}
	return f.memory.WriteAt(p, off)
}

func TestErrors(t *testing.T) {
	root := fstest.DirOf("a", tree.NewFile(0o644, fstest.Noise(1, 4<<20)))
	for after := range 6 {
		if _, err := Write(t.Context(), &failing{after: after}, root, Options{}); after < 5 && !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("after %d: %v", after, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	opt := Options{Progress: func(int64) { cancel() }}
	if _, err := Write(ctx, &memory{}, root, opt); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	broken := fstest.DirOf("dir", fstest.DirOf("broken", tree.NewFile(0o644, content.NewRef(bytes.NewReader([]byte("abc")), 0, 10))))
	if _, err := Write(t.Context(), &memory{}, broken, Options{}); err == nil || !strings.Contains(err.Error(), "/dir/broken") {
		t.Errorf("content that is cut short: %v", err)
	}
}

type chooser struct{ fstest.Chooser }

// tree returns a tree of any shape.
func (c *chooser) tree(t testing.TB) *tree.Inode {
	root := tree.NewDir(0o755)
	dirs, files := []*tree.Inode{root}, []*tree.Inode{}
	for n := 0; len(c.B) > 0 && n < 500; n++ {
		dir, name := dirs[c.UpTo(len(dirs)-1)], fmt.Sprint(n, strings.Repeat("n", c.UpTo(200)))
		var i *tree.Inode
		switch c.UpTo(8) {
		case 0, 1:
			i = tree.NewDir(0o700)
			dirs = append(dirs, i)
		case 2:
			i = tree.NewLink(strings.Repeat("t", 1+c.UpTo(maxTarget-1)))
		case 3:
			i = &tree.Inode{Mode: tree.TypeBlock | 0o600, Major: uint32(c.UpTo(maxMajor)), Minor: uint32(c.UpTo(60000))}
		case 4:
			i = fstest.Scattered(t, c.UpTo(100))
		case 5:
			for k := range c.UpTo(500) {
				dir.Set(fmt.Sprint(k, "-", name), fstest.File(""))
			}
			continue
		case 6:
			if len(files) > 0 {
				dir.Set(name, files[c.UpTo(len(files)-1)])
				continue
			}
			fallthrough
		case 7:
			i = text(c.UpTo(60000))
		default:
			i = tree.NewFile(uint32(c.UpTo(0o7777)), fstest.Noise(uint64(c.UpTo(3)), c.UpTo(60000)/(1+c.UpTo(20))))
			files = append(files, i)
		}
		i.UID, i.GID = uint32(c.UpTo(1<<16)), uint32(c.UpTo(1<<16))<<8
		i.Mtime = int64(c.UpTo(1<<16)) << c.UpTo(16)
		for k := range c.UpTo(3) {
			i.SetXattr([]string{"user.", "security.", "trusted."}[k]+strings.Repeat("n", 1+c.UpTo(40)), strings.Repeat("v", c.UpTo(300)))
		}
		dir.Set(name, i)
	}
	return root
}

// FuzzRoundTrip writes trees of any shape and reads them again.
func FuzzRoundTrip(f *testing.F) {
	r := rand.NewChaCha8([32]byte{1})
	for k, n := range []int{0, 10, 100, 1000, 3000} {
		b := make([]byte, n)
		r.Read(b)
		f.Add(b, byte(k), byte(k))
	}
	f.Fuzz(func(t *testing.T, b []byte, algorithm, shape byte) {
		c := chooser{fstest.Chooser{B: b}}
		opt := Options{Compression: Compression{Algorithm: Algorithm(algorithm % 4)}, BlockSize: 4 << 10 << (shape % 9), TailEnds: shape&16 != 0}
		if opt.Compression.Algorithm == Zstd {
			opt.Compression.Level = 1
		}
		roundTrip(t, c.tree(t), opt)
	})
}

// TestRandom has unsquashfs look at random trees as well.
func TestRandom(t *testing.T) {
	n := uint64(10)
	if os.Getenv("IMGBUILD_SOAK") != "" {
		n = 1000
	}
	for seed := range n {
		r := rand.New(rand.NewPCG(seed, 2))
		b := make([]byte, r.IntN(1+r.IntN(3000)))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		c := chooser{fstest.Chooser{B: b}}
		root := c.tree(t)
		opts := allOptions()
		image := roundTrip(t, root, opts[r.IntN(len(opts))])
		list(t, imageFile(t, image.b))
	}
}
