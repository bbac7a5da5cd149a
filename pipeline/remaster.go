package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"imgbuild/fault"
	"imgbuild/formats/iso"
	"imgbuild/installer/remaster"
)

// InspectISO looks into the ISO in a file or on a device. With verify it reads all
// of it and compares it with its media checksum; the report is there then, whatever
// the error is of.
func InspectISO(ctx context.Context, path string, verify bool, p Progress) (*remaster.Report, error) {
	f, size, err := openISO(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	report, err := remaster.Inspect(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !verify {
		return report, nil
	}
	if err := report.Verify(ctx, f, size, stages(p, "verify")); err != nil {
		return report, fmt.Errorf("%s: %w", path, err)
	}
	return report, nil
}

// CustomizeISO makes changes to an ISO: into the new file out, or in place where
// that is "".
func CustomizeISO(ctx context.Context, path, out string, c *remaster.Changes, p Progress) error {
	mode := os.O_RDONLY
	if out == "" {
		mode = os.O_RDWR
	}
	f, size, err := openISO(path, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	im, err := iso.Open(f, size)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	changes, err := remaster.Plan(im, c)
	if err != nil {
		return err
	}
	if out == "" {
		if err := im.ChangeInPlace(ctx, f, changes, stages(p, "change")); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	}
	if same(f, out) {
		return fault.New(fault.Usage, fmt.Errorf("%s: the ISO cannot be written to itself", out), "leave -o out to change it in place")
	}
	a, err := createArtefact(filepath.Clean(out))
	if err != nil {
		return err
	}
	if err := im.Copy(ctx, a.file, changes, stages(p, "copy")); err != nil {
		a.discard()
		return fmt.Errorf("%s: %w", out, err)
	}
	if err := commit([]*artefact{a}, nil); err != nil {
		a.discard()
		return err
	}
	return nil
}

// stages shows how far something is.
func stages(p Progress, name string) func(done, total int64) {
	before := int64(-1)
	return func(done, total int64) {
		if before < 0 {
			p.Stage(name, total)
			before = 0
		}
		p.Advance(done - before)
		before = done
	}
}

// openISO opens a file or device, and returns its size in bytes.
func openISO(path string, mode int) (*os.File, int64, error) {
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		class := fault.Usage
		switch {
		case errors.Is(err, fs.ErrNotExist):
			class = fault.NotFound
		case mode == os.O_RDWR:
			class = fault.Output
		}
		return nil, 0, fault.New(class, err, "")
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory, not an ISO", path)
	}
	if err != nil {
		f.Close()
		return nil, 0, fault.New(fault.Usage, err, "")
	}
	size, err := f.Seek(0, io.SeekEnd) // of devices as well
	if err != nil {
		f.Close()
		return nil, 0, fault.New(fault.Usage, fmt.Errorf("%s: %w", path, err), "an ISO must be a file or a disk")
	}
	return f, size, nil
}

// same tells whether a path is the file that is open.
func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}
