package main

import (
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"imgbuild/fault"
	"imgbuild/pipeline"
	"imgbuild/upload/aws"
)

// results are what a command made, as printed on stdout.
type results struct {
	Artefacts []artefact    `json:"artefacts"`
	Record    string        `json:"record,omitempty"` // path of the record of the build
	SBOMs     []string      `json:"sboms,omitempty"`
	Pushed    string        `json:"pushed,omitempty"` // reference and digest
	Uploads   []*aws.Result `json:"uploads"`
}

type artefact struct {
	Type pipeline.Type `json:"type"`
	Path string        `json:"path"`
}

// resultFlags say how results are printed.
type resultFlags struct{ format string }

func (f *resultFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.format, "format", "text", "how results are printed on stdout: text or json")
}

func (f *resultFlags) check() error {
	if f.format != "text" && f.format != "json" {
		return fault.New(fault.Usage, fmt.Errorf("--format %q: unknown", f.format), "text or json")
	}
	return nil
}

// print prints results: paths first, one a line, then AMIs with the words of
// bootc-image-builder.
func (f *resultFlags) print(w io.Writer, r *results) error {
	if f.format == "json" {
		if r.Artefacts == nil {
			r.Artefacts = []artefact{}
		}
		if r.Uploads == nil {
			r.Uploads = []*aws.Result{}
		}
		return printJSON(w, r)
	}
	for _, a := range r.Artefacts {
		fmt.Fprintln(w, a.Path)
	}
	for _, u := range r.Uploads {
		fmt.Fprintf(w, "AMI registered: %s\nSnapshot ID: %s\n", u.ImageID, u.SnapshotID)
		for _, c := range u.Copies {
			fmt.Fprintf(w, "AMI copied to %s: %s\n", c.Region, c.ImageID)
		}
	}
	return nil
}
