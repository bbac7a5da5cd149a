// Package grub composes GRUB's boot path for PC BIOS (platform i386-pc) and Open
// Firmware (powerpc-ieee1275) from the files of a GRUB installation, and looks
// into the EFI binaries of one.
//
// There is no specification; the rules are those of GRUB's own tools, the same
// from 2.06 to 2.14: grub-mkimage (util/mkimage.c, util/grub-mkimagexx.c,
// util/resolve.c), grub-bios-setup (util/setup.c) and grub-install
// (util/grub-install-common.c). The subset:
//
//   - a core image with an LZMA-compressed kernel, modules, optional embedded
//     configuration and prefix, for a BIOS boot partition on GPT;
//   - boot.img for a hard disk with 512-byte sectors;
//   - core.elf for a PReP partition, an ELF executable with the kernel and the
//     module area as they are;
//   - the environment block, module directories, the modules inside an EFI
//     binary, the commands of a configuration.
//
// Not written: memory disks, public keys and the other objects whose numbers
// differ between vendors, Reed-Solomon redundancy (it guards the gap behind an
// MBR, not a partition), block lists of more than one piece, the notes of
// core.elf (CHRP's, which grub-install leaves out, SBAT's, and appended
// signatures).
//
// All integers are little-endian, on powerpc big-endian; a sector has 512 bytes.
package grub

// sizeSector is the unit in which the BIOS, and so boot.img and diskboot.img,
// count.
const sizeSector = 512

// Addresses of the i386-pc boot path (include/grub/offsets.h).
const (
	kernelLink       = 0x9000   // GRUB_KERNEL_I386_PC_LINK_ADDR: where kernel.img is linked
	coreSegment      = 0x0820   // segment that diskboot.img loads the rest of the core to
	coreLoadAddr     = 0x9000   // what a core image's size is checked against, as mkimage does
	maxCoreEnd       = 0x78000  // end of what may be loaded: 0x8000 below the end of low memory
	maxKernelEnd     = 0x68000  // GRUB_MEMORY_I386_PC: end of the kernel with its .bss
	maxUncompressed  = 0x300000 // kernel and modules of a core image
	maxKernelMemory  = 32 << 20 // with .bss; the kernels known have 120 KiB
	maxAlign         = 64 << 10
	blockListSectors = 0xffff // a block list entry counts in 16 bits
)

// boot.img (grub-core/boot/i386/pc/boot.S): 512 bytes, of which the last 72
// belong to the disk.
const (
	bootBPBStart     = 0x03 // BIOS parameter block, kept from the disk: zero here
	bootBPBEnd       = 0x5a
	bootKernelSector = 0x5c // u64 first sector of the core image
	bootDriveCheck   = 0x66 // two bytes: a jump over the drive check, or two NOPs
	// SizeBootCode is the length of boot code in sector 0, before the disk
	// signature and the partition table.
	SizeBootCode = 440
)

// diskboot.img (grub-core/boot/i386/pc/diskboot.S): one sector that ends with
// a block list growing downwards.
const (
	blockListFirst = 500 // u64 sector, u16 count, u16 segment
	sizeBlockList  = 12
)

// lzma_decompress.img (grub-core/boot/i386/pc/startup_raw.S).
const (
	rawCompressedSize   = 0x08 // u32
	rawUncompressedSize = 0x0c // u32
	rawRedundancy       = 0x10 // u32 bytes of Reed-Solomon codes
	sizeRawHeader       = 0x1c
)

// Module area (include/grub/kernel.h, struct grub_module_info32 and 64).
const (
	moduleMagic    = 0x676d696d // "mimg"
	sizeModInfo32  = 12         // u32 magic, u32 offset of the first object, u32 size of all
	sizeModInfo64  = 24         // u32 magic, u32 padding, u64 offset, u64 size
	sizeObject     = 8          // u32 type, u32 size with this header and the padding
	objectAlign    = 4
	maxObjects     = 4096
	maxModuleArea  = 64 << 20
	maxModuleFile  = 4 << 20 // a module; the largest known has 400 KiB
	maxKernelFile  = 8 << 20
	maxListFile    = 1 << 20
	maxModuleCount = 4096
)

// objectType is the kind of an object in the module area. The numbers above 3
// differ between vendors and releases.
type objectType uint32

const (
	objectELF    objectType = 0
	objectConfig objectType = 2
	objectPrefix objectType = 3
)
