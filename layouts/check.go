package layouts

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"imgbuild/blueprints"
	"imgbuild/filesystem/fat"
	"imgbuild/partition"
	"imgbuild/tree"
)

// Limits of what can be written.
const (
	maxGPT  = 128 // partitions of the array that every tool writes
	maxDOS  = 4   // primary partitions
	maxName = 36  // UTF-16 units of a GPT partition's name
	maxMBR  = 1 << 32
)

// Check returns all that keeps the layout from being written or from booting, as
// far as it is known without the image; nil when that is nothing.
func (l *Layout) Check() Problems {
	c := &checker{layout: l, ids: map[string]string{}, uuids: map[string]string{}, mounts: map[string]string{}}
	c.table()
	for i := range l.Partitions {
		c.title = l.Title(i)
		c.partition(&l.Partitions[i])
	}
	c.boot()
	return c.problems
}

type checker struct {
	problems           Problems
	layout             *Layout
	title              string            // of the partition that is looked at
	ids, uuids, mounts map[string]string // who has them
}

func (c *checker) fail(format string, args ...any) {
	c.problems.add("%s: %s", c.title, fmt.Sprintf(format, args...))
}

// once reports a value that another one has already.
func (c *checker) once(has map[string]string, what, value string) {
	if value == "" {
		return
	}
	if other, ok := has[value]; ok {
		c.fail("%s %s is also that of %s", what, value, other)
		return
	}
	has[value] = c.title
}

func (c *checker) table() {
	l := c.layout
	c.title = "the disk"
	sector := l.SectorSize == 512 || l.SectorSize == 4096
	if !sector {
		c.fail("sectors of %d bytes, and 512 and 4096 are possible", l.SectorSize)
	}
	switch grain := l.Grain; {
	case grain <= 0 || grain > GiB:
		c.fail("a grain of %d bytes, and 512 bytes to 1 GiB are possible", grain)
	case sector && grain%l.SectorSize != 0:
		c.fail("a grain of %d bytes is not a multiple of the sector size %d", grain, l.SectorSize)
	}
	for _, n := range []struct {
		what  string
		bytes int64
	}{{"a size", l.Size}, {"a start offset", l.StartOffset}, {"a padding", l.Padding}} {
		if n.bytes < 0 || n.bytes > maxDiskSize {
			c.fail("%s of %d bytes, and at most %s is possible", n.what, n.bytes, blueprints.FormatSize(maxDiskSize))
		}
	}
	n := len(l.Partitions)
	switch {
	case l.Table == DOS && n > maxDOS:
		c.fail("%d partitions, and a dos table has at most %d (automatic ones are counted)", n, maxDOS)
	case n > maxGPT:
		c.fail("%d partitions, and a gpt table has at most %d", n, maxGPT)
	}
	if l.Table == DOS && l.ID != "" {
		c.fail("uuid %s: a dos table has none", l.ID)
	} else if l.ID != "" {
		c.guid("uuid", l.ID)
		c.once(c.ids, "uuid", strings.ToLower(l.ID))
	}
}

func (c *checker) guid(what, text string) {
	g, err := partition.ParseGUID(text)
	if err == nil && g.IsZero() {
		err = fmt.Errorf("all zeros")
	}
	if err != nil {
		c.fail("%s %q: %v", what, text, err)
	}
}

func (c *checker) partition(p *Partition) {
	l := c.layout
	if l.Table == DOS {
		c.dosPartition(p)
	} else {
		c.guid("type", p.Type)
		if p.ID != "" {
			c.guid("uuid", p.ID)
			c.once(c.ids, "uuid", p.ID)
		}
		c.name(p.Name)
	}
	switch {
	case p.Size < 0 || p.Size > maxDiskSize:
		c.fail("%d bytes, and at most %s is possible", p.Size, blueprints.FormatSize(maxDiskSize))
	case p.Size == 0 && p.Role() != RoleRoot && p.Source == "":
		c.fail("no size, which only root can do without")
	}
	if p.Source != "" && !clean(p.Source) {
		c.fail("source_path %q is not absolute and canonical", p.Source)
	}
	if p.FS != nil {
		c.fileSystem(p)
	}
}

func (c *checker) dosPartition(p *Partition) {
	if len(p.Type) != 2 || strings.Trim(p.Type, "0123456789abcdef") != "" {
		c.fail("type %q: two hexadecimal digits in a dos table", p.Type)
	} else if p.Type == dosBIOSBoot {
		c.fail("type 00 marks an entry of a dos table as unused; GRUB for BIOS needs no partition there")
	} else if slices.Contains([]string{"05", "0f", "85"}, p.Type) {
		c.fail("type %s: extended partitions are not possible", p.Type)
	} else if p.Type == "ee" {
		c.fail("type ee marks a disk with a gpt table")
	}
	if p.ID != "" {
		c.fail("uuid %s: partitions of a dos table have none", p.ID)
	}
	if p.Name != "" {
		c.fail("label %q: partitions of a dos table have none", p.Name)
	}
	if p.Attributes != 0 {
		c.fail("attributes: partitions of a dos table have none but bootable")
	}
}

func (c *checker) name(s string) {
	switch n := len(utf16.Encode([]rune(s))); {
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		c.fail("label %q is not printable text", s)
	case n > maxName:
		c.fail("label %q has %d UTF-16 units, and a name in a gpt table at most %d", s, n, maxName)
	}
}

// maxLabel returns how long the label of a file system may be, in bytes.
func maxLabel(fs string) int {
	switch fs {
	case Ext4:
		return 16
	case Swap:
		return 15
	case XFS:
		return 12
	}
	return 255
}

func (c *checker) fileSystem(p *Partition) {
	f := p.FS
	switch f.Type {
	case Ext4, XFS, Btrfs, VFAT, Swap, "": // the last becomes the type of root
	default:
		c.fail("file system %q: not one of ext4, xfs, btrfs, vfat and swap", f.Type)
	}
	if n := maxLabel(f.Type); len(f.Label) > n && f.Type != VFAT {
		c.fail("label %q is longer than the %d bytes of %s", f.Label, n, f.Type)
	}
	if strings.ContainsFunc(f.Label, unicode.IsControl) || !utf8.ValidString(f.Label) {
		c.fail("label %q is not printable text", f.Label)
	}
	c.options(f.Options)
	c.fsUUID(f)
	c.mkfs(f)
	if f.Type == Swap && f.Mount != "" {
		c.fail("swap cannot be mounted at %s", f.Mount)
	}
	c.subvolumes(f)
	for _, m := range f.Mounts() {
		c.mount(f, m.Where)
	}
	if f.Type == VFAT {
		least, err := fat.Size(tree.NewDir(0o755), 0, fat.Options{SectorSize: int(sectorOr512(c.layout.SectorSize)), Label: f.Label})
		if err != nil {
			c.fail("%v", err)
		} else if p.Size > 0 && p.Size < least {
			c.fail("%s is less than FAT32 has with sectors of %d bytes: %d MiB",
				blueprints.FormatSize(p.Size), c.layout.SectorSize, (least+MiB-1)/MiB)
		}
	}
}

// sectorOr512 returns a size of sectors that exists.
func sectorOr512(n int64) int64 {
	if n == 4096 {
		return n
	}
	return 512
}

func (c *checker) options(s string) {
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) || !utf8.ValidString(s) {
		c.fail("mount options %q hold blanks or control characters", s)
	}
}

func (c *checker) fsUUID(f *FileSystem) {
	switch {
	case f.UUID == "":
		return
	case f.Type == VFAT:
		if _, err := ParseVolumeID(f.UUID); err != nil {
			c.fail("%v", err)
		}
	default:
		c.guid("file system uuid", f.UUID)
	}
	c.once(c.uuids, "file system uuid", f.UUID)
}

// mkfs checks the options that belong to one type of file system.
func (c *checker) mkfs(f *FileSystem) {
	switch {
	case f.Verity && f.Type != Ext4 && f.Type != "":
		c.fail("mkfs_options: verity is an option of ext4, and this is %s", f.Type)
	case f.AGCount != 0 && f.Type != XFS:
		c.fail("mkfs_options: agcount is an option of xfs, and this is %s", f.Type)
	case f.AGCount == 1:
		c.fail("mkfs_options: agcount 1, and xfs needs 2 to be repairable")
	case (f.Heads != 0 || f.SectorsPerTrack != 0) && f.Type != VFAT:
		c.fail("mkfs_options: geometry is an option of vfat, and this is %s", f.Type)
	case (f.Heads == 0) != (f.SectorsPerTrack == 0):
		c.fail("mkfs_options: geometry needs both heads and sectors_per_track")
	}
}

func (c *checker) subvolumes(f *FileSystem) {
	if len(f.Subvolumes) > 0 && f.Type != Btrfs {
		c.fail("subvolumes of %s", f.Type)
	}
	names := map[string]bool{}
	for _, s := range f.Subvolumes {
		switch {
		case s.Name == "" || !clean("/"+s.Name) || len(s.Name) > 255 || strings.ContainsFunc(s.Name, func(r rune) bool {
			return r == ',' || unicode.IsSpace(r) || unicode.IsControl(r)
		}):
			c.fail("subvolume %q is not a path in the file system that a mount option can hold", s.Name)
		case names[s.Name]:
			c.fail("subvolume %q is there twice", s.Name)
		}
		names[s.Name] = true
		if s.Compress != "" && !validCompress(s.Compress) {
			c.fail("subvolume %s: compress %q: not one of zlib, lzo, zstd and no, with a level as zstd:1", s.Name, s.Compress)
		}
	}
}

// validCompress tells whether Linux takes a value of the mount option compress
// (btrfs(5)).
func validCompress(s string) bool {
	kind, level, has := strings.Cut(s, ":")
	limit := map[string]int{"zlib": 9, "zstd": 15}[kind]
	if !has {
		return limit > 0 || kind == "lzo" || kind == "no" || kind == "none"
	}
	n := 0
	_, err := fmt.Sscanf(level, "%d", &n)
	return err == nil && fmt.Sprint(n) == level && n >= 1 && n <= limit
}

func (c *checker) mount(f *FileSystem, where string) {
	if !clean(where) || !utf8.ValidString(where) || strings.ContainsFunc(where, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		c.fail("mount point %q is not an absolute, canonical path without blanks", where)
		return
	}
	c.once(c.mounts, "mount point", where)
	switch {
	case where == "/boot/efi" && f.Type != VFAT:
		c.fail("the EFI system partition has to be vfat, and this is %s", f.Type)
	case (where == "/" || where == "/boot") && f.Type == VFAT:
		c.fail("vfat cannot hold %s: ostree needs symbolic links there", where)
	case Below(where, "/boot") && where != "/boot" && where != "/boot/efi":
		c.fail("%s: only /boot and /boot/efi are file systems there", where)
	}
	for _, taken := range []struct{ dir, why string }{
		{"/usr", "belongs to the image, which is one file system"},
		{"/etc", "belongs to the deployment, and is needed before anything is mounted"},
		{"/ostree", "is not seen by the running system"},
		{"/sysroot", "is where the physical root is"},
		{"/run", "is made anew at every boot"},
		{"/proc", "is the kernel's"},
		{"/sys", "is the kernel's"},
		{"/dev", "is the kernel's"},
	} {
		if Below(where, taken.dir) {
			c.fail("nothing can be mounted at %s: %s %s", where, taken.dir, taken.why)
		}
	}
}

// boot checks that there is something to boot.
func (c *checker) boot() {
	l := c.layout
	c.title = "the disk"
	if l.At("/") < 0 {
		c.fail("no root: no file system is mounted at /")
	}
	for _, r := range []Role{RoleBIOS, RolePReP, RoleESP} {
		n := 0
		for i := range l.Partitions {
			if l.Partitions[i].Role() == r {
				n++
			}
		}
		if n > 1 {
			c.fail("%d partitions of one kind for boot loaders (%s)", n, l.Title(l.Find(r)))
		}
	}
	if i := l.Find(RoleESP); i >= 0 && !l.Partitions[i].FS.mounts("/boot/efi") && (l.Partitions[i].FS == nil || l.Partitions[i].FS.Type != VFAT) {
		c.title = l.Title(i)
		c.fail("the EFI system partition has to have a vfat file system")
	}
}

// CheckFirmware returns what keeps a checked layout from being booted by the boot
// loaders of an image, and warnings about those that it leaves out.
func (l *Layout) CheckFirmware(f Firmware) (problems Problems, warnings []string) {
	bios := f.BIOS && l.BIOS()
	uefi := f.UEFI && l.Find(RoleESP) >= 0
	prep := f.PReP && l.Find(RolePReP) >= 0
	switch {
	case bios || uefi || prep || !f.any():
	case f.BIOS && !f.UEFI && l.SectorSize != 512:
		problems.add("the image boots by BIOS alone, which reads no disks with sectors of %d bytes", l.SectorSize)
	case f.UEFI:
		problems.add("no EFI system partition, which the boot loader of the image needs")
	case f.BIOS && l.Table == DOS:
		problems.add("GRUB has no room in the %d bytes between the dos table and the first partition; a start_offset of 1 MiB is usual", l.Gap())
	case f.BIOS:
		problems.add("no BIOS boot partition, which the boot loader of the image needs")
	default:
		problems.add("no PReP partition, which the boot loader of the image needs")
	}
	if len(problems) > 0 {
		return problems, nil
	}
	if f.UEFI && !uefi && f.any() {
		warnings = append(warnings, "the disk will not boot by UEFI: the layout has no EFI system partition")
	}
	if f.BIOS && !bios {
		why := "the layout has no BIOS boot partition"
		switch {
		case l.SectorSize != 512:
			why = fmt.Sprintf("BIOS reads no disks with sectors of %d bytes", l.SectorSize)
		case l.Table == DOS:
			why = fmt.Sprintf("GRUB has no room in the %d bytes between the dos table and the first partition; a start_offset of 1 MiB is usual", l.Gap())
		}
		warnings = append(warnings, "the disk will not boot by BIOS: "+why)
	}
	return nil, warnings
}

// BIOS tells whether the layout has room for GRUB's core image for BIOS: a
// partition, or the gap behind an MBR.
func (l *Layout) BIOS() bool {
	return l.SectorSize == 512 && (l.Table == DOS && l.Gap() >= minGap || l.Find(RoleBIOS) >= 0)
}

// minGap is room for GRUB's core image with any file system; the largest, for
// btrfs, has some 76 KiB.
const minGap = 96 << 10

// Gap returns the bytes between an MBR and the first partition.
func (l *Layout) Gap() int64 { return l.start() - l.SectorSize }

// CheckArch returns what keeps a checked layout from being booted on an
// architecture (GOARCH name), as far as that follows from it alone. A layout that
// brings firmware of its own may boot by means that are not known here.
func (l *Layout) CheckArch(arch string) (problems Problems) {
	for i := range l.Partitions {
		if l.Partitions[i].Source != "" {
			return nil
		}
	}
	esp, bios := l.Find(RoleESP) >= 0, l.BIOS()
	switch {
	case arch == "amd64" && !esp && l.SectorSize != 512:
		problems.add("no EFI system partition, and BIOS reads no disks with sectors of %d bytes", l.SectorSize)
	case arch == "amd64" && !esp && !bios:
		problems.add("neither an EFI system partition nor a BIOS boot partition: nothing can boot the disk")
	case (arch == "arm64" || arch == "riscv64") && !esp:
		problems.add("no EFI system partition: nothing can boot the disk")
	case arch == "ppc64le" && l.Find(RolePReP) < 0:
		problems.add("no PReP partition: nothing can boot the disk")
	}
	return problems
}
