package pipeline

import (
	"fmt"

	"imgbuild/bootc"
	"imgbuild/bootloader"
	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/layouts"
	"imgbuild/tree"
)

// detectBootloader tells what the image boots by. The result is empty, and
// no boot loader is installed, when the image's install config wants none.
func detectBootloader(sys *system, o *Options) (caps *bootloader.Capabilities, install bool, err error) {
	switch choice := sys.facts.Install.Bootloader; choice {
	case "", "grub":
		caps, err = bootloader.Detect(sys.merged, o.Arch)
		return caps, true, err
	case "none":
		return &bootloader.Capabilities{}, false, nil
	default:
		return nil, false, fault.New(fault.Unsupported,
			fmt.Errorf("boot loader %s (the image's install config): imgbuild installs GRUB with bootupd's files only so far", choice),
			`"grub" or "none" as bootloader in the image's install config works`)
	}
}

// installBootloader makes the boot loader's files, for GRUB's core image at the
// sector lba, or 0 for none.
func (d *disks) installBootloader(sys *system, o *Options, lba int64) (*bootloader.Result, error) {
	boot := d.bootPart()
	r := &bootloader.Request{
		OS: sys.merged, Arch: o.Arch, BootUUID: boot.uuid,
		SkipBootUUID: sys.facts.Install.SkipBootUUID,
		BootFS:       boot.FS.Type, BootPartition: d.number(boot.Role()), SeparateBoot: boot.Role() == layouts.RoleBoot,
		NoESP: d.part(layouts.RoleESP) == nil, PReP: d.part(layouts.RolePReP) != nil, DOS: d.layout.Table == layouts.DOS, Time: d.time,
	}
	if lba > 0 {
		r.BIOSBoot, r.BIOSBootLBA = true, lba
	}
	result, err := bootloader.Install(r)
	if err != nil {
		return nil, fmt.Errorf("boot loader: %w", err)
	}
	return result, nil
}

// writeBootFiles puts the boot loader's files into /boot.
func (d *disks) writeBootFiles() error {
	if err := merge(d.sysroot.Boot, d.boot.Boot, "/boot"); err != nil {
		return err
	}
	if d.boot.LoaderGrubCfg == nil && d.boot.CheckEntry == nil {
		return nil
	}
	entry, err := tree.ReadFile(d.sysroot.Boot, d.sysroot.EntryPath, 1<<20)
	if err != nil {
		return err
	}
	if d.boot.CheckEntry != nil {
		return d.boot.CheckEntry(entry)
	}
	// A GRUB that cannot read boot loader entries gets them as menu entries,
	// which ostree writes anew with every deployment.
	text, err := d.boot.LoaderGrubCfg(entry)
	if err != nil {
		return fmt.Errorf("loader/grub.cfg: %w", err)
	}
	f := tree.NewFile(0o644, content.Bytes(text))
	f.Mtime = d.time
	return tree.Put(d.sysroot.Boot, "loader.1/grub.cfg", f)
}

// bootNames lists what a disk boots by.
func bootNames(c *bootloader.Capabilities) []string {
	names := []string{}
	for _, n := range []struct {
		has  bool
		name string
	}{{c.UEFI, "uefi"}, {c.BIOS, "bios"}, {c.PReP, "prep"}} {
		if n.has {
			names = append(names, n.name)
		}
	}
	return names
}

// title returns the name of the OS in the boot menu, as ostree takes it.
func title(facts *bootc.Image) string {
	for _, key := range []string{"PRETTY_NAME", "ID"} {
		if v := facts.OSRelease[key]; v != "" {
			return v
		}
	}
	return ""
}
