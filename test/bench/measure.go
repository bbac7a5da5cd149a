package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// measure runs a program and measures it from start to end.
func measure(ctx context.Context, program string, args ...string) (measurement, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	err := cmd.Run()
	m := measurement{wall: time.Since(start)}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return m, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, strings.Join(lines[max(0, len(lines)-3):], "; "))
	}
	m.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	m.rss = peakRSS(cmd.ProcessState)
	m.labels = stages(stderr.String(), "verify base", "label", "checksum objects")
	m.medium = stages(stderr.String(), "write iso")
	m.plan = stages(stderr.String(), "plan")
	return m, nil
}

// stages adds up the times of stages by the lines that a build prints of them.
func stages(stderr string, names ...string) (sum time.Duration) {
	for line := range strings.Lines(stderr) {
		name, rest, _ := strings.Cut(line, ": ")
		if !slices.Contains(names, name) {
			continue
		}
		var seconds float64
		if _, err := fmt.Sscanf(rest, "%f s", &seconds); err == nil {
			sum += time.Duration(seconds * float64(time.Second))
		}
	}
	return sum
}

// allocated returns the bytes that a file, or all files of a directory, take. A
// name that does not exist takes none.
func allocated(name string) (int64, error) {
	total := int64(0)
	err := filepath.WalkDir(name, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		total += allocatedSize(info)
		return nil
	})
	return total, err
}
