package bootloader

import (
	"errors"
	"strings"

	"imgbuild/bootloader/grub"
	"imgbuild/fault"
)

// menu is how GRUB gets its menu.
type menu int

const (
	// menuStatic: the image's static configuration, which runs blscfg.
	menuStatic menu = iota
	// menuGenerated: a grub.cfg that ostree's grub2 back end writes anew with
	// every deployment. A menu written once would end with the first upgrade.
	menuGenerated
)

// chooseMenu decides by what the image's configuration needs and its GRUBs can
// do. Configurations that run blscfg only conditionally know what to do without
// the command.
func (in *installation) chooseMenu() (menu, error) {
	if in.static == nil {
		if in.mkconfig {
			return menuGenerated, nil
		}
		return 0, fault.New(fault.BadImage, errors.New("usr/lib/bootupd/grub2-static is missing: GRUB would have no configuration"),
			"use a base image whose bootupd ships its static configuration")
	}
	if grub.UseOfBLS(in.static.Script()) != grub.BLSRequired {
		return menuStatic, nil
	}

	var without []string
	works := false
	if in.bios {
		if in.caps.BLSInBIOS {
			works = true
		} else {
			without = append(without, "BIOS")
		}
	}
	if in.uefi {
		if in.caps.BLSInEFI || in.caps.BLSInEFIModules {
			works = true
		} else {
			without = append(without, "UEFI")
		}
	}
	switch {
	case len(without) == 0:
	case in.mkconfig:
		return menuGenerated, nil
	case works:
		in.result.Warnings = append(in.result.Warnings, "GRUB for "+strings.Join(without, " and ")+
			" has no blscfg command, which the image's configuration runs: booting that way ends at a prompt")
		return menuStatic, nil
	default:
		return 0, fault.New(fault.BadImage, errors.New("the image's GRUB has no blscfg command, which its configuration runs: there would be no menu"),
			"use an image with GRUB 2.14, or a configuration in usr/lib/bootupd/grub2-static/configs.d that does without blscfg")
	}
	if in.uefi && !in.caps.BLSInEFI {
		in.result.Warnings = append(in.result.Warnings, "GRUB's EFI binary has no blscfg command and loads it from disk: "+
			"under Secure Boot that is refused, and there is no menu")
	}
	return menuStatic, nil
}
