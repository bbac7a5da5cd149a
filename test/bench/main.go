// Command bench compares builds of an image with the floor: what any tool must
// do that turns the image into a disk. The floor reads every blob of an OCI
// layout once, decompresses it on all cores, hashes it in both forms, and writes
// the content once to one durable file.
//
//	go run ./test/bench -image oci:DIR [-bin bin/imgbuild] [-n 3] [-peer PROGRAM] [-- FLAGS OF BUILD]
//
// A peer is a program that is called with the layout and the path of a raw disk
// to make, such as an installer that needs root.
//
//	go run ./test/bench -image oci:DIR -formats [-n 3] [-check]
//	go run ./test/bench -filesystems 10000,100000 [-n 3] [-peers 100000] [-check]
//
// compares the writers of file systems with the programs of their owners, for
// directories of so many files.
//
//	go run ./test/bench -image oci:DIR -iso [-n 3] [-check]
//
// compares writing the image's installation medium with a copy of it.
//
//	go run ./test/bench -squashfs DIR [-n 3] [-check]
//
// compares the writer of squashfs with mksquashfs, both with the same parameters.
//
// All kinds of runs take turns, so that a change of the machine's speed meets
// them alike; the table has the medians. Input is read from the page cache, for
// which a first run of the floor is not counted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

type options struct {
	image, bin, dir, phase, peer string
	n                            int
	maxCold, maxWarm, maxLabels  float64
	maxRSS                       int64
	args                         []string

	filesystems  string
	squashfs     string
	formats, iso bool
	peers        int
	check        bool
	writer, tree string
	size         int64
}

func main() {
	var o options
	flag.StringVar(&o.image, "image", "", "OCI layout, oci:DIR or DIR")
	flag.StringVar(&o.bin, "bin", "bin/imgbuild", "imgbuild to measure; without one only the floor is measured")
	flag.StringVar(&o.dir, "dir", "", "directory for everything that is written (default: a temporary one)")
	flag.StringVar(&o.peer, "peer", "", "program to compare with, called with the layout and the disk to make")
	flag.IntVar(&o.n, "n", 3, "number of runs of each kind")
	flag.Float64Var(&o.maxCold, "max-cold", 0, "fail when a cold raw build takes more than this times the floor")
	flag.Float64Var(&o.maxWarm, "max-warm", 0, "fail when a warm raw build takes more than this times the floor")
	flag.Float64Var(&o.maxLabels, "max-labels", 0, "fail when verifying the base and labelling add more than this part to a cold raw build")
	flag.Int64Var(&o.maxRSS, "max-rss", 0, "fail when a build has more than this many MiB resident")
	flag.StringVar(&o.phase, "phase", "", "for itself: do the floor once, write to this file")
	flag.StringVar(&o.filesystems, "filesystems", "", "compare writers of file systems, with trees of so many files (numbers with commas)")
	flag.IntVar(&o.peers, "peers", 100_000, "with -filesystems: up to how many files the other programs run as well")
	flag.BoolVar(&o.check, "check", false, "with -formats, -filesystems, -squashfs and -iso: fail when a writer is slower than the fastest program, not linear, or too large")
	flag.StringVar(&o.squashfs, "squashfs", "", "compare the writer of squashfs with mksquashfs, for this directory")
	flag.BoolVar(&o.formats, "formats", false, "compare the formats of the image's disk with qemu-img")
	flag.BoolVar(&o.iso, "iso", false, "compare writing the image's installation medium with a copy of it")
	flag.StringVar(&o.writer, "writer", "", "for itself: write this file system of -tree to the file of -phase, with -size bytes")
	flag.StringVar(&o.tree, "tree", "", "see -writer")
	flag.Int64Var(&o.size, "size", 0, "see -writer")
	flag.Parse()
	o.args = flag.Args()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, stdout io.Writer) error {
	switch {
	case strings.HasPrefix(o.writer, "squashfs-"):
		return writeSquashfs(ctx, o, strings.TrimPrefix(o.writer, "squashfs-"))
	case o.writer != "":
		return writeFilesystem(ctx, o)
	case o.n < 1 || o.image == "" && o.filesystems == "" && o.squashfs == "":
		return errors.New("-image, -filesystems or -squashfs, and a positive -n are needed")
	case o.squashfs != "":
		return compareSquashfs(ctx, o, stdout)
	case o.filesystems != "":
		return filesystems(ctx, o, stdout)
	case o.iso:
		return compareISO(ctx, o, stdout)
	case o.formats:
		if !strings.HasPrefix(o.image, "oci:") {
			o.image = "oci:" + o.image
		}
		return formats(ctx, o, stdout)
	}
	layout := strings.TrimPrefix(o.image, "oci:")
	if o.phase != "" {
		content, err := floor(layout, o.phase)
		if err == nil {
			fmt.Fprintln(stdout, content)
		}
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "imgbuild-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	kinds := []*kind{{name: "floor", run: floorRun(layout, dir)}}
	if _, err := os.Stat(o.bin); err != nil {
		fmt.Fprintf(stdout, "only the floor: %v\n", err)
	} else {
		for _, format := range []string{"raw", "qcow2"} {
			kinds = append(kinds,
				&kind{name: format + " cold", run: buildRun(o, layout, dir, format, false)},
				&kind{name: format + " warm", run: buildRun(o, layout, dir, format, true)})
		}
	}
	if o.peer != "" {
		kinds = append(kinds, &kind{name: filepath.Base(o.peer), run: peerRun(o.peer, layout, dir)})
	}
	// The blobs come into the page cache.
	if _, err := kinds[0].run(ctx); err != nil {
		return err
	}
	for range o.n {
		for _, k := range kinds {
			m, err := k.run(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			k.all = append(k.all, m)
		}
	}
	printTable(stdout, kinds)
	return o.checkBuilds(kinds)
}

// kind is a kind of run, and what was measured.
type kind struct {
	name string
	run  func(context.Context) (measurement, error)
	all  []measurement
}

// measurement is one run of a process.
type measurement struct {
	wall, cpu time.Duration
	labels    time.Duration // of wall, on verifying the base and labelling
	plan      time.Duration // of the processor, on all of a file system but its content
	medium    time.Duration // on writing an ISO
	rss       int64         // bytes, at most
	result    int64         // bytes of the result that are allocated
	temporary int64         // bytes of the cache that are allocated
}

// floorRun returns the run of the floor in a process of its own.
func floorRun(layout, dir string) func(context.Context) (measurement, error) {
	return func(ctx context.Context) (measurement, error) {
		self, err := os.Executable()
		if err != nil {
			return measurement{}, err
		}
		file := filepath.Join(dir, "floor")
		defer os.Remove(file)
		m, err := measure(ctx, self, "-image", layout, "-phase", file)
		if err != nil {
			return m, err
		}
		m.result, err = allocated(file)
		return m, err
	}
}

// peerRun returns the run of another program that makes a raw disk.
func peerRun(program, layout, dir string) func(context.Context) (measurement, error) {
	return func(ctx context.Context) (measurement, error) {
		file := filepath.Join(dir, "peer.raw")
		defer os.Remove(file)
		m, err := measure(ctx, program, layout, file)
		if err != nil {
			return m, err
		}
		m.result, err = allocated(file)
		return m, err
	}
}

// buildRun returns the run of a build. A warm one uses the cache that the cold
// one before it has left, and removes it.
func buildRun(o options, layout, dir, format string, warm bool) func(context.Context) (measurement, error) {
	return func(ctx context.Context) (measurement, error) {
		cache, output := filepath.Join(dir, "cache"), filepath.Join(dir, "output")
		defer os.RemoveAll(output)
		if warm {
			defer os.RemoveAll(cache)
		}
		args := []string{"build", "--type", format, "--output", output, "--cache", cache, "--progress", "debug",
			"--target-imgref", "registry.example.com/bench:latest"}
		args = append(append(args, o.args...), "oci:"+layout)
		m, err := measure(ctx, o.bin, args...)
		if err != nil {
			return m, err
		}
		if m.temporary, err = allocated(cache); err != nil {
			return m, err
		}
		m.result, err = allocated(output)
		return m, err
	}
}

// median returns the medians of all values.
func (k *kind) median() (m measurement) {
	of := func(get func(measurement) int64) int64 {
		var v []int64
		for _, m := range k.all {
			v = append(v, get(m))
		}
		slices.Sort(v)
		return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	}
	m.wall = time.Duration(of(func(m measurement) int64 { return int64(m.wall) }))
	m.labels = time.Duration(of(func(m measurement) int64 { return int64(m.labels) }))
	m.plan = time.Duration(of(func(m measurement) int64 { return int64(m.plan) }))
	m.cpu = time.Duration(of(func(m measurement) int64 { return int64(m.cpu) }))
	m.rss = of(func(m measurement) int64 { return m.rss })
	m.result = of(func(m measurement) int64 { return m.result })
	m.temporary = of(func(m measurement) int64 { return m.temporary })
	return m
}

func printTable(w io.Writer, kinds []*kind) {
	floor := kinds[0].median()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "run\twall s\tbest\t/floor\tCPU s\t/floor\tRSS MiB\tresult MiB\tcache MiB\tlabels %\t")
	for _, k := range kinds {
		m := k.median()
		best := slices.MinFunc(k.all, func(a, b measurement) int { return int(a.wall - b.wall) }).wall
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%d\t%d\t%d\t%.0f\t\n", k.name,
			m.wall.Seconds(), best.Seconds(), ratio(m.wall, floor.wall), m.cpu.Seconds(), ratio(m.cpu, floor.cpu),
			m.rss>>20, m.result>>20, m.temporary>>20, 100*m.labelling())
	}
	t.Flush()
	fmt.Fprintf(w, "medians of %d runs\n", len(kinds[0].all))
}

// labelling returns what verifying the base and labelling add to a build without
// them.
func (m measurement) labelling() float64 { return ratio(m.labels, m.wall-m.labels) }

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// checkBuilds compares with the limits that were given.
func (o options) checkBuilds(kinds []*kind) error {
	if (o.maxCold > 0 || o.maxWarm > 0 || o.maxRSS > 0) && len(kinds) == 1 {
		return errors.New("nothing was built that limits could apply to")
	}
	floor := kinds[0].median()
	var errs []error
	for _, k := range kinds[1:] {
		m := k.median()
		for _, limit := range []struct {
			name string
			max  float64
		}{{"raw cold", o.maxCold}, {"raw warm", o.maxWarm}} {
			if r := ratio(m.wall, floor.wall); k.name == limit.name && limit.max > 0 && r > limit.max {
				errs = append(errs, fmt.Errorf("%s: %.2f times the floor, the limit is %.2f", k.name, r, limit.max))
			}
		}
		if r := m.labelling(); k.name == "raw cold" && o.maxLabels > 0 && r > o.maxLabels {
			errs = append(errs, fmt.Errorf("%s: verifying the base and labelling add %.0f %%, the limit is %.0f", k.name, 100*r, 100*o.maxLabels))
		}
		if o.maxRSS > 0 && (k.name != filepath.Base(o.peer)) && m.rss>>20 > o.maxRSS {
			errs = append(errs, fmt.Errorf("%s: %d MiB resident, the limit is %d", k.name, m.rss>>20, o.maxRSS))
		}
	}
	return errors.Join(errs...)
}
