// Package bootloader installs the boot loaders of an image onto a disk that is
// only bytes: it returns the tree of the EFI system partition, what belongs on
// the file system that holds /boot, and the code of the BIOS boot path.
//
// It does what `bootupctl backend install` does for a disk nobody boots from
// yet (bootupd 0.2.35, components BIOS and EFI, static configurations, state
// file), with every byte of code taken from the image as it is: signatures
// stay valid. GRUB's core image for the BIOS and for Open Firmware, which is not
// signed, is composed from the image's own modules by package grub.
//
// An image without bootupd's metadata gets what its packages have (Debian,
// Ubuntu, openSUSE; Fedora's and RHEL's EFI files wherever they are), as the
// distribution's installer lays it out, and no state file: there is no bootupd
// to read it, and one that comes with an upgrade adopts what it finds. Where
// there is no static configuration either, GRUB gets one that reads the boot
// loader entries at every boot; see chooseMenu.
//
// Not done: zipl (s390x), which [Install] refuses; composing an EFI binary from
// modules; NVRAM entries, which belong to a machine and not to a disk.
package bootloader

import (
	"imgbuild/fault"
	"imgbuild/tree"
)

// Request is what an installation depends on.
type Request struct {
	OS   *tree.Inode // the merged OS tree: usr/…, with /etc as usr/etc or etc
	Arch string      // GOARCH name: amd64, arm64, riscv64, ppc64le, s390x

	// BootUUID is the UUID of the file system that holds /boot, spelled as udev
	// does: lower-case and dashed for ext4, XFS and btrfs.
	BootUUID string
	// SkipBootUUID leaves bootuuid.cfg out: GRUB then searches the file system
	// label "boot".
	SkipBootUUID bool
	// BootFS is the type of the file system that holds /boot: ext4, xfs, btrfs.
	BootFS string
	// BootPartition is the number, from 1, of the partition of that file system.
	BootPartition int
	// DOS says that the partition table is that of an MBR. GRUB's core image for
	// BIOS is in the gap behind it then: BIOSBoot stands for that.
	DOS bool
	// SeparateBoot says that /boot is a file system of its own.
	SeparateBoot bool

	// NoESP says that the disk has no EFI system partition: nothing is
	// installed for UEFI.
	NoESP bool
	// BIOSBoot says that the disk has a BIOS boot partition. BIOSBootLBA is its
	// first 512-byte sector, BIOSBootSize its size in bytes, or 0 for no check.
	BIOSBoot     bool
	BIOSBootLBA  int64
	BIOSBootSize int64
	// PReP says that the disk has a PReP partition, of PRePSize bytes, or 0 for
	// no check.
	PReP     bool
	PRePSize int64

	Time int64 // modification time of what is made, seconds since 1970
}

// Result is what an installation puts on a disk.
type Result struct {
	// ESP is the root of the EFI system partition's tree, nil without UEFI.
	// Files of the image keep their time, which in a deployment is 0.
	ESP *tree.Inode
	// Boot is a directory whose entries belong in /boot: grub2, efi (an empty
	// mount point, with UEFI), bootupd-state.json. Modes and owners are final;
	// there are no labels.
	Boot *tree.Inode
	// BootCode is for the first bytes of sector 0, nil without BIOS. Core is
	// for the start of the BIOS boot or PReP partition, in whole sectors; the
	// rest of it is zero.
	BootCode, Core []byte
	// RepoBootloader is ostree's sysroot.bootloader: "none", or "grub2" for a
	// GRUB that cannot read boot loader entries.
	RepoBootloader string
	// LoaderGrubCfg, not nil with "grub2", returns the grub.cfg that belongs
	// into the directory that /boot/loader points to, beside entries. Its
	// arguments are the texts of the boot loader entries, the default first.
	LoaderGrubCfg func(entries ...[]byte) ([]byte, error)
	// CheckEntry, where not nil, tells whether GRUB can show the text of a boot
	// loader entry.
	CheckEntry func(entry []byte) error
	// Warnings are lines for the user, those of Detect included.
	Warnings []string
}

// Capabilities say what an image can be booted by.
type Capabilities struct {
	UEFI bool // the image has an EFI payload for the architecture
	BIOS bool // … GRUB for PC BIOS
	PReP bool // … GRUB for Open Firmware

	Vendor      string // directory on the ESP, as in "fedora"
	Shim        bool   // the EFI payload starts with shim
	EFIVersion  string // as bootupd shows them, "" without bootupd
	BIOSVersion string // of GRUB for BIOS or Open Firmware

	// Where GRUB's command for boot loader entries is: in the EFI binary, in
	// the modules for UEFI (not loaded under Secure Boot), in those for BIOS or
	// Open Firmware.
	BLSInEFI, BLSInEFIModules, BLSInBIOS bool

	Warnings []string
}

// Detect tells what the image can be booted by. An image without any boot
// loader for the architecture is an error of class fault.BadImage, and so is one
// for which [Install] would find no menu on a disk that has all partitions.
func Detect(os *tree.Inode, arch string) (*Capabilities, error) {
	s, err := inspect(os, arch)
	if err != nil {
		return nil, err
	}
	caps := s.caps
	in := &installation{Request: &Request{OS: os, Arch: arch}, survey: s, uefi: caps.UEFI, bios: caps.BIOS, prep: caps.PReP}
	if _, err := in.chooseMenu(); err != nil {
		return nil, err
	}
	return &caps, nil
}

// Install returns what the boot loaders of the image put on the disk. Errors
// are of class fault.BadImage where the image is at fault, and of
// fault.Unsupported where the architecture or the layout is.
func Install(r *Request) (*Result, error) {
	s, err := inspect(r.OS, r.Arch)
	if err != nil {
		return nil, err
	}
	in := &installation{Request: r, survey: s}
	if err := in.run(); err != nil {
		return nil, fault.Default(fault.BadImage, err)
	}
	return &in.result, nil
}
