package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"imgbuild/blueprints"
	"imgbuild/bootloader"
	"imgbuild/bootloader/grub"
	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem/squashfs"
	"imgbuild/formats/iso"
	"imgbuild/installer/medium"
	"imgbuild/kickstart"
	"imgbuild/layouts"
	"imgbuild/oci"
	"imgbuild/ostree"
)

// installImage is where Anaconda's root file system is on the medium.
const installImage = "images/install.img"

// hasAnaconda tells whether a medium with Anaconda is what is made.
func (o *Options) hasAnaconda() bool { return slices.Contains(o.Types, BootcInstaller) }

// validateAnaconda checks what is said about a medium with Anaconda, which writes the
// disk by itself.
func (o *Options) validateAnaconda() error {
	if !o.hasAnaconda() {
		if o.Media.Payload != (oci.Reference{}) && !slices.ContainsFunc(o.Types, Type.live) {
			return usage(errors.New("a payload to install, and no medium of type bootc-installer"), "add --type bootc-installer")
		}
		return nil
	}
	switch {
	case len(unique(o.Types)) > 1 || slices.ContainsFunc(o.Types, func(t Type) bool { return t != BootcInstaller }):
		return usage(errors.New("type bootc-installer: nothing else is made of an image that is an installer"), "make the others in another run, of the image that is installed")
	case o.Media.Payload == (oci.Reference{}):
		return usage(errors.New("no installer payload bootc ref set: type bootc-installer is made of an image with Anaconda, and of the image that is installed"),
			"--installer-payload-ref IMAGE")
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"--layout", o.Layout != nil}, {"--size", o.Sizes.Disk != 0 || o.Sizes.Minimal}, {"--root-size", o.Sizes.Root != 0},
		{"--free-space", o.Sizes.Free != 0}, {"--karg-delete", len(o.KargDelete) > 0}, {"--disable-selinux", o.SELinuxOff},
		{"--no-default-kernel-args", o.NoDefaults},
		{"--skip-bound-images", o.SkipBound},
	} {
		if f.set {
			return usage(fmt.Errorf("%s: Anaconda writes the disk", f.name), "type iso has imgbuild's own installer")
		}
	}
	if o.Config == nil {
		return nil
	}
	b := &o.Config.Blueprint.Customizations
	if name, text := o.Config.Kickstart(); text != "" {
		if len(o.Kargs) > 0 {
			return usage(errors.New("--karg: a kickstart of your own says what the system gets"), "write bootloader --append")
		}
		if _, err := kickstart.CheckOwn(name, text); err != nil {
			return err
		}
	}
	_, err := anacondaModules(b)
	return err
}

// anacondaBuild is a medium with Anaconda that is put together.
type anacondaBuild struct {
	o         *Options
	installer *source
	payload   *source
	live, os  *system // of the installer, and of what is installed
	id        identity
	time      int64
	kargs     []string // of the installer and of the system
	progress  Progress
}

// prepareAnaconda reads both images, checks all that is asked for, and puts the medium
// together where it is to be written.
func prepareAnaconda(ctx context.Context, o *Options, write bool, p Progress) (_ *build, err error) {
	a := &anacondaBuild{o: o, kargs: o.kargs(), progress: p}
	if a.installer, err = pull(ctx, o, p); err != nil {
		return nil, err
	}
	b := &build{source: a.installer}
	defer func() {
		if err != nil {
			b.source.close()
		}
	}()
	if a.live, err = a.read(ctx, a.installer, o); err != nil {
		return nil, badImage(err, o)
	}
	initrd, err := a.checkInstaller(ctx)
	if err != nil {
		return nil, badImage(err, o)
	}
	po := *o
	po.Image, po.Pin, po.PinRoot, po.CalledAs = o.Media.Payload, o.PinPayload, "", nil
	if a.payload, err = pull(ctx, &po, p); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	b.source.closes = append(b.source.closes, a.payload.close)
	if a.os, err = a.read(ctx, a.payload, &po); err != nil {
		return nil, fmt.Errorf("payload: %w", badImage(err, &po))
	}
	if b.inventory, err = a.os.readPackages(ctx, &po, p); err != nil {
		return nil, badImage(err, &po)
	}
	if a.time, _ = ostree.Created(a.installer.image.Manifest, a.installer.image.Config); a.time == 0 {
		p.Note("the image has no creation time; the medium is of 1970-01-01")
	}
	if err := a.identify(ctx); err != nil {
		return nil, err
	}
	target, err := newTarget(&po, a.os.facts)
	if err != nil {
		return nil, err
	}
	if target.warning != "" {
		p.Warn(target.warning)
	}
	kick, err := a.kickstart(ctx, &po, target)
	if err != nil {
		return nil, err
	}
	b.id, b.time, b.payload = a.id, time.Unix(a.time, 0).UTC(), a.payload
	var warnings []string
	if write {
		t, notes, err := a.medium(ctx, b, kick, initrd)
		if err != nil {
			return nil, badImage(err, o)
		}
		b.media, warnings = map[Type]product{BootcInstaller: t}, notes
	}
	if b.image, err = disk.New(0, nil); err != nil {
		return nil, err
	}
	b.plan = a.describe(target, warnings)
	return b, nil
}

// read returns the tree of an image and what it says of itself.
func (a *anacondaBuild) read(ctx context.Context, s *source, o *Options) (*system, error) {
	sys := &system{repo: ostree.NewRepo()}
	if err := sys.importLayers(ctx, s, a.progress); err != nil {
		return nil, err
	}
	return sys, sys.merge(o)
}

// identify derives the identity of the medium from both images and what is asked for.
func (a *anacondaBuild) identify(ctx context.Context) error {
	config, err := a.installer.fetched.digest(ctx, a.o.Config)
	if err != nil {
		return err
	}
	a.id, err = newIdentity(a.o.Seed, identityInput{
		Manifest: a.installer.image.ManifestDigest + " " + a.payload.image.ManifestDigest, Arch: a.o.Arch, Target: a.o.Target,
		Stateroot: a.o.Stateroot, RootFS: a.o.RootFS, Kargs: a.kargs, Config: config, SigPolicy: a.o.SigPolicy,
	})
	return err
}

// kickstart returns what Anaconda is told, once it is known that the image can have
// it.
func (a *anacondaBuild) kickstart(ctx context.Context, o *Options, target target) (*kickstart.Anaconda, error) {
	k := &kickstart.Anaconda{
		Payload: medium.Payload, Target: target.name, Transport: "registry", Stateroot: o.Stateroot, RootFS: o.RootFS,
		Signed: strings.HasPrefix(target.origin, "ostree-image-signed:"),
	}
	if transport, _, _ := strings.Cut(target.imageRef, ":"); transport != "docker" {
		k.Transport = transport
	}
	if k.RootFS == "" {
		k.RootFS = a.os.facts.Install.RootFSType
	}
	if k.RootFS == "" {
		k.RootFS = layouts.Ext4
	}
	if err := checkRootFS(k.RootFS, "the payload's install config"); err != nil {
		return nil, err
	}
	if c := o.Config; c != nil {
		name, text := c.Kickstart()
		if text != "" {
			warnings, err := kickstart.CheckOwn(name, text)
			if err != nil {
				return nil, err
			}
			for _, w := range warnings {
				a.progress.Warn(w)
			}
		}
		d := &disks{time: a.time}
		if err := d.rehearse(ctx, &a.payload.fetched.source, a.os, o, a.id, a.progress); err != nil {
			return nil, err
		}
		hashed := c.Blueprint
		b := build{sys: a.os, disks: d, id: a.id}
		if err := b.hashPasswords(&hashed); err != nil {
			return nil, err
		}
		k.Own, k.Customizations = text, hashed.Customizations
		k.Unattended = c.Blueprint.Customizations.Installer != nil && c.Blueprint.Customizations.Installer.Unattended
	}
	switch {
	case o.RootFS == "":
	case k.Own != "":
		a.progress.Warn("--rootfs: without effect, as the kickstart says what file systems there are")
	case !k.Unattended:
		a.progress.Warn("--rootfs: without effect, as Anaconda asks for the disk; with installer.unattended = true it is the file system of autopart")
	}
	if len(a.kargs) > 0 {
		k.Customizations.Kernel = &blueprints.Kernel{Append: strings.Join(a.kargs, " ")}
	}
	return k, nil
}

// medium puts the tree of the ISO together, as image-builder has it.
func (a *anacondaBuild) medium(ctx context.Context, b *build, k *kickstart.Anaconda, initrd content.Ref) (*isoTree, []string, error) {
	o := a.o
	var custom blueprints.Customizations
	if o.Config != nil {
		custom = o.Config.Blueprint.Customizations
	}
	t := newISOTree(o, iso.VolumeID(a.live.facts.OSRelease, unameOf(o.Arch)), a.time, a.id)
	modules, err := anacondaModules(&custom)
	if err != nil {
		return nil, nil, err
	}
	root, err := a.liveRoot(modules)
	if err != nil {
		return nil, nil, err
	}
	squashed, err := b.squash(ctx, installImage, squashable(root, a.progress), squashfs.Options{}, o, a.progress)
	if err != nil {
		return nil, nil, err
	}
	if _, _, err := t.addPayload(medium.Payload, a.payload, a.progress); err != nil {
		return nil, nil, err
	}
	main, base := k.Files()
	info := fmt.Sprintf("%d.000000\n%s\n%s\n", a.time, title(a.live.facts), unameOf(o.Arch))
	for _, f := range []struct {
		path string
		ref  content.Ref
	}{
		{installImage, squashed}, {medium.Kernel, a.live.facts.Kernel.Vmlinuz.Content}, {medium.Initrd, initrd},
		{kickstart.AnacondaMain, content.String(main)}, {kickstart.AnacondaBase, content.String(base)}, {".discinfo", content.String(info)},
	} {
		if err := t.file(f.path, f.ref); err != nil {
			return nil, nil, err
		}
	}
	warnings, err := a.boot(ctx, t, custom.FIPS != nil && *custom.FIPS)
	return t, warnings, err
}

// boot adds boot loaders, and the menu that image-builder's media have.
func (a *anacondaBuild) boot(ctx context.Context, t *isoTree, fips bool) (warnings []string, err error) {
	label := t.options.VolumeID
	args := []string{"inst.stage2=hd:LABEL=" + label, "inst.ks=hd:LABEL=" + label + ":/" + kickstart.AnacondaMain, "inst.text"}
	if fips {
		args = append(args, "fips=1")
	}
	args = append(args, a.kargs...)
	serial := "console=ttyS0,115200"
	if a.o.Arch == "arm64" {
		serial = "console=ttyAMA0,115200"
	}
	name := printableTitle(title(a.os.facts))
	entry := func(submenu, title string, more ...string) grub.MediumEntry {
		return grub.MediumEntry{Title: title, Submenu: submenu, Kernel: "/" + medium.Kernel, Initrd: []string{"/" + medium.Initrd}, Args: slices.Concat(args, more)}
	}
	const trouble = "Troubleshooting"
	menu := grub.MediumMenu{VolumeID: label, Timeout: menuTimeout(a.o, 60), Entries: []grub.MediumEntry{
		entry("", "Install "+name, "quiet"),
		entry("", "Install "+name+" (serial console)", "console=tty0", serial),
		entry("", "Test this media & install "+name, "rd.live.check", "quiet"),
		entry(trouble, "Install "+name+" in basic graphics mode", "nomodeset", "quiet"),
		entry(trouble, "Rescue a system", "inst.rescue", "quiet"),
		{Title: "Start from the next device", Submenu: trouble, Exit: true},
	}}
	m, err := bootloader.InstallMedium(ctx, t.root, &bootloader.MediumRequest{
		OS: a.live.merged, Arch: a.o.Arch, Menu: menu, FATID: a.id.volumeID("iso esp"), Time: a.time,
	})
	if err != nil {
		return nil, err
	}
	return m.Warnings, t.startBy(m)
}

// describe returns the plan of the medium.
func (a *anacondaBuild) describe(target target, warnings []string) *Plan {
	image := func(s *source, o oci.Reference, sys *system) PlanImage {
		p := PlanImage{
			Reference: o.String(), Digest: s.image.ManifestDigest, Arch: a.o.Arch,
			Version: s.image.Labels["org.opencontainers.image.version"], OS: title(sys.facts), Layers: []PlanLayer{},
		}
		for i, l := range s.layers {
			p.Layers = append(p.Layers, PlanLayer{l.Digest, l.DiffID, s.image.Layers[i].Size, l.Size})
		}
		return p
	}
	payload := image(a.payload, a.o.Media.Payload, a.os)
	p := &Plan{
		Tool: "imgbuild " + Version(), Image: image(a.installer, a.o.Image, a.live), Payload: &payload, Target: target.origin, Stateroot: a.o.Stateroot,
		Kernel: a.live.facts.Kernel.Version, Kargs: slices.Concat([]string{}, a.kargs), Refs: []string{}, Bootloaders: []string{},
		Disk: PlanDisk{Partitions: []PlanPartition{}}, Artefacts: []string{a.o.path(BootcInstaller)}, Warnings: warnings,
	}
	if c := a.o.Config; c != nil {
		p.Config = &PlanConfig{Name: c.Blueprint.Name, Version: c.Blueprint.Version, Files: c.Files, Applied: c.Asked(), Ignored: c.Ignored, Warnings: c.Warnings}
	}
	return p
}

// anacondaModules returns the modules that Anaconda starts: image-builder's, and
// those that the customizations need.
func anacondaModules(b *blueprints.Customizations) ([]string, error) {
	const prefix = "org.fedoraproject.Anaconda.Modules."
	on := map[string]bool{}
	for _, m := range []string{"Network", "Payloads", "Runtime", "Security", "Services", "Storage", "Users"} {
		on[prefix+m] = true
	}
	needs := map[string]string{}
	for _, n := range []struct {
		module, key string
		asked       bool
	}{
		{"Users", "user", len(b.User)+len(b.SSHKey) > 0}, {"Users", "group", len(b.Group) > 0},
		{"Localization", "locale", b.Locale != nil}, {"Timezone", "timezone", b.Timezone != nil},
		{"Services", "services", b.Services != nil}, {"Network", "hostname", b.Hostname != nil}, {"Network", "firewall", b.Firewall != nil},
	} {
		if n.asked {
			on[prefix+n.module], needs[prefix+n.module] = true, n.key
		}
	}
	for _, m := range []string{"Payloads", "Runtime", "Storage"} {
		needs[prefix+m] = "installing a container"
	}
	if b.Installer != nil && b.Installer.Modules != nil {
		for _, m := range append(slices.Clone(b.Installer.Modules.Enable), b.Installer.Modules.Disable...) {
			if strings.ContainsAny(m, " \t\r\n#;[=") || m == "" {
				return nil, fault.New(fault.Config, fmt.Errorf("customizations.installer.modules: %q is no name of a module", m), "org.fedoraproject.Anaconda.Modules.Timezone is one")
			}
		}
		for _, m := range b.Installer.Modules.Enable {
			on[m] = true
		}
		for _, m := range b.Installer.Modules.Disable {
			if why := needs[m]; why != "" {
				return nil, fault.New(fault.Config, fmt.Errorf("customizations.installer.modules.disable: %s is needed for %s", m, why), "")
			}
			delete(on, m)
		}
	}
	var list []string
	for m := range on {
		list = append(list, m)
	}
	slices.Sort(list)
	return list, nil
}
