// Package fat writes FAT file systems: FAT32, and FAT16 for media.
//
// The format is that of Microsoft's "FAT32 File System Specification" 1.03
// (December 2000), with the long names of its section "FAT Long Directory
// Entries", which the UEFI specification 2.10 section 13.3 builds on. Written is
// FAT32: two FATs, 32 reserved sectors, FSInfo in sector 1, a backup of both
// boot sectors at 6, sectors of 512 and 4096 bytes, clusters of 512 bytes to
// 32 KiB chosen as mkfs.fat does; and, when asked for, FAT16 for small volumes.
//
// FAT holds directories, regular files, their names and times of two seconds.
// Owners, permissions and extended attributes of the tree are left out, a hard
// link becomes a copy. What would silently be something else is refused: symbolic
// links, devices, names that FAT or Linux and Windows on it cannot keep, names
// that differ in case only, files of 4 GiB and more. Times are UTC, as Linux
// takes them with tz=UTC.
package fat

import (
	"context"
	"errors"
	"fmt"

	"imgbuild/disk"
	"imgbuild/tree"
)

// Options are the parameters of a file system beside its tree and size.
type Options struct {
	// VolumeID is the serial number, whose text form is [UUID]. Not zero.
	VolumeID uint32
	// Label is the volume label, up to 11 bytes of ASCII, which is put in upper
	// case. It goes into the boot sector and, as a volume entry, into the root.
	Label string
	// HiddenSectors is the start of the partition on its disk, in sectors.
	HiddenSectors uint32
	// Heads and SectorsPerTrack are the geometry that the boot sector states, for
	// firmware that still reads it: 1 to 255, and 1 to 63. 0 is 255 and 63.
	Heads, SectorsPerTrack int
	// SectorSize is the logical sector size of the disk in bytes, 512 or 4096.
	// 0 is 512.
	SectorSize int
	// FAT16 writes a FAT16 with clusters of one sector: 2 to 32 MiB, where a FAT32
	// has 33 at least. It is for media: firmware has to read FAT32 on disks, and all
	// kinds on media (UEFI 2.10, 13.3.1.1).
	FAT16 bool
	// Time is the time of the volume entry and of inodes whose Mtime is 0, in
	// seconds since 1970. Times before 1980 become 1980, the first that FAT knows.
	Time int64
}

// UUID returns the text form of a volume ID that blkid, udev and GRUB use.
func UUID(volumeID uint32) string {
	return fmt.Sprintf("%04X-%04X", volumeID>>16, volumeID&0xFFFF)
}

// Size returns the smallest size in bytes, whole sectors, of a file system that
// holds the tree and has at least free bytes left. It needs no VolumeID.
func Size(root *tree.Inode, free int64, opt Options) (int64, error) {
	opt, label, err := opt.resolve()
	if err != nil {
		return 0, err
	}
	if free < 0 {
		return 0, fmt.Errorf("fat: negative free space %d", free)
	}
	p, err := newPlan(context.Background(), root, label != nil)
	if err != nil {
		return 0, err
	}
	if opt.FAT16 {
		return p.size16(free, int64(opt.SectorSize))
	}
	return p.size(free, int64(opt.SectorSize))
}

// Write returns the extents of a file system of size bytes that holds the tree.
// Bytes beyond the last whole sector stay unused. A size below what the tree, or
// FAT32 itself, needs is a *[filesystem.TooSmallError].
func Write(ctx context.Context, root *tree.Inode, size int64, opt Options) ([]disk.Extent, error) {
	opt, label, err := opt.resolve()
	if err != nil {
		return nil, err
	}
	if opt.VolumeID == 0 {
		return nil, errors.New("fat: the volume ID is zero")
	}
	p, err := newPlan(ctx, root, label != nil)
	if err != nil {
		return nil, err
	}
	geometryOf := p.geometry
	if opt.FAT16 {
		geometryOf = p.geometry16
	}
	g, err := geometryOf(size, int64(opt.SectorSize))
	if err != nil {
		return nil, err
	}
	used := p.assign(g)

	boot := newBootSector(g, opt, label)
	var extents []disk.Extent
	if opt.FAT16 {
		extents = head16(p, g, used, boot) // boot sector and FATs
	} else {
		extents = bootRegion(g, used, boot) // boot sectors and FSInfo, twice
		extents = append(extents, fats(p, g, used)...)
	}
	extents = append(extents, directories(p, g, opt, label)...)
	extents = append(extents, files(p, g)...)
	return extents, nil
}

// resolve validates the options and returns them with defaults filled in, and
// the label as it is on disk.
func (opt Options) resolve() (Options, *shortName, error) {
	switch opt.SectorSize {
	case 0:
		opt.SectorSize = 512
	case 512, 4096:
	default:
		return opt, nil, fmt.Errorf("fat: sector size %d is neither 512 nor 4096", opt.SectorSize)
	}
	if opt.Heads < 0 || opt.Heads > 255 || opt.SectorsPerTrack < 0 || opt.SectorsPerTrack > 63 {
		return opt, nil, fmt.Errorf("fat: geometry of %d heads and %d sectors per track", opt.Heads, opt.SectorsPerTrack)
	}
	if opt.Heads == 0 {
		opt.Heads = 255
	}
	if opt.SectorsPerTrack == 0 {
		opt.SectorsPerTrack = 63
	}
	label, err := parseLabel(opt.Label)
	if err != nil {
		return opt, nil, fmt.Errorf("fat: %w", err)
	}
	return opt, label, nil
}
