package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"imgbuild/fault"
	"imgbuild/formats/diskfile"
	"imgbuild/oci"
	"imgbuild/pipeline"
)

// clouds lists what --to takes.
func clouds() []string { return []string{"aws"} }

func newUpload() *cobra.Command {
	var f awsFlags
	var out resultFlags
	var to, from, arch, cache, mode string
	cmd := &cobra.Command{
		Use:   "upload [flags] FILE",
		Short: "Upload a disk to a cloud",
		Long: `Upload the disk in FILE, in any format that convert reads, to a cloud, and make
there what machines start from. Architecture and boot mode are read from the types of
the partitions.

  imgbuild upload image/disk.raw --to aws --aws-region eu-central-1 --aws-ami-name os-1

The credentials are those that other programs for the cloud find: environment,
shared files, single sign-on, instance role.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fault.New(fault.Usage, fmt.Errorf("%d files given, want one", len(args)), "imgbuild upload image/disk.raw --to aws --aws-ami-name NAME")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch to {
			case "aws":
			case "":
				return fault.New(fault.Usage, errors.New("no cloud given"), "--to "+strings.Join(clouds(), " or --to "))
			default:
				return fault.New(fault.Usage, fmt.Errorf("--to %q: unknown", to), "the clouds are "+strings.Join(clouds(), ", "))
			}
			if err := out.check(); err != nil {
				return err
			}
			p, err := newProgress(cmd, mode)
			if err != nil {
				return err
			}
			if arch != "" {
				if arch, err = oci.ParseArch(arch); err != nil {
					return err
				}
			}
			if cache == "" {
				// Without one nothing is known when an upload is resumed, that is all.
				cache, _ = cacheDir()
			}
			u, err := f.uploader(cmd.Context(), cache)
			if err != nil {
				return err
			}
			err = pipeline.UploadFile(cmd.Context(), pipeline.DiskFile{Path: args[0], Format: from}, arch, os.TempDir(), u, p)
			p.finish()
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), &results{Uploads: u.results})
		},
	}
	s := cmd.Flags()
	s.SortFlags = false
	s.StringVar(&to, "to", "", "cloud to upload to: "+strings.Join(clouds(), ", "))
	s.StringVar(&from, "from", "", "format of FILE, instead of what it looks like: "+strings.Join(diskfile.Formats(), ", "))
	s.StringVar(&arch, "target-arch", "", "architecture of the system on the disk (default: what the partition table says)")
	f.register(s)
	out.register(s)
	s.StringVar(&cache, "cache", "", "directory for what is known of uploads that can be resumed (default: the user's cache directory)")
	s.StringVar(&mode, "progress", "auto", "auto, verbose, term or debug")
	return cmd
}
