package pipeline

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strings"

	"imgbuild/layouts"
	"imgbuild/ostree"
)

// Plan says what a build makes. Its JSON form is what `imgbuild plan` prints
// and what is left beside the artefacts as manifest-TYPES.json.
type Plan struct {
	Tool  string    `json:"tool"`
	Image PlanImage `json:"image"`
	// Payload is what the medium installs, where Image is an installer.
	Payload   *PlanImage `json:"payload,omitempty"`
	Target    string     `json:"target"` // container-image-reference of the origin
	Stateroot string     `json:"stateroot"`
	Commit    string     `json:"commit"` // checksum of the deployed ostree commit
	Refs      []string   `json:"refs"`
	Kernel    string     `json:"kernel"`
	Kargs     []string   `json:"kargs"` // without ostree=
	Composefs string     `json:"composefs"`
	// ComposefsDigest is the fs-verity digest of the composefs image, where the
	// disk has fs-verity.
	ComposefsDigest string      `json:"composefs_digest,omitempty"`
	SELinux         string      `json:"selinux,omitempty"` // policy type the disk is labelled by
	Bootloaders     []string    `json:"bootloaders"`
	Config          *PlanConfig `json:"config,omitempty"`
	Disk            PlanDisk    `json:"disk"`
	Artefacts       []string    `json:"artefacts"` // paths below the output directory
	Warnings        []string    `json:"warnings,omitempty"`
}

// PlanConfig is what config files ask for.
type PlanConfig struct {
	Name     string   `json:"name,omitempty"`
	Version  string   `json:"version,omitempty"`
	Files    []string `json:"files"`
	Applied  []string `json:"applied"`           // the customizations, by their keys
	Ignored  []string `json:"ignored,omitempty"` // what is not applied, on demand
	Warnings []string `json:"warnings,omitempty"`
}

// PlanImage is the image a disk is made of.
type PlanImage struct {
	Reference string      `json:"reference"`
	Digest    string      `json:"digest"`
	Arch      string      `json:"architecture"`
	Version   string      `json:"version,omitempty"`
	OS        string      `json:"os,omitempty"`
	Layers    []PlanLayer `json:"layers"`
}

// PlanLayer is a layer of the image; sizes are in bytes.
type PlanLayer struct {
	Digest       string `json:"digest"`
	DiffID       string `json:"diff_id"`
	Size         int64  `json:"size"`
	Uncompressed int64  `json:"uncompressed"`
}

// PlanDisk is the disk; sizes and offsets are in bytes.
type PlanDisk struct {
	Table      string          `json:"table"`
	ID         string          `json:"id"`
	Size       int64           `json:"size"`
	SectorSize int             `json:"sector_size"`
	Mounts     string          `json:"mounts,omitempty"` // units, fstab or none; "" is what bootc leaves
	Partitions []PlanPartition `json:"partitions"`
}

// PlanPartition is a partition of the disk.
type PlanPartition struct {
	Number     int    `json:"number"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	ID         string `json:"id"`
	Start      int64  `json:"start"`
	Size       int64  `json:"size"`
	FileSystem string `json:"file_system,omitempty"`
	Label      string `json:"label,omitempty"`
	UUID       string `json:"uuid,omitempty"`
	Mount      string `json:"mount,omitempty"`
	Needed     int64  `json:"needed,omitempty"` // the least that holds the content, of root

	// Of layouts that say more than imgbuild's own.
	Bootable   bool            `json:"bootable,omitempty"`
	Attributes []int           `json:"attributes,omitempty"` // numbers of the bits
	Source     string          `json:"source,omitempty"`     // file of the image
	Options    string          `json:"mount_options,omitempty"`
	Subvolumes []PlanSubvolume `json:"subvolumes,omitempty"`
}

// PlanSubvolume is a subvolume of a btrfs.
type PlanSubvolume struct {
	Name    string `json:"name"`
	Mount   string `json:"mount,omitempty"`
	Options string `json:"mount_options,omitempty"`
}

// describe returns the plan of a build.
func describe(s *source, sys *system, d *disks, l *layout, o *Options) *Plan {
	p := &Plan{
		Tool: "imgbuild " + Version(),
		Image: PlanImage{
			Reference: o.Image.String(), Digest: s.image.ManifestDigest, Arch: o.Arch,
			Version: s.image.Labels["org.opencontainers.image.version"], OS: title(sys.facts),
		},
		Target: d.origin, Stateroot: d.stateroot, Commit: ostree.Hex(d.commit), Refs: d.refs,
		Kernel: sys.facts.Kernel.Version, Kargs: d.kargs, Composefs: string(sys.facts.Composefs), ComposefsDigest: d.composefsDigest,
		Bootloaders: []string{},
		Disk:        PlanDisk{Table: string(d.layout.Table), ID: d.tableID(), Size: l.size, SectorSize: int(d.layout.SectorSize), Mounts: string(d.layout.Mounts)},
	}
	for i, layer := range s.layers {
		p.Image.Layers = append(p.Image.Layers, PlanLayer{layer.Digest, layer.DiffID, s.image.Layers[i].Size, layer.Size})
	}
	if c := o.Config; c != nil {
		p.Config = &PlanConfig{Name: c.Blueprint.Name, Version: c.Blueprint.Version, Files: c.Files, Applied: c.Asked(), Ignored: c.Ignored}
		p.Config.Warnings = append(append(p.Config.Warnings, c.Warnings...), d.custom.warnings...)
	}
	if sys.labels != nil {
		p.SELinux = sys.facts.SELinuxType
	}
	if d.boot != nil {
		p.Bootloaders = bootNames(d.caps)
		p.Warnings = append(p.Warnings, d.boot.Warnings...)
	}
	for i := range l.parts {
		p.Disk.Partitions = append(p.Disk.Partitions, l.describe(i))
	}
	p.Artefacts = []string{}
	for _, t := range o.Types {
		if o.NoOutput {
			break
		}
		p.Artefacts = append(p.Artefacts, o.path(t))
	}
	return p
}

// describe returns the plan of the partition numbered i, from 0.
func (l *layout) describe(i int) PlanPartition {
	q := &l.parts[i]
	out := PlanPartition{
		Number: i + 1, Name: q.Name, Type: q.Type, ID: q.id.String(), Start: l.places[i].Start, Size: l.places[i].Size,
	}
	if l.disks.layout.Table == layouts.DOS {
		out.ID = fmt.Sprintf("%s-%02d", l.tableID(), i+1) // as PARTUUID has it
	}
	own := l.disks.layout.Mounts == layouts.MountsBootc
	if !own {
		out.Bootable, out.Source = q.Bootable, q.Source
		for bit := range 64 {
			if q.Attributes>>bit&1 != 0 {
				out.Attributes = append(out.Attributes, bit)
			}
		}
	}
	if q.FS == nil {
		return out
	}
	out.FileSystem, out.Label, out.UUID, out.Mount = q.FS.Type, q.FS.Label, q.uuid, q.FS.Mount
	if q.FS.Type == layouts.VFAT {
		out.Label = strings.ToUpper(out.Label) // as it is on the disk
	}
	if !own {
		out.Options = q.FS.Options
	}
	for _, s := range q.FS.Subvolumes {
		out.Subvolumes = append(out.Subvolumes, PlanSubvolume{Name: s.Name, Mount: s.Mount, Options: s.Options()})
	}
	if q.Role() == layouts.RoleRoot {
		out.Needed = q.need
	}
	return out
}

// tableID returns the identifier of the disk as blkid shows it.
func (d *disks) tableID() string {
	if d.layout.Table == layouts.DOS {
		return fmt.Sprintf("%08x", d.signature())
	}
	return d.diskID.String()
}

// manifestPath returns the name bootc-image-builder gives the record of a build.
func manifestPath(o *Options) string {
	var names []string
	for _, t := range o.Types {
		names = append(names, string(t))
	}
	return filepath.Join(o.Output, "manifest-"+strings.Join(names, "-")+".json")
}

// Version returns the version of the module, or of the commit it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

// MakePlan does all of a build but writing: it says what Build would make.
func MakePlan(ctx context.Context, o Options, p Progress) (*Plan, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	stages := prepare
	if o.hasAnaconda() {
		stages = func(ctx context.Context, o *Options, p Progress) (*build, error) {
			return prepareAnaconda(ctx, o, false, p)
		}
	}
	b, err := stages(ctx, &o, p)
	if err != nil {
		return nil, err
	}
	defer b.source.close()
	return b.plan, nil
}
