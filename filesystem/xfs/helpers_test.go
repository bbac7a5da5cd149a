package xfs

import (
	"context"
	"strings"
	"testing"

	"imgbuild/test/fstest"
	"imgbuild/tree"
)

const testTime = 1700000000

// newest are the features of mkfs.xfs 7.
const newest = DefaultFeatures | Rmapbt | NrExt64 | ExchangeRange | Parent

// testOptions are fixed, so that every test is reproducible.
func testOptions() Options {
	return Options{
		UUID: [16]byte{0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55},
		Time: testTime,
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

// tool runs a program of xfsprogs and returns all that it prints.
func tool(t testing.TB, name string, args ...string) (out string, err error) {
	t.Helper()
	stdout, stderr, err := fstest.Tool(t, nil, name, args...)
	return stdout + "\n" + stderr, err
}

// repair fails the test when xfs_repair has anything to say.
func repair(t testing.TB, image string) {
	t.Helper()
	if out := complaints(t, image); out != "" {
		t.Fatalf("xfs_repair: %s", fstest.Head(out, 60))
	}
}

// complaints returns what xfs_repair says besides its phases.
func complaints(t testing.TB, image string) string {
	t.Helper()
	out, err := fstest.XFSRepair(t, "-f", image)
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
