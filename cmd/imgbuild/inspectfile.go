package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/pipeline"
)

// isFile tells whether an argument is a file, or a device, and no image: what is there
// under that name, or can be nothing else, or is called as disks are. Images in files
// have their transport before them.
func isFile(arg string) bool {
	for _, prefix := range []string{"/", "./", "../"} {
		if strings.HasPrefix(arg, prefix) {
			return true
		}
	}
	if runtime.GOOS == "windows" && strings.Contains(arg, `\`) {
		return true
	}
	if !strings.Contains(arg, ":") && slices.Contains([]string{".raw", ".img", ".qcow2", ".vmdk", ".vhd", ".vhdx", ".vdi", ".ova", ".iso", ".gz", ".xz", ".zst"}, filepath.Ext(arg)) {
		return true
	}
	info, err := os.Stat(arg)
	return err == nil && !info.IsDir()
}

// inspectFile says what is on a disk or a medium.
func inspectFile(cmd *cobra.Command, from pipeline.DiskFile, mode string, asJSON bool) error {
	var other []string
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Changed && !slices.Contains([]string{"json", "from", "progress"}, f.Name) {
			other = append(other, "--"+f.Name)
		}
	})
	if len(other) > 0 {
		return fault.New(fault.Usage, fmt.Errorf("%s: %s is a file", strings.Join(other, ", "), from.Path), "of a file only --json, --from and --progress change what is said")
	}
	p, err := newProgress(cmd, mode)
	if err != nil {
		return err
	}
	defer p.finish()
	r, err := pipeline.SurveyDisk(cmd.Context(), from, os.TempDir(), p)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if r.FileSystem == "iso9660" && r.Format == "raw" {
		report, err := pipeline.InspectISO(cmd.Context(), from.Path, false, p)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(out, report)
		}
		return printISO(out, report)
	}
	if asJSON {
		return printJSON(out, r)
	}
	return printDisk(out, r)
}

// printDisk prints what is on a disk for people.
func printDisk(out io.Writer, r *pipeline.DiskReport) error {
	lines := newRows(out)
	row := lines.add
	row("Disk", r.Path)
	format := r.Format
	if r.Details != "" {
		format += ", " + r.Details
	}
	row("Format", format)
	row("Size", fmt.Sprintf("%s, %s of it stored", blueprints.FormatSize(r.Size), blueprints.FormatSize(r.Data)))
	switch {
	case r.Empty && r.Table == "":
		row("Content", "empty")
	case r.Table != "":
		row("Table", fmt.Sprintf("%s, sectors of %d bytes", r.Table, r.SectorSize))
	case r.FileSystem != "":
		row("Content", strings.TrimSpace(r.FileSystem+" "+r.Label))
	default:
		row("Content", "unknown")
	}
	for _, q := range r.Partitions {
		parts := []string{blueprints.FormatSize(q.Size), "at " + blueprints.FormatSize(q.Start)}
		for _, text := range []string{q.Name, q.Kind, q.FileSystem} {
			if text != "" {
				parts = append(parts, text)
			}
		}
		if q.Label != "" {
			parts = append(parts, "label "+q.Label)
		}
		row(fmt.Sprintf("Partition %d", q.Number), strings.Join(parts, ", "))
	}
	var boots []string
	for _, arch := range r.Firmware {
		boots = append(boots, "UEFI "+arch)
	}
	if r.BIOS {
		boots = append(boots, "BIOS")
	}
	row("Boots by", strings.Join(boots, ", "))
	for _, f := range r.Programs {
		row("EFI program", fmt.Sprintf("%s, %s", f.Path, blueprints.FormatSize(f.Size)))
	}
	for _, e := range r.Entries {
		row("Boot entry", strings.TrimSpace(e.Title+" "+e.Version))
		row("  file", e.File)
		row("  kernel", e.Linux)
		row("  initramfs", strings.Join(e.Initrd, " "))
		row("  arguments", e.Options)
	}
	for _, text := range append(r.Warnings, r.Notes...) {
		row("Note", text)
	}
	return lines.flush()
}
