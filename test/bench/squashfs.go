package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"imgbuild/filesystem/squashfs"
)

// squashfsCases are the compressions that are compared. What our zstd calls level
// 15 is a smaller effort than that of the program, with a larger result.
func squashfsCases() []squashfs.Compression {
	return []squashfs.Compression{
		{Algorithm: squashfs.Zstd, Level: 15},
		{Algorithm: squashfs.Zstd, Level: 3},
		{Algorithm: squashfs.Gzip, Level: 9},
		{Algorithm: squashfs.NoCompression},
	}
}

// mksquashfsArgs are the same for mksquashfs.
func mksquashfsArgs(c squashfs.Compression) []string {
	if c.Algorithm == squashfs.NoCompression {
		return []string{"-noI", "-noD", "-noF", "-noX", "-noId"}
	}
	return []string{"-comp", c.Algorithm.String(), "-Xcompression-level", strconv.Itoa(c.Level)}
}

// compareSquashfs compares the writer of squashfs with mksquashfs, for a directory.
func compareSquashfs(ctx context.Context, o options, stdout io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := find("mksquashfs")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "imgbuild-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "image")
	run := func(program string, args ...string) func(context.Context) (measurement, error) {
		return func(ctx context.Context) (measurement, error) {
			defer os.Remove(image)
			m, err := measure(ctx, program, args...)
			if err != nil {
				return m, err
			}
			info, err := os.Stat(image)
			if err == nil {
				m.result = info.Size()
			}
			return m, err
		}
	}
	var errs []error
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "squashfs\twall s\t/mksquashfs\tCPU s\tRSS MiB\tresult MiB\t/mksquashfs\t")
	for _, c := range squashfsCases() {
		text := fmt.Sprint(c.Algorithm, ":", c.Level)
		ours := &kind{name: text, run: run(self, "-writer", "squashfs-"+text, "-tree", o.squashfs, "-phase", image)}
		theirs := &kind{name: "mksquashfs " + text, run: run(program, append([]string{o.squashfs, image, "-quiet", "-no-progress"}, mksquashfsArgs(c)...)...)}
		for range o.n {
			for _, k := range []*kind{ours, theirs} {
				m, err := k.run(ctx)
				if err != nil {
					return fmt.Errorf("%s: %w", k.name, err)
				}
				k.all = append(k.all, m)
			}
		}
		peer := theirs.median()
		for _, k := range []*kind{ours, theirs} {
			m := k.median()
			fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%d\t%.1f\t%.3f\t\n", k.name, m.wall.Seconds(), ratio(m.wall, peer.wall),
				m.cpu.Seconds(), m.rss>>20, float64(m.result)/(1<<20), float64(m.result)/float64(peer.result))
		}
		if m := ours.median(); o.check && c.Level == 15 && m.wall > peer.wall {
			errs = append(errs, fmt.Errorf("squashfs %s: %.2f times mksquashfs", text, ratio(m.wall, peer.wall)))
		}
	}
	t.Flush()
	fmt.Fprintf(stdout, "%s; medians of %d runs\n", o.squashfs, o.n)
	return errors.Join(errs...)
}

// writeSquashfs is the process that is measured. text is what the command line
// says of the compression.
func writeSquashfs(ctx context.Context, o options, text string) error {
	name, number, _ := strings.Cut(text, ":")
	algorithm, err := squashfs.ParseAlgorithm(name)
	if err != nil {
		return err
	}
	level, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	root, err := readTree(o.tree)
	if err != nil {
		return err
	}
	f, err := os.Create(o.phase)
	if err != nil {
		return err
	}
	_, err = squashfs.Write(ctx, f, root, squashfs.Options{Compression: squashfs.Compression{Algorithm: algorithm, Level: level}})
	return errors.Join(err, f.Sync(), f.Close())
}
