package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// compared are the formats that are compared with qemu-img: the flags of imgbuild
// convert and of qemu-img convert for the same file. Where qemu-img has none, there
// is nothing to compare with.
func compared() [][2]string {
	return [][2]string{
		{"--type raw", "-O raw"},
		{"--type qcow2", "-c -O qcow2"},
		{"--type qcow2 --qcow2-compression zstd", "-c -O qcow2 -o compression_type=zstd"},
		{"--type qcow2 --qcow2-compression none", "-O qcow2"},
		{"--type vmdk", "-O vmdk -o subformat=streamOptimized"},
		{"--type vhd", "-O vpc -o subformat=fixed,force_size=on"},
		{"--type vhd --vhd-subformat dynamic", "-O vpc -o subformat=dynamic,force_size=on"},
		{"--type vhdx", "-O vhdx"},
		{"--type vdi", "-O vdi"},
		{"--type gce", ""},
		{"--type ova", ""},
		{"--type containerdisk", ""},
		{"--type qcow2 --type vmdk", ""},
		{"--type raw --type qcow2 --type vmdk", ""},
		{"--type qcow2 --type vmdk --type gce", ""},
		{"--type qcow2 --type vmdk --type gce --type ova", ""},
		{"--type qcow2 --type vmdk --type gce --type ova --type containerdisk", ""},
		{"--type raw --type qcow2 --type vmdk --type gce --type ova --type containerdisk", ""},
		{"--type raw --type vhd", ""},
	}
}

// formats compares the formats of a disk, which is built from the image, with
// qemu-img: in turns, both until the result is durable.
func formats(ctx context.Context, o options, stdout io.Writer) error {
	dir, err := os.MkdirTemp(o.dir, "imgbuild-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if _, err := measure(ctx, o.bin, "build", "--type", "raw", "--no-cache", "--output", dir, "--target-imgref", "registry.example.com/bench:latest", o.image); err != nil {
		return err
	}
	raw := filepath.Join(dir, "image", "disk.raw")
	size, err := allocated(raw)
	if err != nil {
		return err
	}
	var ours, theirs []*kind
	for _, c := range compared() {
		ours = append(ours, &kind{name: c[0], run: func(ctx context.Context) (measurement, error) {
			out := filepath.Join(dir, "out")
			defer os.RemoveAll(out)
			m, err := measure(ctx, o.bin, append([]string{"convert", "--output", out, raw}, strings.Fields(c[0])...)...)
			if err == nil {
				m.result, err = allocated(out)
			}
			return m, err
		}})
		theirs = append(theirs, &kind{name: c[1], run: func(ctx context.Context) (measurement, error) {
			out := filepath.Join(dir, "out.qemu")
			defer os.Remove(out)
			args := append([]string{"convert", "-t", "writeback", "-f", "raw"}, strings.Fields(c[1])...)
			m, err := measure(ctx, "qemu-img", append(args, raw, out)...)
			if err == nil {
				m.result, err = allocated(out)
			}
			return m, err
		}})
	}
	for range o.n {
		for i := range ours {
			for _, k := range []*kind{ours[i], theirs[i]} {
				if k.name == "" {
					continue
				}
				m, err := k.run(ctx)
				if err != nil {
					return fmt.Errorf("%s: %w", k.name, err)
				}
				k.all = append(k.all, m)
			}
		}
	}
	rate := func(d time.Duration) float64 { return float64(size) / 1e6 / d.Seconds() }
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "convert\tMB/s\tCPU s\tMiB\tqemu-img MB/s\tCPU s\tMiB\ttimes as fast\t")
	for i, k := range ours {
		m := k.median()
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%d\t", k.name, rate(m.wall), m.cpu.Seconds(), m.result>>20)
		if theirs[i].name == "" {
			fmt.Fprintln(t, "\t\t\t\t")
			continue
		}
		q := theirs[i].median()
		fmt.Fprintf(t, "%.0f\t%.2f\t%d\t%.2f\t\n", rate(q.wall), q.cpu.Seconds(), q.result>>20, ratio(q.wall, m.wall))
	}
	t.Flush()
	fmt.Fprintf(stdout, "medians of %d runs, a disk with %d MB of data\n", o.n, size/1e6)
	if !o.check {
		return nil
	}
	return checkFormats(ours, theirs)
}

// maxTogether is how long formats that are made together may take in terms of the
// slowest of them by itself. Two kinds of them are not held to it: raw and vhd, which
// are two whole copies and nothing to share but reading, and six formats, which are
// the most that anybody wants and bound by writing on many machines.
const maxTogether = 1.3

// checkFormats checks that each format is at least as fast as qemu-img, those that
// qemu-img compresses on one core by the number of cores, and that formats share.
func checkFormats(ours, theirs []*kind) error {
	alone := map[string]time.Duration{}
	for i, k := range ours {
		wall := k.median().wall
		types := strings.Split(strings.TrimPrefix(k.name, "--type "), " --type ")
		if len(types) > 1 {
			slowest := time.Duration(0)
			for _, t := range types {
				slowest = max(slowest, alone[t])
			}
			if r := ratio(wall, slowest); len(types) < 6 && slices.Contains(types, "qcow2") && r > maxTogether {
				return fmt.Errorf("%s take %.2f times the slowest of them, %.1f are allowed", k.name, r, maxTogether)
			}
			continue
		}
		alone[types[0]] = wall
		if theirs[i].name == "" {
			continue
		}
		want := 1.0
		if types[0] == "qcow2" || types[0] == "vmdk" {
			want = float64(runtime.NumCPU())
		}
		if r := ratio(theirs[i].median().wall, wall); r < want {
			return fmt.Errorf("%s is %.2f times as fast as qemu-img, %.0f is the least", k.name, r, want)
		}
	}
	return nil
}
