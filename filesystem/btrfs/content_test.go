package btrfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// TestContent reads files back with the code of GRUB, which is not that of
// btrfs-progs. It reads no holes.
func TestContent(t *testing.T) {
	root := tree.NewDir(0o755)
	contents := map[string]content.Ref{}
	put := func(name string, i *tree.Inode) {
		contents[name] = i.Content
		if err := tree.Put(root, name, i); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{1, 2047, 2048, 2049, 4095, 4096, 4097, 128*kib + 1, 3*mib + 5} {
		put(fmt.Sprint("noise-", n), noise(n))
		put(fmt.Sprint("sub/text-", n), text(n))
	}
	for i := range 500 {
		put(fmt.Sprintf("many/%04d-%s", i, strings.Repeat("n", i%150)), text(i*10+1))
	}
	root.Set("link", tree.NewLink("sub/text-4097"))
	contents["link"] = contents["sub/text-4097"]
	for name, set := range map[string]func(*Options){
		"default": func(o *Options) {},
		"zstd":    func(o *Options) { o.Compress = Compression{Zstd, 7} },
		"zlib":    func(o *Options) { o.Compress.Algorithm = Zlib },
		"single":  func(o *Options) { o.SingleMetadata, o.BlockGroupTree, o.NoDataCow = true, true, []string{"sub"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt := testOptions()
			opt.Label = "boot"
			set(&opt)
			image := writeImage(t, root, 256*mib, opt)
			check(t, image)
			for name, c := range contents {
				if strings.HasPrefix(name, "many/") && !strings.HasPrefix(name, "many/00") {
					continue
				}
				want, err := c.ReadAll(64 * mib)
				if err != nil {
					t.Fatal(err)
				}
				if got := fstest.GRUB(t, image, "cat", "/"+name); !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes that differ from the %d written", name, len(got), len(want))
				}
			}
			if names := strings.Fields(string(fstest.GRUB(t, image, "ls", "/many/"))); len(names) != 500 {
				t.Errorf("%d names", len(names))
			}
			if out := string(fstest.GRUB(t, image, "ls", "--", "-l", "(loop0)")); !strings.Contains(out, "btrfs") || !strings.Contains(out, "boot") || !strings.Contains(out, fstest.UUIDString(opt.UUID)) {
				t.Errorf("the file system is\n%s", out)
			}
		})
	}
}

// TestGRUBSubvolume has GRUB find files in a subvolume: by its path from the top
// level, whatever the default subvolume is.
func TestGRUBSubvolume(t *testing.T) {
	opt := testOptions()
	opt.Subvolumes = []Subvolume{{Path: "root"}}
	opt.Default = "root"
	image := writeImage(t, fstest.DirOf("root", fstest.DirOf("boot", fstest.DirOf("f", fstest.File("found")))), 128*mib, opt)
	if got := fstest.GRUB(t, image, "cat", "/root/boot/f"); string(got) != "found" {
		t.Errorf("%q", got)
	}
}

// digest returns the hash of all extents of a file system.
func digest(t *testing.T, root *tree.Inode, opt Options) string {
	t.Helper()
	extents, err := Write(context.Background(), root, 512*mib, packedOptions(t, root, opt))
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	image, err := disk.New(512*mib, extents)
	if err != nil {
		t.Fatal(err)
	}
	for off, n := range image.Data(4096) { // where one extent ends and the next begins is of no matter
		fmt.Fprintln(h, off, n)
		if _, err := io.Copy(h, io.NewSectionReader(image, off, n)); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// TestDeterministic writes a tree with one processor and with many.
func TestDeterministic(t *testing.T) {
	root := fstest.DirOf("objects", fstest.Objects(2000), "large", text(40*mib), "noise", noise(9*mib))
	for _, c := range []Compression{{}, {Zstd, 3}, {Zlib, 0}} {
		opt := testOptions()
		opt.Compress = c
		first := ""
		for _, n := range []int{1, 2, 7} {
			old := runtime.GOMAXPROCS(n)
			got := digest(t, root, opt)
			runtime.GOMAXPROCS(old)
			if first == "" {
				first = got
			} else if got != first {
				t.Errorf("%s: other bytes with %d processors", c, n)
			}
		}
	}
}

// TestReads reads trees in pieces of any size.
func TestReads(t *testing.T) {
	root, opt := fstest.Objects(300), testOptions()
	extents, err := Write(context.Background(), root, 256*mib, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		want, err := e.Data.ReadAll(64 * mib)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1000, 4096, 16384, 50000} {
			var got []byte
			for off := 0; off < len(want); off += n {
				b := make([]byte, min(n, len(want)-off))
				if _, err := e.Data.ReadAt(b, int64(off)); err != nil && err != io.EOF {
					t.Fatal(err)
				}
				got = append(got, b...)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("extent at %d reads otherwise by %d bytes", e.Off, n)
			}
		}
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// TestReadErrors names the file whose content cannot be read, wherever it is
// needed.
func TestReadErrors(t *testing.T) {
	gone := errors.New("gone")
	bad := func(n int64) *tree.Inode {
		return fstest.DirOf("dir", fstest.DirOf("bad", tree.NewFile(0o644, content.NewRef(failing{gone}, 0, n))))
	}
	named := func(err error) {
		t.Helper()
		if !errors.Is(err, gone) || !strings.Contains(err.Error(), "/dir/bad") {
			t.Errorf("%v", err)
		}
	}
	_, err := Write(context.Background(), bad(5000), 256*mib, testOptions())
	named(err)
	extents, err := Write(context.Background(), bad(500), 256*mib, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		if _, err = io.Copy(io.Discard, e.Data.Reader()); err != nil {
			break
		}
	}
	named(err)
	opt := testOptions()
	opt.Compress.Algorithm = Zstd
	for _, n := range []int64{500, 3000, 5000, 50 * mib} {
		_, err = Pack(context.Background(), bad(n), opt, spoolFile(t), nil)
		named(err)
	}
}

func spoolFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestPack checks what is compressed, and that everything is read once.
func TestPack(t *testing.T) {
	const size = 3*mib + 100
	want, err := text(size).Content.ReadAll(size)
	if err != nil {
		t.Fatal(err)
	}
	counted := &counter{r: bytes.NewReader(want)}
	one := tree.NewFile(0o644, content.NewRef(counted, 0, size))
	root := fstest.DirOf("text", one, "again", one, "noise", noise(mib), "zeros", zeros(mib), "hole", tree.NewFile(0o644, fstest.Sparse(t, 1<<60)),
		"small", text(3000), "in place", text(100_000))
	opt := testOptions()
	opt.Compress = Compression{Zstd, 1}
	opt.NoDataCow = []string{"in place"}
	total := int64(0)
	opt.Packed, err = Pack(context.Background(), root, opt, spoolFile(t), func(n int64) { counted.add(&total, n) })
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(size + 2*mib + 3000); total != want {
		t.Errorf("%d bytes of progress, want %d", total, want)
	}
	if n := opt.Packed.Size(); n < 100_000 || n > size/2 {
		t.Errorf("%d bytes of compressed content", n)
	}
	least, err := Size(root, 0, opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Write(context.Background(), root, least, opt); err != nil {
		t.Fatal(err)
	}
	if counted.n != size {
		t.Errorf("%d of %d bytes were read", counted.n, size)
	}
	for name, want := range map[string]string{"text": "24 compressed, 1 plain", "noise": "1 plain", "zeros": "8 compressed", "hole": "", "small": "inline"} {
		f, _ := opt.Packed.file(root.Child(name), opt.Compress)
		if got := summaryOf(f); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Pack(ctx, root, opt, spoolFile(t), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	closed := spoolFile(t)
	closed.Close()
	if _, err := Pack(context.Background(), root, opt, closed, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed file: %v", err)
	}
}

func summaryOf(f *packedFile) string {
	plain, compressed := 0, 0
	if f == nil {
		return ""
	}
	for _, p := range f.pieces {
		if p.disk > 0 {
			compressed++
		} else {
			plain++
		}
	}
	switch {
	case f.compressedInline():
		return "inline"
	case plain > 0 && compressed > 0:
		return fmt.Sprintf("%d compressed, %d plain", compressed, plain)
	case plain > 0:
		return fmt.Sprint(plain, " plain")
	}
	return fmt.Sprint(compressed, " compressed")
}
