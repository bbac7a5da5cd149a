package main

import (
	"bytes"
	"embed"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

//go:embed initramfs/init
var initScript []byte

//go:embed all:rootfs
var overlay embed.FS

// initPrograms are the files of the image that the initramfs runs.
var initPrograms = []string{"usr/bin/busybox", "usr/lib/ostree/ostree-prepare-root"}

// initApplets are the commands of busybox that the init script calls.
var initApplets = []string{"blkid", "cat", "findfs", "modprobe", "mount", "sed", "sh", "sort", "switch_root", "usleep", "xargs"}

// bootModules are the kernel modules that it may take to get at a root file
// system; those with a question mark not every kernel has.
var bootModules = []string{"virtio_blk", "virtio_scsi", "sd_mod", "ahci", "nvme", "xfs", "btrfs", "erofs", "overlay",
	"virtio_pci?", "virtio_mmio?", "sr_mod?", "ext4?", "loop?", "isofs?", "squashfs?", "ata_piix?", "usb_storage?",
	"uas?", "xhci_pci?", "hv_storvsc?", "xen_blkfront?", "vmw_pvscsi?"}

// initramfs returns the compressed initramfs: busybox and ostree-prepare-root
// with their libraries, the init script and kernel modules.
func initramfs(root rootfs, p platform, dir string, modules []*module) ([]byte, error) {
	t := make(rootfs)
	for _, d := range []string{"dev", "proc", "sys", "run", "sysroot", "usr/bin"} {
		t.dir(d, 0o755)
	}
	for link, target := range map[string]string{"bin": "usr/bin", "sbin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"} {
		t.symlink(link, target)
	}
	libs := newLibraries(root, p.triplet)
	for _, name := range initPrograms {
		data, err := root.regular(name)
		if err != nil {
			return nil, err
		}
		t.file(name, 0o755, data)
		if err := libs.add(name); err != nil {
			return nil, err
		}
	}
	for name := range libs.found {
		t.put(name, root[name])
	}
	for _, name := range initApplets {
		t.symlink("usr/bin/"+name, "busybox")
	}
	t.file("init", 0o755, initScript)
	// It is read before there is a deployment to read it from.
	conf := "usr/lib/ostree/prepare-root.conf"
	t.put(conf, root[conf])

	for _, name := range []string{"modules.builtin", "modules.builtin.modinfo"} {
		t.put(dir+"/"+name, root[dir+"/"+name])
	}
	for _, m := range modules {
		// Uncompressed: busybox cannot load compressed modules, and the
		// initramfs is compressed as a whole.
		t.file(dir+"/"+m.file(true), 0o644, m.plain)
	}
	if err := writeModuleIndex(t, dir, modules, true); err != nil {
		return nil, err
	}
	t.removeIf(func(p string, _ *node) bool {
		return path.Dir(p) == dir && (strings.HasSuffix(p, ".bin") || strings.HasSuffix(p, ".modinfo"))
	})
	archive, err := encodeCPIO(t)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(archive); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
