package xfs

import (
	"context"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/disk"
	"imgbuild/tree"
)

const testTime = 1700000000

// testOptions are fixed, so that every test is reproducible.
func testOptions() Options {
	return Options{
		UUID: [16]byte{0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55},
		Time: testTime,
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
	// Large content is of zeros in these tests, and need not be written.
	extents = slices.DeleteFunc(extents, func(e disk.Extent) bool {
		var start [blockSize]byte
		if e.Data.Size() < 8*mib {
			return false
		}
		_, err := e.Data.ReadAt(start[:], 0)
		return err == nil && start == [blockSize]byte{}
	})
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

// tool runs a program of xfsprogs, which has to be there, and returns all that
// it prints.
func tool(t testing.TB, name string, args ...string) (out string, err error) {
	t.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err != nil {
		t.Fatalf("this test needs xfsprogs: %v", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	return stdout.String() + "\n" + stderr.String(), err
}

// repair fails the test when xfs_repair has anything to say.
func repair(t testing.TB, image string) {
	t.Helper()
	if out := complaints(t, image); out != "" {
		t.Fatalf("xfs_repair: %s", head(out, 60))
	}
}

// complaints returns what xfs_repair says besides its phases.
func complaints(t testing.TB, image string) string {
	t.Helper()
	out, err := tool(t, "xfs_repair", "-n", "-f", image)
	var found []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); !repairPhase(line) {
			found = append(found, line)
		}
	}
	if err != nil {
		found = append(found, err.Error())
	}
	return strings.Join(found, "\n")
}

// repairPhase tells whether a line of xfs_repair only says what it is doing.
func repairPhase(line string) bool {
	for _, p := range []string{
		"Phase ", "- ", "No modify flag set, ", "Cannot get host filesystem geometry", "Repair may fail if there is a sector size",
	} {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return line == "" || line == "the image and the host filesystem."
}

func head(s string, lines int) string {
	parts := strings.SplitAfterN(s, "\n", lines+1)
	return strings.Join(parts[:min(lines, len(parts))], "")
}

// db runs commands of xfs_db and returns what it prints.
func db(t testing.TB, image string, commands ...string) string {
	t.Helper()
	args := []string{"-r", "-f"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := tool(t, "xfs_db", append(args, image)...)
	if err != nil {
		t.Fatalf("xfs_db: %v\n%s", err, out)
	}
	return out
}
