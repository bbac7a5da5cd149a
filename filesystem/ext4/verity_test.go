package ext4

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/filesystem"
	"imgbuild/fsverity"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

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

// verityTree has files on the limits of what fs-verity adds: of blocks of
// hashes, and of the 64 KiB behind which it begins.
func verityTree(t testing.TB) *tree.Inode {
	root := tree.NewDir(0o755)
	for k, n := range []int{
		0, 1, blockSize - 1, blockSize, blockSize + 1, verityAlign - 1, verityAlign, verityAlign + 1,
		128*blockSize - 1, 128 * blockSize, 128*blockSize + 1, 10 * mib, 40*mib + 5, 128 * 128 * blockSize,
	} {
		root.Set(fmt.Sprint("size-", n), protected(t, fstest.Noise(uint64(k), n)))
	}
	root.Set("hole", protected(t, fstest.Sparse(t, 3*mib+1)))
	root.Set("holes", protected(t, fstest.Sparse(t, 9*mib+17,
		content.Piece{Off: 100, Ref: fstest.Noise(10, 10)}, content.Piece{Off: 5*mib + 1, Ref: fstest.Noise(12, 2*mib)})))
	root.Set("scattered", protected(t, fstest.Scattered(t, 1500).Content))
	root.Set("plain", tree.NewFile(0o644, fstest.Noise(3, 5000)))
	root.Set("second name", root.Child("size-4097"))
	return root
}

// TestVerity finds the metadata of each file where the kernel looks for it
// (fs/ext4/verity.c), and compares it with what fsverity-utils computes.
func TestVerity(t *testing.T) {
	root := verityTree(t)
	image := writeImage(t, root, 512*mib, testOptions())
	fsck(t, image)
	if out := debugfs(t, image, "stats"); !regexp.MustCompile(`Filesystem features:.* verity`).MatchString(out) {
		t.Error("the file system has not the feature verity")
	}
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	for _, e := range root.Entries() {
		if e.Inode.Verity == nil {
			continue
		}
		t.Run(e.Name, func(t *testing.T) { checkVerity(t, f, e, dir) })
	}
	if out := debugfs(t, image, "stat /plain"); !strings.Contains(out, "Flags: 0x80000") {
		t.Errorf("a file without fs-verity:\n%s", out)
	}
}

func checkVerity(t *testing.T, image *os.File, e tree.Entry, dir string) {
	name, merkle, descriptor := filepath.Join(dir, "data"), filepath.Join(dir, "merkle"), filepath.Join(dir, "descriptor")
	out := debugfs(t, image.Name(), fmt.Sprintf("dump %q %s", e.Name, name), fmt.Sprintf("stat %q", e.Name), fmt.Sprintf("ex %q", e.Name))
	if !strings.Contains(out, "Flags: 0x180000") {
		t.Errorf("not a file with fs-verity:\n%s", out)
	}
	fstest.CompareFile(t, name, e.Inode.Content)
	if err := exec.Command("fsverity", "digest", "--out-merkle-tree="+merkle, "--out-descriptor="+descriptor, name).Run(); err != nil {
		t.Fatalf("fsverity digest, of fsverity-utils: %v", err)
	}
	read := reader(t, image, out)
	size := e.Inode.Content.Size()
	// ext4_get_verity_descriptor_location: the last extent ends with the size
	// of the descriptor.
	end := read.end()
	n := int64(binary.LittleEndian.Uint32(read.at(end-4, 4)))
	at := (end - 4 - n) &^ (blockSize - 1)
	start := (size + 65535) &^ 65535
	if n != fsverity.SizeDescriptor || at < start {
		t.Fatalf("a descriptor of %d bytes at %d, in a file of %d", n, at, size)
	}
	want, err := os.ReadFile(descriptor)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read.at(at, n), want) {
		t.Error("the descriptor differs")
	}
	if want, err = os.ReadFile(merkle); err != nil {
		t.Fatal(err)
	}
	if at != start+int64(len(want)) || !bytes.Equal(read.at(start, int64(len(want))), want) {
		t.Error("the Merkle tree differs")
	}
}

// extents reads a file by its map, also behind its size.
type extents struct {
	t     *testing.T
	image *os.File
	list  [][3]int64 // first and last logical block, first physical block
}

var extentLine = regexp.MustCompile(`(?m)^ *(\d+)/ *(\d+) +\d+/ *\d+ +(\d+) - +(\d+) +(\d+) - +(\d+)`)

// reader parses the output of "dump_extents".
func reader(t *testing.T, image *os.File, out string) *extents {
	r := &extents{t: t, image: image}
	for _, m := range extentLine.FindAllStringSubmatch(out, -1) {
		if m[1] != m[2] {
			continue // an index
		}
		var e [3]int64
		for i, k := range []int{3, 4, 5} {
			e[i], _ = strconv.ParseInt(m[k], 10, 64)
		}
		r.list = append(r.list, e)
	}
	return r
}

func (r *extents) end() int64 {
	if len(r.list) == 0 {
		r.t.Fatal("no extents")
	}
	return (r.list[len(r.list)-1][1] + 1) << blockShift
}

func (r *extents) at(off, n int64) []byte {
	out := make([]byte, 0, n)
	var block [blockSize]byte
	for pos := off &^ (blockSize - 1); pos < off+n; pos += blockSize {
		clear(block[:])
		for _, e := range r.list {
			if l := pos >> blockShift; l >= e[0] && l <= e[1] {
				if _, err := r.image.ReadAt(block[:], (e[2]+l-e[0])<<blockShift); err != nil {
					r.t.Fatal(err)
				}
			}
		}
		out = append(out, block[max(0, off-pos):min(blockSize, off+n-pos)]...)
	}
	return out
}

// The least size counts what fs-verity adds.
func TestVeritySize(t *testing.T) {
	root := tree.NewDir(0o755)
	for k := range 300 {
		root.Set(fmt.Sprint(k), protected(t, fstest.Noise(uint64(k), 100*k)))
	}
	root.Set("large", protected(t, fstest.Zeros(200*mib)))
	size, err := Size(root, 0, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	fsck(t, writeImage(t, root, size, testOptions()))
	var small *filesystem.TooSmallError
	if _, err := Write(context.Background(), root, size-blockSize, testOptions()); !errors.As(err, &small) || small.Need != size {
		t.Errorf("one block less: %v", err)
	}
}

// A file cannot be so large that its metadata would lie where ext4 has no
// blocks, and metadata of another file are refused.
func TestVerityRefused(t *testing.T) {
	largest := tree.NewFile(0o644, fstest.Sparse(t, maxFileSize))
	largest.Verity = &fsverity.Metadata{Size: maxFileSize, Tree: fstest.Sparse(t, fsverity.TreeSize(maxFileSize))}
	other := protected(t, fstest.Noise(1, 5000))
	other.Content = fstest.Noise(1, 5001)
	for name, i := range map[string]*tree.Inode{"largest": largest, "other": other} {
		_, err := Write(context.Background(), fstest.DirOf("bad", i), 64*mib, testOptions())
		if err == nil || !strings.Contains(err.Error(), "/bad") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The largest that has room.
	n := int64(maxFileSize) / 128 * 126 &^ (verityAlign - 1)
	fits := tree.NewFile(0o644, fstest.Sparse(t, n, content.Piece{Off: 5, Ref: content.String("x")}))
	fits.Verity = &fsverity.Metadata{Size: n, Tree: fstest.Sparse(t, fsverity.TreeSize(n))}
	if _, err := Write(context.Background(), fstest.DirOf("good", fits), 1<<40, testOptions()); err != nil {
		t.Error(err)
	}
}
