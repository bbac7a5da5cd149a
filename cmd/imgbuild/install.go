package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"imgbuild/blockdev"
	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/pipeline"
)

// installFlags are those of install alone, as typed.
type installFlags struct {
	to                             string
	yes, wipe, list, generic, file bool
	onTarget                       bool
}

func newInstall() *cobra.Command {
	f, i := &flags{}, &installFlags{}
	cmd := &cobra.Command{
		Use:   "install --to DISK [flags] IMAGE",
		Short: "Install to a disk of this machine, which is erased",
		Long: `Install the bootc container image IMAGE to a disk of this machine. Everything on
the disk is erased. It gets the bytes of a raw disk of its size, made for it, and
the firmware of the machine a boot entry.

DISK is one of
  /dev/DISK             a whole disk, or a link to it such as /dev/disk/by-id/NAME
  serial=NUMBER         the disk with the serial number
  first-empty           the first disk that holds nothing
  smallest, largest     the one of that size
--list shows the disks. The last three stand for built-in disks only.

A disk that is in use is refused. What is on the disk, and that it will be erased,
is asked on the terminal; without one, --yes is needed, and --wipe as well where
the disk holds data. Until all is written the disk has no partition table: an
interrupted installation leaves a disk that does not boot.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if i.list && len(args) == 0 {
				return nil
			}
			return oneImage(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if i.list {
				return listDisks(cmd)
			}
			return i.run(cmd, f, args[0])
		},
	}
	s := cmd.Flags()
	s.SortFlags = false
	s.StringVar(&i.to, "to", "", "the disk")
	s.BoolVarP(&i.yes, "yes", "y", false, "do not ask")
	s.BoolVar(&i.wipe, "wipe", false, "erase a disk that holds data, without being asked about it")
	s.BoolVar(&i.list, "list", false, "list the disks of this machine, and do nothing")
	s.BoolVar(&i.generic, "generic-image", false, "leave the firmware of this machine as it is: the disk is for another one")
	s.BoolVar(&i.file, "via-loopback", false, "--to names a regular file, which is written as if it were a disk")
	s.BoolVar(&i.onTarget, "unpack-on-target", false, "keep the layers on the disk itself meanwhile, for machines with little space elsewhere; reads the image twice")
	f.registerSystem(s)
	f.registerSource(s)
	return cmd
}

func (i *installFlags) run(cmd *cobra.Command, f *flags, image string) error {
	if i.to == "" {
		return fault.New(fault.Usage, errors.New("no disk given"), "imgbuild install --to /dev/DISK IMAGE; --list shows the disks")
	}
	o, p, err := f.prepare(cmd, image)
	if err != nil {
		return err
	}
	// Whoever sits at a terminal is asked, and may say yes to the erasing.
	asks := !i.yes && isTerminalIn(cmd.InOrStdin())
	d, err := i.choose(cmd.Context(), asks)
	if err != nil {
		return err
	}
	if !i.yes {
		if !asks {
			return fault.New(fault.Usage, fmt.Errorf("%s: would be erased, and there is no terminal to ask whether it may", d.Path), "--yes says that it may")
		}
		if err := confirm(cmd.Context(), cmd.InOrStdin(), cmd.ErrOrStderr(), d, image); err != nil {
			return err
		}
	}
	opt := pipeline.InstallOptions{Options: *o, Disk: d, Generic: i.generic}
	if i.onTarget {
		if d.File {
			return fault.New(fault.Usage, errors.New("--unpack-on-target and --via-loopback: a file is no disk to unpack on"), "")
		}
		opt.Scratch = &pipeline.Scratch{OnTarget: func(int64) bool { return true }}
	}
	result, err := pipeline.Install(cmd.Context(), opt, p)
	p.finish()
	if err != nil {
		return err
	}
	if c := result.Plan.Config; c != nil {
		warn(cmd.ErrOrStderr(), c.Ignored)
	}
	entry := ""
	if result.BootEntry != "" {
		entry = ", which the firmware starts first (" + result.BootEntry + ")"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Installed on %s%s\n", d.Path, entry)
	fmt.Fprintln(cmd.OutOrStdout(), d.Path)
	return nil
}

// choose finds the disk and makes sure that it may be written.
func (i *installFlags) choose(ctx context.Context, asks bool) (blockdev.Disk, error) {
	s := blockdev.Selection{Spec: i.to, Wipe: i.wipe || asks}
	var d blockdev.Disk
	var err error
	switch {
	case i.file:
		if d, err = blockdev.File(i.to); err == nil {
			err = s.Check(d)
		}
	default:
		if strings.ContainsRune(i.to, '/') {
			if i.to, err = filepath.Abs(i.to); err != nil {
				return d, err
			}
			s.Spec = i.to
		}
		if err := blockdev.CheckSpec(s.Spec); err != nil {
			return d, err
		}
		var disks []blockdev.Disk
		if !strings.HasPrefix(s.Spec, "/") {
			if disks, err = (blockdev.Host{}).List(ctx); err != nil {
				return d, fault.Default(fault.Device, err)
			}
		}
		d, err = blockdev.Host{}.Select(disks, s)
	}
	if err != nil && errors.As(err, new(*blockdev.HoldsDataError)) {
		err = fault.New(fault.Device, err, "--wipe erases it all the same")
	}
	return d, err
}

func isTerminalIn(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks whether the disk may be erased.
func confirm(ctx context.Context, r io.Reader, w io.Writer, d blockdev.Disk, image string) error {
	more := []string{}
	if d.Serial != "" {
		more = append(more, "serial number "+d.Serial)
	}
	if d.Transport != blockdev.Other {
		more = append(more, string(d.Transport))
	}
	fmt.Fprintf(w, "Disk: %s\n", printable(strings.Join(append([]string{d.String()}, more...), ", ")))
	fmt.Fprintf(w, "On it: %s\n", printable(d.Content.String()))
	fmt.Fprintf(w, "EVERYTHING ON THIS DISK WILL BE ERASED, and %s installed on it.\n", printable(image))
	fmt.Fprintf(w, "Type %s or yes to go on: ", printable(d.Name))
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(r).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(w)
		return ctx.Err()
	case text := <-answer:
		if text == "yes" || text == d.Name || text == d.Path {
			return nil
		}
		return fault.New(fault.Interrupted, fmt.Errorf("%s: not confirmed, nothing was written", d.Path), "")
	}
}

// listDisks prints the disks of the machine.
func listDisks(cmd *cobra.Command) error {
	disks, err := blockdev.Host{}.List(cmd.Context())
	if err != nil {
		return fault.Default(fault.Device, err)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DISK\tSIZE\tTYPE\tMODEL\tSERIAL\tCONTENT")
	for _, d := range disks {
		state := d.Content.String()
		if d.ReadOnly {
			state = "read-only; " + state
		}
		if len(d.Uses) > 0 {
			state = "IN USE (" + d.Uses[0].String() + "); " + state
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Path, blueprints.FormatSize(d.Size), d.Transport, printable(d.Model), printable(d.Serial), printable(state))
		for _, id := range d.ByID {
			fmt.Fprintf(w, "  /dev/disk/by-id/%s\t\t\t\t\t\n", id)
		}
	}
	return w.Flush()
}
