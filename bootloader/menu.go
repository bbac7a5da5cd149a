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
	// menuOwn: a grub.cfg of ours, which runs blscfg.
	menuOwn
	// menuScript: a grub.cfg of ours for a GRUB without blscfg.
	menuScript
)

// chooseMenu decides by what the image's configuration needs and its GRUBs can
// do. Configurations that run blscfg only conditionally know what to do without
// the command.
func (in *installation) chooseMenu() (menu, error) {
	if in.static == nil {
		return in.chooseOwnMenu()
	}
	if grub.UseOfBLS(in.static.Script()) != grub.BLSRequired {
		return menuStatic, nil
	}
	var without []string
	ways := in.ways()
	for _, w := range ways {
		if !w.bls && !w.blsOnDisk {
			without = append(without, w.name)
		}
	}
	switch {
	case len(without) == 0:
	case in.mkconfig:
		return menuGenerated, nil
	case len(without) < len(ways):
		in.warn("GRUB for %s has no blscfg command, which the image's configuration runs: booting that way ends at a prompt", strings.Join(without, " and "))
		return menuStatic, nil
	default:
		return 0, fault.New(fault.BadImage, errors.New("the image's GRUB has no blscfg command, which its configuration runs: there would be no menu"),
			"use an image with GRUB 2.14, or a configuration in usr/lib/bootupd/grub2-static/configs.d that does without blscfg")
	}
	in.warnSecureBoot()
	return menuStatic, nil
}

// chooseOwnMenu decides for an image without a static configuration. What works
// with every firmware, and under Secure Boot, comes first: GRUB's own command;
// then ostree's generator, which the distributions maintain; then the script,
// which needs nothing of the running system.
func (in *installation) chooseOwnMenu() (menu, error) {
	bls, script, onDisk := true, true, true
	var without []string
	for _, w := range in.ways() {
		bls = bls && w.bls
		script = script && w.script
		onDisk = onDisk && (w.bls || w.blsOnDisk)
		if !w.bls && !w.script {
			without = append(without, w.name)
		}
	}
	switch {
	case bls:
		return menuOwn, nil
	case in.mkconfig:
		return menuGenerated, nil
	case script:
		return menuScript, nil
	case onDisk:
		in.warnSecureBoot()
		return menuOwn, nil
	}
	return 0, fault.New(fault.BadImage, errors.New("the image has neither a GRUB configuration (usr/lib/bootupd/grub2-static) nor a GRUB for "+
		strings.Join(without, " and ")+" that could do without: it lacks the command blscfg, and the modules to read boot loader entries by a script"),
		"use a base image whose bootupd ships its static configuration, or install grub-mkconfig, /etc/default/grub and ostree's /etc/grub.d/15_ostree")
}

// way is a way to boot the disk, and what its GRUB can do.
type way struct {
	name      string
	bls       bool // it has blscfg
	blsOnDisk bool // … as a module that Secure Boot refuses
	script    bool // it can run the script of grub.Config
}

func (in *installation) ways() []way {
	var ways []way
	if in.bios || in.prep {
		name := "BIOS"
		if in.prep {
			name = "Open Firmware"
		}
		ways = append(ways, way{name: name, bls: in.caps.BLSInBIOS, script: all(grub.ScriptModules(), hasModule(in.OS, in.firstDir))})
	}
	if in.uefi {
		w := way{name: "UEFI", bls: in.caps.BLSInEFI, blsOnDisk: in.caps.BLSInEFIModules}
		if in.image != nil {
			w.script = all(grub.ScriptModules(), in.image.Has)
		} else if in.static == nil {
			w.bls = false // not known, and nobody else vouches for it
		}
		ways = append(ways, w)
	}
	return ways
}

// warnSecureBoot says what a blscfg command costs that is only on disk.
func (in *installation) warnSecureBoot() {
	if in.uefi && !in.caps.BLSInEFI {
		in.warn("GRUB's EFI binary has no blscfg command and loads it from disk: under Secure Boot that is refused, and there is no menu")
	}
}

func (in *installation) warn(format string, args ...any) {
	in.survey.warn(format, args...)
	in.result.Warnings = in.caps.Warnings
}
