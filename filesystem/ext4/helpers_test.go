package ext4

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"imgbuild/test/fstest"
	"imgbuild/tree"
)

const testTime = 1700000000

// testOptions are fixed, so that every test is reproducible.
func testOptions() Options {
	return Options{
		UUID:     [16]byte{0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55},
		HashSeed: [16]byte{0x99, 0x99, 0x99, 0x99, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55},
		Time:     testTime,
	}
}

// writeImage writes a file system to a new sparse file and returns its path.
func writeImage(t testing.TB, root *tree.Inode, size int64, opt Options) string {
	t.Helper()
	extents, err := Write(context.Background(), root, size, opt)
	if err != nil {
		t.Fatal(err)
	}
	return fstest.Materialise(t, extents, size)
}

// tool runs a program of e2fsprogs.
func tool(t testing.TB, name string, args ...string) (stdout string, err error) {
	t.Helper()
	out, complaint, err := fstest.Tool(t, []string{"E2FSPROGS_FAKE_TIME=1700000000", "E2FSCK_TIME=3000000000", "MKE2FS_CONFIG=/dev/null"}, name, args...)
	if err != nil {
		t.Logf("%s %q: %v\n%s", name, args, err, complaint)
	}
	return out, err
}

// summary is the last line of e2fsck.
var summary = regexp.MustCompile(`: \d+/\d+ files \(\d+\.\d% non-contiguous\), \d+/\d+ blocks$`)

// fsck fails the test when e2fsck has anything to say.
func fsck(t testing.TB, image string) {
	t.Helper()
	out, err := tool(t, "e2fsck", "-fn", image)
	if err != nil {
		t.Fatalf("e2fsck: %v\n%s", err, fstest.Head(out, 60))
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "Pass ") || summary.MatchString(line) {
			continue
		}
		t.Fatalf("e2fsck complains:\n%s", fstest.Head(out, 60))
	}
}

// debugfs runs commands of debugfs and returns what it prints.
func debugfs(t testing.TB, image string, commands ...string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "commands")
	if err := os.WriteFile(script, []byte(strings.Join(commands, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := tool(t, "debugfs", "-f", script, image)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
