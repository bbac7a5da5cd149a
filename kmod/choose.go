package kmod

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"imgbuild/tree"
)

// Choice are the modules for a small system.
type Choice struct {
	Modules  []*Module // ascending by name; all that one depends on is there
	Firmware []File    // ascending by path
	Index    *Index
	// Broken names the modules that were left out, ascending, and what each of them
	// depends on that the kernel does not have: no kernel would load them.
	Broken []Broken
}

// Broken is a module that cannot be loaded.
type Broken struct{ Name, Missing string }

// File is a file of firmware.
type File struct {
	Path  string // below usr/lib/firmware, as it is in the image
	Inode *tree.Inode
}

// storage lists what gets a system at its disks, its media and its keyboard:
// modules of these directories below kernel/, or of these paths, with path.Match's
// patterns. A kernel has of them what it has.
func storage() []string {
	return []string{
		// Controllers and disks.
		"drivers/ata/*", "drivers/scsi/*", "drivers/scsi/**", "drivers/message/fusion/*", "drivers/nvme/host/*", "drivers/ufs/**",
		"drivers/block/virtio_blk", "drivers/block/xen-blkfront", "drivers/block/loop", "drivers/block/mtip32xx/*", "drivers/cdrom/*",
		"drivers/mmc/core/*", "drivers/mmc/host/*", "drivers/memstick/**", "drivers/misc/cardreader/*", "drivers/nvdimm/*",
		"drivers/pci/controller/**", "drivers/phy/**", "drivers/firmware/arm_scmi/*",
		// USB and what is behind it.
		"drivers/usb/core/*", "drivers/usb/common/*", "drivers/usb/host/*", "drivers/usb/storage/*", "drivers/usb/dwc2/*",
		"drivers/usb/dwc3/*", "drivers/usb/chipidea/*", "drivers/usb/musb/*", "drivers/usb/phy/*",
		// Hypervisors.
		"drivers/virtio/*", "drivers/hv/hv_vmbus", "drivers/xen/*", "drivers/char/virtio_console", "drivers/pci/controller/vmd",
		"drivers/misc/vmw_vmci/*",
		// Keyboards and consoles.
		"drivers/hid/hid", "drivers/hid/hid-generic", "drivers/hid/hid-hyperv", "drivers/hid/hid-apple", "drivers/hid/hid-cherry",
		"drivers/hid/hid-lenovo", "drivers/hid/hid-logitech*", "drivers/hid/hid-microsoft", "drivers/hid/hid-roccat",
		"drivers/hid/hid-corsair", "drivers/hid/hid-sunplus", "drivers/hid/usbhid/*", "drivers/hid/i2c-hid/*",
		"drivers/input/evdev", "drivers/input/keyboard/atkbd", "drivers/input/serio/*", "drivers/gpu/drm/tiny/simpledrm",
		"drivers/gpu/drm/sysfb/*", "drivers/tty/serial/**",
		// File systems: of media, of firmware, and for scratch space on a disk.
		"fs/isofs/*", "fs/fat/*", "fs/ext4/*", "fs/xfs/*", "fs/btrfs/*", "fs/efivarfs/*",
		"fs/nls/nls_cp437", "fs/nls/nls_ascii", "fs/nls/nls_iso8859-1", "fs/nls/nls_utf8", "fs/nls/nls_ucs2_utils",
		// Checksums that file systems ask for by an alias.
		"crypto/crc32*", "crypto/xxhash_generic", "crypto/blake2b*", "arch/*/crypto/crc32*", "arch/*/lib/crc32*", "lib/libcrc32c",
		"lib/crc/**",
	}
}

// foreign lists what is in these directories and of no use without a network, and
// what would take network stacks with it.
func foreign() []string {
	return []string{
		"drivers/scsi/bnx2i/*", "drivers/scsi/bnx2fc/*", "drivers/scsi/cxgbi/**", "drivers/scsi/be2iscsi/*", "drivers/scsi/qedi/*",
		"drivers/scsi/qedf/*", "drivers/scsi/fcoe/*", "drivers/scsi/fnic/*", "drivers/scsi/qla4xxx/*", "drivers/scsi/csiostor/*",
		"drivers/scsi/iscsi_tcp", "drivers/scsi/libiscsi*", "drivers/scsi/scsi_debug", "drivers/scsi/pcmcia/*", "drivers/scsi/elx/*",
		"drivers/ata/pata_pcmcia", "drivers/nvme/host/nvme-tcp", "drivers/nvme/host/nvme-rdma", "drivers/nvme/host/nvme-fc",
		"drivers/usb/host/u132-hcd", "drivers/usb/host/sl811_cs", "drivers/virtio/virtio_balloon", "drivers/virtio/virtio_mem",
		"drivers/virtio/virtio_vdpa", "drivers/xen/xen-*back*", "drivers/xen/xen-gntdev", "drivers/xen/xen-gntalloc",
		"drivers/xen/xen-scsiback", "drivers/pci/controller/pci-hyperv-intf", "drivers/mmc/core/mmc_test",
	}
}

// always lists modules that no device asks for.
func always() []string {
	return []string{"isofs", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8", "efivarfs", "virtio_pci", "virtio_mmio",
		"hid_generic", "usbhid", "atkbd", "i8042", "sd_mod", "sr_mod", "hv_vmbus", "hv_storvsc", "xen_blkfront", "loop"}
}

// Choose reads the modules of k that get a system at its disks, with all that they
// depend on, and finds their firmware below firmware, the directory
// usr/lib/firmware of the image, which may be nil.
func (k *Kernel) Choose(ctx context.Context, firmware *tree.Inode) (*Choice, error) {
	wanted, unwanted := storage(), foreign()
	todo := map[string]bool{}
	for name, f := range k.files {
		plain := f.path[:strings.LastIndex(f.path, ".ko")]
		_, within, ok := strings.Cut(plain, "/") // kernel/, or extra/, updates/
		if !ok {
			continue
		}
		if matchAny(within, wanted) && !matchAny(within, unwanted) {
			todo[name] = true
		}
	}
	chosen := map[string]*Module{}
	missing := map[string]string{} // by the module that cannot do without it
	var left atomic.Int64
	left.Store(maxTotal)
	for len(todo) > 0 {
		list, err := k.read(ctx, sortedKeys(todo), &left)
		if err != nil {
			return nil, err
		}
		next := map[string]bool{}
		for _, m := range list {
			chosen[m.Name] = m
		}
		for _, m := range list {
			for _, d := range m.Depends {
				switch _, ok := k.files[d]; {
				case chosen[d] != nil || k.builtin[d]:
				case !ok:
					missing[m.Name] = d
				default:
					next[d] = true
				}
			}
			for _, d := range slices.Concat(m.Pre, m.Post) {
				if _, ok := k.files[d]; ok && chosen[d] == nil {
					next[d] = true
				}
			}
		}
		todo = next
	}
	c := &Choice{Broken: dropBroken(chosen, missing)}
	for _, name := range sortedKeys(chosen) {
		c.Modules = append(c.Modules, chosen[name])
	}
	c.Firmware = firmwareOf(c.Modules, firmware)
	total := int64(0)
	for _, f := range c.Firmware {
		if total += f.Inode.Content.Size(); total > maxTotal {
			return nil, fmt.Errorf("the firmware for disks takes more than %d bytes", maxTotal)
		}
	}
	c.Index = newIndex(c.Modules)
	return c, nil
}

// dropBroken takes out of chosen the modules that miss something, and those that
// depend on them.
func dropBroken(chosen map[string]*Module, missing map[string]string) (list []Broken) {
	for again := len(missing) > 0; again; {
		again = false
		for _, name := range sortedKeys(chosen) {
			for _, d := range chosen[name].Depends {
				if what, ok := missing[d]; ok && missing[name] == "" {
					missing[name], again = what, true
				}
			}
		}
	}
	for _, name := range sortedKeys(missing) {
		delete(chosen, name)
		list = append(list, Broken{name, missing[name]})
	}
	return list
}

// firmwareOf returns the files that the modules name and the image has.
func firmwareOf(modules []*Module, dir *tree.Inode) (list []File) {
	if dir == nil {
		return nil
	}
	found := map[string]*tree.Inode{}
	for _, m := range modules {
		for _, name := range m.Firmware {
			// A pattern stands for what no system has all of, and what is elsewhere
			// is no firmware.
			if name = path.Clean(name); strings.ContainsAny(name, "*?[") || !fs.ValidPath(name) {
				continue
			}
			for _, end := range []string{"", ".xz", ".zst"} {
				if i, err := tree.Resolve(dir, name+end); err == nil && i.IsFile() {
					found[name+end] = i
				}
			}
		}
	}
	for _, p := range sortedKeys(found) {
		list = append(list, File{p, found[p]})
	}
	return list
}

// matchAny matches a path against patterns; "**" at the end of one stands for
// whatever is below.
func matchAny(p string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if dir, ok := strings.CutSuffix(pattern, "/**"); ok {
			return strings.HasPrefix(p, dir+"/")
		}
		ok, _ := path.Match(pattern, p)
		return ok
	})
}

func sortedKeys[V any](m map[string]V) []string {
	list := make([]string, 0, len(m))
	for key := range m {
		list = append(list, key)
	}
	slices.Sort(list)
	return list
}
