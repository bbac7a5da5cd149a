package pipeline

import (
	"fmt"

	"imgbuild/bootc"
	"imgbuild/bootloader"
	"imgbuild/content"
	"imgbuild/fault"
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

// installBootloader makes the boot loader's files, for a disk laid out by
// partitions.
func (d *disks) installBootloader(sys *system, o *Options) (*bootloader.Result, error) {
	result, err := bootloader.Install(&bootloader.Request{
		OS: sys.merged, Arch: o.Arch, BootUUID: d.fileSystem.bootUUID,
		SkipBootUUID: sys.facts.Install.SkipBootUUID,
		BootFS:       "ext4", BootPartition: d.number(o, roleBoot), SeparateBoot: true,
		NoESP: d.number(o, roleESP) == 0,
		// The BIOS boot partition, where there is one, is the first.
		BIOSBoot: d.number(o, roleBIOS) == 1, BIOSBootLBA: firstPartition / sectorSize, BIOSBootSize: biosSize,
		PReP: d.number(o, rolePReP) != 0, PRePSize: prepSize, Time: d.time,
	})
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
