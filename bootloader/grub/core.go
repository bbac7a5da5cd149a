package grub

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"imgbuild/content"
	"imgbuild/tree"

	"github.com/ulikunitz/xz/lzma"
)

// lzmaAloneHeader is the length of the header of an LZMA "alone" stream, which
// GRUB's decompressor does without: properties, dictionary size, length.
const lzmaAloneHeader = 13

// lzmaDictionary is GRUB's dictionary size in bytes.
const lzmaDictionary = 64 << 10

// CoreOptions say what a core image contains.
type CoreOptions struct {
	// Modules are loaded at start, in this order and behind what they need.
	Modules []string
	// Prefix is where GRUB finds its directory, as in "(,gpt3)/grub2". An empty
	// device part is completed from the drive that the BIOS booted.
	Prefix string
	// Config is a configuration run before anything else, or empty.
	Config string
}

// Core is a composed boot path.
type Core struct {
	Image    []byte // for the start of the BIOS boot or PReP partition, whole sectors
	BootCode []byte // SizeBootCode bytes for sector 0 of the disk, nil for PReP
	// File is core.img or core.elf as grub-mkimage makes it and grub-install
	// leaves it in the module directory: core.img for sector 1, both without
	// padding.
	File    content.Ref
	Modules []string // in the order they are loaded
}

// Compose makes the core image and the boot code for a disk whose BIOS boot
// partition begins at sector lba, from the i386-pc directory of a GRUB
// installation. os is the root that symbolic links in dir are relative to.
func Compose(os *tree.Inode, dir string, o CoreOptions, lba int64) (*Core, error) {
	if lba < 1 {
		return nil, fmt.Errorf("BIOS boot partition at sector %d", lba)
	}
	image, modules, err := composeCore(os, dir, o, lba)
	if err != nil {
		return nil, err
	}
	sectors := (len(image)+sizeSector-1)/sizeSector - 1
	file := bytes.Clone(image)
	setBlockList(file, 1, sectors)
	if tail := len(image) % sizeSector; tail != 0 {
		image = append(image, make([]byte, sizeSector-tail)...)
	}
	boot, err := bootCode(os, dir, lba)
	if err != nil {
		return nil, err
	}
	return &Core{Image: image, BootCode: boot, File: content.Bytes(file), Modules: modules}, nil
}

// composeCore makes a core image without padding, told that its first sector is
// lba, and returns the modules in it.
func composeCore(os *tree.Inode, dir string, o CoreOptions, lba int64) (image []byte, modules []string, err error) {
	parts, err := composePayload(os, dir, platformPC(), o)
	if err != nil {
		return nil, nil, err
	}
	payload := append(parts.kernel.image, parts.area...)
	stream, err := compress(payload)
	if err != nil {
		return nil, nil, fmt.Errorf("compress the core image: %w", err)
	}
	raw, err := decompressor(os, dir, len(stream), len(payload))
	if err != nil {
		return nil, nil, err
	}
	raw = append(raw, stream...)
	if coreLoadAddr+len(raw) > maxCoreEnd {
		return nil, nil, fmt.Errorf("%s: core image of %d bytes, and %d are possible", dir, len(raw), maxCoreEnd-coreLoadAddr)
	}
	sectors := (len(raw) + sizeSector - 1) / sizeSector
	image, err = firstSector(os, dir, lba, sectors)
	if err != nil {
		return nil, nil, err
	}
	return append(image, raw...), parts.modules, nil
}

// compress returns the raw LZMA1 stream of b, lc=3 lp=0 pb=2. It has no end
// marker: GRUB's decompressor stops at the length it is told.
func compress(b []byte) ([]byte, error) {
	var out bytes.Buffer
	c := lzma.WriterConfig{
		Properties:   &lzma.Properties{LC: 3, LP: 0, PB: 2},
		DictCap:      lzmaDictionary,
		Size:         int64(len(b)),
		SizeInHeader: true,
	}
	w, err := c.NewWriter(&out)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if out.Len() <= lzmaAloneHeader {
		return nil, fmt.Errorf("LZMA stream of %d bytes", out.Len())
	}
	return out.Bytes()[lzmaAloneHeader:], nil
}

// decompressor returns lzma_decompress.img, told the lengths in bytes of the
// stream behind it and of what it unpacks to.
func decompressor(os *tree.Inode, dir string, compressed, uncompressed int) ([]byte, error) {
	b, err := tree.ReadFile(os, dir+"/lzma_decompress.img", maxModuleFile)
	if err != nil {
		return nil, err
	}
	if len(b) < sizeRawHeader {
		return nil, fmt.Errorf("%s/lzma_decompress.img: %d bytes", dir, len(b))
	}
	le := binary.LittleEndian
	le.PutUint32(b[rawCompressedSize:], uint32(compressed))
	le.PutUint32(b[rawUncompressedSize:], uint32(uncompressed))
	le.PutUint32(b[rawRedundancy:], 0)
	return b, nil
}

// firstSector returns diskboot.img, told to load the sectors that follow it.
func firstSector(os *tree.Inode, dir string, lba int64, sectors int) ([]byte, error) {
	b, err := tree.ReadFile(os, dir+"/diskboot.img", sizeSector)
	if err != nil {
		return nil, err
	}
	if len(b) != sizeSector {
		return nil, fmt.Errorf("%s/diskboot.img: %d bytes instead of %d", dir, len(b), sizeSector)
	}
	if sectors > blockListSectors {
		return nil, fmt.Errorf("%s: core image of %d sectors", dir, sectors)
	}
	setBlockList(b, lba, sectors)
	return b, nil
}

// setBlockList sets the block list of a core image whose first sector is lba,
// and which has sectors more.
func setBlockList(b []byte, lba int64, sectors int) {
	le := binary.LittleEndian
	le.PutUint64(b[blockListFirst:], uint64(lba)+1)
	le.PutUint16(b[blockListFirst+8:], uint16(sectors))
	le.PutUint16(b[blockListFirst+10:], coreSegment)
	// The list grows downwards and ends at an entry of no sectors.
	clear(b[blockListFirst-sizeBlockList : blockListFirst])
}

// bootCode returns boot.img, told where the core image is, as far as it
// precedes the disk signature.
func bootCode(os *tree.Inode, dir string, lba int64) ([]byte, error) {
	b, err := tree.ReadFile(os, dir+"/boot.img", sizeSector)
	if err != nil {
		return nil, err
	}
	if len(b) != sizeSector || b[510] != 0x55 || b[511] != 0xaa {
		return nil, fmt.Errorf("%s/boot.img: %d bytes, not a boot sector", dir, len(b))
	}
	clear(b[bootBPBStart:bootBPBEnd])
	binary.LittleEndian.PutUint64(b[bootKernelSector:], uint64(lba))
	// Hard disks want the check for BIOSes that pass a wrong drive number; the
	// jump that ships skips it, for floppies.
	b[bootDriveCheck], b[bootDriveCheck+1] = 0x90, 0x90
	return b[:SizeBootCode:SizeBootCode], nil
}
