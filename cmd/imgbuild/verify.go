package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"imgbuild/attest"
	"imgbuild/fault"
	"imgbuild/pipeline"
)

// verifyFlags are those of verify, as typed.
type verifyFlags struct {
	flags
	record, key string
	rebuild     bool
	configs     []string
	moved       map[string]*string // where other files of the build are now, by the flag that named them
}

// verification is what verify found right.
type verification struct {
	Record  string              `json:"record"`
	Signed  bool                `json:"signed"` // by the key of --key
	Image   string              `json:"image"`
	Digest  string              `json:"digest"`
	Builder string              `json:"builder"`
	Files   []pipeline.Verified `json:"files"`
	Rebuilt bool                `json:"rebuilt"`
}

func newVerify() *cobra.Command {
	f := &verifyFlags{}
	cmd := &cobra.Command{
		Use:   "verify [flags] [ARTEFACT...] --record FILE",
		Short: "Check results against the record of their build",
		Long: `Check that each ARTEFACT is what the record says that a build with --record made,
and with --key that the record is signed by that key. Without an ARTEFACT all files
of the record are checked, where they were written.

With --rebuild the build is done once more by the record, and must have the same
result to the last bit. A record is a list of instructions then: check its signature,
unless it is your own. Files that --config and --layout named are read again from
where they were; the same flags here say where they are now.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.record == "" {
				return fault.New(fault.Usage, errors.New("no record given"), "imgbuild verify qcow2/disk.qcow2 --record record-qcow2.intoto.json")
			}
			if err := f.results.check(); err != nil {
				return err
			}
			p, err := newProgress(cmd, f.progress)
			if err != nil {
				return err
			}
			v, err := f.verify(cmd, args, p)
			p.finish()
			if err != nil {
				return err
			}
			return f.print(cmd, v)
		},
	}
	s := cmd.Flags()
	s.SortFlags = false
	s.StringVar(&f.record, "record", "", "the record: record-TYPES.intoto.json or .jsonl")
	s.StringVar(&f.key, "key", "", "PEM file with the public key that the record must be signed with")
	s.BoolVar(&f.rebuild, "rebuild", false, "build once more and compare, too")
	s.StringArrayVar(&f.configs, "config", nil, "with --rebuild: where a config file of the build is now; may be repeated, in the order of the build")
	f.moved = map[string]*string{}
	for _, name := range []string{"layout", "kickstart", "installer-program"} {
		f.moved[name] = s.String(name, "", "with --rebuild: where the file of the build's --"+name+" is now")
	}
	f.results.register(s)
	f.registerReach(s)
	return cmd
}

func (f *verifyFlags) verify(cmd *cobra.Command, args []string, p *progress) (*verification, error) {
	if !f.rebuild {
		if name := f.onlyRebuild(cmd.Flags()); name != "" {
			return nil, fault.New(fault.Usage, fmt.Errorf("--%s: is about building once more, which is not asked for", name), "add --rebuild")
		}
	}
	key, err := f.publicKey()
	if err != nil {
		return nil, err
	}
	r, err := pipeline.ReadRecord(f.record, key)
	if err != nil {
		return nil, err
	}
	v := &verification{
		Record: f.record, Signed: r.Signed, Image: r.Statement.Predicate.BuildDefinition.ExternalParameters.Image,
		Builder: "imgbuild " + r.Statement.Predicate.RunDetails.Builder.Version["imgbuild"], Rebuilt: f.rebuild,
	}
	for _, d := range r.Statement.Dependencies(attest.DependencyManifest) {
		v.Digest = "sha256:" + d.Digest["sha256"]
	}
	if v.Files, err = r.Verify(cmd.Context(), args, p); err != nil || !f.rebuild {
		return v, err
	}
	o, err := f.recorded(cmd, r.Statement.Predicate.BuildDefinition)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", f.record, err)
	}
	return v, r.Rebuild(cmd.Context(), *o, p)
}

// onlyRebuild returns a flag that was given and has no meaning without --rebuild.
func (f *verifyFlags) onlyRebuild(s *pflag.FlagSet) (name string) {
	always := []string{"record", "key", "rebuild", "format", "progress", "log-level", "verbose", "help"}
	s.Visit(func(flag *pflag.Flag) {
		if !slices.Contains(always, flag.Name) {
			name = flag.Name
		}
	})
	return name
}

func (f *verifyFlags) publicKey() (*attest.PublicKey, error) {
	if f.key == "" {
		return nil, nil
	}
	text, err := readKeyFile(f.key)
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("--key: %w", err), "")
	}
	key, err := attest.ParsePublicKey(text)
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("--key %s: %w", f.key, err), "")
	}
	return key, nil
}

// recorded returns the options of the build that a record is of: its flags, those
// of them only that shape a result, and from the command line how images are
// reached.
func (f *verifyFlags) recorded(cmd *cobra.Command, def attest.BuildDefinition) (*pipeline.Options, error) {
	args, moved, err := f.replaceFiles(def.ExternalParameters.Flags)
	if err != nil {
		return nil, err
	}
	reach := pflag.NewFlagSet("", pflag.ContinueOnError)
	(&flags{}).registerReach(reach)
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if reach.Lookup(flag.Name) == nil {
			return
		}
		if many, ok := flag.Value.(pflag.SliceValue); ok {
			for _, v := range many.GetSlice() {
				args = append(args, "--"+flag.Name+"="+v)
			}
		} else {
			args = append(args, "--"+flag.Name+"="+flag.Value.String())
		}
	})
	of := &flags{}
	of.config.moved = moved
	build := &cobra.Command{Use: "build"}
	build.SetIn(cmd.InOrStdin())
	build.SetOut(cmd.OutOrStdout())
	build.SetErr(cmd.ErrOrStderr())
	build.SetContext(cmd.Context())
	of.register(build.Flags())
	of.records.register(build.Flags())
	if err := build.ParseFlags(args); err != nil {
		return nil, fault.New(fault.BadImage, err, "")
	}
	o, err := of.options(build, def.ExternalParameters.Image)
	if err != nil {
		return nil, err
	}
	if err := of.records.apply(build, of, o); err != nil {
		return nil, err
	}
	o.Records.Epoch = def.InternalParameters.SourceDateEpoch
	return o, nil
}

// replaceFiles returns the flags of a record with the files that are elsewhere now, and
// where those are that keep their names.
func (f *verifyFlags) replaceFiles(recorded []string) (args []string, moved map[string]string, err error) {
	moved = map[string]string{}
	configs := f.configs
	n := 0
	var used []string
	for _, arg := range recorded {
		name, ok := isShaping(arg)
		_, value, _ := strings.Cut(arg, "=")
		if !ok {
			return nil, nil, fault.New(fault.BadImage, fmt.Errorf("%.80q: no flag that shapes a build", arg), "")
		}
		switch {
		case name == "config" && len(configs) > 0:
			if n++; n > len(configs) {
				return nil, nil, fault.New(fault.Usage, fmt.Errorf("--config: given %d times, and the build had more config files", len(configs)), "name all of them, in their order")
			}
			// Under its old name, which is in the manifest.
			moved[value] = configs[n-1]
		case name == "kickstart" && *f.moved[name] != "":
			moved[value] = *f.moved[name]
			used = append(used, name)
		case f.moved[name] != nil && *f.moved[name] != "":
			arg = "--" + name + "=" + *f.moved[name]
			used = append(used, name)
		}
		args = append(args, arg)
	}
	if n < len(configs) {
		return nil, nil, fault.New(fault.Usage, fmt.Errorf("--config: given %d times, and the build had %d config files", len(configs), n), "")
	}
	for _, name := range slices.Sorted(maps.Keys(f.moved)) {
		if *f.moved[name] != "" && !slices.Contains(used, name) {
			return nil, nil, fault.New(fault.Usage, fmt.Errorf("--%s: the build had none", name), "")
		}
	}
	return args, moved, nil
}

// flagName returns the name of a flag written as --name=value.
func flagName(arg string) (string, bool) {
	text, ok := strings.CutPrefix(arg, "--")
	name, _, hasValue := strings.Cut(text, "=")
	return name, ok && hasValue
}

func (f *verifyFlags) print(cmd *cobra.Command, v *verification) error {
	if f.results.format == "json" {
		return printJSON(cmd.OutOrStdout(), v)
	}
	for _, file := range v.Files {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %s of %s\n", file.Path, oneLine(file.Name), oneLine(v.Image+"@"+v.Digest))
	}
	if v.Rebuilt {
		fmt.Fprintln(cmd.OutOrStdout(), "built once more: the same")
	}
	if !v.Signed {
		fmt.Fprintln(cmd.ErrOrStderr(), "imgbuild: warning: the signature of the record was not checked: --key says by whom it should be")
	}
	return nil
}
