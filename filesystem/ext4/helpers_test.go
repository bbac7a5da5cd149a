package ext4

import (
	"context"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"imgbuild/disk"
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

func uuidString(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// writeImage writes a file system to a new sparse file and returns its path.
func writeImage(t testing.TB, root *tree.Inode, size int64, opt Options) string {
	t.Helper()
	extents, err := Write(context.Background(), root, size, opt)
	if err != nil {
		t.Fatal(err)
	}
	return materialise(t, extents, size)
}

func materialise(t testing.TB, extents []disk.Extent, size int64) string {
	t.Helper()
	for i := 1; i < len(extents); i++ {
		if extents[i].Off < extents[i-1].End() {
			t.Fatalf("extent %d at %d is not behind the one that ends at %d", i, extents[i].Off, extents[i-1].End())
		}
	}
	image, err := disk.New(size, extents)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for off, n := range image.Data(blockSize) {
		if _, err := io.Copy(io.NewOffsetWriter(f, off), io.NewSectionReader(image, off, n)); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// tool runs a program of e2fsprogs, which has to be there.
func tool(t testing.TB, name string, args ...string) (stdout string, err error) {
	t.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin", "/opt/homebrew/opt/e2fsprogs/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err != nil {
		t.Fatalf("this test needs e2fsprogs: %v", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "E2FSPROGS_FAKE_TIME=1700000000", "E2FSCK_TIME=3000000000", "MKE2FS_CONFIG=/dev/null")
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err = cmd.Run(); err != nil {
		t.Logf("%s %q: %v\n%s", name, args, err, errOut.String())
	}
	return out.String(), err
}

// summary is the last line of e2fsck.
var summary = regexp.MustCompile(`: \d+/\d+ files \(\d+\.\d% non-contiguous\), \d+/\d+ blocks$`)

// fsck fails the test when e2fsck has anything to say.
func fsck(t testing.TB, image string) {
	t.Helper()
	out, err := tool(t, "e2fsck", "-fn", image)
	if err != nil {
		t.Fatalf("e2fsck: %v\n%s", err, head(out, 60))
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "Pass ") || summary.MatchString(line) {
			continue
		}
		t.Fatalf("e2fsck complains:\n%s", head(out, 60))
	}
}

func head(s string, lines int) string {
	parts := strings.SplitAfterN(s, "\n", lines+1)
	return strings.Join(parts[:min(lines, len(parts))], "")
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
