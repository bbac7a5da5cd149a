package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"imgbuild/fault"
	"imgbuild/formats/diskfile"
	"imgbuild/oci"
	"imgbuild/pipeline"
)

// convertFlags are those of convert, as typed.
type convertFlags struct {
	formatFlags
	from, output, chown, seed, arch string
	authfile, progress              string
	tlsVerify                       bool
	results                         resultFlags
}

func newConvert() *cobra.Command {
	f := &convertFlags{}
	cmd := &cobra.Command{
		Use:   "convert [flags] DISK --type TYPE",
		Short: "Write a disk that exists in other formats",
		Long: `Write the disk in the file DISK in other formats. What can be written can be
read: ` + strings.Join(diskfile.Formats(), ", ") + ` files, each of them compressed with gzip, xz or
zstd, too, the archives of gce and ova, and container disks. The format is found
out by content; say --from raw of a raw disk that you do not trust, as it could
begin like another format.

Paths and flags are those of build.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fault.New(fault.Usage, fmt.Errorf("%d disks given, want one", len(args)), "imgbuild convert disk.qcow2 --type vmdk")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o, p, err := f.options(cmd)
			if err != nil {
				return err
			}
			result, err := pipeline.Convert(cmd.Context(), pipeline.DiskFile{Path: args[0], Format: f.from}, *o, p)
			p.finish()
			if err != nil {
				return err
			}
			return f.results.print(cmd.OutOrStdout(), written(cmd, result))
		},
	}
	s := cmd.Flags()
	s.SortFlags = false
	s.StringArrayVar(&f.types, "type", nil, typeUsage("what to make", pipeline.DiskTypes())+"; may be repeated")
	s.StringVar(&f.output, "output", ".", "directory for the results")
	s.StringVar(&f.from, "from", "", "format of DISK, instead of what it looks like: "+strings.Join(diskfile.Formats(), ", "))
	s.StringVar(&f.chown, "chown", "", "UID[:GID] to give the results to")
	f.formatFlags.register(s)
	f.results.register(s)
	s.StringVar(&f.seed, "seed", "", "text that the UUIDs of the files derive from (default: the disk)")
	s.StringVar(&f.arch, "target-arch", "", "architecture of a containerdisk (default: that of the root partition, else this machine's)")
	s.BoolVar(&f.tlsVerify, "tls-verify", true, "verify the certificate of the registry to push to; false also allows plain HTTP")
	s.StringVar(&f.authfile, "authfile", "", "registry credentials (default: where Podman and Docker keep them)")
	s.StringVar(&f.progress, "progress", "auto", "auto, verbose, term or debug")
	return cmd
}

// options turns the flags into what the pipeline takes.
func (f *convertFlags) options(cmd *cobra.Command) (*pipeline.Options, *progress, error) {
	if err := f.results.check(); err != nil {
		return nil, nil, err
	}
	o := &pipeline.Options{
		HostArch: runtime.GOARCH, Output: f.output, Seed: f.seed,
		Insecure: !f.tlsVerify, AuthFile: f.authfile, Getenv: os.Getenv,
	}
	// Without a home directory there are no credentials to be found there.
	o.Home, _ = os.UserHomeDir()
	var err error
	if o.Types, o.Formats, err = f.formatFlags.parse(cmd); err != nil {
		return nil, nil, err
	}
	if len(o.Types) == 0 {
		return nil, nil, fault.New(fault.Usage, errors.New("no type given"), "say what to make of the disk, as in --type qcow2")
	}
	if f.arch != "" {
		if o.Arch, err = oci.ParseArch(f.arch); err != nil {
			return nil, nil, err
		}
	}
	if f.chown != "" {
		if o.Chown, err = parseOwner(f.chown); err != nil {
			return nil, nil, fault.New(fault.Usage, fmt.Errorf("--chown %q: %w", f.chown, err), "numbers, as in --chown 1000:1000")
		}
	}
	p, err := newProgress(cmd, f.progress)
	return o, p, err
}

// written returns what the pipeline wrote, and says what it pushed.
func written(cmd *cobra.Command, r *pipeline.Result) *results {
	if r.Pushed != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "Pushed %s\n", r.Pushed)
	}
	made := &results{Record: r.Record, SBOMs: r.SBOMs, Pushed: r.Pushed}
	for i, path := range r.Artefacts {
		made.Artefacts = append(made.Artefacts, artefact{r.Types[i], path})
	}
	return made
}
