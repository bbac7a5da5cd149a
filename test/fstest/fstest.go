// Package fstest has what the tests of the file system writers share: trees to
// write, files to write them to, and the programs that check them.
package fstest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
)

// Sizes in bytes.
const (
	KiB = 1 << 10
	MiB = 1 << 20
	GiB = 1 << 30
	TiB = 1 << 40
)

const blockSize = 4096

// UUIDString returns a UUID as programs print it.
func UUIDString(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Materialise writes the extents of a file system, which have to be ascending,
// to a new sparse file and returns its path. Extents of 8 MiB and more that
// begin with zeros are left out: such content is all of zeros in these tests.
func Materialise(t testing.TB, extents []disk.Extent, size int64) string {
	t.Helper()
	for i := 1; i < len(extents); i++ {
		if extents[i].Off < extents[i-1].End() {
			t.Fatalf("extent %d at %d is not behind the one that ends at %d", i, extents[i].Off, extents[i-1].End())
		}
	}
	extents = slices.DeleteFunc(slices.Clone(extents), func(e disk.Extent) bool {
		var start [blockSize]byte
		if e.Data.Size() < 8*MiB {
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

// Hash writes places and content of extents to h.
func Hash(t testing.TB, h hash.Hash, extents []disk.Extent) {
	t.Helper()
	for _, e := range extents {
		fmt.Fprintln(h, e.Off, e.Data.Size())
		if _, err := io.Copy(h, e.Data.Reader()); err != nil {
			t.Fatal(err)
		}
	}
}

// Tool runs a program, which has to be there, with env added to the
// environment, and returns what it prints.
func Tool(t testing.TB, env []string, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin", "/opt/homebrew/opt/e2fsprogs/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err != nil {
		t.Fatalf("this test needs %s: %v", name, err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C", "TZ=UTC"), env...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// XFSRepair runs xfs_repair -n with more arguments and returns all that it prints.
//
// Where it finds something it is asked once more: xfs_repair 7.2 visits directories
// with a thread for each processor, and on a busy machine one of some 2,000 runs on
// the same sound file system misses a link or crashes. What is wrong with a file
// system is found by every run.
func XFSRepair(t testing.TB, args ...string) (out string, err error) {
	t.Helper()
	for range 2 {
		var stdout, stderr string
		stdout, stderr, err = Tool(t, nil, "xfs_repair", append([]string{"-n"}, args...)...)
		out = stdout + "\n" + stderr
		if err == nil {
			break
		}
	}
	return out, err
}

// GRUB runs grub-fstest, which reads file systems with the code of GRUB, and
// returns what it prints. It fails the test when it complains.
func GRUB(t testing.TB, image string, args ...string) []byte {
	t.Helper()
	out, complaint, err := Tool(t, nil, "grub-fstest", append([]string{image}, args...)...)
	if err != nil || complaint != "" {
		t.Fatalf("grub-fstest %q: %v\n%s", args, err, complaint)
	}
	return []byte(out)
}

// Head returns the first lines of a text.
func Head(s string, lines int) string {
	parts := strings.SplitAfterN(s, "\n", lines+1)
	return strings.Join(parts[:min(lines, len(parts))], "")
}

// CompareFile compares a file of the host with what it should hold.
func CompareFile(t testing.TB, name string, want content.Ref) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
		return
	}
	b, err := want.ReadAll(64 * MiB)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b) {
		t.Errorf("%s: %d bytes that differ from the %d written", name, len(got), len(b))
	}
}
