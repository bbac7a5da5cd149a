package grub

import (
	"fmt"
	"strings"

	"imgbuild/bootloader/bls"
)

// MenuOptions say where the kernels of a menu are.
type MenuOptions struct {
	BootUUID string // of the file system that holds /boot
	BootFS   string // its type: ext4, xfs, btrfs
}

// fileSystemModule returns GRUB's module for a file system type.
func fileSystemModule(fstype string) (string, error) {
	switch fstype {
	case "ext4", "ext3", "ext2":
		return "ext2", nil
	case "xfs", "btrfs":
		return fstype, nil
	case "vfat":
		return "fat", nil
	}
	return "", fmt.Errorf("GRUB module for a /boot file system of type %q", fstype)
}

// CoreModules returns the modules that a core image for PC BIOS needs to read
// GRUB's directory on a file system of the type, which is that of bootupd's
// grub-install: mdraid1x is for a /boot that becomes a RAID later.
//
// With dos, the partition table is that of an MBR; bootupd asks for part_gpt all
// the same.
func CoreModules(fstype string, dos bool) ([]string, error) {
	fs, err := fileSystemModule(fstype)
	if err != nil {
		return nil, err
	}
	if dos {
		return []string{"biosdisk", "part_msdos", fs, "mdraid1x", "part_gpt"}, nil
	}
	return []string{"biosdisk", "part_gpt", fs, "mdraid1x"}, nil
}

// CoreELFModules returns those for Open Firmware, whose kernel reads disks by
// itself.
func CoreELFModules(fstype string, dos bool) ([]string, error) {
	fs, err := fileSystemModule(fstype)
	if err != nil {
		return nil, err
	}
	if dos {
		return []string{"part_msdos", fs}, nil
	}
	return []string{"part_gpt", fs}, nil
}

// Menu returns a grub.cfg with what grub-mkconfig and ostree's generator
// (ostree admin instutil grub2-generate) make of the boot loader entries, in
// the order given, without the drive hints that depend on the machine. It is
// for a GRUB that cannot read boot loader entries, with ostree's grub2 back end
// to write the next one.
func Menu(entries []bls.Entry, o MenuOptions) ([]byte, error) {
	fs, err := fileSystemModule(o.BootFS)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString(`if [ -s $prefix/grubenv ]; then
  load_env
fi
function load_video {
  insmod all_video
}
set default=0
set timeout_style=menu
set timeout=1

### BEGIN /etc/grub.d/15_ostree ###
`)
	for k, e := range entries {
		title := e.Title
		if title == "" {
			title = "(Untitled)"
		}
		fmt.Fprintf(&b, "menuentry %s --class gnu-linux --class gnu --class os --unrestricted %s {\n",
			quote(title), quote(fmt.Sprintf("ostree-%d-%s", k, o.BootUUID)))
		b.WriteString("load_video\nset gfxpayload=keep\ninsmod gzio\ninsmod part_gpt\ninsmod " + fs + "\n")
		b.WriteString("search --no-floppy --fs-uuid --set=root " + o.BootUUID + "\n")
		line(&b, "linux", e.Linux, e.Options)
		if len(e.Initrd) > 0 {
			line(&b, "initrd", e.Initrd...)
		}
		if e.DeviceTree != "" {
			line(&b, "devicetree", e.DeviceTree)
		}
		b.WriteString("}\n")
	}
	b.WriteString("### END /etc/grub.d/15_ostree ###\n")
	return []byte(b.String()), nil
}

// Stub returns the grub.cfg of a vendor directory on the ESP: it hands over to
// the one in the directory dir on the file system with the UUID, as the stub
// that grub-install writes does.
func Stub(uuid, dir string) []byte {
	return fmt.Appendf(nil, "search.fs_uuid %s root\nset prefix=($root)%s\nconfigfile $prefix/grub.cfg\n", uuid, quote(dir))
}

// line writes a command line. Arguments are written as they are, as ostree
// does: kernel options are words of GRUB's language already.
func line(b *strings.Builder, command string, args ...string) {
	b.WriteString(command)
	for _, a := range args {
		if a != "" {
			b.WriteString(" " + a)
		}
	}
	b.WriteString("\n")
}

// quote returns s as one word of GRUB's script language.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
