// Package diskfile opens disks in files of all formats that imgbuild writes or
// QEMU knows under these names, whichever it is: raw, qcow2, vmdk, vhd, vhdx and
// vdi; any of them compressed with gzip, xz or zstd; the archives of Google
// Compute Engine, appliances (OVA) and container disks.
//
// The format is found out by content, never by name. A raw disk may look like
// another format, by accident or because its system wants it to: who knows that a
// disk is raw should say so.
package diskfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"imgbuild/fault"
	"imgbuild/formats/input"
)

// Options are the optional arguments of Open.
type Options struct {
	// Format is the name of the format, see [Formats], or "" to find it out.
	Format string
	// Temp returns a new empty file, which is used for the disk where the file
	// cannot be read at random, as it is compressed. Whoever gave it removes it. A
	// nil Temp refuses such files.
	Temp func() (*os.File, error)
	// Verify compares the disk of an appliance and of a container image with the
	// digests that come with it, which takes reading the file once more.
	Verify bool
	// Progress is called with the number of bytes of the file that were unpacked
	// so far, and all of them. It may be nil.
	Progress func(done, total int64)
}

// File is a disk in an open file. Its content can be read until it is closed.
type File struct {
	*input.Disk
	// Format is the name of the format, with those of what is around it: "qcow2",
	// "raw in tar in gzip".
	Format string

	closers []io.Closer
}

// Close closes the files.
func (f *File) Close() error {
	var errs []error
	for _, c := range slices.Backward(f.closers) {
		errs = append(errs, c.Close())
	}
	f.closers = nil
	return errors.Join(errs...)
}

// Open opens the disk at path. The caller closes it.
//
// Errors are of the class NotFound where there is no such file or it cannot be
// read, Usage for an unknown format, BadImage where the file is damaged or of
// another format, Unsupported where there is no reader for it.
func Open(ctx context.Context, path string, opt Options) (_ *File, err error) {
	if opt.Format != "" && !slices.Contains(Formats(), opt.Format) {
		return nil, fault.New(fault.Usage, fmt.Errorf("format %q: unknown", opt.Format), "the formats are "+strings.Join(Formats(), ", "))
	}
	o := &opener{ctx: ctx, opt: opt, disk: &File{}}
	defer func() {
		if err != nil {
			o.disk.Close()
			err = fmt.Errorf("%s: %w", path, err)
		}
	}()
	// Opening a pipe would wait for somebody to write to it.
	info, err := os.Stat(path)
	if err == nil {
		err = checkMode(info.Mode())
	}
	if err != nil {
		return nil, notFound(err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, notFound(err)
	}
	o.disk.closers = append(o.disk.closers, f)
	if info.IsDir() {
		err = o.openLayout(path)
	} else {
		err = o.openFile(f, filepath.Dir(path))
	}
	if err != nil {
		return nil, fault.Default(fault.BadImage, err)
	}
	return o.disk, nil
}

// checkMode refuses what has no bytes at offsets.
func checkMode(m fs.FileMode) error {
	switch {
	case m.IsRegular(), m.IsDir(), m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0:
		return nil
	case m&fs.ModeNamedPipe != 0:
		return fault.New(fault.NotFound, errors.New("a pipe, and disks are not read front to back"), "write it to a file first")
	}
	return fault.New(fault.NotFound, errors.New("no regular file or block device"), "")
}

// notFound classes an error of opening a file, and leaves out its path.
func notFound(err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return fault.Default(fault.NotFound, err)
}

// maxDepth is how many wrappings there may be: an archive in an archive,
// compressed, with a disk in it.
const maxDepth = 4

// opener is a disk that is being opened.
type opener struct {
	ctx   context.Context
	opt   Options
	disk  *File
	depth int
	names []string // of what was found, outermost first
}

// openFile opens a file of the host. It may name others in the directory beside;
// "" forbids that.
func (o *opener) openFile(f *os.File, beside string) error {
	// A device has no size, but an end.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fault.New(fault.NotFound, err, "")
	}
	return o.open(&part{File: input.NewFile(f, size), host: f, beside: beside})
}

// part is a file, or a part of one, with a disk in it.
type part struct {
	*input.File
	host   *os.File // the file that it is the whole of, or nil
	beside string   // the directory of the file, or ""
	head   []byte
}

// open finds the disk in p.
func (o *opener) open(p *part) error {
	if o.depth++; o.depth > maxDepth {
		return input.Bad("archives within archives: %s", strings.Join(o.names, ", "))
	}
	n := min(p.Size(), sizeProbe)
	var err error
	if p.head, err = p.Read(0, n); err != nil {
		return err
	}
	format, err := o.detect(p)
	if err != nil {
		return err
	}
	for _, k := range known() {
		if k.name == format {
			if !k.wrapper {
				o.name(k.name)
			}
			err := k.open(o, p)
			if err == input.ErrFormat {
				err = fault.New(fault.BadImage, fmt.Errorf("%w: no %s file", err, k.name), "leave out --from, and the format is found out")
			}
			return err
		}
	}
	return fmt.Errorf("no reader of %s", format)
}

// name notes what was found, and around it what was found before.
func (o *opener) name(name string) {
	o.names = append(o.names, name)
	list := slices.Clone(o.names)
	slices.Reverse(list)
	o.disk.Format = strings.Join(list, " in ")
}

// detect returns the name of the format.
func (o *opener) detect(p *part) (string, error) {
	forced := o.opt.Format
	for _, k := range known() {
		if k.wrapper || forced == "" {
			if forced != "raw" && k.name != "raw" && k.probe(p) {
				return k.name, nil
			}
		}
	}
	if forced != "" {
		return forced, nil
	}
	if name := foreign(p.head); name != "" {
		return "", input.Unsupported("convert it with qemu-img convert -O qcow2, or say --from raw if it is a raw disk", "the format is %s, which imgbuild does not read", name)
	}
	return "raw", nil
}

// sizeProbe is how much of a file its format is found out from, in bytes.
const sizeProbe = 64 << 10

// foreign returns the name of a format that QEMU knows and that is not read here,
// or "".
func foreign(head []byte) string {
	for magic, name := range map[string]string{
		"QFI\xfb\x00\x00\x00\x01": "qcow version 1", "QED\x00": "qed", "BZh": "bzip2", "WithoutFreeSpace": "parallels",
		"WithouFreSpacExt": "parallels", "PK\x03\x04": "zip", "7z\xbc\xaf\x27\x1c": "7z", "<CLOOP": "cloop",
	} {
		if strings.HasPrefix(string(head), magic) {
			return name
		}
	}
	return ""
}
