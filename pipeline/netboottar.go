package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/bootc"
	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem/squashfs"
	"imgbuild/formats/compressed"
	"imgbuild/formats/output"
	"imgbuild/tree"
)

// netbootTar is the archive of image-builder's pxe-tar-xz: kernel, initramfs, the
// root file system with the deployment as a squashfs, and the EFI files.
type netbootTar struct{ image *disk.Image }

// newNetbootTar puts the archive together.
func (b *build) newNetbootTar(ctx context.Context, asked *frozen, p Progress) (*netbootTar, error) {
	o := asked.options
	kernel := &b.sys.facts.Kernel
	if err := b.checkInitramfs(ctx, "ostree", "dmsquash-live", "livenet"); err != nil {
		return nil, badImage(err, &o)
	}
	if b.sys.facts.Composefs != bootc.ComposefsNo {
		return nil, badImage(fault.New(fault.BadImage, errors.New("prepare-root.conf enables composefs, which does not start from a squashfs"),
			"set enabled = no in [composefs] of /usr/lib/ostree/prepare-root.conf in the Containerfile, and make the initramfs anew"), &o)
	}
	d, err := b.diskless(ctx, &o, p)
	if err != nil {
		return nil, badImage(err, &o)
	}
	path, err := d.ostreeArgument()
	if err != nil {
		return nil, badImage(err, &o)
	}
	root := squashable(d.sysroot.Root, p)
	// dracut takes the file system for a root by one of these; those of ostree have
	// neither.
	for _, name := range []string{"usr", "proc"} {
		dir := tree.NewDir(0o755)
		dir.Mtime = d.time
		root.Set(name, dir)
	}
	rootfs, err := b.squash(ctx, "the root file system", root, squashfs.Options{}, &o, p)
	if err != nil {
		return nil, badImage(err, &o)
	}
	kargs := bootc.Kargs(bootc.KargSpec{
		CLI: append(o.kargs(), d.custom.effects.Kargs...), CLILast: true, CLIDeletes: o.KargDelete, SELinuxOff: o.SELinuxOff && b.sys.facts.SELinuxType != "",
		Install: b.sys.facts.Install.Kargs, Deletes: b.sys.facts.Install.KargDeletes, KargsD: b.sys.facts.Kargs,
	})
	args := append(append([]string{"rd.live.image"}, kargs...), path)
	files := []tarFile{
		{"README", 0o644, content.String(netbootReadme)},
		{"grub.cfg", 0o644, content.String(netbootMenu(args))},
		{netbootInitrd, 0o644, kernel.Initramfs.Content},
		{"rootfs.img", 0o644, rootfs},
		{netbootKernel, 0o755, kernel.Vmlinuz.Content},
	}
	if d.boot != nil && d.boot.ESP != nil && d.boot.ESP.Child("EFI") != nil {
		files = append(tarTree("EFI", d.boot.ESP.Child("EFI")), files...)
	} else {
		p.Warn("the archive has no EFI directory: the image has no EFI files")
	}
	image, err := tarImage(files, b.time.Unix())
	return &netbootTar{image}, err
}

// diskless deploys the image once more, without anything of a disk.
func (b *build) diskless(ctx context.Context, o *Options, p Progress) (*disks, error) {
	o.diskless = true
	sys, err := flatten(ctx, b.source, o, p)
	if err != nil {
		return nil, err
	}
	if err := sys.readConfig(o, p); err != nil {
		return nil, err
	}
	return deploy(ctx, b.source, sys, o, b.id, p)
}

// ostreeArgument returns the kernel argument that names the deployment.
func (d *disks) ostreeArgument() (string, error) {
	entry, err := tree.ReadFile(d.sysroot.Boot, d.sysroot.EntryPath, 1<<20)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(entry)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "options" {
			continue
		}
		if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "ostree=") }); i > 0 {
			return words[i], nil
		}
	}
	return "", fmt.Errorf("/boot/%s: no ostree= among the options", d.sysroot.EntryPath)
}

// netbootMenu returns the example of a menu that image-builder's archives have. What
// depends on the network is for people to fill in.
func netbootMenu(args []string) string {
	line := strings.Join(args, " ")
	return `set timeout=60
menuentry 'http-rootfs' {
    linux /vmlinuz root=live:http://HTTP-SERVER/rootfs.img ` + line + `
    initrd /initrd.img
}
menuentry 'combined-rootfs' {
    linux /vmlinuz root=live:/rootfs.img ` + line + `
    initrd /combined.img
}
`
}

const netbootReadme = `Files to start this system over a network, by PXE or UEFI HTTP boot.

  EFI/        shim and GRUB
  vmlinuz     kernel
  initrd.img  initramfs
  rootfs.img  root file system (squashfs)
  grub.cfg    an example of a menu

All of it is kept in the memory of the machine that starts, together with what it
writes: it needs more than rootfs.img has, 2 GiB for a small system.

Over HTTP: serve rootfs.img, for a trial with "imgbuild serve DIR", put its address
into grub.cfg in place of HTTP-SERVER, and put kernel, initramfs, grub.cfg and the EFI
files where the firmware is sent to: grub.cfg next to grubx64.efi.

In one piece: rootfs.img can be part of the initramfs.

  echo rootfs.img | cpio -H newc --quiet -L -o >rootfs.cpio
  cat initrd.img rootfs.cpio >combined.img

grub.cfg and rootfs.img belong together: ostree= names what is in this rootfs.img.
`

// tarFile is a member of an archive; a directory where the name ends in a slash.
type tarFile struct {
	name string
	mode int64
	data content.Ref
}

// tarTree lists a directory, and all in it, by names below name.
func tarTree(name string, dir *tree.Inode) (list []tarFile) {
	_ = tree.Walk(dir, func(path string, i *tree.Inode) error {
		switch path = strings.TrimSuffix(name+path, "/"); {
		case i.IsDir():
			list = append(list, tarFile{path + "/", 0o755, content.Ref{}})
		case i.IsFile():
			list = append(list, tarFile{path, 0o644, i.Content})
		}
		return nil
	})
	return list
}

// tarImage returns an archive as what encoders of disks read.
func tarImage(files []tarFile, time int64) (*disk.Image, error) {
	var extents []disk.Extent
	at := int64(0)
	for _, f := range files {
		if len(f.name) > 100 {
			return nil, fault.New(fault.Unsupported, fmt.Errorf("the path %s has more than 100 bytes", f.name), "")
		}
		h := output.TarHeader{Name: f.name, Size: f.data.Size(), Modified: time, Mode: f.mode, Directory: strings.HasSuffix(f.name, "/")}
		extents = append(extents, disk.Extent{Off: at, Data: content.Bytes(h.Encode())})
		at += output.TarBlock
		if f.data.Size() > 0 {
			extents = append(extents, disk.Extent{Off: at, Data: f.data})
			at += (f.data.Size() + output.TarBlock - 1) / output.TarBlock * output.TarBlock
		}
	}
	return disk.New(output.TarEnd(at), extents)
}

// size implements product.
func (n *netbootTar) size() (int64, error) {
	total := int64(0)
	for _, k := range n.image.Data(1) {
		total += k
	}
	return total, nil
}

// write implements product.
func (n *netbootTar) write(ctx context.Context, a *artefact, progress func(done int64)) error {
	return compressed.Write(ctx, n.image, a.file, compressed.Options{Compression: compressed.XZ, Progress: progress})
}
