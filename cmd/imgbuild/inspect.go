package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/formats/diskfile"
	"imgbuild/pipeline"
)

func newInspect() *cobra.Command {
	f := &flags{}
	var deep, asJSON bool
	var from string
	cmd := &cobra.Command{
		Use:   "inspect [flags] IMAGE|FILE",
		Short: "Say what kind of image IMAGE is and what would be refused, or what is on the disk in FILE",
		Long: `Say what kind of image IMAGE is, and what would be refused and why. Only the
manifest and the config are read; --deep reads the layers too, which tell the
kernel, the boot loaders, the root file system and the SELinux policy.

Of a FILE, which is there, it says what disk is in it, of any format that convert
reads: its partitions, what they hold, and the boot loaders and boot entries that a
machine with that disk finds. Of an installation medium it says what "imgbuild iso
inspect" does.`,
		Args: oneImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			if isFile(args[0]) {
				return inspectFile(cmd, pipeline.DiskFile{Path: args[0], Format: from}, f.progress, asJSON)
			}
			if from != "" {
				return fault.New(fault.Usage, fmt.Errorf("--from: %s is no file", args[0]), "--from is for disks in files")
			}
			o, p, err := f.prepare(cmd, args[0])
			if err != nil {
				return err
			}
			in, err := pipeline.Inspect(cmd.Context(), *o, deep, p)
			p.finish()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), in)
			}
			return printInspection(cmd.OutOrStdout(), in)
		},
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "read the layers too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&from, "from", "", "format of FILE, instead of what it looks like: "+strings.Join(diskfile.Formats(), ", "))
	f.config.register(cmd.Flags())
	f.registerSource(cmd.Flags())
	return cmd
}

// printInspection prints what was found out for people.
func printInspection(out io.Writer, in *pipeline.Inspection) error {
	lines := newRows(out)
	row := lines.add
	row("Image", in.Reference)
	row("Digest", in.Digest)
	row("Architecture", in.Arch)
	for _, text := range in.Signed {
		row("Signed", text)
	}
	row("Kind", in.Kind)
	row("Version", in.Version)
	if in.Created != 0 {
		row("Created", time.Unix(in.Created, 0).UTC().Format(time.RFC3339))
	}
	if d := in.Deep; d != nil {
		row("OS", d.OS)
		row("Kernel", d.Kernel)
		row("Kernel arguments", strings.Join(append(append([]string{}, d.Install.Kargs...), d.Kargs...), " "))
		row("Root file system", d.Install.RootFS)
		row("Stateroot", d.Install.Stateroot)
		row("Composefs", d.Composefs)
		row("Boots by", strings.Join(d.Bootloaders.Kinds, ", "))
		row("EFI vendor", d.Bootloaders.Vendor)
		row("EFI boot loader", d.Bootloaders.EFIVersion)
		row("BIOS boot loader", d.Bootloaders.BIOSVersion)
		policy := d.SELinux
		if policy != "" && !d.Enforcing {
			policy += " (permissive)"
		}
		row("SELinux policy", policy)
		row("Bound images", strings.Join(d.BoundImages, ", "))
		for _, text := range d.Warnings {
			row("Warning", text)
		}
	}
	for i, l := range in.Layers {
		size := blueprints.FormatSize(l.Size)
		if l.Uncompressed > 0 {
			size += " (" + blueprints.FormatSize(l.Uncompressed) + " unpacked)"
		}
		if l.Base {
			size += ", base"
		}
		if l.CreatedBy != "" {
			size += ", " + shorten(l.CreatedBy, 60)
		}
		row(fmt.Sprintf("Layer %d", i+1), l.Digest[:min(19, len(l.Digest))]+" "+size)
	}
	for _, r := range in.Refused {
		row("Refused", r.Reason)
		if r.Hint != "" {
			row("  hint", r.Hint)
		}
	}
	if len(in.Refused) == 0 && in.Deep != nil {
		row("Refused", "nothing")
	}
	return lines.flush()
}

// shorten cuts a text after n characters.
func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}
