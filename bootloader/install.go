package bootloader

import (
	"errors"
	"fmt"

	"imgbuild/bootloader/bls"
	"imgbuild/bootloader/bootupd"
	"imgbuild/bootloader/grub"
	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// installation is one run of Install.
type installation struct {
	*Request
	*survey
	uefi, bios bool
	state      bootupd.State
	grubDir    *tree.Inode // /boot/grub2
	result     Result
}

// run installs component by component, then the configuration, then the state
// file, as bootupd does.
func (in *installation) run() error {
	in.uefi, in.bios = in.caps.UEFI && !in.NoESP, in.caps.BIOS && in.BIOSBoot
	if !in.uefi && !in.bios {
		return fault.New(fault.Unsupported, errors.New("the disk has no partition for a boot loader of the image"),
			fmt.Sprintf("the image boots by UEFI: %t, by BIOS: %t", in.caps.UEFI, in.caps.BIOS))
	}
	in.result = Result{Boot: in.dir(0o755), RepoBootloader: "none", Warnings: in.caps.Warnings}
	in.state.Installed = make(map[string]bootupd.Installed)
	in.grubDir = in.dir(0o700)
	in.result.Boot.Set(bootupd.GrubDir, in.grubDir)

	if in.bios {
		if err := in.installBIOS(); err != nil {
			return fmt.Errorf("install GRUB for BIOS: %w", err)
		}
	}
	if in.uefi {
		if err := in.installEFI(); err != nil {
			return fmt.Errorf("install the EFI files: %w", err)
		}
	}
	if err := in.configure(); err != nil {
		return err
	}
	in.result.Boot.Set(bootupd.StateFile, in.file(0o644, in.state.Encode()))
	return nil
}

// dir and file return what belongs to root and has the time of the request.
func (in *installation) dir(perm uint32) *tree.Inode {
	d := tree.NewDir(perm)
	d.Mtime = in.Time
	return d
}

func (in *installation) file(perm uint32, b []byte) *tree.Inode {
	f := tree.NewFile(perm, content.Bytes(b))
	f.Mtime = in.Time
	return f
}

// installBIOS does what grub-install for i386-pc does.
func (in *installation) installBIOS() error {
	modules, err := grub.CoreModules(in.BootFS)
	if err != nil {
		return fault.New(fault.Unsupported, err, "")
	}
	if in.BootPartition < 1 {
		return fmt.Errorf("partition %d of /boot", in.BootPartition)
	}
	prefix := "/" + bootupd.GrubDir
	if !in.SeparateBoot {
		prefix = "/boot" + prefix
	}
	// The empty drive becomes the one that the BIOS booted.
	prefix = fmt.Sprintf("(,gpt%d)%s", in.BootPartition, prefix)
	core, err := grub.Compose(in.OS, biosModules, grub.CoreOptions{Modules: modules, Prefix: prefix}, in.BIOSBootLBA)
	if err != nil {
		return err
	}
	if size := int64(len(core.Image)); in.BIOSBootSize > 0 && size > in.BIOSBootSize {
		return fault.New(fault.NoSpace, fmt.Errorf("GRUB's core image of %d bytes does not fit a BIOS boot partition of %d", size, in.BIOSBootSize), "")
	}
	in.result.BootCode, in.result.Core = core.BootCode, core.Image

	in.grubDir.Mode = tree.TypeDir | 0o755 // grub-install made it
	if err := grub.BIOSFiles(in.grubDir, in.OS, biosModules, core, in.Time); err != nil {
		return err
	}
	in.grubDir.Set("grubenv", in.file(0o644, grub.NewEnv()))
	in.state.Installed[bootupd.BIOS] = bootupd.Installed{Meta: *in.survey.bios}
	return nil
}

// installEFI copies the payload to the ESP and makes its mount point, which
// later updates need.
func (in *installation) installEFI() error {
	files, err := in.payload.FileStates()
	if err != nil {
		return err
	}
	in.result.ESP = in.payload.ESP()
	in.result.Boot.Set("efi", in.dir(0o755))
	in.state.Installed[bootupd.EFI] = bootupd.Installed{Meta: *in.efi, Files: files}
	return nil
}

// configure writes GRUB's configuration.
func (in *installation) configure() error {
	m, err := in.chooseMenu()
	if err != nil {
		return err
	}
	if in.uefi && !in.caps.BLSInEFI && in.caps.BLSInEFIModules {
		dir, _ := efiModules(in.Arch)
		modules, err := grub.Modules(in.OS, dir, in.Time)
		if err != nil {
			return err
		}
		in.grubDir.Set(dir[len("usr/lib/grub/"):], modules)
	}
	mode := uint32(0o600)
	if in.static != nil {
		mode = in.static.ConfigMode()
	}
	var stub []byte
	if m == menuGenerated {
		if stub, err = in.generatedMenu(); err != nil {
			return err
		}
	} else {
		in.staticMenu()
	}
	if in.static != nil {
		stub = in.static.EFI
	}
	return in.configureUUID(mode, stub)
}

// staticMenu installs the image's static configuration.
func (in *installation) staticMenu() {
	static := *in.static
	if in.upstream && !in.SeparateBoot {
		static = static.Edit(grub.WithBLSPath)
	}
	mode := static.ConfigMode()
	if static.Sourced {
		for _, d := range static.DropIns {
			in.grubDir.Set(d.Name, in.file(0o644, d.Text))
		}
	} else {
		in.grubDir.Set("grubenv", in.file(mode, grub.NewEnv()))
	}
	in.grubDir.Set("grub.cfg", in.file(mode, static.GrubCfg()))
	in.state.StaticConfigs = bootupd.StaticConfigsMetadata()
}

// generatedMenu leaves grub.cfg to ostree's grub2 back end. It returns the stub
// for the ESP, as grub-install would write it.
func (in *installation) generatedMenu() (stub []byte, err error) {
	if _, err := bootupd.BootUUIDCfg(in.BootUUID); err != nil {
		return nil, err
	}
	in.grubDir.Set("grub.cfg", in.link("../loader/grub.cfg"))
	in.grubDir.Set("grubenv", in.file(0o600, grub.NewEnv()))
	in.result.RepoBootloader = "grub2"
	o := grub.MenuOptions{BootUUID: in.BootUUID, BootFS: in.BootFS}
	in.result.LoaderGrubCfg = func(entries ...[]byte) ([]byte, error) {
		parsed := make([]bls.Entry, len(entries))
		for k, text := range entries {
			var err error
			if parsed[k], err = bls.Parse(text); err != nil {
				return nil, err
			}
		}
		return grub.Menu(parsed, o)
	}
	dir := "/" + bootupd.GrubDir
	if !in.SeparateBoot {
		dir = "/boot" + dir
	}
	return grub.Stub(in.BootUUID, dir), nil
}

func (in *installation) link(target string) *tree.Inode {
	l := tree.NewLink(target)
	l.Mtime = in.Time
	return l
}

// configureUUID writes what tells GRUB the boot file system, and the stub on
// the ESP that looks for it.
func (in *installation) configureUUID(mode uint32, stub []byte) error {
	var uuid []byte
	if !in.SkipBootUUID {
		var err error
		if uuid, err = bootupd.BootUUIDCfg(in.BootUUID); err != nil {
			return err
		}
		in.grubDir.Set("bootuuid.cfg", in.file(mode, uuid))
	}
	if !in.uefi {
		return nil
	}
	if stub == nil {
		return errors.New("usr/lib/bootupd/grub2-static/grub-static-efi.cfg is missing")
	}
	bootupd.PutVendorFile(in.result.ESP, in.caps.Vendor, "grub.cfg", in.file(0o644, stub))
	if uuid != nil {
		bootupd.PutVendorFile(in.result.ESP, in.caps.Vendor, "bootuuid.cfg", in.file(0o644, uuid))
	}
	return nil
}
