package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"path"

	"imgbuild/bootc"
	"imgbuild/bootloader"
	"imgbuild/composefs"
	"imgbuild/content"
	"imgbuild/layouts"
	"imgbuild/ostree"
	"imgbuild/partition"
	"imgbuild/tree"
)

// disks are the trees of the file systems on the disk, finished but for their
// sizes.
type disks struct {
	sysroot   *ostree.Sysroot
	boot      *bootloader.Result // nil without a boot loader
	caps      *bootloader.Capabilities
	commit    tree.Sum
	refs      []string
	kargs     []string
	custom    customization
	stateroot string
	origin    string
	layout    *layouts.Layout
	parts     []planned // of the layout
	diskID    partition.GUID
	coreAt    int64 // sector of GRUB's core image for BIOS, 0 without
	reinstall func(lba int64) (*bootloader.Result, error)
	time      int64

	composefsDigest string // of .ostree.cfs, in hex; "" without fs-verity
}

// deploy makes the disk trees: an ostree repository with the image in it, its
// deployment, and the boot loader.
func deploy(ctx context.Context, s *source, sys *system, o *Options, id identity, p Progress) (*disks, error) {
	p.Stage("deploy", 0)
	d := &disks{stateroot: o.Stateroot}
	if d.stateroot == "" {
		d.stateroot = sys.facts.Install.Stateroot
	}
	if d.stateroot == "" {
		d.stateroot = "default"
	}
	if refused := sys.refusals(o); len(refused) > 0 {
		return nil, refused[0]
	}
	target, err := newTarget(o, sys.facts)
	if err != nil {
		return nil, err
	}
	d.origin = target.origin
	if target.warning != "" && !o.onlyLive() {
		p.Warn(target.warning)
	}
	var dated bool
	if d.time, dated = ostree.Created(s.image.Manifest, s.image.Config); !dated {
		p.Note("the image has no creation time; its commit gets 1970-01-01")
	}
	var bootable bool
	if d.caps, bootable, err = detectBootloader(sys, o); err != nil {
		return nil, err
	}
	l, err := resolveLayout(sys, d.caps, bootable, o, p)
	if err != nil {
		return nil, err
	}
	if err := d.plan(l, id); err != nil {
		return nil, err
	}
	d.chooseXFSFeatures(sys.facts.Kernel.Version)
	if needsVerity(sys.facts) {
		if err := checkVerityRoot(d.part(layouts.RoleRoot).FS.Type, sys.facts.Composefs); err != nil {
			return nil, err
		}
	}
	if bootable {
		d.reinstall = func(lba int64) (*bootloader.Result, error) { return d.installBootloader(sys, o, lba) }
		if d.coreAt, err = d.coreLBA(); err != nil {
			return nil, err
		}
		if d.boot, err = d.reinstall(d.coreAt); err != nil {
			return nil, err
		}
	}
	if err := d.rehearse(ctx, &s.fetched, sys, o, id, p); err != nil {
		return nil, err
	}
	if err := d.importImage(s, sys, target); err != nil {
		return nil, err
	}
	var objects verityObjects // nil without fs-verity
	if needsVerity(sys.facts) {
		if objects, err = measureObjects(ctx, s, sys, o, p); err != nil {
			return nil, err
		}
	}
	if err := d.install(s, sys, o, target, objects); err != nil {
		return nil, err
	}
	if err := d.customize(ctx, sys, o, id); err != nil {
		return nil, err
	}
	if err := d.checkPolicy(sys, id, p); err != nil {
		return nil, err
	}
	labelDisk(d, sys.labels)
	if objects != nil {
		if err := d.protect(ctx, objects); err != nil {
			return nil, err
		}
	}
	if o.diskless {
		return d, nil
	}
	return d, d.plant(sys)
}

// importImage puts the layers and the merged commit into the repository, which
// has the base already.
func (d *disks) importImage(s *source, sys *system, t target) (err error) {
	c := &ostree.Container{
		Manifest: s.image.Manifest, Config: s.image.Config, ManifestDigest: s.image.ManifestDigest,
		ImageRef: t.imageRef, Merged: sys.merged, Created: d.time,
		// bootc gives layer commits the time of the installation. Any time will
		// do, and the image's makes equal disks of equal images.
		LayerTime: d.time,
	}
	if sys.base != nil {
		c.Parent = sys.base.Commit
	}
	for i, l := range s.layers {
		layer := ostree.ContainerLayer{Digest: l.Digest}
		if i < s.base {
			layer.Commit = sys.base.Layers[i]
		} else {
			layer.Tree = sys.layers[i-s.base]
		}
		c.Layers = append(c.Layers, layer)
	}
	if d.commit, err = sys.repo.AddContainer(c); err != nil {
		return fmt.Errorf("import into the repository: %w", err)
	}
	d.refs = append(d.refs, "ostree/1/1/0", ostree.ImageRef(t.imageRef))
	for _, l := range s.layers {
		d.refs = append(d.refs, ostree.BlobRef(l.Digest))
	}
	return nil
}

// install deploys the commit and adds what bootc adds to a deployment.
func (d *disks) install(s *source, sys *system, o *Options, t target, objects verityObjects) error {
	k := sys.facts.Kernel
	d.kargs = d.kernelArguments(sys.facts, o)
	cfs, err := composefs.Ostree(sys.merged, composefs.Options{Digest: objects.digest()})
	if err != nil {
		return fmt.Errorf("composefs image: %w", err)
	}
	if sys.facts.Composefs == bootc.ComposefsSigned {
		if err := sys.checkSigned(cfs); err != nil {
			return err
		}
	}
	options := &ostree.DeployOptions{
		Stateroot: d.stateroot, Commit: d.commit, Tree: sys.merged, Origin: t.origin,
		Title: title(sys.facts), Kargs: d.kargs,
		KernelVersion: k.Version, Vmlinuz: k.Vmlinuz, Initramfs: k.Initramfs,
		DeviceTree: k.DeviceTree, HMAC: k.HMAC, Aboot: k.Aboot,
		Composefs: cfs, SeparateBoot: d.part(layouts.RoleBoot) != nil, Time: d.time,
		RepoConfig: ostree.Config{Bootloader: "none", BLSAppendExceptDefault: sys.facts.Install.BLSAppendExceptDefault, FSVerity: objects != nil},
	}
	if d.boot != nil {
		options.RepoConfig.Bootloader = d.boot.RepoBootloader
	}
	if d.sysroot, err = ostree.Deploy(sys.repo, options); err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	if d.boot != nil {
		if err := d.writeBootFiles(); err != nil {
			return err
		}
	}
	if !o.diskless {
		if err := d.writeMounts(sys.facts); err != nil {
			return err
		}
	}
	aleph, err := d.aleph(s, sys, t)
	if err != nil {
		return err
	}
	f := tree.NewFile(0o644, content.Bytes(aleph))
	f.Mtime = d.time
	d.sysroot.Root.Set(".bootc-aleph.json", f)
	for _, q := range []*planned{d.part(layouts.RoleRoot), d.part(layouts.RoleBoot)} {
		if q == nil || q.FS.Type != layouts.Ext4 {
			continue
		}
		root := d.sysroot.Root
		if q.Role() == layouts.RoleBoot {
			root = d.sysroot.Boot
		}
		lost := tree.NewDir(0o700)
		lost.Mtime = d.time
		root.Set("lost+found", lost)
	}
	return nil
}

// kernelArguments returns the kernel command line without ostree=.
func (d *disks) kernelArguments(facts *bootc.Image, o *Options) []string {
	spec := bootc.KargSpec{
		Root: append([]string{"root=UUID=" + d.part(layouts.RoleRoot).uuid}, d.rootArguments()...),
		// As with image-builder, which installs to a file system it made.
		CLI: append(o.kargs(), d.custom.effects.Kargs...), CLILast: true, CLIDeletes: o.KargDelete,
		SELinuxOff: o.SELinuxOff && facts.SELinuxType != "",
		Install:    facts.Install.Kargs, Deletes: facts.Install.KargDeletes,
		KargsD: facts.Kargs,
	}
	if boot := d.part(layouts.RoleBoot); boot != nil {
		spec.Boot = []string{"boot=UUID=" + boot.uuid}
	}
	if dps := facts.Install.DiscoverablePartitions; dps != nil && *dps {
		// The type of the root partition says the rest.
		if guid, ok := partition.RootType(o.Arch); ok && d.part(layouts.RoleRoot).Type == guid.String() {
			spec.Root = d.rootArguments()
		}
	}
	if m := facts.Install.RootMountSpec; m != nil {
		spec.Root = mountArgument("root", *m, d.rootArguments()...)
	}
	if m := facts.Install.BootMountSpec; m != nil {
		spec.Boot = mountArgument("boot", *m)
	}
	if !o.NoDefaults {
		spec.Defaults = []string{"rw", "console=tty0", "console=ttyS0"}
	}
	return bootc.Kargs(spec)
}

// mountArgument returns key=spec, or nothing where the image suppresses it with
// an empty spec, and what goes with it.
func mountArgument(key, spec string, more ...string) []string {
	if spec == "" {
		return more
	}
	return append([]string{key + "=" + spec}, more...)
}

// merge puts the entries of the directory from into the directory to.
func merge(to, from *tree.Inode, p string) error {
	for _, e := range from.Entries() {
		old := to.Child(e.Name)
		switch {
		case old == nil:
			to.Set(e.Name, e.Inode)
		case old.IsDir() && e.Inode.IsDir():
			if err := merge(old, e.Inode, path.Join(p, e.Name)); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s: written twice", path.Join(p, e.Name))
		}
	}
	return nil
}

// aleph returns the record of the installation that bootc leaves in the
// physical root. What bootc takes from the machine it runs on is taken from the
// image here, as nothing else is known of that machine; and the image is named by
// the target, as a disk must not depend on where its image was read from.
func (d *disks) aleph(s *source, sys *system, t target) ([]byte, error) {
	record := map[string]any{
		"digest":       s.image.ManifestDigest,
		"image":        t.name,
		"kernel":       sys.facts.Kernel.Version,
		"selinux":      "disabled",
		"target-image": t.name,
		"timestamp":    nil,
		"version":      nil,
	}
	labels := s.image.Labels
	if len(labels) > 0 {
		record["labels"] = labels
	}
	if sys.labels != nil {
		record["selinux"] = "enabled"
	} else if sys.facts.SELinuxType != "" {
		record["selinux"] = "force-target-disabled"
	}
	if created := labels["org.opencontainers.image.created"]; created != "" {
		record["timestamp"] = created
	}
	for _, key := range []string{"version", "org.opencontainers.image.version"} {
		if v := labels[key]; v != "" {
			record["version"] = v
		}
	}
	return json.Marshal(record)
}
