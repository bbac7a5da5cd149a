package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"imgbuild/bootc"
	"imgbuild/bootloader/grub"
	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/filesystem/squashfs"
	"imgbuild/formats/iso"
	"imgbuild/initramfs"
	"imgbuild/installer/medium"
	"imgbuild/oci"
	"imgbuild/tree"
)

// liveImage is where dracut's dmsquash-live looks for the root file system on a
// medium, whatever the file system is.
const liveImage = "LiveOS/squashfs.img"

// live tells whether the type is a medium that starts the image itself.
func (t Type) live() bool { return t == LiveISO || t == GenericISO }

// distinct returns an error when two types that differ would be one file.
func distinct(types []Type) error {
	for i, t := range types {
		for _, other := range types[:i] {
			if t.path() == other.path() && t.live() != other.live() {
				return usage(fmt.Errorf("types %s and %s: both are %s", other, t, t.path()), "build them one after the other, with different values of --output")
			}
		}
	}
	return nil
}

// onlyLive tells whether nothing of what is made has a deployment.
func (o *Options) onlyLive() bool {
	return len(o.Types) > 0 && !slices.ContainsFunc(o.Types, func(t Type) bool { return !t.live() })
}

// validateLive refuses what has no meaning for a live system, where nothing else
// is made that it would have one for.
func (o *Options) validateLive() error {
	if slices.ContainsFunc(o.Types, func(t Type) bool { return !t.live() && t != PXETar }) {
		return nil
	}
	c := o.partitioning()
	const hint = "leave it out: all of a live system is in one file on the medium"
	switch s := o.Sizes; {
	case s != Sizes{}:
		return usage(errors.New("sizes: a live system has no disk"), hint)
	case o.Layout != nil:
		return usage(errors.New("--layout: a live system has no partitions"), hint)
	case c.disk != nil || len(c.fileSystems) > 0:
		return fault.New(fault.Config, errors.New("customizations.disk, customizations.filesystem: a live system has no partitions"), hint)
	}
	return nil
}

// needlessForLive names the options that say something of installed systems only.
func needlessForLive(o *Options) (names []string) {
	for _, f := range []struct {
		given bool
		name  string
	}{
		{o.Target != "", "--target-imgref"}, {o.Stateroot != "", "--stateroot"}, {o.RootFS != "", "--rootfs"},
		{o.SigPolicy, "--enforce-container-sigpolicy"}, {o.SkipBound, "--skip-bound-images"},
	} {
		if f.given {
			names = append(names, f.name)
		}
	}
	return names
}

// newLiveMedium puts together a medium that starts the image from a squashfs, as
// image-builder's bootc-generic-iso: what runs is the image's own kernel, initramfs
// and files, and what is written goes to memory.
func (b *build) newLiveMedium(ctx context.Context, asked *frozen, p Progress) (*isoTree, error) {
	o := &asked.options
	kernel := &b.sys.facts.Kernel
	if names := needlessForLive(o); len(names) > 0 && o.onlyLive() {
		p.Warn(strings.Join(names, ", ") + ": about installed systems, and without effect on a live one")
	}
	if err := b.checkInitramfs(ctx, "dmsquash-live"); err != nil {
		return nil, badImage(err, o)
	}
	config, err := bootc.ReadISO(b.sys.merged)
	if err != nil {
		return nil, badImage(err, o)
	}
	t := newISOTree(o, cmp.Or(config.Label, iso.VolumeID(b.sys.facts.OSRelease, unameOf(o.Arch))), b.time.Unix(), b.id)
	if err := iso.CheckVolumeID(t.options.VolumeID); err != nil { // that of the configuration is checked
		return nil, badImage(fault.New(fault.BadImage, fmt.Errorf("iso.yaml: label: %w", err), fault.HintOf(err)), o)
	}
	menu, err := b.liveMenu(config, t.options.VolumeID, o)
	if err != nil {
		return nil, badImage(err, o)
	}
	root, err := b.liveRoot(ctx, o, p)
	if err != nil {
		return nil, badImage(err, o)
	}
	image, err := b.squash(ctx, "the live system", squashable(root, p), squashfs.Options{}, o, p)
	if err != nil {
		return nil, badImage(err, o)
	}
	for _, f := range []struct {
		path  string
		inode *tree.Inode
	}{
		{liveImage, tree.NewFile(0o644, image)},
		{medium.Kernel, tree.NewFile(0o644, kernel.Vmlinuz.Content)},
		{medium.Initrd, tree.NewFile(0o644, kernel.Initramfs.Content)},
	} {
		if err := t.put(f.path, f.inode); err != nil {
			return nil, err
		}
	}
	if err := b.addLivePayload(ctx, t, o, p); err != nil {
		return nil, err
	}
	return t, b.start(ctx, t, menu, nil, o, p)
}

// addLivePayload puts an image onto the medium that something in the live system
// installs, as an OCI layout beside it: in the squashfs, where image-builder has it, it
// would take twice the room.
func (b *build) addLivePayload(ctx context.Context, t *isoTree, o *Options, p Progress) error {
	if o.Media.Payload == (oci.Reference{}) {
		return nil
	}
	po := *o
	po.Image, po.Pin, po.PinRoot, po.CalledAs = o.Media.Payload, o.PinPayload, "", nil
	payload, err := pull(ctx, &po, p)
	if err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	b.source.closes = append(b.source.closes, payload.close)
	b.payload = payload
	b.plan.Payload = &PlanImage{
		Reference: po.Image.String(), Digest: payload.image.ManifestDigest, Arch: o.Arch, Version: payload.image.Labels["org.opencontainers.image.version"],
	}
	for i, l := range payload.layers {
		b.plan.Payload.Layers = append(b.plan.Payload.Layers, PlanLayer{l.Digest, l.DiffID, payload.image.Layers[i].Size, l.Size})
	}
	_, _, err = t.addPayload(medium.Payload, payload, p)
	return err
}

// checkInitramfs returns an error where the image's initramfs lacks a module of
// dracut.
func (b *build) checkInitramfs(ctx context.Context, modules ...string) error {
	kernel := &b.sys.facts.Kernel
	if kernel.Initramfs == nil {
		return fault.New(fault.BadImage, fmt.Errorf("the image has no %s/initramfs.img", kernel.Dir), "make one with dracut in the Containerfile")
	}
	has, err := dracutModules(ctx, kernel.Initramfs.Content.Reader())
	if err != nil {
		return fmt.Errorf("%s/initramfs.img: %w", kernel.Dir, err)
	}
	var missing []string
	for _, m := range modules {
		if !has[m] {
			missing = append(missing, m)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(modules, " ")
	return fault.New(fault.BadImage, fmt.Errorf("%s/initramfs.img does not have dracut's %s, without which it does not find its root file system", kernel.Dir, strings.Join(missing, ", ")),
		fmt.Sprintf("in the Containerfile install dracut-live and run: dracut --force --add %q %s/initramfs.img %s", list, "/"+strings.Trim(kernel.Dir, "/"), kernel.Version))
}

// maxModuleList bounds the list of modules in an initramfs, in bytes.
const maxModuleList = 64 << 10

// dracutModules returns the names of the modules of dracut that an initramfs has,
// by its own list or, where a distribution leaves that out, by what they install.
func dracutModules(ctx context.Context, r io.Reader) (map[string]bool, error) {
	has := map[string]bool{}
	err := initramfs.Walk(&interruptible{ctx, r}, func(e initramfs.Entry, content io.Reader) error {
		switch strings.TrimPrefix(e.Name, "usr/") {
		case "lib/dracut/modules.txt":
			text, err := io.ReadAll(io.LimitReader(content, maxModuleList))
			for _, name := range strings.Fields(string(text)) {
				has[name] = true
			}
			return err
		case "sbin/dmsquash-live-root", "bin/dmsquash-live-root", "sbin/dmsquash-live-root.sh", "bin/dmsquash-live-root.sh":
			has["dmsquash-live"] = true
		case "sbin/livenetroot", "bin/livenetroot", "sbin/livenetroot.sh", "bin/livenetroot.sh":
			has["livenet"] = true
		case "lib/ostree/ostree-prepare-root", "sbin/ostree-prepare-root", "bin/ostree-prepare-root":
			has["ostree"] = true
		default:
			if dir, file := path.Split(e.Name); strings.HasSuffix(dir, "lib/dracut/hooks/cmdline/") && strings.HasSuffix(file, "parse-anaconda-options.sh") {
				has["anaconda"] = true
			}
		}
		return nil
	})
	return has, err
}

// interruptible is a reader that ends with its context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// liveRoot returns the tree of the running system: that of the image, with the
// configuration in its place and customized, and all mount points.
func (b *build) liveRoot(ctx context.Context, o *Options, p Progress) (*tree.Inode, error) {
	merged := b.sys.merged
	root := containerRoot(merged)
	etc, vars := root.Child("etc"), root.Child("var")
	if o.Config != nil {
		system := customize.New(merged, etc, vars, b.disks.time, b.id.bytes)
		for _, step := range b.disks.custom.steps(o.Config) {
			if _, _, err := step.apply(ctx, system); err != nil {
				return nil, err // what can be wrong was said before
			}
		}
		for _, f := range b.disks.custom.effects.Boot {
			return nil, fault.New(fault.Config, fmt.Errorf("a customization writes /boot/%s, which a live system does not have", f.Path),
				"build the live medium without customizations.ignition and the like")
		}
	}
	b.mountPoints(root)
	if b.sys.labels != nil {
		labelTree(etc, "/etc", b.sys.labels, false, nil)
		labelTree(vars, "/var", b.sys.labels, false, nil)
		for _, e := range root.Entries() {
			if !slices.Contains([]string{"usr", "etc", "var"}, e.Name) {
				labelTree(e.Inode, "/"+e.Name, b.sys.labels, true, nil)
			}
		}
		labelAs(root, "/", tree.TypeDir, b.sys.labels)
	}
	return root, nil
}

// mountPoints makes the directories that the system is mounted to while it starts.
// dracut takes the file system for a root by its /usr or /proc. Nothing of /boot is
// needed: the medium has it.
func (b *build) mountPoints(root *tree.Inode) {
	for name, perm := range map[string]uint32{"proc": 0o555, "sys": 0o555, "dev": 0o755, "run": 0o755, "tmp": 0o1777, "boot": 0o755, "mnt": 0o755, "sysroot": 0o755} {
		if i := root.Child(name); i != nil && name != "boot" && name != "sysroot" {
			continue
		}
		d := tree.NewDir(perm)
		d.Mtime = b.disks.time
		root.Set(name, d)
	}
	// Where /tmp is a link into it.
	scratch := tree.NewDir(0o1777)
	scratch.Mtime = b.disks.time
	root.Child("sysroot").Set("tmp", scratch)
}

// liveMenu returns the menu of a live medium: that of the image's iso.yaml, or one
// of imgbuild's own.
func (b *build) liveMenu(config *bootc.ISOConfig, volumeID string, o *Options) (grub.MediumMenu, error) {
	args := config.KernelArgs
	if len(args) == 0 {
		args = []string{"root=live:CDLABEL=" + volumeID, "rd.live.image", "quiet", "rhgb", "enforcing=0"}
	}
	args = append(slices.Clone(args), o.kargs()...)
	args = append(args, b.disks.custom.effects.Kargs...)
	if o.SELinuxOff && b.sys.facts.SELinuxType != "" {
		args = append(args, "selinux=0")
	}
	args = slices.DeleteFunc(args, func(a string) bool {
		key, _, _ := strings.Cut(a, "=")
		return slices.Contains(o.KargDelete, a) || slices.Contains(o.KargDelete, key)
	})
	m := grub.MediumMenu{VolumeID: volumeID, Timeout: 60}
	if config.GRUB.Timeout != nil {
		m.Timeout = *config.GRUB.Timeout
	}
	if config.GRUB.Default != nil {
		m.Default = *config.GRUB.Default
	}
	release := b.sys.facts.OSRelease
	values := map[string]string{
		"kernelpath": "/" + medium.Kernel, "initrdpath": "/" + medium.Initrd, "root": strings.Join(args, " "), "isolabel": volumeID,
		"product": release["NAME"], "version": release["VERSION_ID"],
	}
	for i := range config.GRUB.Entries {
		e := &config.GRUB.Entries[i]
		linux, err := e.Expand(e.Linux, values)
		if err != nil {
			return m, err
		}
		if len(linux) == 0 { // of variables without a value
			return m, fault.New(fault.BadImage, fmt.Errorf("iso.yaml: entry %q: %q names no kernel on this medium", e.Name, e.Linux), "${kernelpath} ${root}")
		}
		initrd, err := e.Expand(e.Initrd, values)
		if err != nil {
			return m, err
		}
		m.Entries = append(m.Entries, grub.MediumEntry{Title: printableTitle(e.Name), Kernel: linux[0], Args: linux[1:], Initrd: initrd})
	}
	if len(m.Entries) > 0 {
		return m, checkLabels(&m)
	}
	serial := "console=ttyS0,115200"
	if o.Arch == "arm64" {
		serial = "console=ttyAMA0,115200"
	}
	name := printableTitle(title(b.sys.facts))
	entry := func(title string, more ...string) {
		m.Entries = append(m.Entries, grub.MediumEntry{
			Title: title, Kernel: "/" + medium.Kernel, Initrd: []string{"/" + medium.Initrd}, Args: append(slices.Clone(args), more...),
		})
	}
	entry("Start " + name)
	entry("Start "+name+" (serial console)", "console=tty0", serial)
	entry("Start "+name+" in basic graphics mode", "nomodeset")
	if m.Default >= len(m.Entries) {
		return m, fault.New(fault.BadImage, fmt.Errorf("iso.yaml: grub2.default: there is no entry %d", m.Default), "")
	}
	return m, checkLabels(&m)
}

// checkLabels returns an error where an entry looks for another medium.
func checkLabels(m *grub.MediumMenu) error {
	for _, e := range m.Entries {
		for _, a := range e.Args {
			if label, ok := strings.CutPrefix(a, "root=live:CDLABEL="); ok && label != m.VolumeID {
				return fault.New(fault.Config, fmt.Errorf("boot menu entry %q: it looks for a medium called %s, and this one is called %s", e.Title, label, m.VolumeID),
					"the label in iso.yaml or customizations.iso.volume_id, and that in kernel_args of iso.yaml, must be the same")
			}
		}
	}
	return nil
}
