package pipeline

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"imgbuild/blueprints"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/diskfile"
	"imgbuild/formats/gce"
	"imgbuild/partition"
)

// DiskFile names a disk that exists.
type DiskFile struct {
	Path   string
	Format string // "" finds it out
}

// Convert writes the disk in a file in other formats. Of the options those count
// that say where and how files are written; Image does not. As in a build, the
// files get their final names together, complete and durable.
func Convert(ctx context.Context, from DiskFile, o Options, p Progress) (*Result, error) {
	if len(o.Types) == 0 {
		return nil, usage(errors.New("no type given"), "say what to make of the disk, as in --type qcow2")
	}
	for _, t := range o.Types {
		if t.Medium() != "" {
			return nil, usage(fmt.Errorf("type %s: is made of an image, and not of a disk", t), "disks are "+strings.Join(DiskTypes(), ", "))
		}
	}
	arch := o.Arch
	if err := o.validate(); err != nil {
		return nil, err
	}
	// Where a disk has to be unpacked: beside the results, there is room for it.
	var unpacked artefact
	defer unpacked.discard()
	src, err := openDisk(ctx, from, &unpacked, &o, p)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	files, err := createFiles(o.Output, o.Types, &o.Formats)
	if err != nil {
		return nil, err
	}
	defer files.discard()
	if err := o.checkPush(ctx); err != nil {
		return nil, err
	}
	e := &emission{
		image: src.Image, time: time.Unix(0, 0).UTC(), arch: o.Arch,
		output: o.Output, types: o.Types, formats: &o.Formats,
	}
	table, tableErr := partition.Read(src.Image, src.Image.Size(), 0)
	if e.id, err = diskIdentity(src.Image, table, o.Seed); err != nil {
		return nil, fmt.Errorf("%s: %w", from.Path, err)
	}
	if a := tableArch(table); a != "" && arch == "" {
		e.arch = a
	}
	if err := e.padForCloud(tableErr, p); err != nil {
		return nil, err
	}
	if err := e.write(ctx, files, p); err != nil {
		if c := fault.ClassOf(err); c == fault.BadImage || c == fault.NotFound {
			err = fmt.Errorf("%s: %w", from.Path, err)
		}
		return nil, err
	}
	r := &Result{Types: o.Types}
	if r.Artefacts, err = files.commit(ctx, o.Chown); err != nil {
		return nil, err
	}
	r.Pushed, err = e.push(ctx, &o, p)
	return r, err
}

// openDisk opens the disk. Where it has to be unpacked, that goes to a new file in
// the output directory, unpacked.
func openDisk(ctx context.Context, from DiskFile, unpacked *artefact, o *Options, p Progress) (*diskfile.File, error) {
	for _, t := range o.Types {
		if path := filepath.Join(o.Output, o.Formats.path(t)); sameFile(from.Path, path) {
			return nil, usage(fmt.Errorf("%s: is the disk itself", path), "choose another directory with --output")
		}
	}
	d, err := openUnpacked(ctx, from, true, func() (*os.File, error) {
		a, err := createArtefact(filepath.Join(o.Output, "unpacked"))
		if err != nil {
			return nil, err
		}
		*unpacked = *a
		return a.file, nil
	}, p)
	if err != nil {
		return nil, err
	}
	if d.Size() == 0 {
		d.Close()
		return nil, fault.New(fault.BadImage, fmt.Errorf("%s: a disk of no bytes", from.Path), "")
	}
	text := fmt.Sprintf("%s: %s, %s", from.Path, d.Format, blueprints.FormatSize(d.Size()))
	if d.Details != "" {
		text += ", " + d.Details
	}
	p.Note(text)
	for _, note := range d.Notes {
		p.Warn(from.Path + ": " + note)
	}
	return d, nil
}

// openUnpacked opens a disk. Where it has to be unpacked, that goes to the file that
// temp returns, which whoever calls it removes. With verify, all of it is compared
// with the digests that an archive names.
func openUnpacked(ctx context.Context, from DiskFile, verify bool, temp func() (*os.File, error), p Progress) (*diskfile.File, error) {
	last, used := int64(0), false
	return diskfile.Open(ctx, from.Path, diskfile.Options{
		Format: from.Format,
		Verify: verify,
		Temp: func() (*os.File, error) {
			if used {
				return nil, fault.New(fault.Unsupported, errors.New("compressed twice"), "unpack it first")
			}
			used = true
			return temp()
		},
		Progress: func(done, total int64) {
			if last == 0 {
				p.Stage("unpack "+filepath.Base(from.Path), total)
			}
			p.Advance(done - last)
			last = done
		},
	})
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// tableArch returns the architecture that a table says its root is for, or "".
func tableArch(t *partition.Table) string {
	if t == nil {
		return ""
	}
	for _, arch := range []string{"amd64", "arm64", "ppc64le", "s390x", "riscv64"} {
		root, _ := partition.RootType(arch)
		for _, p := range t.Partitions {
			if p.Type == root {
				return arch
			}
		}
	}
	return ""
}

// Parts of a disk that its identity is taken from, in bytes.
const (
	identityEnds = 1 << 20  // at either end of it
	identityHead = 64 << 10 // of each partition: file systems note their use there
)

// diskIdentity returns the identity of a disk that was not built here. It derives
// from what tells disks and states of a disk apart: tables, and the beginning of
// every file system.
func diskIdentity(img *disk.Image, t *partition.Table, seed string) (identity, error) {
	if seed != "" {
		return newIdentity(seed, identityInput{})
	}
	h := sha256.New()
	h.Write([]byte("imgbuild disk\x00"))
	add := func(off, n int64) error {
		n = min(n, img.Size()-off)
		fmt.Fprintf(h, "%d bytes at %d of %d\x00", n, off, img.Size())
		_, err := io.Copy(h, io.NewSectionReader(img, off, n))
		return err
	}
	if err := add(0, identityEnds); err != nil {
		return identity{}, err
	}
	if err := add(max(img.Size()-identityEnds, 0), identityEnds); err != nil {
		return identity{}, err
	}
	if t != nil {
		for _, p := range t.Partitions {
			if err := add(p.Start, min(p.Size, identityHead)); err != nil {
				return identity{}, err
			}
		}
	}
	return identity{[32]byte(h.Sum(nil))}, nil
}

// padForCloud gives a disk for a cloud that wants it whole GiB, and its table, which
// was read with the error, the new end. All types get the same disk.
func (e *emission) padForCloud(tableErr error, p Progress) (err error) {
	switch {
	case slices.Contains(e.types, GCE):
		e.image, err = padToGiB(e.image, tableErr, "gce", "Compute Engine wants", p)
	case slices.Contains(e.types, AMI):
		e.image, err = padToGiB(e.image, tableErr, "ami", "volumes of EC2 have", p)
	}
	return err
}

// padToGiB returns the disk with whole GiB, and says so where it has others. The
// error is that of reading its table.
func padToGiB(img *disk.Image, tableErr error, what, who string, p Progress) (*disk.Image, error) {
	size := img.Size()
	whole := gce.Size(size)
	if whole == size {
		return img, nil
	}
	text := fmt.Sprintf("%s: the disk of %d bytes is made %d GiB, as %s whole GiB", what, size, whole>>30, who)
	var parts []disk.Part
	switch {
	case tableErr == nil:
		var err error
		if parts, err = partition.Move(img, size, whole); err != nil {
			return nil, err
		}
		text += "; the backup of its partition table moves to the new end"
	case !errors.Is(tableErr, partition.ErrNoTable):
		text += fmt.Sprintf("; its partition table is left as it is: %v", tableErr)
	}
	p.Warn(text)
	return disk.Overlay(img, whole, parts)
}
