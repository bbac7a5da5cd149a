package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/oci"
	"imgbuild/pipeline"
)

// accessFlags say how registries, local stores and the cache are used.
type accessFlags struct {
	creds, token, registriesConf, certDir string
	pull, cacheSize                       string
	local                                 bool
	trust                                 trustFlags
	stall                                 time.Duration
}

// defaultCacheSize is what the cache may hold: some dozens of images.
const defaultCacheSize = "50 GiB"

func (f *accessFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.cacheSize, "cache-size", defaultCacheSize, "what the cache may hold; what was not used for the longest time goes first; 0 is no limit")
	s.StringVar(&f.pull, "pull", "", "when to ask the registry: always (the default), missing (neither in the local store nor in the cache) or never")
	s.BoolVar(&f.local, "local", false, "look in the local store of Podman and Buildah before the registry; --local=false: never there")
	s.StringVar(&f.creds, "creds", "", "USER:PASSWORD for the registry of the image")
	s.StringVar(&f.token, "registry-token", "", "bearer token for the registry of the image")
	s.StringVar(&f.registriesConf, "registries-conf", "", "registries.conf to use (default: $CONTAINERS_REGISTRIES_CONF, then those of the user and the system)")
	s.StringVar(&f.certDir, "cert-dir", "", "directory with certificates for registries: *.crt, *.cert and *.key (default: the certs.d of the user and the system)")
	f.trust.register(s)
	s.DurationVar(&f.stall, "stall-timeout", time.Minute, "how long a registry may send next to nothing")
}

// apply checks the flags and sets the options they stand for.
func (f *accessFlags) apply(s *pflag.FlagSet, o *pipeline.Options) (err error) {
	o.Access = oci.Access{Creds: f.creds, RegistryToken: f.token, RegistriesConf: f.registriesConf, CertDir: f.certDir}
	if o.Access.Pull, err = oci.ParsePull(f.pull); err != nil {
		return fault.New(fault.Usage, fmt.Errorf("--pull: %w", err), fault.HintOf(err))
	}
	if err := f.trust.apply(o); err != nil {
		return err
	}
	if err := oci.CheckCreds(f.creds); err != nil {
		return fault.New(fault.Usage, fmt.Errorf("--creds: %w", err), "")
	}
	if f.creds != "" && f.token != "" {
		return fault.New(fault.Usage, errors.New("--creds and --registry-token: each replaces the other"), "")
	}
	if f.stall < time.Second {
		return fault.New(fault.Usage, fmt.Errorf("--stall-timeout %v: less than a second", f.stall), "")
	}
	o.StallTimeout = f.stall
	if s.Changed("local") {
		o.Access.Local = oci.LocalNever
		if f.local {
			o.Access.Local = oci.LocalFirst
		}
	}
	if o.CacheSize, err = parseCacheSize(f.cacheSize); err != nil {
		return err
	}
	if o.NoCache && s.Changed("cache-size") {
		return fault.New(fault.Usage, errors.New("--cache-size with --no-cache: there is no cache to limit"), "")
	}
	return nil
}

func parseCacheSize(text string) (int64, error) {
	if text == "0" {
		return 0, nil
	}
	n, err := blueprints.ParseSize(text)
	if err != nil {
		return 0, fault.New(fault.Usage, fmt.Errorf("--cache-size: %w", err), `a size such as "50 GiB", or 0 for no limit`)
	}
	return n, nil
}

func newPull() *cobra.Command {
	f := &flags{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "pull [flags] IMAGE",
		Short: "Read an image into the cache, for builds without a registry",
		Long: `Read an image into the cache. A build with --pull never, or with --pull missing,
then asks no registry. Prints the image with its digest.`,
		Args: oneImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.noCache {
				return fault.New(fault.Usage, errors.New("--no-cache: there would be nothing to fill"), "")
			}
			o, p, err := f.prepare(cmd, args[0])
			if err != nil {
				return err
			}
			pulled, err := pipeline.Pull(cmd.Context(), *o, p)
			p.finish()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), pulled)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", pulled.Reference, pulled.Digest)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	f.registerSource(cmd.Flags())
	return cmd
}
