package mount

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/disk"
	"imgbuild/test/fstest"
)

// needRoot fails the test when it cannot mount.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts file systems: run it as root")
	}
}

// run runs a program and returns what it prints.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// materialise writes a file system to a new sparse file and returns its path.
func materialise(t testing.TB, extents []disk.Extent, size int64) string {
	t.Helper()
	image, err := disk.New(size, extents)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for off, n := range image.Data(4096) {
		if _, err := io.Copy(io.NewOffsetWriter(f, off), io.NewSectionReader(image, off, n)); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// attach returns a loop device of an image, until the test ends.
func attach(t testing.TB, image string, args ...string) (device string) {
	t.Helper()
	device = strings.TrimSpace(run(t, "losetup", append(args, "-f", "--show", image)...))
	t.Cleanup(func() { run(t, "losetup", "-d", device) })
	return device
}

// mounted mounts a device, for as long as fn runs, and gives it the directory.
func mounted(t testing.TB, fsType, options, device string, fn func(dir string)) {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-t", fsType, "-o", options, device, dir)
	defer fstest.Unmount(t, dir)
	fn(dir)
}
