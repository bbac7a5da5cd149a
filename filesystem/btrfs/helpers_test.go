package btrfs

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"imgbuild/test/fstest"
	"imgbuild/tree"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

const testTime = 1700000000

// testOptions are fixed, so that every test is reproducible.
func testOptions() Options {
	return Options{
		UUID: [16]byte{0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55},
		Time: testTime,
	}
}

// packed returns the options with packed content, when they need it.
func packedOptions(t testing.TB, root *tree.Inode, opt Options) Options {
	t.Helper()
	if !opt.Compresses() {
		return opt
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	if opt.Packed, err = Pack(context.Background(), root, opt, f, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opt.Packed.Close() })
	return opt
}

// writeImage writes a file system to a new sparse file and returns its path.
func writeImage(t testing.TB, root *tree.Inode, size int64, opt Options) string {
	t.Helper()
	extents, err := Write(context.Background(), root, size, packedOptions(t, root, opt))
	if err != nil {
		t.Fatal(err)
	}
	return fstest.Materialise(t, extents, size)
}

// complaints returns what btrfs check says against a file system; its checksums
// of data included.
func complaints(t testing.TB, image string) string {
	t.Helper()
	stdout, stderr, err := fstest.Tool(t, nil, "btrfs", "check", "--readonly", "--check-data-csum", image)
	var found []string
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "[") && strings.Contains(line, "/8] checking ") ||
			line == "[5/8] checking csums against data" || strings.HasSuffix(line, "(not enabled on this FS)") {
			continue
		}
		found = append(found, line)
	}
	if !strings.Contains(stdout, "no error found\n") {
		found = append(found, stdout)
	}
	if err != nil {
		found = append(found, err.Error())
	}
	return strings.Join(found, "\n")
}

// check fails the test when btrfs check has anything to say.
func check(t testing.TB, image string) {
	t.Helper()
	if out := complaints(t, image); out != "" {
		t.Fatalf("btrfs check: %s", fstest.Head(out, 60))
	}
}

// counter counts the bytes that are read.
type counter struct {
	r  io.ReaderAt
	mu sync.Mutex
	n  int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.add(&c.n, int64(n))
	return n, err
}

func (c *counter) add(to *int64, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*to += n
}
