package layouts

import "imgbuild/partition"

// Firmware says what an image can be booted by.
type Firmware struct{ UEFI, BIOS, PReP bool }

// any tells whether the image brings a boot loader at all.
func (f Firmware) any() bool { return f.UEFI || f.BIOS || f.PReP }

// Default returns imgbuild's own layout, which is image-builder's but for the
// types and names of its partitions, those of bootc install: what the firmware
// needs, /boot and root.
func Default(arch string, f Firmware, rootFS string) *Layout {
	l := &Layout{Table: GPT, SectorSize: 512, Grain: DefaultGrain}
	if f.BIOS {
		l.add(biosBoot())
	}
	if f.PReP {
		l.add(prep(GPT))
	}
	if f.UEFI {
		p := esp(GPT, defaultESP)
		p.FS.Label, p.FS.Options = "EFI-SYSTEM", "umask=0077,shortname=winnt"
		l.add(p)
	}
	boot := bootPartition(l, Ext4)
	boot.Name, boot.FS.Options = "boot", "ro"
	l.add(boot)
	l.add(Partition{
		Name: "root", Type: rootType(GPT, arch),
		FS: &FileSystem{Type: rootFS, Label: "root", Mount: "/", Options: "ro", Verity: rootFS == Ext4},
	})
	return l
}

func (l *Layout) add(p Partition) { l.Partitions = append(l.Partitions, p) }

// biosBoot returns the partition for GRUB's core image on BIOS machines. An MBR
// needs none: the core image is in the gap behind it.
func biosBoot() Partition {
	return Partition{Name: "BIOS-BOOT", Type: partition.BIOSBoot.String(), Size: biosSize, Bootable: true}
}

func prep(t Table) Partition {
	return Partition{Name: name(t, "PowerPC-PReP-boot"), Type: pick(t, partition.PReP, dosPReP), Size: prepSize, Bootable: true}
}

// esp returns an EFI system partition as image-builder adds it.
func esp(t Table, size int64) Partition {
	return Partition{
		Name: name(t, "EFI-SYSTEM"), Type: pick(t, partition.ESP, dosESP), Size: size,
		FS: &FileSystem{Type: VFAT, Label: "ESP", Mount: "/boot/efi", Options: espOptions, PassNo: 2},
	}
}

// espOptions mounts an ESP that image-builder adds.
const espOptions = "defaults,uid=0,gid=0,umask=077,shortname=winnt"

// rootType returns the type of the root partition: that of the Discoverable
// Partitions Specification, where it has one for the architecture.
func rootType(t Table, arch string) string {
	guid, ok := partition.RootType(arch)
	if !ok {
		guid = partition.LinuxData
	}
	return pick(t, guid, dosLinux)
}

// pick returns the type of a partition in a table.
func pick(t Table, gpt partition.GUID, dos string) string {
	if t == DOS {
		return dos
	}
	return gpt.String()
}

// name returns the name of a partition where the table has names.
func name(t Table, s string) string {
	if t == DOS {
		return ""
	}
	return s
}
