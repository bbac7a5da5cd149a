package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"imgbuild/pipeline"
)

func newPlan() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:     "plan [flags] IMAGE",
		Aliases: []string{"manifest"},
		Short:   "Print as JSON what build would make",
		Long: `Print as JSON what build would make of IMAGE with the same flags: partitions and
sizes, kernel arguments, boot loaders, refs. Layers are read, nothing is built.`,
		Args: oneImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, p, err := f.prepare(cmd, args[0])
			if err != nil {
				return err
			}
			plan, err := pipeline.MakePlan(cmd.Context(), *o, p)
			p.finish()
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), plan)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version()) },
	}
}

// version returns what `imgbuild version` prints. The three lines with an
// underscore are those of bootc-image-builder.
func version() string {
	revision, built, tainted := "unknown", "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = s.Value
			case "vcs.time":
				built = s.Value
			case "vcs.modified":
				tainted = s.Value
			}
		}
	}
	return fmt.Sprintf("imgbuild %s (%s, %s/%s)\nbuild_revision: %s\nbuild_time: %s\nbuild_tainted: %s",
		pipeline.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, revision, built, tainted)
}
