package main

import (
	"fmt"
	"io"
	"os"

	"imgbuild/fault"
	"imgbuild/layouts"
	"imgbuild/pipeline"
)

// readLayout reads the disk.yaml of --layout, - for stdin.
func (f *flags) readLayout(stdin io.Reader, o *pipeline.Options) error {
	if f.layout == "" {
		return nil
	}
	r := stdin
	if f.layout != "-" {
		file, err := os.Open(f.layout)
		if err != nil {
			return fault.New(fault.Usage, fmt.Errorf("layout: %w", err), "")
		}
		defer file.Close()
		r = file
	}
	text, err := io.ReadAll(io.LimitReader(r, layouts.MaxFile+1)) // too long is Parse's to say
	if err != nil {
		return fault.New(fault.Usage, fmt.Errorf("layout %s: %w", f.layout, err), "")
	}
	f.inputs = append(f.inputs, inputFile("layout", f.layout, text))
	o.Layout, err = pipeline.ReadLayout("layout "+f.layout, text)
	return err
}
