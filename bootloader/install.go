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
	uefi, bios, prep bool
	state            bootupd.State
	grubDir          *tree.Inode // /boot/grub2
	result           Result
}

// run installs component by component, then the configuration, then the state
// file, as bootupd does.
func (in *installation) run() error {
	in.uefi, in.bios = in.caps.UEFI && !in.NoESP, in.caps.BIOS && in.BIOSBoot
	in.prep = in.caps.PReP && in.PReP
	if !in.uefi && !in.bios && !in.prep {
		return fault.New(fault.Unsupported, errors.New("the disk has no partition for a boot loader of the image"),
			fmt.Sprintf("the image boots by UEFI: %t, by BIOS: %t, by PReP: %t", in.caps.UEFI, in.caps.BIOS, in.caps.PReP))
	}
	in.result = Result{Boot: in.dir(0o755), RepoBootloader: "none", Warnings: in.caps.Warnings}
	in.state.Installed = make(map[string]bootupd.Installed)
	in.grubDir = in.dir(0o700)
	in.result.Boot.Set(bootupd.GrubDir, in.grubDir)

	switch {
	case in.bios:
		if err := in.installBIOS(); err != nil {
			return fmt.Errorf("install GRUB for BIOS: %w", err)
		}
	case in.prep:
		if err := in.installPReP(); err != nil {
			return fmt.Errorf("install GRUB for Open Firmware: %w", err)
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
	if in.managed {
		in.result.Boot.Set(bootupd.StateFile, in.file(0o644, in.state.Encode()))
	}
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
	modules, err := grub.CoreModules(in.BootFS, in.DOS)
	if err != nil {
		return fault.New(fault.Unsupported, err, "")
	}
	prefix, err := in.prefix()
	if err != nil {
		return err
	}
	core, err := grub.Compose(in.OS, in.firstDir, grub.CoreOptions{Modules: modules, Prefix: prefix}, in.BIOSBootLBA)
	if err != nil {
		return err
	}
	return in.installCore(core, in.BIOSBootSize)
}

// installPReP does what grub-install for powerpc-ieee1275 does.
func (in *installation) installPReP() error {
	modules, err := grub.CoreELFModules(in.BootFS, in.DOS)
	if err != nil {
		return fault.New(fault.Unsupported, err, "")
	}
	prefix, err := in.prefix()
	if err != nil {
		return err
	}
	core, err := grub.ComposeELF(in.OS, in.firstDir, grub.CoreOptions{Modules: modules, Prefix: prefix})
	if err != nil {
		return err
	}
	return in.installCore(core, in.PRePSize)
}

// bootPath returns the path of a directory in /boot on the file system that
// holds it.
func (in *installation) bootPath(dir string) string {
	if in.SeparateBoot {
		return "/" + dir
	}
	return "/boot/" + dir
}

// prefix returns where GRUB's core image finds its directory. The empty drive
// becomes the one that the firmware booted.
func (in *installation) prefix() (string, error) {
	if in.BootPartition < 1 {
		return "", fmt.Errorf("partition %d of /boot", in.BootPartition)
	}
	table := "gpt"
	if in.DOS {
		table = "msdos"
	}
	return fmt.Sprintf("(,%s%d)%s", table, in.BootPartition, in.bootPath(bootupd.GrubDir)), nil
}

// installCore installs a core image for a partition of size bytes, or 0 for any.
func (in *installation) installCore(core *grub.Core, size int64) error {
	if n := int64(len(core.Image)); size > 0 && n > size {
		return fault.New(fault.NoSpace, fmt.Errorf("GRUB's core image of %d bytes does not fit a partition of %d", n, size), "")
	}
	in.result.BootCode, in.result.Core = core.BootCode, core.Image

	in.grubDir.Mode = tree.TypeDir | 0o755 // grub-install made it
	if err := grub.Install(in.grubDir, in.OS, in.firstDir, core, in.Time); err != nil {
		return err
	}
	in.grubDir.Set("grubenv", in.file(0o644, grub.NewEnv()))
	if in.survey.bios != nil {
		in.state.Installed[bootupd.BIOS] = bootupd.Installed{Meta: *in.survey.bios}
	}
	return nil
}

// installEFI copies the EFI files to the ESP and makes its mount point, which
// later updates need.
func (in *installation) installEFI() error {
	in.result.ESP = in.payload.ESP()
	in.result.Boot.Set("efi", in.dir(0o755))
	if !in.managed {
		return nil
	}
	files, err := in.payload.FileStates()
	if err != nil {
		return err
	}
	in.state.Installed[bootupd.EFI] = bootupd.Installed{Meta: *in.efi, Files: files}
	return nil
}

// configure writes GRUB's configuration.
func (in *installation) configure() error {
	m, err := in.chooseMenu()
	if err != nil {
		return err
	}
	if m != menuGenerated && m != menuScript && in.uefi && !in.caps.BLSInEFI && in.caps.BLSInEFIModules {
		modules, err := grub.Modules(in.OS, in.efiDir, in.Time)
		if err != nil {
			return err
		}
		in.grubDir.Set(in.platform.modules, modules)
	}
	stub := grub.Stub(in.BootUUID, in.bootPath(bootupd.GrubDir))
	switch m {
	case menuGenerated:
		err = in.generatedMenu()
	case menuOwn, menuScript:
		err = in.ownMenu(m == menuScript)
	default:
		in.staticMenu()
	}
	if err != nil {
		return err
	}
	mode := uint32(0o600)
	if in.static != nil {
		mode, stub = in.static.ConfigMode(), in.static.EFI
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

// generatedMenu leaves grub.cfg to ostree's grub2 back end.
func (in *installation) generatedMenu() error {
	if _, err := bootupd.BootUUIDCfg(in.BootUUID); err != nil {
		return err
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
	return nil
}

// ownMenu writes a grub.cfg for an image that has none.
func (in *installation) ownMenu(script bool) error {
	if _, err := bootupd.BootUUIDCfg(in.BootUUID); err != nil {
		return err
	}
	o := grub.ConfigOptions{BootUUID: in.BootUUID, Script: script, Upstream: in.upstream}
	if !in.SeparateBoot {
		o.Dir = "/boot"
	}
	in.grubDir.Set("grub.cfg", in.file(0o600, grub.Config(o)))
	in.grubDir.Set("grubenv", in.file(0o600, grub.NewEnv()))
	if script {
		in.result.CheckEntry = func(entry []byte) error {
			e, err := bls.Parse(entry)
			if err != nil {
				return err
			}
			if err := grub.CheckScript(e); err != nil {
				return fault.New(fault.BadImage, err, "change the name of the OS or the kernel arguments, or use an image whose GRUB has the command blscfg")
			}
			return nil
		}
	}
	return nil
}

func (in *installation) link(target string) *tree.Inode {
	l := tree.NewLink(target)
	l.Mtime = in.Time
	return l
}

// configureUUID writes what tells GRUB the boot file system, and the stub on
// the ESP that looks for it. bootupd's files are for its configuration.
func (in *installation) configureUUID(mode uint32, stub []byte) error {
	var uuid []byte
	if in.static != nil && !in.SkipBootUUID {
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
	vendor := "EFI/" + in.caps.Vendor + "/"
	bootupd.PutFile(in.result.ESP, vendor+"grub.cfg", in.file(0o644, stub))
	if in.packaged != nil && in.packaged.config != "" {
		bootupd.PutFile(in.result.ESP, in.packaged.config, in.file(0o644, stub))
	}
	if uuid != nil {
		bootupd.PutFile(in.result.ESP, vendor+"bootuuid.cfg", in.file(0o644, uuid))
	}
	return nil
}
