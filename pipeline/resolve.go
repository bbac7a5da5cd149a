package pipeline

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"imgbuild/blueprints"
	"imgbuild/bootloader"
	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/filesystem/btrfs"
	"imgbuild/layouts"
	"imgbuild/tree"
)

// partitioning is what there is about the disk's layout.
type partitioning struct {
	layout      *LayoutFile             // of --layout, or the image's disk.yaml
	fileSystems []blueprints.Filesystem // customizations.filesystem
	disk        *blueprints.Disk        // customizations.disk
}

// partitioning returns what the user says.
func (o *Options) partitioning() partitioning {
	c := partitioning{layout: o.Layout}
	if o.Config != nil {
		b := &o.Config.Blueprint.Customizations
		c.fileSystems, c.disk = b.Filesystem, b.Disk
	}
	return c
}

// LayoutFile is a disk.yaml.
type LayoutFile struct {
	Name     string // for messages
	Layout   *layouts.Layout
	Text     string // as it was read
	Warnings []string
}

// layout returns the layout, nil without a file.
func (f *LayoutFile) layout() *layouts.Layout {
	if f == nil {
		return nil
	}
	return f.Layout
}

// ReadLayout reads a disk.yaml.
func ReadLayout(name string, text []byte) (*LayoutFile, error) {
	l, warnings, err := layouts.Parse(text)
	if err != nil {
		return nil, fault.New(fault.ClassOf(err), fmt.Errorf("%s: %w", name, err), fault.HintOf(err))
	}
	return &LayoutFile{Name: name, Layout: l, Text: string(text), Warnings: warnings}, nil
}

// diskYAML are the places of an image's own disk layout, the first one winning.
func diskYAML() []string {
	return []string{"usr/lib/image-builder/bootc/disk.yaml", "usr/lib/bootc-image-builder/disk.yaml"}
}

// validate finds what is wrong with the layout whatever the image is, before
// anything of it is read.
func (c *partitioning) validate(o *Options) error {
	if c.layout == nil && c.disk == nil {
		return nil // of customizations.filesystem everything is checked already
	}
	// What the image boots by is not known yet: nothing is added for it that may
	// turn out not to be needed.
	r := c.request(o.Arch, o.RootFS)
	r.Firmware = layouts.Firmware{UEFI: o.Arch == "arm64" || o.Arch == "riscv64", PReP: o.Arch == "ppc64le"}
	l, err := layouts.Resolve(r)
	if err != nil {
		return err
	}
	if err := o.fitSectors(l); err != nil {
		return err
	}
	if err := problemsOf(c.name(), l.Check(), fault.Config); err != nil {
		return err
	}
	if err := checkSectors(l, o.Types); err != nil {
		return err
	}
	if c.disk != nil || l.AddFirmware {
		return nil // what boots is added to it
	}
	return problemsOf(c.name(), l.CheckArch(o.Arch), fault.Config)
}

// name says where the layout is from.
func (c *partitioning) name() string {
	switch {
	case c.disk != nil:
		return "customizations.disk"
	case c.layout != nil:
		return c.layout.Name
	}
	return "customizations.filesystem"
}

func (c *partitioning) request(arch, rootFS string) *layouts.Request {
	r := &layouts.Request{Arch: arch, RootFS: rootFS, FileSystems: c.fileSystems, Disk: c.disk}
	if c.layout != nil {
		r.Base = c.layout.Layout
		if fs := r.Base.RootFS(); fs != "" {
			r.RootFS = fs
		}
	}
	if r.RootFS == "" {
		r.RootFS = defaultRootFS
	}
	return r
}

// problemsOf returns problems as an error about what has the name.
func problemsOf(name string, problems layouts.Problems, class fault.Class) error {
	if len(problems) == 0 {
		return nil
	}
	return fault.New(class, fmt.Errorf("%s: %w", name, problems), "")
}

// resolveLayout chooses the layout of the disk: which partitions there are, and
// what is in them. That of --layout goes before that of the image; what the user's
// blueprint says is applied on top, or where it says nothing what a blueprint in
// the image does.
func resolveLayout(sys *system, caps *bootloader.Capabilities, bootable bool, o *Options, p Progress) (*layouts.Layout, error) {
	c, err := sys.partitioning(o)
	if err != nil {
		return nil, err
	}
	class := fault.Config
	if c.disk == nil && c.layout != o.Layout {
		class = fault.BadImage
	}
	rootFS, err := sys.rootFS(&c, o, p)
	if err != nil {
		return nil, err
	}
	r := c.request(o.Arch, rootFS)
	r.Firmware = layouts.Firmware{UEFI: caps.UEFI, BIOS: caps.BIOS, PReP: caps.PReP}
	l, err := layouts.Resolve(r)
	if err != nil {
		return nil, err
	}
	if err := o.fitSectors(l); err != nil {
		return nil, err
	}
	if l.Mounts == layouts.MountsBootc {
		return l, o.checkBoot(l, r.Firmware, bootable, p) // imgbuild's own
	}
	if c.layout != nil {
		for _, w := range c.layout.Warnings {
			p.Warn(c.layout.Name + ": " + w)
		}
	}
	problems := l.Check()
	if len(problems) == 0 {
		problems = sys.checkMounts(l)
	}
	if len(problems) == 0 && bootable {
		var warnings []string
		problems, warnings = l.CheckFirmware(r.Firmware)
		for _, w := range warnings {
			p.Warn(w)
		}
	}
	if err := problemsOf(c.name(), problems, class); err != nil {
		return nil, err
	}
	return l, errors.Join(checkBootVolume(l, bootable), checkWritable(l), checkSectors(l, o.Types))
}

// partitioning returns what there is about the layout, and the class of mistakes
// in it.
func (sys *system) partitioning(o *Options) (partitioning, error) {
	c := o.partitioning()
	for _, name := range diskYAML() {
		if c.layout != nil || tree.Lookup(sys.merged, name) == nil {
			continue
		}
		text, err := tree.ReadFile(sys.merged, name, layouts.MaxFile)
		if err == nil {
			c.layout, err = ReadLayout("the image's /"+name, text)
		}
		if err != nil {
			hint := fault.HintOf(err)
			if hint == "" {
				hint = "--layout FILE takes another one"
			}
			if fault.ClassOf(err) == fault.Unsupported {
				return c, fault.New(fault.Unsupported, err, hint)
			}
			return c, fault.New(fault.BadImage, err, hint)
		}
	}
	return c, nil
}

// rootFS returns the type of a root file system whose type the layout leaves
// open. The one of a layout goes before --rootfs, as with bootc-image-builder.
func (sys *system) rootFS(c *partitioning, o *Options, p Progress) (string, error) {
	if c.layout != nil {
		if fs := c.layout.Layout.RootFS(); fs != "" {
			if o.RootFS != "" && o.RootFS != fs && c.disk == nil {
				p.Warn(fmt.Sprintf("root is %s as %s has it, and not %s as --rootfs asks for", fs, c.layout.Name, o.RootFS))
			}
			return fs, nil
		}
	}
	switch {
	case o.RootFS != "":
		return o.RootFS, nil
	case sys.facts.Install.RootFSType != "":
		fs := sys.facts.Install.RootFSType
		return fs, checkRootFS(fs, "the image's install config")
	}
	p.Note("the image names no root file system; it gets " + defaultRootFS)
	return defaultRootFS, nil
}

// checkMounts makes the mount points of the layout those that the running system
// has, without symbolic links, and returns what is wrong with them.
func (sys *system) checkMounts(l *layouts.Layout) (problems layouts.Problems) {
	vars := tree.Lookup(sys.merged, "var")
	if vars == nil {
		vars = tree.NewDir(0o755)
	}
	view := customize.New(sys.merged, tree.NewDir(0o755), vars, 0, nil)
	for i := range l.Partitions {
		f := l.Partitions[i].FS
		if f == nil {
			continue
		}
		for _, where := range mountPoints(f) {
			if *where == "" || slices.Contains([]string{"/", "/boot", "/boot/efi"}, *where) {
				continue
			}
			real, err := view.RealPath(*where)
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s: %v", l.Title(i), err))
				continue
			}
			if why := sys.noMountPoint(real); why != "" {
				problems = append(problems, fmt.Sprintf("%s: %s", l.Title(i), why))
			}
			*where = real
		}
	}
	if len(problems) == 0 {
		problems = l.Check() // again, now that links are out of the way
	}
	return problems
}

// mountPoints returns where the mount points of a file system are kept.
func mountPoints(f *layouts.FileSystem) []*string {
	list := []*string{&f.Mount}
	for i := range f.Subvolumes {
		list = append(list, &f.Subvolumes[i].Mount)
	}
	return list
}

// noMountPoint says why nothing can be mounted at a path without symbolic links,
// or "".
func (sys *system) noMountPoint(real string) string {
	if layouts.Below(real, "/var") {
		return ""
	}
	i := tree.Lookup(sys.merged, real)
	switch {
	case i == nil:
		return fmt.Sprintf("%s is not in the image, and root is read-only: add RUN mkdir %s to its Containerfile, or mount below /var", real, real)
	case !i.IsDir():
		return real + " is no directory in the image"
	case i.Len() > 0:
		return fmt.Sprintf("%s has content in the image, which the file system would hide from upgrades: make it empty, or mount below /var", real)
	}
	return ""
}

// checkWritable returns an error about file systems that imgbuild does not write.
func checkWritable(l *layouts.Layout) error {
	for i := range l.Partitions {
		f := l.Partitions[i].FS
		if f == nil || f.Type == layouts.Swap || f.Type == layouts.VFAT {
			continue
		}
		for _, s := range f.Subvolumes {
			if _, err := btrfs.ParseCompression(s.Compress); err != nil {
				return fault.New(fault.Unsupported, fmt.Errorf("%s: subvolume %s: %w", l.Title(i), s.Name, err), "")
			}
		}
		if l.Partitions[i].Role() == layouts.RoleRoot {
			if err := checkRootFS(f.Type, "the layout"); err != nil {
				return err
			}
		} else if !slices.Contains(writableRoots(), f.Type) {
			return fault.New(fault.Unsupported, fmt.Errorf("%s: file system %s: imgbuild writes %s so far", l.Title(i), f.Type, strings.Join(writableRoots(), " and ")), "")
		}
	}
	return nil
}

// checkSectors returns an error when a type of file stands for disks of other
// sectors.
func checkSectors(l *layouts.Layout, types []Type) error {
	if l.SectorSize == 512 {
		return nil
	}
	for _, t := range types {
		if t != Raw && t != QCOW2 {
			return fault.New(fault.Unsupported, fmt.Errorf("sectors of %d bytes: %s disks are seen with sectors of 512", l.SectorSize, t),
				"raw and qcow2 can be attached with larger sectors: -device virtio-blk,logical_block_size=4096")
		}
	}
	return nil
}

// coreLBA returns the sector that GRUB's core image for BIOS begins at, 0 without
// one, as far as it is known before the sizes of partitions are.
func (d *disks) coreLBA() (int64, error) {
	if !d.caps.BIOS || !d.layout.BIOS() {
		return 0, nil
	}
	if d.layout.Table == layouts.DOS {
		return 1, nil
	}
	sizes := make([]int64, len(d.layout.Partitions))
	for i := range sizes {
		sizes[i] = max(d.layout.Partitions[i].Size, 1)
	}
	places, err := d.layout.Place(sizes, 1<<60, false)
	if err != nil {
		return 0, err
	}
	return places[d.layout.Find(layouts.RoleBIOS)].Start / d.layout.SectorSize, nil
}

// sourceOf returns the file of the image that a partition begins with.
func (sys *system) sourceOf(p *layouts.Partition) (*tree.Inode, error) {
	i, err := tree.Resolve(sys.merged, p.Source)
	if err != nil || !i.IsFile() {
		return nil, fault.New(fault.BadImage, fmt.Errorf("source_path %s: no such file in the image", path.Clean(p.Source)), "")
	}
	return i, nil
}
