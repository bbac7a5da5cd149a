package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"imgbuild/blockdev"
	"imgbuild/blueprints"
	"imgbuild/bootloader"
	"imgbuild/bootloader/grub"
	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/customize/accounts"
	"imgbuild/customize/crypt"
	"imgbuild/fault"
	"imgbuild/formats/iso"
	"imgbuild/installer/medium"
	"imgbuild/installer/settings"
	"imgbuild/layouts"
	"imgbuild/oci"
	"imgbuild/tree"
)

// Media say what installation media are like.
type Media struct {
	// Program is a file: the imgbuild for the target that installs; "" is this one.
	Program string
	// Payload is what a medium with Anaconda installs.
	Payload oci.Reference
	// Settings are those that the medium has from the beginning.
	Settings settings.Settings
}

// installs tells whether the type is a medium with imgbuild's own installer.
func (t Type) installs() bool { return t == ISO || t == AnacondaISO || t == PXE }

// Medium returns the kind of medium that the type is, "" for a disk.
func (t Type) Medium() blueprints.Media {
	switch t {
	case ISO, AnacondaISO, PXE:
		return blueprints.OwnInstaller
	case BootcInstaller:
		return blueprints.Anaconda
	case LiveISO, GenericISO, PXETar:
		return blueprints.Live
	}
	return ""
}

// disks tells whether any of the types is a disk.
func (o *Options) disks() bool {
	return slices.ContainsFunc(o.Types, func(t Type) bool { return t.Medium() == "" })
}

// installs tells whether an installation medium is among the types.
func (o *Options) installs() bool { return slices.ContainsFunc(o.Types, Type.installs) }

// validateMedia checks what is said about media, and takes what the configuration
// says of them.
func (o *Options) validateMedia() error {
	if err := o.validateISO(); err != nil {
		return err
	}
	if !o.installs() {
		return nil
	}
	if o.Config != nil {
		b := &o.Config.Blueprint.Customizations
		if i := b.Installer; i != nil && i.Unattended {
			o.Media.Settings.Unattended = true
		}
		if i := b.Installer; i != nil && i.Wipe {
			o.Media.Settings.Wipe = true
		}
		if d := b.InstallationDevice; d != "" && o.Media.Settings.Target == "" {
			o.Media.Settings.Target = d
		}
	}
	if err := o.readKickstart(); err != nil {
		return err
	}
	s := &o.Media.Settings
	if s.Target != "" {
		if err := blockdev.CheckSpec(s.Target); err != nil {
			return err
		}
	}
	if s.Unattended && s.Target == "" {
		s.Target = "first-empty"
	}
	if s.Wipe && !s.Unattended && s.Target == "" {
		return usage(errors.New("wipe: it is for installing without questions, and to a disk that is named; otherwise the installer asks"),
			"add --iso-unattended, or --iso-target SPEC")
	}
	if o.Sizes.Disk != 0 || o.Sizes.Minimal {
		if !o.disks() {
			return usage(errors.New("--size: the disk that an installer writes has its own size"), "--root-size and --free-space apply")
		}
	}
	return nil
}

// validateISO checks what the configuration calls media.
func (o *Options) validateISO() error {
	if o.Config == nil || !slices.ContainsFunc(o.Types, func(t Type) bool { return t.Medium() != "" }) {
		return nil
	}
	i := o.Config.Blueprint.Customizations.ISO
	switch {
	case i == nil:
		return nil
	case !slices.ContainsFunc(o.Types, func(t Type) bool { return path.Ext(t.path()) == ".iso" }):
		return fault.New(fault.Config, errors.New("customizations.iso: what machines start from over a network is no ISO"), "leave it out, or build --type iso or live-iso")
	case i.VolumeID == "":
		return nil
	}
	if err := iso.CheckVolumeID(i.VolumeID); err != nil {
		return fmt.Errorf("customizations.iso.volume_id: %w", err)
	}
	return nil
}

// frozen are the options of a build as they were asked for, before anything of the
// image came into them.
type frozen struct {
	options   Options
	blueprint blueprints.Blueprint
}

func freeze(o *Options) *frozen {
	f := &frozen{options: *o}
	if o.Config != nil {
		f.blueprint = o.Config.Blueprint
	}
	return f
}

// newInstallMedium puts the installation medium of a build together, but for what
// it starts by.
func (b *build) newInstallMedium(ctx context.Context, asked *frozen, p Progress) (*isoTree, *medium.Description, error) {
	o := &asked.options
	program, err := installerProgram(o.Media.Program, o.Arch, o.HostArch)
	if err != nil {
		return nil, nil, err
	}
	t := newISOTree(o, iso.VolumeID(b.sys.facts.OSRelease, unameOf(o.Arch)), b.time.Unix(), b.id)
	d := &medium.Description{
		Title: title(b.sys.facts), VolumeID: t.options.VolumeID, Arch: o.Arch, Kernel: b.sys.facts.Kernel.Version,
		MinimumDisk: b.minimum, RootFS: b.choices(o), Admins: b.sys.admins(),
	}
	d.Image.Reference = o.called().String()
	if d.Image.Digest, d.Image.Size, err = t.addPayload(medium.Payload, b.source, p); err != nil {
		return nil, nil, err
	}
	if err := b.describeBuild(ctx, t, asked, &d.Build); err != nil {
		return nil, nil, err
	}
	text, err := d.Encode()
	if err != nil {
		return nil, nil, err
	}
	conf, err := settings.Encode(&o.Media.Settings, settings.AreaSize)
	if err != nil {
		return nil, nil, fault.New(fault.Config, err, "")
	}
	initrd, err := b.sys.initrd(ctx, program, text, p)
	if err != nil {
		return nil, nil, badImage(err, o)
	}
	for _, f := range []struct {
		path string
		ref  content.Ref
	}{
		{medium.Path, content.Bytes(text)}, {settings.Path, content.Bytes(conf)},
		{medium.Kernel, b.sys.facts.Kernel.Vmlinuz.Content}, {medium.Initrd, content.Bytes(initrd)},
	} {
		if err := t.file(f.path, f.ref); err != nil {
			return nil, nil, err
		}
	}
	return t, d, nil
}

// addMedia puts the media together that are among the types.
func (b *build) addMedia(ctx context.Context, asked *frozen, p Progress) error {
	for _, t := range asked.options.Types {
		if t.Medium() == "" {
			continue
		}
		m, err := b.newProduct(ctx, t, asked, p)
		if err != nil {
			return err
		}
		if b.media == nil {
			b.media = map[Type]product{}
		}
		b.media[t] = m
	}
	return nil
}

// product is what a type writes that is not a disk.
type product interface {
	write(ctx context.Context, a *artefact, progress func(done int64)) error
	size() (int64, error) // bytes, of which progress tells
}

// newProduct makes what a type writes that is not a disk.
func (b *build) newProduct(ctx context.Context, t Type, asked *frozen, p Progress) (product, error) {
	switch {
	case t == PXE:
		return b.newNetboot(ctx, asked, p)
	case t == PXETar:
		return b.newNetbootTar(ctx, asked, p)
	case t.live():
		return b.newLiveMedium(ctx, asked, p)
	}
	m, d, err := b.newInstallMedium(ctx, asked, p)
	if err != nil {
		return nil, err
	}
	return m, b.addBoot(ctx, m, d, &asked.options, p)
}

// addBoot adds what the medium starts by, and its menu.
func (b *build) addBoot(ctx context.Context, t *isoTree, d *medium.Description, o *Options, p Progress) error {
	name := printableTitle(d.Title)
	serial := "console=ttyS0,115200"
	if d.Arch == "arm64" {
		serial = "console=ttyAMA0,115200"
	}
	entry := func(submenu, title string, more ...string) grub.MediumEntry {
		return grub.MediumEntry{Title: title, Submenu: submenu, Kernel: "/" + medium.Kernel, Initrd: []string{"/" + medium.Initrd}, Args: more}
	}
	const trouble = "Troubleshooting"
	menu := grub.MediumMenu{VolumeID: d.VolumeID, Timeout: installTimeout(o), Entries: []grub.MediumEntry{
		entry("", "Install "+name),
		entry("", "Install "+name+" (serial console)", "console=tty0", serial),
		entry("", "Test this medium & install "+name, "imgbuild.check"),
		entry(trouble, "Install "+name+" in basic graphics mode", "nomodeset"),
		entry(trouble, "Shell of the installer", "imgbuild.shell"),
		{Title: "Start from the next device", Submenu: trouble, Exit: true},
	}}
	// Arguments that `imgbuild iso customize` can take away.
	return b.start(ctx, t, menu, installerArguments(), o, p)
}

// installerArguments are those of the installer's kernel.
func installerArguments() []string { return []string{"quiet", "loglevel=3"} }

// start makes the medium start into the menu, whose entries have args behind their
// own.
func (b *build) start(ctx context.Context, t *isoTree, menu grub.MediumMenu, args []string, o *Options, p Progress) error {
	m, err := bootloader.InstallMedium(ctx, t.root, &bootloader.MediumRequest{
		OS: b.sys.merged, Arch: o.Arch, Menu: menu, FATID: b.id.volumeID("iso esp"), Time: t.options.Time,
		Kargs: args,
	})
	if err != nil {
		return badImage(err, o)
	}
	for _, w := range m.Warnings {
		p.Warn(w)
	}
	if m.ESP != nil && !m.SecureBoot {
		p.Warn("the medium does not start with Secure Boot: the image has no shim")
	}
	return t.startBy(m)
}

// installTimeout returns how long the menu of imgbuild's installer waits, in seconds.
func installTimeout(o *Options) int {
	if o.Media.Settings.Unattended {
		return menuTimeout(o, 5)
	}
	return menuTimeout(o, 30)
}

// menuTimeout returns how long the menu waits, in seconds: what the configuration
// says, or else so long.
func menuTimeout(o *Options, usual int) int {
	if o.Config != nil {
		if i := o.Config.Blueprint.Customizations.Installer; i != nil && i.Bootloader != nil && i.Bootloader.Grub2 != nil && i.Bootloader.Grub2.MenuTimeout != nil {
			return int(*i.Bootloader.Grub2.MenuTimeout)
		}
	}
	return usual
}

// choices returns the root file systems that the installer may offer, the default
// first, or none where something decides.
func (b *build) choices(o *Options) []string {
	root := b.disks.part(layouts.RoleRoot)
	if o.RootFS != "" || b.sys.facts.Install.RootFSType != "" || root == nil || b.disks.layout.Mounts != layouts.MountsBootc {
		return nil
	}
	list := []string{root.FS.Type}
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		if fs != root.FS.Type && (!needsVerity(b.sys.facts) || checkVerityRoot(fs, b.sys.facts.Composefs) == nil) {
			list = append(list, fs)
		}
	}
	return list
}

// describeBuild says with which options the disk is made.
func (b *build) describeBuild(ctx context.Context, t *isoTree, asked *frozen, d *medium.Build) error {
	o := &asked.options
	*d = medium.Build{
		Target: o.Target, Stateroot: o.Stateroot, RootFS: o.RootFS, Kargs: o.Kargs, KargDelete: o.KargDelete, NoDefaults: o.NoDefaults,
		SELinuxOff: o.SELinuxOff, SigPolicy: o.SigPolicy, SkipBound: o.SkipBound, RootSize: o.Sizes.Root, FreeSpace: o.Sizes.Free, Seed: o.Seed, Limits: o.Limits,
	}
	if o.Layout != nil {
		d.Layout, d.LayoutName = o.Layout.Text, o.Layout.Name
	}
	if o.Config == nil {
		return nil
	}
	d.AllowPaths, d.IgnoreUnsupported = o.Config.Options.AllowPaths, o.Config.Options.IgnoreUnsupported
	print := asked.blueprint
	print.Customizations.Installer, print.Customizations.ISO, print.Customizations.InstallationDevice = nil, nil, ""
	if err := b.hashPasswords(&print); err != nil {
		return err
	}
	if err := b.carryFiles(ctx, t, &print); err != nil {
		return err
	}
	var err error
	d.Config, err = print.Encode()
	return err
}

// hashPasswords replaces passwords by their hashes.
func (b *build) hashPasswords(print *blueprints.Blueprint) error {
	users := slices.Clone(print.Customizations.User)
	var plain []accounts.User
	for _, u := range users {
		plain = append(plain, accounts.User{Name: u.Name, Password: u.Password})
	}
	sys := customize.New(b.sys.merged, private(b.sys.etc()), private(b.sys.merged.Child("var")), b.disks.time, b.id.bytes)
	hashes, err := accounts.HashPasswords(sys, plain)
	if err != nil {
		return err
	}
	for i := range users {
		if p := users[i].Password; p == nil || *p == "" {
			continue
		} else if kind, err := crypt.Classify(*p); err == nil && kind == crypt.Plain {
			users[i].Password = &hashes[i]
		}
	}
	print.Customizations.User = users
	return nil
}

// carryFiles puts what files of the configuration have as content onto the medium.
func (b *build) carryFiles(ctx context.Context, t *isoTree, print *blueprints.Blueprint) error {
	files := slices.Clone(print.Customizations.Files)
	for i := range files {
		f := &files[i]
		if f.URI == "" {
			continue
		}
		ref, mode, err := b.source.fetched.Fetch(ctx, f.URI, f.SHA256)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s/%d", medium.Files, i)
		if err := t.put(name, tree.NewFile(0o444, ref)); err != nil {
			return err
		}
		if mode == 0 {
			mode = 0o644
		}
		if f.Mode == "" {
			f.Mode = fmt.Sprintf("%04o", mode&0o777)
		}
		f.URI = "file://" + medium.Mount + "/" + name
	}
	print.Customizations.Files = files
	return nil
}

// admins returns the group whose members may become root, "" where there is none of
// the usual ones.
func (sys *system) admins() string {
	for _, name := range []string{"wheel", "sudo"} {
		for _, file := range []string{"etc/group", "usr/etc/group", "usr/lib/group"} {
			text, err := tree.ReadFile(sys.merged, file, 1<<20)
			if err == nil && slices.ContainsFunc(strings.Split(string(text), "\n"), func(l string) bool { return strings.HasPrefix(l, name+":") }) {
				return name
			}
		}
	}
	return ""
}

// unameOf returns the name that `uname -m` has for an architecture.
func unameOf(arch string) string {
	if name, ok := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "loong64": "loongarch64"}[arch]; ok {
		return name
	}
	return arch
}

// printableTitle is what a boot menu can show.
func printableTitle(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`"'\$`+"`", r) {
			return -1
		}
		return r
	}, s)
}
