package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// mke2fs makes an empty file system with the parameters of opt.
func mke2fs(t *testing.T, size int64, opt Options, args ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "reference")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	all := append([]string{
		"-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256",
		"-O", "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum",
		"-U", fstest.UUIDString(opt.UUID),
		"-E", "lazy_itable_init=1,assume_storage_prezeroed=1,root_owner=0:0,hash_seed=" + fstest.UUIDString(opt.HashSeed),
	}, args...)
	if _, err := tool(t, "mke2fs", append(all, name)...); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestSameAsMke2fs compares empty file systems, byte for byte, with those of
// the real tool.
func TestSameAsMke2fs(t *testing.T) {
	const mib = 1 << 20
	for _, size := range []int64{256 * mib, 511 * mib, 512 * mib, 1 << 30, 3<<30 - 123*blockSize, 10 << 30, 40 << 30} {
		t.Run(fmt.Sprint(size/mib, "MiB"), func(t *testing.T) {
			opt := testOptions()
			root := tree.NewDir(0o755)
			root.Mtime = opt.Time
			ratio := fmt.Sprint(bytesPerInode(uint64(size / blockSize)))
			compareBlocks(t, writeImage(t, root, size, opt), mke2fs(t, size, opt, "-i", ratio))
		})
	}
}

// compareBlocks compares two images of the same size, and prints what dumpe2fs
// says of both where they differ.
func compareBlocks(t *testing.T, got, want string) {
	t.Helper()
	g, w := openFile(t, got), openFile(t, want)
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	differences := 0
	for off := int64(0); ; off += int64(len(a)) {
		next := min(nextData(g, off), nextData(w, off))
		off = max(off, next&^int64(len(a)-1))
		n, err := g.ReadAt(a, off)
		m, _ := w.ReadAt(b, off)
		if n != m {
			t.Fatalf("%d bytes at %d, and %d of mke2fs", n, off, m)
		}
		for i := 0; i < n; i += blockSize {
			if x, y := a[i:min(i+blockSize, n)], b[i:min(i+blockSize, n)]; !bytes.Equal(x, y) {
				if off+int64(i) == 0 {
					maskSuper(x[superOffset:])
					maskSuper(y[superOffset:])
				}
				if (off+int64(i))%(blocksPerGroup*blockSize) == 0 {
					maskSuper(x)
					maskSuper(y)
				}
				for k := range x {
					if x[k] != y[k] && differences < 20 {
						t.Errorf("block %d byte %#x: %#02x, and %#02x of mke2fs", (off+int64(i))/blockSize, k, x[k], y[k])
						differences++
					}
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// nextData returns the offset of the next data at or after off, or off where the
// system does not tell.
func nextData(f *os.File, off int64) int64 {
	const seekData = 3 // SEEK_DATA of Linux
	if runtime.GOOS != "linux" {
		return off
	}
	next, err := f.Seek(off, seekData)
	if errors.Is(err, syscall.ENXIO) {
		return 1 << 62
	}
	if err != nil {
		return off
	}
	return next
}

// maskSuper clears what may differ between the superblocks: the count of bytes
// written so far and the checksum over it.
func maskSuper(b []byte) {
	clear(b[0x178:0x180])
	clear(b[0x3fc:0x400])
}

func openFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
