package pipeline

import (
	"imgbuild/bootloader"
	"imgbuild/layouts"
)

// resolveLayout chooses the layout of the disk: which partitions there are, and
// what is in them.
func resolveLayout(sys *system, caps *bootloader.Capabilities, o *Options, p Progress) (*layouts.Layout, error) {
	rootFS := o.RootFS
	switch {
	case rootFS != "":
	case sys.facts.Install.RootFSType != "":
		rootFS = sys.facts.Install.RootFSType
	default:
		rootFS = defaultRootFS
		p.Note("the image names no root file system; it gets " + defaultRootFS)
	}
	return layouts.Default(o.Arch, layouts.Firmware{UEFI: caps.UEFI, BIOS: caps.BIOS, PReP: caps.PReP}, rootFS), nil
}

// coreLBA returns the sector that GRUB's core image for BIOS begins at, 0 without
// one, as far as it is known before the sizes of partitions are.
func (d *disks) coreLBA() int64 {
	if d.part(layouts.RoleBIOS) == nil {
		return 0
	}
	return mib / 512
}
