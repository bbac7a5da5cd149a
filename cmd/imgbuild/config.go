package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"imgbuild/attest"
	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/pipeline"
)

// configFlags are the flags about config files.
type configFlags struct {
	files             []string
	ignoreUnsupported bool
	allowPaths        []string
	media             blueprints.Media // that is among what is made
	kickstart         string           // file
	none              bool             // no file is looked for

	root   string            // where files are looked for; "" is /
	inputs []attest.Resource // the files that were read
	moved  map[string]string // where files are by now that a record names
}

func (f *configFlags) register(s *pflag.FlagSet) {
	s.StringArrayVar(&f.files, "config", nil, "blueprint, .toml or .json, - for stdin (default: /config.toml or /config.json, if there); may be repeated, later ones add to earlier ones")
	f.registerOptions(s)
}

func (f *configFlags) registerOptions(s *pflag.FlagSet) {
	s.BoolVar(&f.ignoreUnsupported, "ignore-unsupported", false, "build without what the config asks for and cannot be applied, with a warning")
	s.StringArrayVar(&f.allowPaths, "allow-paths", nil, "let the config put files and directories below this path too; may be repeated")
}

// load reads the config files, or those found where they usually are, and prints
// their warnings. Without any the result is nil.
func (f *configFlags) load(stdin io.Reader, stderr io.Writer) (*blueprints.Config, error) {
	names := f.files
	if len(names) == 0 && !f.none {
		for _, name := range []string{f.root + "/config.toml", f.root + "/config.json"} {
			if _, err := os.Stat(name); err == nil {
				names = append(names, name)
			}
		}
		if len(names) > 1 {
			return nil, fault.New(fault.Usage, errors.New("both /config.toml and /config.json exist"), "choose one with --config")
		}
	}
	if len(names) == 0 && f.kickstart == "" {
		return nil, nil
	}
	var sources []blueprints.Source
	for i, name := range names {
		if name == "-" && slices.Contains(names[:i], name) {
			return nil, fault.New(fault.Usage, errors.New("config -: stdin is read once"), "")
		}
		text, err := readConfig(stdin, f.place(name))
		if err != nil {
			return nil, fault.New(fault.Usage, fmt.Errorf("config %s: %w", name, err), "")
		}
		sources = append(sources, blueprints.Source{Name: name, Text: text})
		f.inputs = append(f.inputs, inputFile("config", name, text))
	}
	for _, p := range f.allowPaths {
		if !strings.HasPrefix(p, "/") || path.Clean(p) != p {
			return nil, fault.New(fault.Usage, fmt.Errorf("--allow-paths %q: not an absolute path, written plainly", p), "")
		}
	}
	o := blueprints.Options{IgnoreUnsupported: f.ignoreUnsupported, AllowPaths: f.allowPaths, Media: f.media}
	if f.kickstart != "" {
		if f.kickstart == "-" && slices.Contains(names, "-") {
			return nil, fault.New(fault.Usage, errors.New("--kickstart -: stdin is read once"), "")
		}
		text, err := readConfig(stdin, f.place(f.kickstart))
		if err != nil {
			return nil, fault.New(fault.Usage, fmt.Errorf("--kickstart: %w", err), "")
		}
		f.inputs = append(f.inputs, inputFile("kickstart", f.kickstart, text))
		o.Kickstart = &blueprints.Source{Name: f.kickstart, Text: text}
	}
	c, err := blueprints.Load(sources, o)
	warn(stderr, c.Warnings)
	warn(stderr, c.Ignored)
	return c, err
}

func warn(stderr io.Writer, list []string) {
	for _, w := range list {
		fmt.Fprintf(stderr, "imgbuild: warning: %s\n", oneLine(w))
	}
}

// place returns where a file is that goes by a name.
func (f *configFlags) place(name string) string {
	if at, ok := f.moved[name]; ok {
		return at
	}
	return name
}

// readConfig reads a config file, but not much more than is allowed.
func readConfig(stdin io.Reader, name string) ([]byte, error) {
	r := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		r = file
	}
	return io.ReadAll(io.LimitReader(r, blueprints.MaxSize+1))
}

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check config files, or print their schema",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigCheck(), newConfigSchema())
	return cmd
}

func newConfigCheck() *cobra.Command {
	f := &configFlags{}
	var types []string
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Check config files without an image",
		Long: `Check config files, - being stdin, as build would read them with --config: all of
what is wrong, and what is not applied, is said at once with its place. What
depends on the image is checked by plan and build. Keys and kickstarts for media
need --type to say for which.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && f.kickstart == "" {
				return fault.New(fault.Usage, errors.New("no config file given"), "imgbuild config check config.toml")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.forTypes(types); err != nil {
				return err
			}
			f.files, f.none = args, len(args) == 0
			c, err := f.load(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			warnings, err := pipeline.CheckKickstart(c)
			warn(cmd.ErrOrStderr(), warnings)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: valid\n", strings.Join(c.Files, ", "))
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&types, "type", nil, "what is to be made, such as iso (default: a disk); may be repeated")
	cmd.Flags().StringVar(&f.kickstart, "kickstart", "", "kickstart file that goes with them")
	f.registerOptions(cmd.Flags())
	return cmd
}

// forTypes takes the kind of medium that types are.
func (f *configFlags) forTypes(names []string) error {
	var types []pipeline.Type
	for _, n := range names {
		t, err := pipeline.ParseType(n)
		if err != nil {
			return err
		}
		types = append(types, t)
	}
	f.media = mediumOf(types)
	if f.kickstart != "" && f.media != blueprints.OwnInstaller && f.media != blueprints.Anaconda {
		return fault.New(fault.Usage, errors.New("--kickstart: is for an installer, and none is asked for"), "add --type iso")
	}
	return nil
}

func newConfigSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of config files, for editors",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printJSON(cmd.OutOrStdout(), blueprints.Schema())
		},
	}
}
