// Package e2e tests the command as users run it: the binary, as an ordinary
// user, on real and on broken images.
package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// binary returns the imgbuild to test: IMGBUILD_BIN, or the one in bin that
// `make build` makes.
func binary(t *testing.T) string { return need(t, "IMGBUILD_BIN", "../../bin/imgbuild", "make build") }

// sample returns the OCI layout of the sample image.
func sample(t *testing.T) string {
	return need(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample")
}

func need(t *testing.T, variable, path, how string) string {
	t.Helper()
	if p := os.Getenv(variable); p != "" {
		path = p
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: %s makes it, or set %s", err, how, variable)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// tool returns the path of a program that a test needs. A missing one fails the
// test: a check that does not run proves nothing.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/sbin"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return filepath.Join(dir, name)
			}
		}
		t.Fatalf("needs %s (Debian package %s)", name, pkg)
	}
	return p
}

// result is how a run of imgbuild ended.
type result struct {
	code           int
	stdout, stderr string
	maxRSS         int64 // KiB
	wall           time.Duration
}

// command is a run of imgbuild that is not started yet.
func command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.Command(binary(t), args...)
	cmd.Dir = t.TempDir()
	return cmd
}

// run runs the command to its end.
func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{
		code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(),
		maxRSS: maxRSS(cmd.ProcessState), wall: time.Since(start),
	}
}

// build runs imgbuild, which must succeed, and returns the output directory.
func build(t *testing.T, args ...string) (dir string, r result) {
	t.Helper()
	dir = t.TempDir()
	cmd := command(t, append([]string{"--output", dir}, args...)...)
	r = run(t, cmd)
	if r.code != 0 {
		t.Fatalf("%s: exit %d\n%s", strings.Join(cmd.Args, " "), r.code, r.stderr)
	}
	return dir, r
}

// check runs a checker, which must succeed, and returns what it prints.
func check(t *testing.T, name, pkg string, args ...string) string {
	t.Helper()
	out, err := exec.Command(tool(t, name, pkg), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// files lists the regular files below a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// partition copies a partition, by its number, out of a raw disk.
func partition(t *testing.T, disk string, number int) string {
	t.Helper()
	info := check(t, "sgdisk", "gdisk", "-i", fmt.Sprint(number), disk)
	var first, last int64
	for line := range strings.Lines(info) {
		fmt.Sscanf(line, "First sector: %d", &first)
		fmt.Sscanf(line, "Last sector: %d", &last)
	}
	if last <= first {
		t.Fatalf("no partition %d:\n%s", number, info)
	}
	from, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(t.TempDir(), fmt.Sprintf("p%d", number))
	to, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	// Zeros are skipped: most of a disk is empty.
	section := io.NewSectionReader(from, first*512, (last-first+1)*512)
	buf, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < section.Size(); {
		n, err := section.ReadAt(buf, off)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := to.WriteAt(buf[:n], off); err != nil {
				t.Fatal(err)
			}
		}
		off += int64(n)
	}
	if err := to.Truncate(section.Size()); err != nil {
		t.Fatal(err)
	}
	return path
}
