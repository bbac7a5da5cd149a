package pipeline

import (
	"context"
	"encoding/json"
	"strings"

	"imgbuild/bootc"
	"imgbuild/bootloader"
	"imgbuild/fault"
	"imgbuild/oci"
	"imgbuild/ostree"
)

// Inspection is what imgbuild finds out about an image. What only the layers
// tell is in Deep, which is nil when they were not read.
type Inspection struct {
	Reference string            `json:"reference"`
	Digest    string            `json:"digest"`
	Arch      string            `json:"architecture"`
	Signed    []string          `json:"signed,omitempty"` // by whom, as far as that was checked
	Kind      string            `json:"kind"`             // "base", "base and layers" or "layers"
	Version   string            `json:"version"`          // "" where the image does not say
	Created   int64             `json:"created"`          // seconds since 1970, 0 where it does not say
	Labels    map[string]string `json:"labels"`
	Layers    []InspectLayer    `json:"layers"`
	Deep      *InspectDeep      `json:"deep,omitempty"`
	// Refused are the reasons why a build would be refused, as far as they are
	// known without or with the layers.
	Refused []Refusal `json:"refused"`
}

// InspectLayer is a layer; sizes are in bytes.
type InspectLayer struct {
	Digest string `json:"digest"`
	DiffID string `json:"diff_id"`
	Size   int64  `json:"size"`
	Base   bool   `json:"base"` // part of an encapsulated ostree commit
	// CreatedBy is what the config's history says of it.
	CreatedBy    string `json:"created_by,omitempty"`
	Uncompressed int64  `json:"uncompressed,omitempty"`
}

// InspectDeep is what the layers tell.
type InspectDeep struct {
	OS          string           `json:"os"`
	Kernel      string           `json:"kernel"`
	Kargs       []string         `json:"kargs"`     // of kargs.d
	Install     InspectInstall   `json:"install"`   // of the install config
	Composefs   string           `json:"composefs"` // no, maybe, yes, verity, signed
	SELinux     string           `json:"selinux"`   // type of the policy, "" without
	Enforcing   bool             `json:"enforcing"` // as the policy's config has it
	BoundImages []string         `json:"bound_images"`
	Bootloaders InspectBootloads `json:"bootloaders"`
	Warnings    []string         `json:"warnings"`
}

// InspectInstall is the install config, as far as it was set.
type InspectInstall struct {
	RootFS      string   `json:"root_fs,omitempty"`
	Kargs       []string `json:"kargs,omitempty"`
	KargDeletes []string `json:"karg_deletes,omitempty"`
	Stateroot   string   `json:"stateroot,omitempty"`
	Bootloader  string   `json:"bootloader,omitempty"`
	Block       []string `json:"block,omitempty"`
}

// InspectBootloads says what the image boots by.
type InspectBootloads struct {
	Kinds       []string `json:"kinds"` // uefi, bios, prep
	Vendor      string   `json:"vendor,omitempty"`
	EFIVersion  string   `json:"efi_version,omitempty"`
	BIOSVersion string   `json:"bios_version,omitempty"`
	Shim        bool     `json:"shim"`
}

// Refusal is a reason to refuse an image.
type Refusal struct {
	Code   int    `json:"exit_code"`
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"`
}

// Inspect reads the manifest and config of an image and, when deep, its layers.
// An image that a build would refuse is no error: Refused says why.
func Inspect(ctx context.Context, o Options, deep bool, p Progress) (*Inspection, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	s, unpack, err := open(ctx, &o, p)
	if err != nil {
		return nil, err
	}
	defer s.close()
	in := inspectManifest(s)
	if err := bootc.CheckLabels(s.image.Labels); err != nil {
		in.refuse(err)
	}
	if !deep {
		return in, nil
	}
	if err := s.unpack(ctx, unpack, p); err != nil {
		return nil, err
	}
	for i, l := range s.layers {
		in.Layers[i].Uncompressed = l.Size
	}
	sys, err := flatten(ctx, s, &o, p)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		in.refuse(fault.Default(fault.BadImage, nameSealed(err, o.Config)))
		return in, nil
	}
	for _, err := range sys.refusals(&o) {
		in.refuse(err)
	}
	if err := sys.readConfig(&o, p); err != nil {
		in.refuse(err)
	}
	in.Deep = inspectSystem(sys, &o)
	return in, nil
}

func (in *Inspection) refuse(err error) {
	in.Refused = append(in.Refused, Refusal{int(fault.ClassOf(err)), err.Error(), fault.HintOf(err)})
}

// inspectManifest tells what the manifest and the config tell.
func inspectManifest(s *source) *Inspection {
	in := &Inspection{
		Reference: s.image.Reference.String(), Digest: s.image.ManifestDigest, Arch: s.image.Arch, Signed: s.image.Signed,
		Version: imageVersion(s.image), Labels: s.image.Labels, Refused: []Refusal{},
	}
	in.Created, _ = ostree.Created(s.image.Manifest, s.image.Config)
	history := layerHistory(s.image.Config)
	for i, l := range s.image.Layers {
		out := InspectLayer{Digest: l.Digest, DiffID: l.DiffID, Size: l.Size, Base: i < s.base}
		if len(history) == len(s.image.Layers) {
			out.CreatedBy = history[i]
		}
		in.Layers = append(in.Layers, out)
	}
	switch {
	case s.base == 0:
		in.Kind = "layers"
	case s.base == len(s.image.Layers):
		in.Kind = "base"
	default:
		in.Kind = "base and layers"
	}
	return in
}

// imageVersion returns the version by the labels that bootc looks at.
func imageVersion(image *oci.Image) string {
	for _, key := range []string{"org.opencontainers.image.version", "version"} {
		if v := image.Labels[key]; v != "" {
			return v
		}
	}
	return ""
}

// layerHistory returns created_by of the history entries that have a layer.
func layerHistory(config []byte) []string {
	var c struct {
		History []struct {
			CreatedBy string `json:"created_by"`
			Empty     bool   `json:"empty_layer"`
		} `json:"history"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil
	}
	var list []string
	for _, h := range c.History {
		if !h.Empty {
			list = append(list, strings.Join(strings.Fields(h.CreatedBy), " "))
		}
	}
	return list
}

// inspectSystem tells what the layers tell.
func inspectSystem(sys *system, o *Options) *InspectDeep {
	f := sys.facts
	d := &InspectDeep{
		OS: title(f), Kernel: f.Kernel.Version, Kargs: f.Kargs, Composefs: string(f.Composefs),
		SELinux: f.SELinuxType, Enforcing: f.SELinuxEnforcing, BoundImages: f.BoundImages, Warnings: f.Warnings,
		Install: InspectInstall{
			RootFS: f.Install.RootFSType, Kargs: f.Install.Kargs, KargDeletes: f.Install.KargDeletes,
			Stateroot: f.Install.Stateroot, Bootloader: f.Install.Bootloader, Block: f.Install.Block,
		},
		Bootloaders: InspectBootloads{Kinds: []string{}},
	}
	if caps, err := bootloader.Detect(sys.merged, o.Arch); err == nil {
		d.Bootloaders = InspectBootloads{
			Kinds: bootNames(caps), Vendor: caps.Vendor, EFIVersion: caps.EFIVersion, BIOSVersion: caps.BIOSVersion, Shim: caps.Shim,
		}
		d.Warnings = append(d.Warnings, caps.Warnings...)
	}
	// In JSON a list is a list even when there is nothing in it.
	for _, list := range []*[]string{&d.Kargs, &d.BoundImages, &d.Warnings} {
		if *list == nil {
			*list = []string{}
		}
	}
	return d
}
