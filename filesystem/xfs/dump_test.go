package xfs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// TestMetadump has xfs_metadump walk all of the metadata and copy it, and
// compares the copy with the original: there is nothing that the tool does not
// find, and nothing that it finds elsewhere.
func TestMetadump(t *testing.T) {
	root := fstest.DirOf("entries", named("%d", 3000), "empty", fstest.File(""), "fifo", &tree.Inode{Mode: tree.TypeFIFO | 0o600})
	for _, n := range []int{1, 40, 120, 300} {
		root.Set(fmt.Sprint("dir-", n), named("%04d", n))
	}
	for _, n := range []int{10, 300, 1023} {
		root.Set(fmt.Sprint("link-", n), tree.NewLink(value(n)))
	}
	for _, n := range []int{10, 3000, 20000, 65536} {
		root.Set(fmt.Sprint("attributes-", n), fstest.XattrFile("user.a", value(n), "security.selinux", value(n/2), "trusted.x", value(n/3)))
		root.Child(fmt.Sprint("attributes-", n)).Content = fstest.File("").Content
	}
	many := fstest.File("")
	for k := range 800 {
		many.SetXattr(fmt.Sprintf("user.%d", k), value(k%90))
	}
	root.Set("many", many)
	for name, features := range map[string]Features{"default": 0, "none": NoFeatures, "rmapbt": DefaultFeatures | Rmapbt, "newest": newest} {
		t.Run(name, func(t *testing.T) {
			opt := testOptions()
			opt.Features = features
			image := writeImage(t, root, 400*mib, opt)
			dir := t.TempDir()
			dump, restored := filepath.Join(dir, "dump"), filepath.Join(dir, "restored")
			if out, err := tool(t, "xfs_db", "-i", "-p", "xfs_metadump", "-c", "metadump -a -o "+dump, image); err != nil {
				t.Fatalf("xfs_metadump: %v\n%s", err, out)
			}
			if out, err := tool(t, "xfs_mdrestore", dump, restored); err != nil {
				t.Fatalf("xfs_mdrestore: %v\n%s", err, out)
			}
			repair(t, restored)
			sameBytes(t, image, restored)
		})
	}
}

// sameBytes compares two images, but for blocks of zeros at their ends.
func sameBytes(t *testing.T, a, b string) {
	t.Helper()
	open := func(name string) *os.File {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	x, y := open(a), open(b)
	const step = 1 << 20
	one, other := make([]byte, step), make([]byte, step)
	for off := int64(0); ; off += step {
		n, err := x.ReadAt(one, off)
		clear(one[n:])
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		m, _ := y.ReadAt(other, off)
		clear(other[m:])
		if off == 0 {
			// xfs_mdrestore writes the superblock anew, with another form of no
			// quota inodes.
			for _, b := range [][]byte{one, other} {
				clear(b[160:176])
				clear(b[224:228]) // checksum
				clear(b[232:240])
			}
		}
		for at := 0; at < step; at += blockSize {
			if !bytes.Equal(one[at:at+blockSize], other[at:at+blockSize]) {
				i := at
				for one[i] == other[i] {
					i++
				}
				t.Fatalf("block %d differs from %d on: %x..., restored %x...", (off+int64(at))/blockSize, i-at, one[i:i+16], other[i:i+16])
			}
		}
		if n < step && m < step {
			return
		}
	}
}
