// Package iso writes bootable ISO 9660 images and reads them.
//
// The format is ECMA-119 (ISO 9660) level 3, with Rock Ridge (RRIP 1.10,
// SUSP 1.10), Joliet level 3, El Torito 1.0 boot entries for BIOS and UEFI, and,
// around all that, a GUID partition table with the EFI system partition appended
// behind the file system: the same bytes start from a CD and from a USB stick,
// by BIOS and UEFI, as those do that xorriso makes with -appended_part_as_gpt,
// --grub2-mbr and -partition_offset 16. The media checksum is that of
// isomd5sum's implantisomd5.
//
// The subset written: one session, blocks of 2048 bytes, files of any size (4 GiB
// and more as several extents), directories as deep as the tree (no relocation
// behind the eighth level: systems that read Rock Ridge do not need it), names of
// 255 bytes in Rock Ridge and 64 characters in Joliet, symbolic links and device
// nodes in Rock Ridge only. Hard links share their blocks. Extended attributes
// are left out; who needs them puts a file system image on the ISO.
//
// Layout, in blocks:
//
//	0    system area: MBR and GPT
//	16   descriptors: primary, El Torito, Joliet, terminator
//	32   the same with addresses that count from block 16, for the first partition
//	…    path tables and directories of the four trees, continuation areas
//	…    boot catalog
//	…    content of files
//	…    EFI system partition
//	…    300 KiB for drives that read ahead, backup of the GPT
//
// Content is read once, front to back, and hashed on the way.
package iso

import (
	"context"
	"io"
	"os"

	"imgbuild/disk"
	"imgbuild/tree"
)

// BlockSize is the unit of addresses on an ISO, in bytes.
const BlockSize = 2048

// Options are the parameters of an ISO beside its tree.
type Options struct {
	// VolumeID is the name by which boot loaders and initramfs find the medium,
	// see [CheckVolumeID]. It is required.
	VolumeID string
	// SystemID says for whom the system area is; "" is "LINUX".
	SystemID string
	// Application is the application identifier, up to 128 characters; "" is
	// "IMGBUILD".
	Application string
	// Publisher is the publisher identifier, up to 128 characters.
	Publisher string
	// Time is the time of the volume, in seconds since 1970. Files have that of
	// their inodes.
	Time int64
	// Seed is what the GUIDs of the partition table derive from.
	Seed []byte
	// BIOS says how the ISO starts from a BIOS, nil for not at all.
	BIOS *BIOSBoot
	// ESP is the EFI system partition that the ISO starts from by UEFI, nil for
	// not at all. Its size is a multiple of 2048 bytes.
	ESP *disk.Image
	// ESPPath, where not "", is a path in the tree where the EFI system partition
	// appears as a file as well, as in "images/efiboot.img". Its blocks are those
	// of the partition.
	ESPPath string
	// OmitChecksum leaves the media checksum out.
	OmitChecksum bool
	// Streams gives the content of files that cannot be read at random, in place
	// of Inode.Content. Each is opened once, when its turn has come.
	Streams map[*tree.Inode]Stream
	// Progress is called now and then, from one goroutine at a time, with the
	// number of bytes done and of all. It may be nil.
	Progress func(done, total int64)
}

// BIOSBoot says how an ISO starts from a BIOS.
type BIOSBoot struct {
	// Path is that of the boot image in the tree, as in "images/eltorito.img":
	// GRUB's cdboot.img followed by a core image. Its boot information table and
	// GRUB's own block list are filled in on the ISO.
	Path string
	// MBR is the boot sector for the same ISO on a disk: GRUB's boot_hybrid.img.
	// nil leaves the ISO startable from CD only.
	MBR []byte
}

// Stream is content that can be read from its beginning only.
type Stream struct {
	Size int64 // in bytes; to yield less or more is an error
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Write writes an ISO with the files of root to f, a new empty file, and makes it
// durable. An error of the file carries a class of package fault; f is then in no
// defined state.
func Write(ctx context.Context, root *tree.Inode, f *os.File, opt Options) error {
	p, err := newPlan(root, opt)
	if err != nil {
		return err
	}
	return p.write(ctx, f)
}

// Size returns the size in bytes of what [Write] would write.
func Size(root *tree.Inode, opt Options) (int64, error) {
	p, err := newPlan(root, opt)
	if err != nil {
		return 0, err
	}
	return p.size(), nil
}
