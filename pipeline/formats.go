package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/formats/compressed"
	"imgbuild/formats/ova"
	"imgbuild/formats/qcow2"
	"imgbuild/formats/vhd"
	"imgbuild/oci"
)

// Formats say how files are written. The zero value of a field is its default.
type Formats struct {
	QCOW2    qcow2.Options // also of the disk in a container
	VHD      vhd.Subformat
	Compress *Compress // of raw disks; nil is none
	// OVA is the machine of an appliance. Its identifiers, time and progress are
	// set here.
	OVA ova.Options
	// ContainerLayout makes container disks layout directories instead of archives.
	ContainerLayout bool
	// Push is where in a registry a container disk goes, too; nil is nowhere.
	Push *oci.Reference
}

// Compress is how raw disks are compressed.
type Compress struct {
	Compression compressed.Compression
	Level       int // 0 is the default of the compression
}

// validate checks the options of the types.
func (f *Formats) validate(types []Type) error {
	if err := f.OVA.Check(); err != nil {
		return err
	}
	if f.Push == nil {
		return nil
	}
	if !slices.Contains(types, ContainerDisk) {
		return usage(errors.New("push: only a container disk can be pushed"), "add --type containerdisk")
	}
	if err := oci.CheckPush(*f.Push); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	return nil
}

// path returns where the artefact of a type goes below the output directory, with
// the extension of its compression.
func (f *Formats) path(t Type) string {
	switch {
	case f.Compress != nil && (t == Raw || t == AMI):
		return t.path() + f.Compress.Compression.Extension()
	case f.ContainerLayout && t == ContainerDisk:
		return strings.TrimSuffix(t.path(), ".tar")
	}
	return t.path()
}
