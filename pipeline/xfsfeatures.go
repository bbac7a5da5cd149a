package pipeline

import (
	"regexp"
	"strconv"

	"imgbuild/filesystem/xfs"
	"imgbuild/layouts"
)

// xfsSince lists the features of XFS by the kernel, as major*1000+minor, from
// which xfsprogs makes file systems with them for that kernel: its
// mkfs/lts_*.conf. What Linux merged as experimental comes later than its merge.
// Bigtime and InobtCount are on since 5.14, not 5.15: that is the kernel of
// RHEL 9, whose mkfs.xfs has them. Metadata directories are in no configuration.
func xfsSince() []struct {
	kernel   int
	features xfs.Features
} {
	return []struct {
		kernel   int
		features xfs.Features
	}{
		{0, xfs.Finobt},
		{5_004, xfs.Reflink},
		{5_014, xfs.Bigtime | xfs.InobtCount},
		{6_006, xfs.Rmapbt | xfs.NrExt64},
		{6_018, xfs.ExchangeRange | xfs.Parent},
	}
}

// xfsUnread are features that GRUB does not read before a version 2.minor
// (grub-core/fs/xfs.c, XFS_SB_FEAT_INCOMPAT_SUPPORTED).
func xfsUnread(minor int) xfs.Features {
	var f xfs.Features
	if minor < 6 {
		f |= xfs.Bigtime
	}
	if minor < 12 {
		f |= xfs.NrExt64
	}
	if minor < 14 {
		f |= xfs.ExchangeRange | xfs.Parent
	}
	return f
}

// oldestGRUB is the minor version 2.06, taken where an image does not say: what
// has bootupd is no older.
const oldestGRUB = 6

var kernelVersion = regexp.MustCompile(`^(\d{1,3})\.(\d{1,3})`)

// xfsFeatures returns the features of XFS for the kernel of an image. A file
// system that GRUB reads, of the versions given, has only what all of these
// know.
func xfsFeatures(kernel string, readByGRUB bool, grub ...string) xfs.Features {
	m := kernelVersion.FindStringSubmatch(kernel)
	if m == nil {
		return xfs.DefaultFeatures
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	var f xfs.Features
	for _, since := range xfsSince() {
		if major*1000+minor >= since.kernel {
			f |= since.features
		}
	}
	if readByGRUB {
		f &^= xfsUnread(grubMinor(grub...))
	}
	return f
}

// grubVersion finds 2.minor in a list of packages as bootupd has it:
// "grub2-efi-x64-1:2.06-95.el9.x86_64,shim-x64-15.8-3.x86_64".
var grubVersion = regexp.MustCompile(`(?:^|,)grub[^,]*?[-:+]2\.(\d{2})(?:\D|$)`)

// grubMinor returns the oldest minor version of GRUB 2.
func grubMinor(versions ...string) int {
	oldest := 0
	for _, v := range versions {
		if v == "" {
			continue
		}
		minor := oldestGRUB
		if m := grubVersion.FindStringSubmatch(v); m != nil {
			minor, _ = strconv.Atoi(m[1])
		}
		if oldest == 0 || minor < oldest {
			oldest = minor
		}
	}
	if oldest == 0 {
		return oldestGRUB
	}
	return oldest
}

// chooseXFSFeatures sets the features of the XFS file systems of a layout.
func (d *disks) chooseXFSFeatures(kernel string) {
	boot := d.bootPart()
	for i := range d.parts {
		if p := &d.parts[i]; p.FS != nil && p.FS.Type == layouts.XFS {
			p.xfsFeatures = xfsFeatures(kernel, p == boot, d.caps.EFIVersion, d.caps.BIOSVersion)
		}
	}
}
