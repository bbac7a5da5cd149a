package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"imgbuild/disk"
	"imgbuild/filesystem/btrfs"
	"imgbuild/filesystem/ext4"
	"imgbuild/filesystem/xfs"
	"imgbuild/formats/raw"
	"imgbuild/tree"
)

// fsWriter is a writer of a file system, and the program that its owners have
// for the same: a file system made of a directory.
type fsWriter struct {
	name  string
	write func(ctx context.Context, root *tree.Inode, size int64) ([]disk.Extent, error)
	peer  string
	args  func(dir, image string, size int64) []string
}

func fsWriters() []fsWriter {
	id := [16]byte{1}
	return []fsWriter{
		{"ext4",
			func(ctx context.Context, root *tree.Inode, size int64) ([]disk.Extent, error) {
				return ext4.Write(ctx, root, size, ext4.Options{UUID: id, HashSeed: id})
			},
			"mke2fs",
			func(dir, image string, size int64) []string {
				return []string{"-q", "-F", "-t", "ext4", "-d", dir, image, strconv.FormatInt(size>>10, 10) + "k"}
			}},
		{"xfs",
			func(ctx context.Context, root *tree.Inode, size int64) ([]disk.Extent, error) {
				return xfs.Write(ctx, root, size, xfs.Options{UUID: id})
			},
			"mkfs.xfs",
			func(dir, image string, size int64) []string {
				return []string{"-q", "-f", "-p", dir, "-d", fmt.Sprintf("file,name=%s,size=%d", image, size)}
			}},
		{"btrfs",
			func(ctx context.Context, root *tree.Inode, size int64) ([]disk.Extent, error) {
				return btrfs.Write(ctx, root, size, btrfs.Options{UUID: id})
			},
			"mkfs.btrfs",
			func(dir, image string, size int64) []string {
				return []string{"-q", "-f", "--rootdir", dir, image}
			}},
	}
}

// filesystems measures the writers of file systems against the programs of their
// owners. All make a disk image of one directory, walk it and read its files;
// all results are durable. Up to peers files the programs run as well.
func filesystems(ctx context.Context, o options, stdout io.Writer) error {
	var counts []int
	for _, text := range strings.Split(o.filesystems, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-filesystems: %q is not a number of files", text)
		}
		counts = append(counts, n)
	}
	dir, err := os.MkdirTemp(o.dir, "imgbuild-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var errs []error
	perFile := map[string]time.Duration{} // of the count before
	for _, n := range counts {
		source := filepath.Join(dir, "tree")
		total, err := makeTree(ctx, source, n)
		if err != nil {
			return err
		}
		rows, err := compareWriters(ctx, o, source, filepath.Join(dir, "image"), total, n)
		if err != nil {
			return err
		}
		printWriters(stdout, rows, n, total)
		errs = append(errs, checkWriters(o, rows, n, perFile))
		if err := os.RemoveAll(source); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// compareWriters takes turns with all that make an image of the directory.
func compareWriters(ctx context.Context, o options, source, image string, total int64, n int) ([]*kind, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Room for the content in whole blocks, inodes, and what the file systems
	// keep for themselves.
	size := (total + int64(n)*8192 + 2<<30) &^ (1<<20 - 1)
	run := func(program string, args ...string) func(context.Context) (measurement, error) {
		return func(ctx context.Context) (measurement, error) {
			defer os.Remove(image)
			f, err := os.Create(image)
			if err == nil {
				err = errors.Join(f.Truncate(size), f.Close())
			}
			if err != nil {
				return measurement{}, err
			}
			m, err := measure(ctx, program, args...)
			if err != nil {
				return m, err
			}
			m.result, err = allocated(image)
			return m, err
		}
	}
	var rows []*kind
	peers := n <= o.peers
	for _, w := range fsWriters() {
		rows = append(rows, &kind{name: w.name, run: run(self, "-writer", w.name, "-tree", source, "-phase", image, "-size", strconv.FormatInt(size, 10))})
		if !peers {
			continue
		}
		program, err := find(w.peer)
		if err != nil {
			return nil, err
		}
		rows = append(rows, &kind{name: w.peer, run: run(program, w.args(source, image, size)...)})
	}
	runs := o.n
	if !peers {
		runs = 1 // to see that it is linear
	}
	for range runs {
		for _, k := range rows {
			m, err := k.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k.name, err)
			}
			k.all = append(k.all, m)
		}
	}
	return rows, nil
}

// find returns the path of a program of a file system's owners.
func find(program string) (string, error) {
	for _, name := range []string{program, filepath.Join("/usr/sbin", program), filepath.Join("/sbin", program)} {
		if p, err := exec.LookPath(name); err == nil {
			return filepath.Abs(p)
		}
	}
	return "", fmt.Errorf("%s is not there to compare with: make tools makes it", program)
}

// fastest returns the shortest median of the programs.
func fastest(rows []*kind) time.Duration {
	best := time.Duration(math.MaxInt64)
	for _, k := range rows {
		if !isWriter(k.name) {
			best = min(best, k.median().wall)
		}
	}
	return best
}

func isWriter(name string) bool {
	return slices.ContainsFunc(fsWriters(), func(w fsWriter) bool { return w.name == name })
}

func printWriters(w io.Writer, rows []*kind, n int, total int64) {
	best := fastest(rows)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "writer\twall s\tbest\t/fastest\tCPU s\tplan us/file\tRSS MiB\tresult MiB\t")
	for _, k := range rows {
		m := k.median()
		least := slices.MinFunc(k.all, func(a, b measurement) int { return int(a.wall - b.wall) }).wall
		to := "-"
		if best < math.MaxInt64 {
			to = fmt.Sprintf("%.2f", ratio(m.wall, best))
		}
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%s\t%.2f\t%.1f\t%d\t%d\t\n", k.name, m.wall.Seconds(), least.Seconds(), to,
			m.cpu.Seconds(), float64(m.plan.Microseconds())/float64(n), m.rss>>20, m.result>>20)
	}
	t.Flush()
	fmt.Fprintf(w, "%d files, %d MiB; medians of %d runs; /fastest is to the fastest of the programs,\nplan is the processor's time for all but reading the directory and writing the image\n\n", n, total>>20, len(rows[0].all))
}

// Limits of the writers.
const (
	maxWriterRSS   = 200 << 20 // up to rssFiles files
	rssFiles       = 100_000
	maxPerFileRise = 4 // from one count of files to ten times as many: caches and the garbage collector, but no square
)

// checkWriters compares with the limits, when that was asked for.
func checkWriters(o options, rows []*kind, n int, perFile map[string]time.Duration) error {
	best := fastest(rows)
	var errs []error
	for _, k := range rows {
		if !isWriter(k.name) {
			continue
		}
		m := k.median()
		each := m.plan / time.Duration(n)
		before := perFile[k.name]
		perFile[k.name] = each
		if !o.check {
			continue
		}
		if best < math.MaxInt64 && m.wall > best {
			errs = append(errs, fmt.Errorf("%s, %d files: %.2f times the fastest program", k.name, n, ratio(m.wall, best)))
		}
		if n <= rssFiles && m.rss > maxWriterRSS {
			errs = append(errs, fmt.Errorf("%s, %d files: %d MiB resident", k.name, n, m.rss>>20))
		}
		if before > 0 && float64(each) > maxPerFileRise*float64(before) {
			errs = append(errs, fmt.Errorf("%s, %d files: %v a file, and %v among fewer", k.name, n, each, before))
		}
	}
	return errors.Join(errs...)
}

// writeFilesystem is the process that is measured: it reads a directory and
// writes a file system of it to an image.
func writeFilesystem(ctx context.Context, o options) error {
	k := slices.IndexFunc(fsWriters(), func(w fsWriter) bool { return w.name == o.writer })
	if k < 0 {
		return fmt.Errorf("no writer %q", o.writer)
	}
	root, err := readTree(o.tree)
	if err != nil {
		return err
	}
	runtime.GC() // what follows is of the writer
	start := ownTime()
	extents, err := fsWriters()[k].write(ctx, root, o.size)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "plan: %.3f s\n", (ownTime() - start).Seconds())
	image, err := disk.New(o.size, extents)
	if err != nil {
		return err
	}
	f, err := os.Create(o.phase)
	if err != nil {
		return err
	}
	err = raw.Write(ctx, image, f, raw.Options{})
	runtime.KeepAlive(root)
	return errors.Join(err, f.Close())
}

// makeTree makes a directory of n files, and returns the bytes of their content.
// Sizes are those of a system's files without its few large ones: six of ten are
// below 2 KiB, one of a hundred has 200.
func makeTree(ctx context.Context, dir string, n int) (total int64, err error) {
	const perDir, largest = 80, 200 << 10
	noise := make([]byte, largest+4096)
	x := uint32(1)
	next := func() uint32 {
		x = x*1664525 + 1013904223
		return x >> 8
	}
	for i := range noise {
		noise[i] = byte(next())
	}
	at := ""
	for i := range n {
		if i%perDir == 0 {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			at = filepath.Join(dir, fmt.Sprint("part-", i/perDir/50), fmt.Sprint("directory-", i/perDir))
			if err := os.MkdirAll(at, 0o755); err != nil {
				return 0, err
			}
		}
		size := next()
		switch c := next() % 100; {
		case c < 60:
			size %= 2 << 10
		case c < 90:
			size %= 12 << 10
		case c < 99:
			size %= 40 << 10
		default:
			size = largest
		}
		total += int64(size)
		off := next() % 4096
		if err := os.WriteFile(filepath.Join(at, fmt.Sprintf("a-file-of-the-tree-%07d", i)), noise[off:off+size], 0o644); err != nil {
			return 0, err
		}
	}
	return total, nil
}
