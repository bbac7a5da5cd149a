package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/installer/remaster"
	"imgbuild/pipeline"
)

func newISO() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "iso",
		Short: "Look into installation media, and change finished ones",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fault.New(fault.Usage, errors.New("iso: no command given"), "imgbuild iso inspect FILE, or imgbuild iso customize FILE -o OUT")
		},
	}
	cmd.AddCommand(newISOInspect(), newISOCustomize())
	return cmd
}

// oneISO wants one argument.
func oneISO(example string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fault.New(fault.Usage, fmt.Errorf("%d ISOs given, want one", len(args)), example)
		}
		return nil
	}
}

func newISOInspect() *cobra.Command {
	var format, mode string
	var verify bool
	cmd := &cobra.Command{
		Use:   "inspect [flags] FILE",
		Short: "Say what an ISO starts by, what it installs and what can be changed",
		Long: `Say what an ISO, in a file or on a stick, starts by, what it installs, its menu,
and the settings and kernel arguments that "imgbuild iso customize" can change.
--verify reads all of it and compares it with its media checksum, as checkisomd5
does.`,
		Args: oneISO("imgbuild iso inspect install.iso"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return fault.New(fault.Usage, fmt.Errorf("--format %q: unknown", format), "text or json")
			}
			p, err := newProgress(cmd, mode)
			if err != nil {
				return err
			}
			report, err := pipeline.InspectISO(cmd.Context(), args[0], verify, p)
			p.finish()
			if report == nil {
				return err
			}
			show := printISO
			if format == "json" {
				show = func(w io.Writer, r *remaster.Report) error { return printJSON(w, r) }
			}
			return errors.Join(err, show(cmd.OutOrStdout(), report))
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	cmd.Flags().BoolVar(&verify, "verify", false, "compare the ISO with its media checksum")
	cmd.Flags().StringVar(&mode, "progress", "auto", "auto, verbose, term or debug")
	return cmd
}

func newISOCustomize() *cobra.Command {
	var out, kickstart, target, mode string
	var wipe, unattended bool
	c := &remaster.Changes{}
	cmd := &cobra.Command{
		Use:   "customize [flags] FILE",
		Short: "Change the settings and kernel arguments of a finished ISO",
		Long: `Change the settings of the installer and the kernel arguments of a finished ISO
of imgbuild, in seconds: nothing moves, and only the media checksum is taken
again. Without -o the file, or the stick, is changed in place.

What is not named stays as it is. An empty --kickstart or --target takes back what
was set, and so do --wipe=false and --unattended=false. What the kernel's command
line says to the installer goes before these settings.`,
		Args: oneISO("imgbuild iso customize install.iso --kickstart site.ks -o site.iso"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := newProgress(cmd, mode)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("output") && out == "" {
				return fault.New(fault.Usage, errors.New("-o: no name given"), "leave it out to change the ISO in place")
			}
			if cmd.Flags().Changed("kickstart") {
				text := ""
				if c.KickstartName = kickstart; kickstart != "" {
					b, err := readConfig(cmd.InOrStdin(), kickstart)
					if err != nil {
						return fault.New(fault.Usage, fmt.Errorf("--kickstart: %w", err), "")
					}
					text = string(b)
				}
				c.Kickstart = &text
			}
			if cmd.Flags().Changed("target") {
				c.Target = &target
			}
			if cmd.Flags().Changed("wipe") {
				c.Wipe = &wipe
			}
			if cmd.Flags().Changed("unattended") {
				c.Unattended = &unattended
			}
			err = pipeline.CustomizeISO(cmd.Context(), args[0], out, c, p)
			p.finish()
			return err
		},
	}
	s := cmd.Flags()
	s.SortFlags = false
	s.StringVarP(&out, "output", "o", "", "new ISO to write (default: change FILE in place)")
	s.StringVar(&kickstart, "kickstart", "", "kickstart file for the installer, - for stdin; \"\" takes it away")
	s.StringVar(&target, "target", "", "disk to install to: /dev/DISK, /dev/disk/by-id/NAME, serial=NUMBER, first-empty, smallest or largest; \"\" leaves it open")
	s.BoolVar(&wipe, "wipe", false, "let the installer erase a disk that holds data")
	s.BoolVar(&unattended, "unattended", false, "let the installer work without asking")
	s.StringArrayVar(&c.AddKargs, "karg", nil, "kernel argument to add for the installer; may be repeated")
	s.StringArrayVar(&c.DeleteKargs, "delete-karg", nil, "kernel argument to take away; may be repeated")
	s.StringVar(&mode, "progress", "auto", "auto, verbose, term or debug")
	return cmd
}

// printISO prints a report for people.
func printISO(out io.Writer, r *remaster.Report) error {
	lines := newRows(out)
	row := lines.add
	row("Volume id", r.VolumeID)
	row("Application", r.Application)
	row("Publisher", r.Publisher)
	if t, err := time.Parse("20060102150405", r.Created[:min(14, len(r.Created))]); err == nil {
		row("Created", t.Format(time.RFC3339))
	}
	row("Size", blueprints.FormatSize(r.Size))
	row("Names", names(r))
	for _, b := range r.Boot {
		text := fmt.Sprintf("%s at %d", b.Platform, b.Offset)
		if b.Size > 0 {
			text += fmt.Sprintf(", %d bytes", b.Size)
		}
		if b.Path != "" {
			text += ", " + b.Path
		}
		row("Boot entry", text)
	}
	if r.SystemArea.BootCode {
		row("System area", "boot code for a start as a disk")
	}
	for _, p := range r.SystemArea.Partitions {
		row(fmt.Sprintf("Partition %d", p.Number), fmt.Sprintf("%s at %d, %d bytes, type %s", p.Name, p.Offset, p.Size, p.Type))
	}
	checksum := r.Checksum
	switch {
	case checksum == "":
		checksum = "none"
	case r.Verified != nil && *r.Verified:
		checksum += ", and the medium is as it says"
	case r.Verified != nil:
		checksum += ", WRONG"
	}
	row("Media checksum", checksum)
	printInstaller(row, r)
	for _, e := range r.Menu {
		text := e.Title
		if e.Args != "" {
			text += ": " + e.Args
		}
		row("Menu entry", text)
	}
	for _, a := range r.Areas {
		row("Can be changed", fmt.Sprintf("/%s at %d, %d of %d bytes used", a.Path, a.Offset, a.Used, a.Size))
	}
	for _, p := range r.Problems {
		row("Problem", p)
	}
	return lines.flush()
}

// names says which names the ISO has.
func names(r *remaster.Report) string {
	list := []string{"ISO 9660"}
	if r.RockRidge {
		list = append(list, "Rock Ridge")
	}
	if r.Joliet {
		list = append(list, "Joliet")
	}
	return strings.Join(list, ", ")
}

// printInstaller prints what the medium installs, and how.
func printInstaller(row func(name, value string), r *remaster.Report) {
	if i := r.Installer; i != nil {
		row("Installs", i.Title)
		row("Architecture", i.Arch)
		row("Kernel", i.Kernel)
		row("Image", i.Reference)
		row("Digest", i.Digest)
		row("Updates from", i.Target)
		row("Smallest disk", blueprints.FormatSize(i.MinimumDisk))
		row("Root file system", strings.Join(i.RootFS, " or "))
	} else {
		row("Image on it", r.Payload)
	}
	if s := r.Settings; s != nil {
		row("Target", s.Target)
		row("Unattended", yesNo(s.Unattended))
		row("Wipe", yesNo(s.Wipe))
		if s.Kickstart != "" {
			row("Kickstart", fmt.Sprintf("%d lines", strings.Count(strings.TrimSuffix(s.Kickstart, "\n"), "\n")+1))
		}
	}
	row("Kickstarts", strings.Join(r.Kickstarts, ", "))
	row("Kernel arguments", strings.Join(r.Kargs, " "))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
