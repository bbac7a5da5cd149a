package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"imgbuild/fault"
	"imgbuild/tree"
)

func TestUnpackTree(t *testing.T) {
	xattrs := dir("x", 0o750)
	xattrs.PAXRecords = map[string]string{"SCHILY.xattr.user.b": "2", "SCHILY.xattr.security.a": "1\x00", "SCHILY.xattr.user.empty": ""}
	device := tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3, Mode: 0o666}
	owned := reg("owned", "me")
	owned.Uid, owned.Gid, owned.Mode, owned.ModTime = 70000, 4000000000, 0o6755, time.Unix(-7, 0)
	for name, c := range map[string]struct {
		tar  []tar.Header
		want string
	}{
		"kinds": {
			[]tar.Header{dir("./", 0o555), dir("./dev/", 0o755), device, {Typeflag: tar.TypeBlock, Name: "dev/sda", Devmajor: 8, Mode: 0o660},
				{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}, sym("abs", "/usr/bin"), owned, xattrs},
			`/ 040555 0:0 @1000
/abs 120777 0:0 @1000 -> "/usr/bin"
/dev 040755 0:0 @1000
/dev/null 020666 0:0 @1000 1,3
/dev/sda 060660 0:0 @1000 8,0
/owned 106755 70000:4000000000 @-7 "me"
/pipe 010600 0:0 @1000
/x 040750 0:0 @1000 security.a="1\x00" user.b="2" user.empty=""
`,
		},
		"names": {
			[]tar.Header{reg("/abs/file", "1"), reg("./dot/./file", "2"), reg("a//b/file", "3"), reg("//x", "4"), reg(strings.Repeat("n", 255), "5")},
			`/ 040755 0:0 @0
/a 040755 0:0 @0
/a/b 040755 0:0 @0
/a/b/file 100644 0:0 @1000 "3"
/abs 040755 0:0 @0
/abs/file 100644 0:0 @1000 "1"
/dot 040755 0:0 @0
/dot/file 100644 0:0 @1000 "2"
/` + strings.Repeat("n", 255) + ` 100644 0:0 @1000 "5"
/x 100644 0:0 @1000 "4"
`,
		},
		"whiteouts": {
			[]tar.Header{reg("a/.wh..wh..opq", ""), reg("a/.wh.gone", ""), reg(".wh.b", "")},
			`/ 040755 0:0 @0
/.wh.b 100644 0:0 @1000 ""
/a 040755 0:0 @0
/a/.wh..wh..opq 100644 0:0 @1000 ""
/a/.wh.gone 100644 0:0 @1000 ""
`,
		},
		"duplicates": {
			[]tar.Header{
				reg("file", "old"), reg("file", "new"),
				dir("d", 0o700), reg("d/kept", "k"), dir("d", 0o711),
				dir("gone", 0o755), reg("gone/x", "x"), reg("gone", "file now"),
				reg("turned", "f"), dir("turned", 0o755), reg("turned/y", "y"),
				hard("l", "file"), sym("l", "file"), reg("m", "m"), hard("m", "file"),
			},
			`/ 040755 0:0 @0
/d 040711 0:0 @1000
/d/kept 100644 0:0 @1000 "k"
/file 100644 0:0 @1000 "new"
/gone 100644 0:0 @1000 "file now"
/l 120777 0:0 @1000 -> "file"
/m = /file
/turned 040755 0:0 @1000
/turned/y 100644 0:0 @1000 "y"
`,
		},
		"directory that comes back": {
			[]tar.Header{reg("d/x", "old"), reg("d", "file"), dir("d", 0o700), reg("d/y", "new"), sym("e", "d"), dir("e", 0o711), reg("e/z", "")},
			`/ 040755 0:0 @0
/d 040700 0:0 @1000
/d/y 100644 0:0 @1000 "new"
/e 040711 0:0 @1000
/e/z 100644 0:0 @1000 ""
`,
		},
		"hard links": {
			[]tar.Header{
				hard("c", "./b"), hard("b", "/a"), reg("a", "text"), // a chain, backwards
				sym("s", "a"), hard("t", "s"), hard("z/deep", "a"),
			},
			`/ 040755 0:0 @0
/a 100644 0:0 @1000 "text"
/b = /a
/c = /a
/s 120777 0:0 @1000 -> "a"
/t = /s
/z 040755 0:0 @0
/z/deep = /a
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := unpackTar(t, makeTar(t, c.tar...), UnpackOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := listing(t, l.Tree); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestImplied(t *testing.T) {
	l, err := unpackTar(t, makeTar(t, reg("a/b/c", ""), dir("a", 0o700)), UnpackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"/": true, "/a": false, "/a/b": true} {
		if l.Implied[tree.Lookup(l.Tree, path)] != want {
			t.Errorf("%s: implied is %v", path, !want)
		}
	}
}

func TestHostileTars(t *testing.T) {
	big := reg("n", "")
	big.PAXRecords = map[string]string{"SCHILY.xattr.user.big": strings.Repeat("x", 64<<10+1)}
	long := reg("n", "")
	long.PAXRecords = map[string]string{"SCHILY.xattr.user." + strings.Repeat("x", 251): "v"}
	uid := reg("n", "")
	uid.Uid = 1 << 32
	deep := strings.Repeat("d/", 2000) + "f"
	for name, c := range map[string]struct {
		tar  []tar.Header
		text string
	}{
		"dot dot":            {[]tar.Header{reg("a/../b", "")}, `"a/../b": name with a ".." component`},
		"dot dot first":      {[]tar.Header{reg("../b", "")}, `".." component`},
		"not UTF-8":          {[]tar.Header{{Name: "a\xff", Format: tar.FormatGNU}}, "not UTF-8"},
		"long component":     {[]tar.Header{reg(strings.Repeat("n", 256), "")}, "invalid name"},
		"long path":          {[]tar.Header{reg(strings.Repeat("d/", 2048)+"f", "")}, "more than 4096"},
		"root is a file":     {[]tar.Header{reg(".", "")}, "root"},
		"through a symlink":  {[]tar.Header{sym("s", "/etc"), reg("s/passwd", "")}, `"s" in its path is not a directory`},
		"through a file":     {[]tar.Header{reg("f", ""), dir("f/d", 0o755)}, `not a directory`},
		"into what was one":  {[]tar.Header{reg("d/x", ""), reg("d", ""), reg("d/y", "")}, `"d" in its path is not a directory`},
		"through a link":     {[]tar.Header{reg("f", ""), hard("l", "f"), reg("l/x", "")}, `not a directory`},
		"empty target":       {[]tar.Header{sym("s", "")}, "without a target"},
		"target not UTF-8":   {[]tar.Header{{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "a\xff", Format: tar.FormatGNU}}, "not UTF-8"},
		"long target":        {[]tar.Header{sym("s", strings.Repeat("t", 4096))}, "4096 bytes"},
		"missing link":       {[]tar.Header{hard("l", "lower/file")}, `hard link "/l" to "/lower/file": the target is not in the layer`},
		"link to directory":  {[]tar.Header{dir("d", 0o755), hard("l", "d")}, `hard link "/l" to "/d": the target is a directory`},
		"link to root":       {[]tar.Header{hard("l", "/")}, "root"},
		"link to itself":     {[]tar.Header{hard("l", "l")}, `hard link "/l" to "/l": the links form a circle`},
		"circle":             {[]tar.Header{hard("a", "b"), hard("b", "c"), hard("c", "a")}, "circle"},
		"into a circle":      {[]tar.Header{hard("x", "a"), hard("a", "b"), hard("b", "a")}, "circle"},
		"link dot dot":       {[]tar.Header{hard("l", "../../etc/passwd")}, `".." component`},
		"attribute too big":  {[]tar.Header{big}, "more than 65536"},
		"attribute too long": {[]tar.Header{long}, "invalid extended attribute"},
		"uid":                {[]tar.Header{uid}, "user id 4294967296"},
		"too deep":           {[]tar.Header{reg(deep, ""), reg("x"+deep, "")}, "directories without an entry"},
	} {
		t.Run(name, func(t *testing.T) {
			opt := UnpackOptions{}
			if name == "too deep" {
				opt.Limits.Entries = 3000
			}
			_, err := unpackTar(t, makeTar(t, c.tar...), opt)
			wantFault(t, err, fault.BadImage, c.text)
		})
	}
}

// TestExtractedByTar compares with what GNU tar makes of the same archive.
func TestExtractedByTar(t *testing.T) {
	src := t.TempDir()
	rnd := rand.New(rand.NewSource(1))
	var paths []string
	for i := range 300 {
		d := src
		for range rnd.Intn(4) {
			d = filepath.Join(d, fmt.Sprintf("dir%d", rnd.Intn(3)))
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(d, fmt.Sprintf("f%d%s", i, strings.Repeat("x", rnd.Intn(120))))
		var err error
		switch {
		case i%7 == 3:
			err = os.Symlink(paths[rnd.Intn(len(paths))], p)
		case i%7 == 5:
			err = os.Link(paths[rnd.Intn(len(paths))], p)
		default:
			data := make([]byte, []int{0, 1, 511, 512, 513, 70000}[rnd.Intn(6)])
			rnd.Read(data)
			err = os.WriteFile(p, data, os.FileMode(0o600+rnd.Intn(0o177)))
			paths = append(paths, p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	sparse := filepath.Join(src, "sparse")
	writeFile(t, sparse, []byte("start"))
	if err := os.Truncate(sparse, 3<<20); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--format=gnu", "-S"}, {"--format=posix", "-S"}, {"--format=posix", "-S", "--sparse-version=0.1"}, {"--format=pax"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			archive := filter(t, nil, "tar", append(append([]string{"-C", src, "-cf", "-"}, args...), ".")...)
			out := t.TempDir()
			filter(t, archive, "tar", "-C", out, "-xpf", "-")
			l, err := unpackTar(t, archive, UnpackOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got, want := listing(t, l.Tree), listing(t, readDir(t, out))
			if got != want {
				t.Errorf("got\n%.2000s\nwant\n%.2000s", got, want)
			}
		})
	}
}

// readDir makes a tree of a directory, with the numbers of hard links.
func readDir(t *testing.T, root string) *tree.Inode {
	t.Helper()
	top := tree.NewDir(0)
	type known struct {
		fi fs.FileInfo
		i  *tree.Inode
	}
	var seen []known
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		perm := uint32(fi.Mode().Perm())
		var i *tree.Inode
		switch {
		case rel == ".":
			top.Mode, top.Mtime = tree.TypeDir|perm, fi.ModTime().Unix()
			top.UID, top.GID = owner(fi)
			return nil
		case fi.IsDir():
			i = tree.NewDir(perm)
		case fi.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			i = tree.NewLink(target)
		default:
			for _, k := range seen {
				if os.SameFile(k.fi, fi) {
					return tree.Put(top, rel, k.i)
				}
			}
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			i = fileOf(perm, data)
			seen = append(seen, known{fi, i})
		}
		i.Mtime = fi.ModTime().Unix()
		i.UID, i.GID = owner(fi)
		return tree.Put(top, rel, i)
	})
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func TestHashes(t *testing.T) {
	content := strings.Repeat("0123456789", 200000) // several chunks
	plain := makeTar(t, reg("big", content), sym("s", "t"), reg("empty", ""), hard("h", "big"))
	l, err := unpackTar(t, plain, sums(UnpackOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256([]byte(fmt.Sprintf("0 0 100644 %d\n%s", len(content), content)))
	if got := l.Tree.Child("big").Object; got != want || l.Tree.Child("h").Object != want {
		t.Errorf("big: %x, want %x", got, want)
	}
	if got := l.Tree.Child("s").Object; got != sha256.Sum256([]byte("link t")) {
		t.Errorf("s: %x", got)
	}
	if got := l.Tree.Child("empty").Object; got != sha256.Sum256([]byte("0 0 100644 0\n")) {
		t.Errorf("empty: %x", got)
	}
	if l.Size != int64(len(plain)) {
		t.Errorf("size %d", l.Size)
	}
}

// TestSparse checks that holes are hashed as zeros and stay holes.
func TestSparse(t *testing.T) {
	src := t.TempDir()
	data := make([]byte, 1<<20)
	copy(data[300000:], "middle")
	copy(data[len(data)-3:], "end")
	f, err := os.Create(filepath.Join(src, "f"))
	if err != nil {
		t.Fatal(err)
	}
	for off, text := range map[int64]string{300000: "middle", int64(len(data)) - 3: "end"} {
		if _, err := f.WriteAt([]byte(text), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"}, {"--format=posix", "--sparse-version=1.0"}} {
		archive := filter(t, nil, "tar", append(append([]string{"-C", src, "-cf", "-", "-S"}, args...), "--owner=0", "--group=0", "--mode=0644", "f")...)
		l, err := unpackTar(t, archive, sums(UnpackOptions{}))
		if err != nil {
			t.Fatal(err)
		}
		i := l.Tree.Child("f")
		got, err := i.Content.ReadAll(2 << 20)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v: content differs, %v", args, err)
		}
		if want := sha256.Sum256(append([]byte(fmt.Sprintf("0 0 100644 %d\n", len(data))), data...)); i.Object != want {
			t.Errorf("%v: object differs", args)
		}
		stored := int64(0)
		for _, n := range i.Content.Data() {
			stored += n
		}
		if stored > 100000 {
			t.Errorf("%v: %d bytes of data", args, stored)
		}
	}
}

func TestWrongLayer(t *testing.T) {
	plain := makeTar(t, reg("a", "a"))
	other := makeTar(t, reg("a", "b"))
	_, err := unpackPart(t, part{plain: plain, diffID: sum(other)}, UnpackOptions{})
	wantFault(t, err, fault.BadImage, "does not match its diff_id "+sum(other))
	// The wrong layer is what matters, not that it is no tar either.
	junk := bytes.Repeat([]byte("junk"), 400000)
	_, err = unpackPart(t, part{plain: junk, diffID: sum(other)}, UnpackOptions{})
	wantFault(t, err, fault.BadImage, "does not match its diff_id")
	_, err = unpackPart(t, part{plain: junk}, UnpackOptions{})
	wantFault(t, err, fault.BadImage, "tar offset 0: invalid header checksum")
	if !strings.Contains(err.Error(), "layer 0 ("+sum(junk)+")") {
		t.Errorf("%v does not name the layer", err)
	}
	// A tar that ends early is an error although its diff_id is right.
	_, err = unpackPart(t, part{plain: makeTar(t, reg("a", strings.Repeat("x", 2000)))[:1024]}, UnpackOptions{})
	wantFault(t, err, fault.BadImage, "unexpected EOF")
}

func TestLimits(t *testing.T) {
	plain := makeTar(t, reg("zeros", strings.Repeat("\x00", 3<<20)), reg("b", "b"))
	blob := filter(t, plain, "zstd", "-qc")
	for name, c := range map[string]struct {
		limits Limits
		text   string
	}{
		"bytes":    {Limits{Bytes: 1 << 20}, "more than 1048576 bytes"},
		"ratio":    {Limits{RatioFree: 1 << 20, Ratio: 10}, "bytes unpack to more than"},
		"entries":  {Limits{Entries: 1}, "more than 1 entries"},
		"metadata": {Limits{Metadata: 3}, "more than 3 bytes"},
		"layers":   {Limits{Layers: -1}, "1 layers, more than"},
		"path":     {Limits{Path: 4}, "limit exceeded: a path of 5 bytes, more than 4"},
	} {
		_, err := unpackPart(t, part{plain: plain, blob: blob}, UnpackOptions{Limits: c.limits})
		wantFault(t, err, fault.BadImage, c.text)
		if !errors.Is(err, errLimit) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := unpackPart(t, part{plain: plain, blob: blob}, UnpackOptions{}); err != nil {
		t.Error(err)
	}
}

// TestSparseBomb hashes a sparse file of an exabyte.
func TestSparseBomb(t *testing.T) {
	var buf bytes.Buffer
	body := "27 GNU.sparse.numblocks=0\n" + "22 GNU.sparse.major=0\n" + "22 GNU.sparse.minor=1\n" + "38 GNU.sparse.size=1152921504606846976\n"
	body = strings.ReplaceAll(strings.ReplaceAll(body, "27 ", "26 "), "38 ", "39 ")
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bomb"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var pax bytes.Buffer
	w = tar.NewWriter(&pax)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: int64(len(body)), Format: tar.FormatUSTAR}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	head := pax.Bytes()
	head[156] = 'x'
	copy(head[148:156], "        ")
	n := 0
	for _, c := range head[:512] {
		n += int(c)
	}
	copy(head[148:], fmt.Sprintf("%06o\x00 ", n))
	_, err := unpackTar(t, append(head, buf.Bytes()...), sums(UnpackOptions{}))
	wantFault(t, err, fault.BadImage, "the layers have more than")
}

// TestTempDir leaves nothing behind, in success and in failure.
func TestTempDir(t *testing.T) {
	temp := t.TempDir()
	b := blobs{}
	ref := mustParse(t, "oci:"+b.layout(t, b.image(t, "amd64", simplePart(t, "1"), simplePart(t, "2"), simplePart(t, "1"))))
	img, err := Open(context.Background(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Unpack(context.Background(), UnpackOptions{TempDir: temp})
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" {
		// Not even a killed process leaves a spool.
		if left := files(t, temp); len(left) > 0 {
			t.Errorf("names %v", left)
		}
	}
	if layers[0].Tree != layers[2].Tree || layers[0].Tree == layers[1].Tree {
		t.Error("layers with the same diff_id do not share their tree")
	}
	if got := listing(t, layers[1].Tree); !strings.Contains(got, `"2"`) {
		t.Error(got)
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if _, err := io.ReadAll(layers[1].Tree.Child("file").Content.Reader()); err == nil {
		t.Error("content can be read after Close")
	}
}

// TestSorted reads a tree that is shared: its directories must not be sorted
// by whoever reads them first.
func TestSorted(t *testing.T) {
	plain := makeTar(t, reg("a/b/c", ""), reg("a/b/d", ""), reg("a/e", ""))
	l, err := unpackTar(t, plain, UnpackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/", "/a", "/a/b"} {
		i := tree.Lookup(l.Tree, p)
		// What else allocates here, such as connections of other tests that end, does
		// not do so every time; the first time is the one that counts, so the tree is
		// read anew.
		least := uint64(math.MaxUint64)
		for range 20 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			list := i.Entries()
			runtime.ReadMemStats(&after)
			if least = min(least, after.Mallocs-before.Mallocs); least == 0 && len(list) > 0 {
				break
			}
			if l, err = unpackTar(t, plain, UnpackOptions{}); err != nil {
				t.Fatal(err)
			}
			i = tree.Lookup(l.Tree, p)
		}
		if least > 0 {
			t.Errorf("%s: %d allocations", p, least)
		}
	}
}
