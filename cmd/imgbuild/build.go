package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"imgbuild/attest"
	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/oci"
	"imgbuild/pipeline"
)

// flags are those of build and plan, as typed.
type flags struct {
	formatFlags
	access                                       accessFlags
	kargs, kargDelete, limits                    []string
	output, rootfs, arch, chown, progress, cache string
	target, stateroot, seed, authfile            string
	size, rootSize, freeSpace, layout            string
	tlsVerify, noCache, noDefaults, selinuxOff   bool
	sigPolicy, skipBound                         bool
	store, rpmmd, buildContainer                 string
	librepo, inVM                                bool
	noOutput                                     bool
	aws                                          awsFlags
	results                                      resultFlags
	config                                       configFlags
	media                                        mediaFlags
	records                                      recordFlags
	inputs                                       []attest.Resource // files that flags name, but for config's
}

func newBuild() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "build [flags] IMAGE",
		Short: "Build disk images (the default command)",
		Long: `Build disk images of the bootc container image IMAGE:

  NAME[:TAG][@DIGEST]            in a registry, also as docker://NAME
  containers-storage:NAME[:TAG]  in the local store of Podman and Buildah
  oci:DIR[:TAG|@DIGEST]          an OCI layout directory
  oci-archive:FILE[:TAG]         a tar of one
  docker-archive:FILE[:NAME]     what docker save and podman save write
  dir:DIR                        what skopeo copy writes to dir:DIR

The paths of the artefacts are those of bootc-image-builder, below --output;
they are printed on stdout when all are complete.`,
		Args: oneImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, p, err := f.prepare(cmd, args[0])
			if err != nil {
				return err
			}
			if err := f.results.check(); err != nil {
				return err
			}
			if err := f.records.apply(cmd, f, o); err != nil {
				return err
			}
			result, err := pipeline.Build(cmd.Context(), *o, p)
			p.finish()
			if err != nil {
				return err
			}
			if c := result.Plan.Config; c != nil {
				warn(cmd.ErrOrStderr(), c.Ignored)
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "Build complete!")
			if !o.NoOutput {
				fmt.Fprintf(cmd.ErrOrStderr(), "Results saved in %s\n", o.Output)
			}
			made := written(cmd, result)
			if u, ok := o.Upload.(*awsUpload); ok {
				made.Uploads = u.results
			}
			return f.results.print(cmd.OutOrStdout(), made)
		},
	}
	f.register(cmd.Flags())
	f.records.register(cmd.Flags())
	f.results.register(cmd.Flags())
	return cmd
}

// register declares the flags. Those of bootc-image-builder keep their names
// and meanings.
func (f *flags) register(s *pflag.FlagSet) {
	s.SortFlags = false
	s.StringArrayVar(&f.types, "type", nil, typeUsage("what to build", pipeline.Types())+" (default: qcow2); may be repeated")
	s.StringVar(&f.output, "output", ".", "directory for the results")
	s.StringVar(&f.chown, "chown", "", "UID[:GID] to give the results to")
	s.StringVar(&f.size, "size", "", "size of the disk, such as \"20 GiB\", or min (default: 10 GiB, more where the content needs it)")
	s.StringVar(&f.freeSpace, "free-space", "", "free space on the root file system (default: a quarter of the content, at least 2 GiB)")
	f.registerSystem(s)
	f.formatFlags.register(s)
	f.media.register(s)
	f.aws.register(s)
	s.BoolVar(&f.noOutput, "no-output", false, "write no file, upload only")
	f.registerSource(s)

	// Flags of bootc-image-builder without a meaning here.
	s.StringVar(&f.store, "store", "", "")
	s.StringVar(&f.rpmmd, "rpmmd", "", "")
	s.BoolVar(&f.librepo, "use-librepo", true, "")
	s.StringVar(&f.buildContainer, "build-container", "", "")
	s.BoolVar(&f.inVM, "in-vm", false, "")
	for _, name := range []string{"store", "rpmmd", "use-librepo", "build-container", "in-vm"} {
		_ = s.MarkHidden(name)
	}
}

// registerSystem declares the flags that say what the installed system is like,
// whatever it is installed to.
func (f *flags) registerSystem(s *pflag.FlagSet) {
	s.StringVar(&f.rootfs, "rootfs", "", "root file system, instead of the one the image names: ext4, xfs or btrfs")
	s.StringVar(&f.rootSize, "root-size", "", "size of the root partition")
	s.StringVar(&f.layout, "layout", "", "disk.yaml with the partitions of the disk, instead of the one the image has; - for stdin")
	s.StringVar(&f.target, "target-imgref", "", "image reference that the installed system follows (default: IMAGE)")
	s.BoolVar(&f.sigPolicy, "enforce-container-sigpolicy", false, "make the installed system verify image signatures")
	s.StringVar(&f.stateroot, "stateroot", "", "name of the stateroot (default: default)")
	s.StringArrayVar(&f.kargs, "karg", nil, "kernel argument to add; may be repeated")
	s.StringArrayVar(&f.kargDelete, "karg-delete", nil, "kernel argument of the image to drop, KEY or KEY=VALUE; may be repeated")
	s.BoolVar(&f.noDefaults, "no-default-kernel-args", false, "do not add console arguments where the image names no console")
	s.BoolVar(&f.selinuxOff, "disable-selinux", false, "write no SELinux labels and boot with selinux=0")
	s.BoolVar(&f.skipBound, "skip-bound-images", false, "leave the image's bound images to the first boot")
	f.config.register(s)
	s.StringVar(&f.seed, "seed", "", "text that all UUIDs derive from (default: the image's digest and these flags)")
}

// registerSource declares the flags that say where the image comes from.
func (f *flags) registerSource(s *pflag.FlagSet) {
	s.StringVar(&f.arch, "target-arch", "", "architecture of the image to take, where there are several (default: this machine's)")
	f.registerReach(s)
}

// registerReach declares the flags that say how images are reached, and what they
// may cost.
func (f *flags) registerReach(s *pflag.FlagSet) {
	s.StringVar(&f.cache, "cache", "", "directory for layers, kept between builds (default: the user's cache directory)")
	s.BoolVar(&f.noCache, "no-cache", false, "keep nothing between builds")
	s.BoolVar(&f.tlsVerify, "tls-verify", true, "verify the registry's certificate; false also allows plain HTTP")
	s.StringVar(&f.authfile, "authfile", "", "registry credentials (default: where Podman and Docker keep them)")
	f.access.register(s)
	s.StringArrayVar(&f.limits, "limit", nil, "NAME=N: what an image may cost at most; "+limitHelp()+"; may be repeated")
	s.StringVar(&f.progress, "progress", "auto", "auto, verbose, term or debug")
}

// needless says of the flags that are accepted for the sake of scripts why
// there is nothing to do for them.
func needless() [][2]string {
	return [][2]string{
		{"store", "imgbuild has no build store; --cache is where layers are kept"},
		{"rpmmd", "imgbuild reads no package metadata"},
		{"use-librepo", "imgbuild installs no packages"},
		{"build-container", "imgbuild runs nothing in a container"},
		{"in-vm", "imgbuild needs no privileges that a VM would have to give"},
	}
}

// prepare reads the flags of a command about an image.
func (f *flags) prepare(cmd *cobra.Command, image string) (*pipeline.Options, *progress, error) {
	o, err := f.options(cmd, image)
	if err != nil {
		return nil, nil, err
	}
	p, err := newProgress(cmd, f.progress)
	return o, p, err
}

// options turns the flags into what the pipeline takes.
func (f *flags) options(cmd *cobra.Command, image string) (*pipeline.Options, error) {
	for _, n := range needless() {
		if cmd.Flags().Changed(n[0]) {
			fmt.Fprintf(cmd.ErrOrStderr(), "imgbuild: --%s is not needed: %s\n", n[0], n[1])
		}
	}
	o := &pipeline.Options{
		HostArch: runtime.GOARCH, Output: f.output, Cache: f.cache, NoCache: f.noCache, TempDir: os.TempDir(),
		Insecure: !f.tlsVerify, AuthFile: f.authfile, Getenv: os.Getenv, Target: f.target, Stateroot: f.stateroot, RootFS: f.rootfs,
		Kargs: f.kargs, KargDelete: f.kargDelete, NoDefaults: f.noDefaults, SELinuxOff: f.selinuxOff,
		SigPolicy: f.sigPolicy, SkipBound: f.skipBound, Seed: f.seed, NoOutput: f.noOutput,
	}
	// Without a home directory there are no credentials to be found there.
	o.Home, _ = os.UserHomeDir()
	err := f.access.apply(cmd.Flags(), o)
	if err != nil {
		return nil, err
	}
	if f.arch != "" {
		if o.Arch, err = oci.ParseArch(f.arch); err != nil {
			return nil, err
		}
	}
	if o.Image, err = pipeline.FindImage(cmd.Context(), image, o); err != nil {
		return nil, err
	}
	if o.Types, o.Formats, err = f.formatFlags.parse(cmd); err != nil {
		return nil, err
	}
	if err := f.sizes(&o.Sizes); err != nil {
		return nil, err
	}
	if err := parseLimits(f.limits, &o.Limits); err != nil {
		return nil, err
	}
	if f.chown != "" {
		if o.Chown, err = parseOwner(f.chown); err != nil {
			return nil, fault.New(fault.Usage, fmt.Errorf("--chown %q: %w", f.chown, err), "numbers, as in --chown 1000:1000")
		}
	}
	if !o.NoCache && o.Cache == "" {
		if o.Cache, err = cacheDir(); err != nil {
			return nil, err
		}
	}
	if err := f.readLayout(cmd.InOrStdin(), o); err != nil {
		return nil, err
	}
	if err := f.readProgram(); err != nil {
		return nil, err
	}
	f.media.apply(o)
	if f.media.payload != "" {
		if o.Media.Payload, err = pipeline.FindImage(cmd.Context(), f.media.payload, o); err != nil {
			return nil, fmt.Errorf("--installer-payload-ref: %w", err)
		}
	}
	f.config.media, f.config.kickstart = mediumOf(o.Types), f.media.kickstart
	if o.Config, err = f.config.load(cmd.InOrStdin(), cmd.ErrOrStderr()); err != nil {
		return nil, err
	}
	return o, f.upload(cmd, o)
}

// upload reads the flags of uploads, none of which may be without effect.
func (f *flags) upload(cmd *cobra.Command, o *pipeline.Options) error {
	name := f.aws.given(cmd)
	if name == "" {
		return nil
	}
	if !slices.Contains(o.Types, pipeline.AMI) {
		return fault.New(fault.Usage, fmt.Errorf("--%s: is about type ami, which is not asked for", name), "add --type ami")
	}
	u, err := f.aws.uploader(cmd.Context(), o.Cache)
	if err != nil {
		return err
	}
	o.Upload = u
	return nil
}

func (f *flags) sizes(s *pipeline.Sizes) error {
	for _, size := range []struct {
		flag, text string
		value      *int64
	}{{"size", f.size, &s.Disk}, {"root-size", f.rootSize, &s.Root}, {"free-space", f.freeSpace, &s.Free}} {
		if size.text == "" {
			continue
		}
		if size.flag == "size" && size.text == "min" {
			s.Minimal = true
			continue
		}
		n, err := blueprints.ParseSize(size.text)
		if err != nil {
			return fault.New(fault.Usage, fmt.Errorf("--%s: %w", size.flag, err), "")
		}
		*size.value = n
	}
	return nil
}

// parseOwner reads UID[:GID]; without a group it is that of the process.
func parseOwner(s string) (*pipeline.Owner, error) {
	user, group, hasGroup := strings.Cut(s, ":")
	uid, err := strconv.ParseUint(user, 10, 31)
	if err != nil {
		return nil, errors.New("no user id")
	}
	owner := &pipeline.Owner{UID: int(uid), GID: os.Getgid()}
	if hasGroup {
		gid, err := strconv.ParseUint(group, 10, 31)
		if err != nil {
			return nil, errors.New("no group id")
		}
		owner.GID = int(gid)
	}
	return owner, nil
}

func oneImage(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 1:
		return nil
	case 0:
		return fault.New(fault.Usage, errors.New("no image given"), "imgbuild --type qcow2 registry.example.com/os:1")
	}
	return fault.New(fault.Usage, fmt.Errorf("%d images given, want one", len(args)), "flags with values take one value each; repeat --type for several types")
}
