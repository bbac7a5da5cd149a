package bootloader

import (
	"errors"
	"fmt"

	"imgbuild/bootloader/bootupd"
	"imgbuild/bootloader/grub"
	"imgbuild/fault"
	"imgbuild/tree"
)

// GRUB's directories in an image, below usr/lib/grub.
const (
	biosModules = "usr/lib/grub/i386-pc"
	prepModules = "usr/lib/grub/powerpc-ieee1275"
)

// efiModules returns the directory of GRUB's modules for UEFI and the name of
// its EFI binary, for an architecture that has UEFI.
func efiModules(arch string) (dir, binary string) {
	switch arch {
	case "amd64":
		return "usr/lib/grub/x86_64-efi", "grubx64.efi"
	case "arm64":
		return "usr/lib/grub/arm64-efi", "grubaa64.efi"
	case "riscv64":
		return "usr/lib/grub/riscv64-efi", "grubriscv64.efi"
	}
	return "", ""
}

// survey is what an image has for booting.
type survey struct {
	arch      string
	payload   *bootupd.Payload // nil without UEFI
	efi, bios *bootupd.Metadata
	static    *bootupd.Static // nil when the image has none
	upstream  bool            // blscfg is that of GRUB 2.14, not of a vendor
	mkconfig  bool            // ostree's grub2 back end can work
	caps      Capabilities
}

// inspect looks at everything that concerns the boot loader.
func inspect(os *tree.Inode, arch string) (*survey, error) {
	s := &survey{arch: arch}
	switch arch {
	case "amd64", "arm64", "riscv64", "ppc64le":
	default:
		return nil, fault.New(fault.Unsupported, fmt.Errorf("no boot loader for architecture %s", arch), "")
	}
	for _, step := range []func(*tree.Inode) error{s.inspectEFI, s.inspectGRUB, s.inspectConfig} {
		if err := step(os); err != nil {
			return nil, fault.Default(fault.BadImage, err)
		}
	}
	if c := &s.caps; !c.UEFI && !c.BIOS && !c.PReP {
		return nil, noBootLoader(os, arch)
	}
	return s, nil
}

// noBootLoader explains why nothing was found.
func noBootLoader(os *tree.Inode, arch string) error {
	err := fmt.Errorf("no boot loader for %s found in the image: no component in usr/lib/bootupd/updates", arch)
	hint := "use a bootc base image, which has bootupd, GRUB and shim"
	for _, dir := range []string{"usr/lib/shim", "usr/lib/grub", "usr/lib/systemd/boot/efi"} {
		if i, e := tree.Resolve(os, dir); e == nil && i.IsDir() {
			hint = fmt.Sprintf("the image has /%s, but not the payload that bootupd makes of it: run \"bootupctl backend generate-update-metadata\" in its build", dir)
			break
		}
	}
	return fault.New(fault.BadImage, err, hint)
}

func (s *survey) warn(format string, args ...any) {
	s.caps.Warnings = append(s.caps.Warnings, fmt.Sprintf(format, args...))
}

// inspectEFI finds the EFI payload and what GRUB's EFI binary can do.
func (s *survey) inspectEFI(os *tree.Inode) (err error) {
	dir, binary := efiModules(s.arch)
	if dir == "" {
		return nil
	}
	if s.efi, err = bootupd.ReadMetadata(os, bootupd.EFI); err != nil {
		return err
	}
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
	if s.caps.Vendor, err = s.payload.Vendor(bootupd.Shim(s.arch)); err != nil {
		return err
	}
	s.caps.UEFI, s.caps.Shim, s.caps.EFIVersion = true, true, s.efi.Version

	file := s.caps.Vendor + "/" + binary
	inode := s.payload.Lookup(file)
	if inode == nil {
		// A payload may name another second stage in its CSV.
		s.warn("EFI/%s is missing, which shim starts by default", file)
		s.caps.BLSInEFI = true
		return nil
	}
	image, err := grub.ParseEFI(inode.Content)
	if err != nil {
		// Not needed for booting, only for what is said about it.
		s.warn("EFI/%s: %v; it is taken to have the blscfg command", file, err)
		s.caps.BLSInEFI = true
		return nil
	}
	s.note(&s.caps.BLSInEFI, image.Has)
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

// inspectGRUB finds GRUB's modules.
func (s *survey) inspectGRUB(os *tree.Inode) (err error) {
	in := func(dir string) func(string) bool {
		return func(module string) bool { return grub.HasModule(os, dir, module) }
	}
	if dir, _ := efiModules(s.arch); s.caps.UEFI {
		s.note(&s.caps.BLSInEFIModules, in(dir))
	}
	dir, found := biosModules, &s.caps.BIOS
	switch s.arch {
	case "amd64":
	case "ppc64le":
		dir, found = prepModules, &s.caps.PReP
	default:
		return nil
	}
	if s.bios, err = bootupd.ReadMetadata(os, bootupd.BIOS); err != nil {
		return err
	}
	_, err = tree.Resolve(os, dir+"/kernel.img")
	switch {
	case s.bios == nil && err == nil:
		s.warn("%s is not installed: usr/lib/bootupd/updates/BIOS.json is missing", dir)
		return nil
	case s.bios == nil:
		return nil
	case err != nil:
		s.warn("GRUB for BIOS is not installed: usr/lib/bootupd/updates/BIOS.json is there, but not %s", dir)
		return nil
	}
	*found, s.caps.BIOSVersion = true, s.bios.Version
	s.note(&s.caps.BLSInBIOS, in(dir))
	return nil
}

// inspectConfig reads the static configuration, and looks for what ostree's
// grub2 back end runs.
func (s *survey) inspectConfig(os *tree.Inode) (err error) {
	if s.static, err = bootupd.ReadStatic(os); err != nil {
		return err
	}
	one := func(paths ...string) bool {
		for _, p := range paths {
			if i, err := tree.Resolve(os, p); err == nil && i.IsFile() {
				return true
			}
		}
		return false
	}
	s.mkconfig = one("usr/sbin/grub2-mkconfig", "usr/sbin/grub-mkconfig", "usr/bin/grub2-mkconfig", "usr/bin/grub-mkconfig") &&
		one("usr/etc/grub.d/15_ostree", "etc/grub.d/15_ostree") &&
		one("usr/etc/default/grub", "etc/default/grub")
	return nil
}
