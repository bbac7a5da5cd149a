package composefs

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/fsverity"
	"imgbuild/tree"
)

var update = flag.Bool("update", false, "write testdata/images.txt from what mkcomposefs makes")

const goldenFile = "testdata/images.txt"

// TestGolden compares images with digests of what mkcomposefs made: one line a
// tree, with the SHA-256 of the image of Write with some fs-verity digests, that
// of Ostree without, and the fs-verity digest of the latter.
func TestGolden(t *testing.T) {
	if *update {
		updateGolden(t)
	}
	data, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(data)), "\n")
	list := trees()
	if len(want) != len(list) {
		t.Fatalf("%s has %d lines for %d trees", goldenFile, len(want), len(list))
	}
	for k, tt := range list {
		root := tt.make()
		generic, err := Write(root, Options{Digest: someDigests})
		if err != nil {
			t.Fatal(err)
		}
		var ostree []byte
		if onlyOstree(root) {
			if ostree, err = Ostree(root, Options{}); err != nil {
				t.Fatal(err)
			}
		}
		if got := goldenLine(t, tt.name, generic, ostree); got != want[k] {
			t.Errorf("\n got %s\nwant %s", got, want[k])
		}
	}
}

func goldenLine(t *testing.T, name string, generic, ostree []byte) string {
	second, verity := "-", "-"
	if ostree != nil {
		m, err := fsverity.Of(t.Context(), content.Bytes(ostree))
		if err != nil {
			t.Fatal(err)
		}
		second, verity = fmt.Sprintf("%x", sha256.Sum256(ostree)), fmt.Sprintf("%x", m.Digest())
	}
	return fmt.Sprintf("%x %s %s %s", sha256.Sum256(generic), second, verity, name)
}

func updateGolden(t *testing.T) {
	var b strings.Builder
	for _, tt := range trees() {
		root := tt.make()
		generic, ostree := mkcomposefs(t, dump(t, root, false, someDigests)), []byte(nil)
		if onlyOstree(root) {
			ostree = mkcomposefs(t, dump(t, root, true, nil))
		}
		fmt.Fprintln(&b, goldenLine(t, tt.name, generic, ostree))
	}
	if err := os.WriteFile(goldenFile, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestXXH32(t *testing.T) {
	// From the xxHash sanity checks, and the names EROFS hashes.
	for _, tt := range []struct {
		s    string
		seed uint32
		want uint32
	}{
		{"", 0, 0x02cc5d05},
		{"", 0x9e3779b1, 0x36b78ae7},
		{"a", 0, 0x550d7456},
		{"abc", 0, 0x32d153ff},
		{"Nobody inspects the spammish repetition", 0, 0xe2293b2f},
	} {
		if got := xxh32(tt.s, tt.seed); got != tt.want {
			t.Errorf("xxh32(%q, %#x) = %#x, want %#x", tt.s, tt.seed, got, tt.want)
		}
	}
}

func TestErrors(t *testing.T) {
	noObject := object(5, "x")
	noObject.Object = tree.Sum{}
	tests := []struct {
		name   string
		inode  *tree.Inode
		class  fault.Class
		ostree bool
	}{
		{"no object", noObject, fault.Internal, false},
		{"file above 8 TiB", object(maxFileSize+1, "x"), fault.Unsupported, false},
		{"empty link", tree.NewLink(""), fault.BadImage, false},
		{"long link", tree.NewLink(strings.Repeat("l", 4096)), fault.BadImage, false},
		{"NUL in link", tree.NewLink("a\x00b"), fault.BadImage, false},
		{"xattrs too large", with(object(1, "x"), "user.one", strings.Repeat("v", maxXattrBytes-firstXattrOverhead-xattrOverhead-len("user.one")+1)), fault.BadImage, false},
		{"empty xattr name", with(object(1, "x"), "", "v"), fault.BadImage, false},
		{"long xattr name", with(object(1, "x"), "user."+strings.Repeat("v", 251), "v"), fault.BadImage, false},
		{"NUL in xattr name", with(object(1, "x"), "user.\x00", "v"), fault.BadImage, false},
		{"device number", device(tree.TypeChar, 0x1000, 0), fault.BadImage, false},
		{"device number", device(tree.TypeBlock, 0, 0x100000), fault.BadImage, false},
		{"type", &tree.Inode{Mode: 0o644}, fault.Internal, false},
		{"device in a commit", device(tree.TypeChar, 0, 0), fault.BadImage, true},
		{"fifo in a commit", device(tree.TypeFIFO, 0, 0), fault.BadImage, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := at(tree.NewDir(0o755), "/usr/bin/odd", tt.inode)
			build := Write
			if tt.ostree {
				build = Ostree
			}
			image, err := build(root, Options{})
			if err == nil || image != nil || !strings.Contains(err.Error(), "/usr/bin/odd: ") || fault.ClassOf(err) != tt.class {
				t.Errorf("%d bytes, error of class %d: %v", len(image), fault.ClassOf(err), err)
			}
		})
	}
	if _, err := Write(tree.NewLink("x"), Options{}); err == nil {
		t.Error("root that is not a directory: no error")
	}
}

// TestTreeUnchanged checks that images leave the tree alone, and that an inode
// with two names is two inodes.
func TestTreeUnchanged(t *testing.T) {
	f := with(object(9, "f"), "user.b", "b", "trusted.overlay.x", "x")
	root := at(tree.NewDir(0o755), "/usr/a", f, "/usr/b", f)
	before := dump(t, root, false, nil)
	one, err := Ostree(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if after := dump(t, root, false, nil); after != before {
		t.Errorf("tree changed:\n%s\nwas\n%s", after, before)
	}
	two, err := Ostree(at(tree.NewDir(0o755), "/usr/a", f.Copy(), "/usr/b", f.Copy()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	sameImage(t, one, two)
}

func TestPathOfErrorInRoot(t *testing.T) {
	root := with(tree.NewDir(0o755), "user.\x00", "")
	if _, err := Write(root, Options{}); err == nil || !strings.Contains(err.Error(), "composefs: /: ") {
		t.Error(err)
	}
}

func BenchmarkOstree100k(b *testing.B) {
	root := generated(100_000, 3)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Ostree(root, Options{Digest: someDigests}); err != nil {
			b.Fatal(err)
		}
	}
}
