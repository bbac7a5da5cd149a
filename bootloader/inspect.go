package bootloader

import (
	"errors"
	"fmt"

	"imgbuild/bootloader/bootupd"
	"imgbuild/bootloader/grub"
	"imgbuild/fault"
	"imgbuild/tree"
)

// survey is what an image has for booting.
type survey struct {
	arch     string
	platform platform
	// managed says that the image has bootupd's metadata, so that bootupd
	// decides what is installed and updates it later. Otherwise packaged is what
	// there is for UEFI.
	managed   bool
	efi, bios *bootupd.Metadata
	payload   *bootupd.Payload // nil without UEFI
	packaged  *packaged        // nil when managed, or without UEFI
	image     *grub.EFIImage   // what is in GRUB's EFI binary, nil when unknown
	efiDir    string           // GRUB's modules for UEFI, or ""
	firstDir  string           // those for the BIOS or Open Firmware, or ""
	static    *bootupd.Static  // nil when the image has none
	upstream  bool             // blscfg is that of GRUB 2.14, not of a vendor
	mkconfig  bool             // ostree's grub2 back end can work
	caps      Capabilities
}

// inspect looks at everything that concerns the boot loader.
func inspect(os *tree.Inode, arch string) (*survey, error) {
	s := &survey{arch: arch}
	var ok bool
	switch s.platform, ok = platformOf(arch); {
	case arch == "s390x":
		return nil, fault.New(fault.Unsupported, errors.New("no boot loader for s390x: its zipl is not written"), "")
	case !ok:
		return nil, fault.New(fault.Unsupported, fmt.Errorf("no boot loader for architecture %s", arch), "")
	}
	for _, step := range []func(*tree.Inode) error{s.inspectMetadata, s.inspectEFI, s.inspectFirst, s.inspectConfig} {
		if err := step(os); err != nil {
			return nil, fault.Default(fault.BadImage, err)
		}
	}
	switch c := &s.caps; {
	case !c.UEFI && !c.BIOS && !c.PReP:
		return nil, noBootLoader(os, arch)
	case !s.managed && !c.UEFI && s.efiDir != "":
		s.warn("%s has GRUB's modules, but the image has no EFI binary made of them: the disk boots by BIOS only", s.efiDir)
	}
	return s, nil
}

// noBootLoader explains why nothing was found.
func noBootLoader(os *tree.Inode, arch string) error {
	err := fmt.Errorf("no boot loader for %s found in the image: neither a component of bootupd nor files of GRUB or shim that can be installed as they are", arch)
	hint := "use a bootc base image, which has bootupd, GRUB and shim"
	p, _ := platformOf(arch)
	if modulesDir(os, p.modules) != "" {
		hint = "the image has GRUB's modules for UEFI, but not the EFI binary that its tools make of them; install a package that has one (Debian: grub-efi-*-bin or -signed), and shim for Secure Boot"
	} else if i, e := tree.Resolve(os, "usr/lib/systemd/boot/efi"); e == nil && i.IsDir() {
		hint = "the image has systemd-boot, which needs the composefs backend; install GRUB"
	}
	return fault.New(fault.BadImage, err, hint)
}

func (s *survey) warn(format string, args ...any) {
	s.caps.Warnings = append(s.caps.Warnings, fmt.Sprintf(format, args...))
}

// inspectMetadata finds out whether bootupd manages the boot loaders.
func (s *survey) inspectMetadata(os *tree.Inode) (err error) {
	if s.platform.efi != "" {
		if s.efi, err = bootupd.ReadMetadata(os, bootupd.EFI); err != nil {
			return err
		}
	}
	if s.platform.first != "" {
		if s.bios, err = bootupd.ReadMetadata(os, bootupd.BIOS); err != nil {
			return err
		}
	}
	s.managed = s.efi != nil || s.bios != nil
	return nil
}

// inspectEFI finds the EFI files and what GRUB's EFI binary can do.
func (s *survey) inspectEFI(os *tree.Inode) (err error) {
	if s.platform.efi == "" {
		return nil
	}
	if s.efiDir = modulesDir(os, s.platform.modules); s.managed {
		err = s.inspectPayload(os)
	} else {
		err = s.inspectPackaged(os)
	}
	if err == nil && s.caps.UEFI {
		s.note(&s.caps.BLSInEFIModules, hasModule(os, s.efiDir))
	}
	return err
}

// inspectPayload looks at what bootupd installs.
func (s *survey) inspectPayload(os *tree.Inode) (err error) {
	if s.payload, err = bootupd.FindPayload(os); err != nil {
		return err
	}
	switch {
	case s.efi == nil && s.payload != nil:
		s.warn("%s is not installed: usr/lib/bootupd/updates/EFI.json is missing", s.payload.Root)
		s.payload = nil
		return nil
	case s.efi == nil:
		return nil
	case s.payload == nil:
		return errors.New("usr/lib/bootupd/updates/EFI.json is there, but no EFI files")
	}
	s.caps.Warnings = append(s.caps.Warnings, s.payload.Warnings...)
	if s.caps.Vendor, err = s.payload.Vendor(s.platform.file("shim")); err != nil {
		return err
	}
	s.caps.UEFI, s.caps.Shim, s.caps.EFIVersion = true, true, s.efi.Version

	file := s.caps.Vendor + "/" + s.platform.file("grub")
	inode := s.payload.Lookup(file)
	if inode == nil {
		// A payload may name another second stage in its CSV.
		s.warn("EFI/%s is missing, which shim starts by default", file)
		s.caps.BLSInEFI = true
		return nil
	}
	if s.image, err = grub.ParseEFI(inode.Content); err != nil {
		// Not needed for booting, only for what is said about it.
		s.warn("EFI/%s: %v; it is taken to have the blscfg command", file, err)
		s.caps.BLSInEFI = true
		return nil
	}
	s.note(&s.caps.BLSInEFI, s.image.Has)
	return nil
}

// inspectPackaged looks at what the image has without bootupd.
func (s *survey) inspectPackaged(os *tree.Inode) (err error) {
	if s.packaged, err = findPackaged(os, s.platform); s.packaged == nil || err != nil {
		return err
	}
	f := s.packaged
	s.payload, s.image = f.files, f.image
	s.caps.UEFI, s.caps.Shim, s.caps.Vendor = true, f.shim, f.vendor
	s.caps.Warnings = append(s.caps.Warnings, f.files.Warnings...)
	if !f.shim {
		s.warn("the image has no shim: EFI/%s is GRUB itself, which Secure Boot refuses", f.grub)
	}
	if s.image != nil {
		s.note(&s.caps.BLSInEFI, s.image.Has)
	}
	return nil
}

// note sets found when there is a module with the blscfg command. A vendor's
// module is blscfg; GRUB 2.14's is blsuki, which in vendors' builds has the
// command uki only and stands beside blscfg.
func (s *survey) note(found *bool, has func(module string) bool) {
	vendor, upstream := has("blscfg"), has("blsuki")
	*found = vendor || upstream
	s.upstream = s.upstream || upstream && !vendor
}

// inspectFirst finds the GRUB that firmware loads from the disk: for the BIOS,
// or for Open Firmware.
func (s *survey) inspectFirst(os *tree.Inode) error {
	name := s.platform.first
	if name == "" {
		return nil
	}
	found := &s.caps.BIOS
	if s.arch == "ppc64le" {
		found = &s.caps.PReP
	}
	dir := modulesDir(os, name)
	has := dir != "" && firstFile(os, dir+"/kernel.img") != nil
	switch {
	case s.managed && s.bios == nil && has:
		s.warn("%s is not installed: usr/lib/bootupd/updates/BIOS.json is missing", dir)
		return nil
	case s.managed && s.bios != nil && !has:
		s.warn("GRUB for %s is not installed: usr/lib/bootupd/updates/BIOS.json is there, but not usr/lib/grub/%s", name, name)
		return nil
	case !has:
		return nil
	}
	*found, s.firstDir = true, dir
	if s.bios != nil {
		s.caps.BIOSVersion = s.bios.Version
	}
	s.note(&s.caps.BLSInBIOS, hasModule(os, dir))
	return nil
}

// inspectConfig reads the static configuration, and looks for what ostree's
// grub2 back end runs.
func (s *survey) inspectConfig(os *tree.Inode) (err error) {
	if s.static, err = bootupd.ReadStatic(os); err != nil {
		return err
	}
	one := func(paths ...string) bool { return firstFile(os, paths...) != nil }
	s.mkconfig = one("usr/sbin/grub2-mkconfig", "usr/sbin/grub-mkconfig", "usr/bin/grub2-mkconfig", "usr/bin/grub-mkconfig") &&
		one("usr/etc/grub.d/15_ostree", "etc/grub.d/15_ostree") &&
		one("usr/etc/default/grub", "etc/default/grub") && one("usr/bin/ostree")
	return nil
}
