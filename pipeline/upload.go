package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/partition"
)

// Machine is a finished disk, and what machines it is for.
type Machine struct {
	Image *disk.Image
	Arch  string // as GOARCH
	UEFI  bool   // boots by UEFI
	BIOS  bool   // boots by BIOS
}

// Uploader takes disks to where they are to run.
type Uploader interface {
	// Check finds out, before there is a disk for the architecture, what would make
	// the upload fail after all the work.
	Check(ctx context.Context, arch string) error
	// Upload returns when the disk is there as a whole, or nothing of it.
	Upload(ctx context.Context, m Machine, p Progress) error
}

// uploadSector is the size of sectors of all volumes that clouds have.
const uploadSector = 512

// checkUpload checks the options of an upload against the others, and asks the
// cloud.
func (o *Options) checkUpload(ctx context.Context) error {
	if o.Upload == nil {
		return nil
	}
	return o.Upload.Check(ctx, o.Arch)
}

// validateUpload checks what needs no network.
func (o *Options) validateUpload() error {
	switch {
	case o.Upload != nil && !slices.Contains(o.Types, AMI):
		return usage(errors.New("upload: only type ami is uploaded"), "add --type ami")
	case o.NoOutput && o.Upload == nil:
		return usage(errors.New("--no-output without an upload: nothing would be left of the build"), "--aws-ami-name NAME uploads the disk")
	case !o.NoOutput:
		return nil
	}
	for _, t := range o.Types {
		if t != AMI {
			return usage(fmt.Errorf("--no-output: type %s is a file", t), "drop --no-output, or build the file in a run of its own")
		}
	}
	if o.Compress != nil {
		return usage(errors.New("--no-output and --compress: there is no file to compress"), "")
	}
	return nil
}

// upload uploads the disk, which is on disk as well unless that is not wanted.
func (b *build) upload(ctx context.Context, o *Options, r *Result, p Progress) error {
	if o.Upload == nil {
		return nil
	}
	m := Machine{Image: b.image, Arch: o.Arch, UEFI: slices.Contains(b.plan.Bootloaders, "uefi"), BIOS: slices.Contains(b.plan.Bootloaders, "bios")}
	err := checkSector(int64(b.plan.Disk.SectorSize))
	if err == nil {
		err = o.Upload.Upload(ctx, m, p)
	}
	if err == nil || len(r.Artefacts) == 0 {
		return err
	}
	kept := strings.Join(r.Artefacts, ", ") + " is complete, and stays"
	if len(r.Artefacts) > 1 {
		kept = strings.Join(r.Artefacts, ", ") + " are complete, and stay"
	}
	if hint := fault.HintOf(err); hint != "" {
		kept = hint + "; " + kept
	}
	return fault.New(fault.ClassOf(err), err, kept)
}

func checkSector(size int64) error {
	if size == uploadSector {
		return nil
	}
	return fault.New(fault.Unsupported, fmt.Errorf("upload: the disk has sectors of %d bytes, and volumes of clouds have %d", size, uploadSector),
		"leave sector_size out of the layout")
}

// UploadFile uploads a disk that exists. arch is that of the system on it, as
// GOARCH; "" is what its partition table says. A disk that has to be unpacked is
// unpacked below temp.
func UploadFile(ctx context.Context, from DiskFile, arch, temp string, to Uploader, p Progress) error {
	var unpacked artefact
	defer unpacked.discard()
	src, err := openDisk(ctx, from, &unpacked, &Options{Output: temp}, p)
	if err != nil {
		return err
	}
	defer src.Close()
	m := &Machine{Image: src.Image, Arch: arch}
	if err := m.read(p); err != nil {
		return fmt.Errorf("%s: %w", from.Path, err)
	}
	if err := to.Check(ctx, m.Arch); err != nil {
		return err
	}
	return to.Upload(ctx, *m, p)
}

// read finds out what a disk is for, and gives it whole GiB, as all volumes have.
func (m *Machine) read(p Progress) error {
	t, err := partition.Read(m.Image, m.Image.Size(), 0)
	tableErr := err
	if errors.Is(err, partition.ErrNoTable) {
		err = m.readMBR(err)
	} else if err == nil {
		if err := checkSector(int64(t.SectorSize)); err != nil {
			return err
		}
		err = m.readTable(t)
	}
	if err != nil {
		return err
	}
	if m.Arch == "" {
		return fault.New(fault.Usage, errors.New("the partition table does not tell the architecture"), "name it with --target-arch")
	}
	m.Image, err = padToGiB(m.Image, tableErr, "upload", "volumes have", p)
	return err
}

// readTable reads the types of the partitions: those of root have one for each
// architecture.
func (m *Machine) readTable(t *partition.Table) error {
	for _, q := range t.Partitions {
		switch q.Type {
		case partition.ESP:
			m.UEFI = true
		case partition.BIOSBoot:
			m.BIOS = true
		}
	}
	arch := tableArch(t)
	if m.Arch != "" && arch != "" && m.Arch != arch {
		return fault.New(fault.Usage, fmt.Errorf("the root partition is one of %s, not of %s", arch, m.Arch), "drop --target-arch")
	}
	if m.Arch == "" {
		m.Arch = arch
	}
	return nil
}

// Of the records of an MBR (UEFI specification, section 5.2.1).
const (
	mbrRecords, mbrRecordSize, mbrType = 446, 16, 4
	mbrProtective, mbrESP              = 0xEE, 0xEF
)

// readMBR reads the types of the partitions of a disk without a GPT. none says
// that there is none.
func (m *Machine) readMBR(none error) error {
	b := make([]byte, 512)
	if _, err := m.Image.ReadAt(b, 0); err != nil && err != io.EOF {
		return err
	}
	used := false
	for at := mbrRecords + mbrType; at < 510; at += mbrRecordSize {
		switch b[at] {
		case 0:
			continue
		case mbrESP:
			m.UEFI = true
		case mbrProtective:
			return none
		}
		used = true
	}
	if !used || b[510] != 0x55 || b[511] != 0xAA {
		return fault.New(fault.BadImage, fmt.Errorf("no disk that boots: %w", none), "")
	}
	m.BIOS = true
	return nil
}
