package pipeline

import (
	"context"
	"fmt"
	"os"

	"imgbuild/fault"
	"imgbuild/survey"
)

// DiskReport is what is known of a disk in a file. Sizes are in bytes.
type DiskReport struct {
	Path     string   `json:"path"`
	Format   string   `json:"format"` // with those of what is around it: "raw in gzip"
	Details  string   `json:"details,omitempty"`
	Warnings []string `json:"warnings,omitempty"` // of the file
	Data     int64    `json:"data"`               // of the size, what is stored
	survey.Report
}

// dataUnit is the granularity that what is stored is counted in, in bytes.
const dataUnit = 4096

// SurveyDisk says what is on the disk in a file, of any format that can be converted.
// What is compressed is unpacked to a file in tempDir, which is removed.
func SurveyDisk(ctx context.Context, from DiskFile, tempDir string, p Progress) (_ *DiskReport, err error) {
	var unpacked *os.File
	defer func() {
		if unpacked != nil {
			unpacked.Close()
			if rerr := os.Remove(unpacked.Name()); err == nil && rerr != nil {
				err = outputError(rerr)
			}
		}
	}()
	d, err := openUnpacked(ctx, from, false, func() (f *os.File, err error) {
		if unpacked, err = os.CreateTemp(tempDir, "imgbuild-"); err != nil {
			return nil, outputError(err)
		}
		return unpacked, nil
	}, p)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	report, err := survey.Disk(d, d.Size())
	if err != nil {
		return nil, fault.Default(fault.BadImage, fmt.Errorf("%s: %w", from.Path, err))
	}
	r := &DiskReport{Path: from.Path, Format: d.Format, Details: d.Details, Warnings: d.Notes, Report: *report}
	for _, n := range d.Data(dataUnit) {
		r.Data += n
	}
	return r, nil
}
