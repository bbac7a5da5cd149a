package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// maxISO is what writing an ISO may take in terms of copying it: its media
// checksum is taken meanwhile.
const maxISO = 1.2

// compareISO compares how long the installation medium of an image takes to be
// written, from a warm cache, with a copy of it to a durable file.
func compareISO(ctx context.Context, o options, stdout io.Writer) error {
	dir, err := os.MkdirTemp(o.dir, "imgbuild-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	medium := filepath.Join(dir, "output", "bootiso", "install.iso")
	build := func(ctx context.Context) (measurement, error) {
		args := []string{"build", "--type", "iso", "--output", filepath.Join(dir, "output"), "--cache", filepath.Join(dir, "cache"), "--progress", "debug",
			"--target-imgref", "registry.example.com/bench:latest"}
		return measure(ctx, o.bin, append(append(args, o.args...), "oci:"+strings.TrimPrefix(o.image, "oci:"))...)
	}
	if _, err := build(ctx); err != nil { // fills the cache
		return err
	}
	builds, writes, copies := &kind{name: "build"}, &kind{name: "of it, write"}, &kind{name: "copy"}
	for range o.n {
		m, err := build(ctx)
		if err != nil {
			return err
		}
		builds.all = append(builds.all, m)
		writes.all = append(writes.all, measurement{wall: m.medium, rss: m.rss})
		wall, err := copyDurably(medium, filepath.Join(dir, "copy.iso"))
		if err != nil {
			return err
		}
		copies.all = append(copies.all, measurement{wall: wall})
	}
	info, err := os.Stat(medium)
	if err != nil {
		return err
	}
	base := copies.median().wall
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "iso\twall s\t/copy\tRSS MiB\t")
	for _, k := range []*kind{builds, writes, copies} {
		m := k.median()
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%d\t\n", k.name, m.wall.Seconds(), ratio(m.wall, base), m.rss>>20)
	}
	t.Flush()
	fmt.Fprintf(stdout, "%d MiB; medians of %d runs\n", info.Size()>>20, o.n)
	if w := writes.median().wall; o.check && float64(w) > maxISO*float64(base) {
		return fmt.Errorf("writing the ISO took %.2f times its copy, %.1f are allowed", ratio(w, base), maxISO)
	}
	return nil
}

// copyDurably copies a file through memory, as the medium is written, and returns
// how long that took.
func copyDurably(from, to string) (time.Duration, error) {
	defer os.Remove(to)
	start := time.Now()
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	// Neither end tells what it is, so that no copy happens within the kernel.
	if _, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, 1<<20)); err != nil {
		return 0, err
	}
	if err := out.Sync(); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}
