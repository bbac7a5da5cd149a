//go:build linux

// Package installed tests finished disks with what needs root: kernel mounts, the
// real ostree on the mounted disk, a full file system. imgbuild itself runs as
// an ordinary user all the same.
package installed

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"imgbuild/test/fstest"
)

// nobody is the user that imgbuild runs as.
const nobody = 65534

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts disks and needs root; make test runs it only then")
	}
}

// path returns what an environment variable names, or the default.
func path(t *testing.T, variable, fallback string) string {
	t.Helper()
	p := os.Getenv(variable)
	if p == "" {
		p = fallback
	}
	p, err := filepath.Abs(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%v: set %s", err, variable)
	}
	return p
}

// imgbuild runs the binary as an ordinary user in a directory that this user
// owns, and returns its exit code and stderr.
func imgbuild(t *testing.T, dir string, args ...string) (int, string) {
	t.Helper()
	cmd := exec.Command(path(t, "IMGBUILD_BIN", "../../bin/imgbuild"), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), stderr.String()
}

// workDir returns a new directory that the ordinary user can reach and write.
func workDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "imgbuild-installed-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rawDisk builds a raw disk of an image and returns its path.
func rawDisk(t *testing.T, layout string, args ...string) string {
	t.Helper()
	dir := workDir(t)
	args = append([]string{"--type", "raw", "--output", dir, "--no-cache"}, args...)
	if code, stderr := imgbuild(t, dir, append(args, "oci:"+layout)...); code != 0 {
		t.Fatalf("imgbuild %v: exit %d: %s", args, code, stderr)
	}
	return filepath.Join(dir, "image/disk.raw")
}

// run runs a program that must succeed and returns what it prints on stdout.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// mounted is a disk with its root and boot file systems mounted.
type mounted struct {
	root  string // with /boot in place
	loops []string
	done  bool
}

// mount mounts partitions root and boot (by number) of a raw disk.
func mount(t *testing.T, disk string, root, boot int, options string) *mounted {
	t.Helper()
	m := &mounted{root: t.TempDir()}
	t.Cleanup(func() { m.unmount(t) })
	for _, p := range []struct {
		number int
		dir    string
	}{{root, m.root}, {boot, filepath.Join(m.root, "boot")}} {
		start, size := extent(t, disk, p.number)
		args := []string{"--find", "--show", "--offset", fmt.Sprint(start), "--sizelimit", fmt.Sprint(size)}
		if strings.HasPrefix(options, "ro") {
			args = append(args, "--read-only")
		}
		loop := strings.TrimSpace(run(t, "losetup", append(args, disk)...))
		m.loops = append(m.loops, loop)
		run(t, "mount", "-o", options, loop, p.dir)
	}
	return m
}

// mountpoint tells whether something is mounted at a directory.
func mountpoint(dir string) bool { return exec.Command("mountpoint", "-q", dir).Run() == nil }

func (m *mounted) unmount(t *testing.T) {
	if m.done {
		return
	}
	m.done = true
	if boot := filepath.Join(m.root, "boot"); mountpoint(boot) {
		fstest.Unmount(t, boot)
	}
	if mountpoint(m.root) {
		fstest.Unmount(t, m.root)
	}
	for _, loop := range m.loops {
		_ = exec.Command("losetup", "--detach", loop).Run()
	}
}

// extent returns the offset and size in bytes of a partition.
func extent(t *testing.T, disk string, number int) (start, size int64) {
	t.Helper()
	for line := range strings.Lines(run(t, "sgdisk", "-i", fmt.Sprint(number), disk)) {
		key, value, _ := strings.Cut(line, ": ")
		field, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		n, _ := strconv.ParseInt(field, 10, 64)
		switch key {
		case "First sector":
			start = n * 512
		case "Partition size":
			size = n * 512
		}
	}
	if start == 0 || size == 0 {
		t.Fatalf("%s has no partition %d", disk, number)
	}
	return start, size
}
