package grub

import (
	"fmt"

	"imgbuild/tree"
)

// cdboot.img (grub-core/boot/i386/pc/cdboot.S): four sectors that the firmware
// loads from a CD, and which load what follows them.
const sizeCDBoot = 4 * sizeSector

// CDModules returns the modules that a core image needs to read GRUB's directory
// on an ISO, started from a CD or as a disk.
func CDModules() []string { return []string{"biosdisk", "part_gpt", "iso9660"} }

// ComposeCD makes the boot image of a CD, as grub-mkimage's format
// i386-pc-eltorito has it: cdboot.img and a core image. Where it is on the medium
// is filled in by whoever writes that: the boot information table at offset 8, and
// the first address of the block list of the core image.
func ComposeCD(os *tree.Inode, dir string, o CoreOptions) ([]byte, error) {
	boot, err := tree.ReadFile(os, dir+"/cdboot.img", sizeCDBoot)
	if err != nil {
		return nil, err
	}
	if len(boot) != sizeCDBoot {
		return nil, fmt.Errorf("%s/cdboot.img: %d bytes instead of %d", dir, len(boot), sizeCDBoot)
	}
	core, _, err := composeCore(os, dir, o, 1)
	if err != nil {
		return nil, err
	}
	return append(boot, core...), nil
}

// HybridBootCode returns boot_hybrid.img, the boot sector of an ISO on a disk.
func HybridBootCode(os *tree.Inode, dir string) ([]byte, error) {
	b, err := tree.ReadFile(os, dir+"/boot_hybrid.img", sizeSector)
	if err != nil {
		return nil, err
	}
	if len(b) != sizeSector || b[510] != 0x55 || b[511] != 0xaa {
		return nil, fmt.Errorf("%s/boot_hybrid.img: %d bytes, not a boot sector", dir, len(b))
	}
	return b, nil
}
