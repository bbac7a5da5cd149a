// Package pipeline runs the stages of a build in order: pull, unpack, flatten,
// deploy, lay out, emit. It is the only package that knows all others; each
// stage is a function of the model the stage before it left.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/blockdev"
	"imgbuild/blueprints"
	"imgbuild/bootc"
	"imgbuild/fault"
	"imgbuild/oci"
)

// Options say what to build. The zero value of a field is its default.
type Options struct {
	Image    oci.Reference
	Arch     string     // GOARCH name; "" is that of the host
	HostArch string     // GOARCH name of the host
	Types    []Type     // without one: qcow2
	Output   string     // directory of the artefacts; "" is the current one
	Chown    *Owner     // who owns what is written
	Cache    string     // directory of the cache; "" with NoCache
	NoCache  bool       // keep nothing after the build
	Limits   oci.Limits // of what an image may cost
	TempDir  string     // where a build without a cache keeps layers
	Insecure bool       // --tls-verify=false
	AuthFile string     // credentials; "" looks where Docker and Podman do, by Getenv and Home
	Getenv   func(string) string
	Home     string
	Target   string // what the installed system follows; "" is Image
	// CalledAs is what Image is called on the disk and where a system without a Target
	// looks for updates: where the image was before it came to where Image is.
	CalledAs   *oci.Reference
	Media      Media
	Stateroot  string   // "" is that of the image's install config, else default
	RootFS     string   // "" is that of the image's install config, else ext4
	Kargs      []string // --karg
	KargDelete []string // --karg-delete
	NoDefaults bool     // --no-default-kernel-args
	SELinuxOff bool     // --disable-selinux
	SigPolicy  bool     // --enforce-container-sigpolicy
	SkipBound  bool     // --skip-bound-images
	Sizes      Sizes
	Layout     *LayoutFile // --layout, nil without
	// Config is that of the config files, nil without one. A build may change it.
	Config *blueprints.Config
	Seed   string // "" derives all identifiers from the input
	// Upload is where the disk of type ami goes, too; nil is nowhere.
	Upload   Uploader
	NoOutput bool // write no file, upload only
	// Pin is the digest that the image must have, "" for any: whatever the tag says
	// by now, a registry is asked for that.
	// PinRoot is that of the index that leads to it, "" where there is none.
	Pin, PinRoot string
	PinPayload   string // the same of another image that is on a medium
	Records      Records
	Formats
	Reach

	device *blockdev.Disk // that is installed to, nil for files
	// unpackAt, which may be nil, is asked for a directory in place of TempDir once
	// the image is known.
	unpackAt func(ctx context.Context, image *oci.Image, p Progress) (dir string, err error)

	// diskless says that the root file system is no disk's: nothing of a layout is
	// mounted in it.
	diskless bool
}

// Sizes are the sizes asked for, in bytes; 0 is the default.
type Sizes struct {
	Disk    int64 // the whole disk
	Minimal bool  // the smallest disk that holds the content
	Root    int64 // the root partition
	Free    int64 // free space on the root file system
}

// Owner is a numeric owner.
type Owner struct{ UID, GID int }

// Type is a kind of artefact.
type Type string

// The types, as users name them.
const (
	QCOW2 Type = "qcow2"
	Raw   Type = "raw"
	AMI   Type = "ami" // a raw disk, to be uploaded
	VMDK  Type = "vmdk"
	VHD   Type = "vhd"
	VHDX  Type = "vhdx"
	VDI   Type = "vdi"
	GCE   Type = "gce"
	OVA   Type = "ova"
	// ContainerDisk is a container image for KubeVirt.
	ContainerDisk Type = "containerdisk"
	// ISO is an installation medium; AnacondaISO is the name that it has with
	// bootc-image-builder, whose media have Anaconda.
	ISO         Type = "iso"
	AnacondaISO Type = "anaconda-iso"
	// BootcInstaller is an installation medium with Anaconda, which is the image.
	BootcInstaller Type = "bootc-installer"
	// LiveISO starts the image itself; GenericISO is image-builder's name for it.
	LiveISO    Type = "live-iso"
	GenericISO Type = "bootc-generic-iso"
	// PXE is a directory that the installer starts from over a network; PXETar an
	// archive of what starts the image itself.
	PXE    Type = "pxe"
	PXETar Type = "pxe-tar-xz"
)

// types lists what can be built, and the path below the output directory that
// bootc-image-builder gives each, or would.
func types() []struct {
	Type Type
	Path string
} {
	return []struct {
		Type Type
		Path string
	}{
		{QCOW2, "qcow2/disk.qcow2"},
		{Raw, "image/disk.raw"},
		{AMI, "image/disk.raw"},
		{VMDK, "vmdk/disk.vmdk"},
		{VHD, "vpc/disk.vhd"},
		{VHDX, "vhdx/disk.vhdx"},
		{VDI, "vdi/disk.vdi"},
		{GCE, "gce/image.tar.gz"},
		{OVA, "archive/image.ova"},
		{ContainerDisk, "containerdisk/image.tar"},
		{ISO, "bootiso/install.iso"},
		{AnacondaISO, "bootiso/install.iso"},
		{LiveISO, "bootiso/install.iso"},
		{GenericISO, "bootiso/install.iso"},
		{BootcInstaller, "bootiso/install.iso"},
		{PXE, "pxe"},
		{PXETar, "xz/pxe.tar.xz"},
	}
}

// Types lists the names of the types.
func Types() []string {
	var names []string
	for _, t := range types() {
		names = append(names, string(t.Type))
	}
	return names
}

// DiskTypes lists the names of those that are disks, and no media.
func DiskTypes() []string {
	return slices.DeleteFunc(Types(), func(name string) bool { return Type(name).Medium() != "" })
}

// ParseType returns the type called name.
func ParseType(name string) (Type, error) {
	if !slices.Contains(Types(), name) {
		return "", fault.New(fault.Usage, fmt.Errorf("type %q: unknown", name), "the types are "+strings.Join(Types(), ", "))
	}
	return Type(name), nil
}

// path returns where the artefact goes without compression.
func (t Type) path() string {
	for _, known := range types() {
		if known.Type == t {
			return known.Path
		}
	}
	return string(t)
}

// validate checks the options against each other and fills in what needs no
// knowledge of the image.
func (o *Options) validate() error {
	if o.Arch == "" {
		o.Arch = o.HostArch
	}
	switch o.Output {
	case "":
		o.Output = "."
	case "-":
		// Some formats have their header written last.
		return usage(errors.New("--output -: results are files, and do not go to stdout"), "name a directory; one of this name is ./-")
	}
	if len(o.Types) == 0 {
		o.Types = []Type{QCOW2}
	}
	if err := o.validateUpload(); err != nil {
		return err
	}
	if err := o.validateRecords(); err != nil {
		return err
	}
	if err := o.validateAnaconda(); err != nil {
		return err
	}
	if err := distinct(o.Types); err != nil {
		return err
	}
	o.Types = unique(o.Types)
	if err := o.validateMedia(); err != nil {
		return err
	}
	if err := o.validateLive(); err != nil {
		return err
	}
	if err := o.Formats.validate(o.Types); err != nil {
		return err
	}
	switch s := o.Sizes; {
	case s.Minimal && s.Disk != 0:
		return usage(errors.New("size: both a number and min"), "")
	case s.Minimal && s.Root != 0:
		return usage(errors.New("size min and a root size: they contradict each other"), "give one of --size min and --root-size")
	case s.Root != 0 && s.Free != 0:
		return usage(errors.New("root size and free space: each gives the size of root"), "give one of --root-size and --free-space")
	}
	switch o.RootFS {
	case "":
	case "ext4", "xfs", "btrfs":
		if err := checkRootFS(o.RootFS, "--rootfs"); err != nil {
			return err
		}
	default:
		return usage(fmt.Errorf("root file system %q: unknown", o.RootFS), "the root file systems of bootc are ext4, xfs and btrfs")
	}
	c := o.partitioning()
	if err := c.validate(o); err != nil {
		return err
	}
	for _, k := range o.Kargs {
		if err := bootc.CheckKarg(k); err != nil {
			return usage(err, "")
		}
		if strings.HasPrefix(k, "ostree=") {
			return usage(fmt.Errorf("kernel argument %q: belongs to ostree", k), "drop it; imgbuild writes the one of the deployment")
		}
	}
	if s := o.Stateroot; s != "" && !validStateroot(s) {
		return usage(fmt.Errorf("stateroot %q: not a name of letters, digits, '-', '_' and '.'", s), "")
	}
	return nil
}

// unique returns the types in the order they were asked for, each file once.
func unique(list []Type) []Type {
	var once []Type
	for _, t := range list {
		if !slices.ContainsFunc(once, func(o Type) bool { return o.path() == t.path() }) {
			once = append(once, t)
		}
	}
	return once
}

// validStateroot tells whether a name can be a directory and stand in a path of
// the kernel command line.
func validStateroot(s string) bool {
	if len(s) > 64 || s[0] == '.' || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	})
}

func usage(err error, hint string) error { return fault.New(fault.Usage, err, hint) }

// called returns how the image is called on the disk.
func (o *Options) called() oci.Reference {
	if o.CalledAs != nil {
		return *o.CalledAs
	}
	return o.Image
}
