package kickstart

import (
	"path"
	"slices"
	"strings"

	"imgbuild/layouts"
	"imgbuild/partition"
)

// diskNames are the disks that a kickstart names.
type diskNames struct {
	target string // path below /dev
	line   int    // that named it
}

// use notes the disk to install to. There is one.
func (d *diskNames) use(t *translation, c *Command, option, name string) {
	device, ok := t.device(c, option, name)
	switch {
	case !ok:
	case d.target != "" && d.target != device:
		t.wrong(c, option, "", "%s, and line %d names %s: one disk is installed", device, d.line, d.target)
	case d.target == "":
		d.target, d.line = device, c.Line
	}
}

// device returns the path of a disk as Anaconda names disks.
func (t *translation) device(c *Command, option, name string) (string, bool) {
	const hint = "sda, or disk/by-id/NAME"
	switch {
	case strings.ContainsAny(name, "*?[]|"):
		t.refuse(c, option, hint, "%s may be any of several disks", quoteShort(name))
	case strings.Contains(name, "="):
		t.refuse(c, option, hint, "%s names a file system, not a disk", quoteShort(name))
	case strings.ContainsAny(name, " \t\r\n\x00"):
		t.wrong(c, option, hint, "%s is no disk", quoteShort(name))
	default:
		device := name
		if !strings.HasPrefix(name, "/") {
			device = "/dev/" + name
		}
		if path.Clean(device) != device || !strings.HasPrefix(device, "/dev/") {
			t.wrong(c, option, hint, "%s is no disk", quoteShort(name))
			return "", false
		}
		return device, true
	}
	return "", false
}

func (t *translation) ignoredisk(c *Command) {
	for _, name := range c.list("--only-use") {
		t.disks.use(t, c, "--only-use", name)
	}
	for _, name := range c.list("--drives") {
		if d, ok := t.device(c, "--drives", name); ok {
			t.s.Exclude = append(t.s.Exclude, d)
		}
	}
}

func (t *translation) clearpart(c *Command) {
	t.clear = c
	t.s.Wipe = c.has("--all")
	switch {
	case c.has("--all") && c.has("--none"):
		t.wrong(c, "--none", "", "contradicts --all")
	case !c.has("--all") && !c.has("--none") && len(c.list("--drives")) > 0:
		t.wrong(c, "--drives", "clearpart --all --drives=...", "without --all nothing is cleared")
	}
}

// target settles which disk is installed and which may be erased.
func (t *translation) target() {
	defer func() {
		t.s.Target = t.disks.target
		if slices.Contains(t.s.Exclude, t.s.Target) {
			t.p.add(Problem{Line: t.disks.line, Kind: Value, Message: t.s.Target + " is to be ignored"})
		}
	}()
	if t.zero != nil && !t.s.Wipe {
		t.refuse(t.zero, "", "clearpart --all", "a disk that holds anything, whatever it is, is erased with clearpart --all only")
	}
	if t.clear == nil || len(t.clear.list("--drives")) == 0 {
		return
	}
	var drives []string
	for _, name := range t.clear.list("--drives") {
		if d, ok := t.device(t.clear, "--drives", name); ok {
			drives = append(drives, d)
		}
	}
	switch {
	case t.disks.target != "" && !slices.Contains(drives, t.disks.target):
		t.wrong(t.clear, "--drives", "", "does not name %s, which line %d installs to", t.disks.target, t.disks.line)
	case t.disks.target == "" && len(drives) > 1:
		t.wrong(t.clear, "--drives", "ignoredisk --only-use=DISK", "does not say which of the disks is installed")
	case t.disks.target == "" && len(drives) == 1:
		t.disks.target, t.disks.line = drives[0], t.clear.Line
	}
}

// autopart asks for the layout that the image or imgbuild has: there is neither
// /home nor swap space in it.
func (t *translation) autopart(c *Command) {
	t.s.Unattended = true
	switch strings.ToLower(c.text("--type")) {
	case "lvm", "thinp":
		t.refuse(c, "--type", "--type=plain", "imgbuild writes no LVM")
	case "stratis":
		t.refuse(c, "--type", "--type=plain", "imgbuild writes no Stratis")
	case "btrfs":
		t.s.RootFS = layouts.Btrfs
	}
	switch fs := c.text("--fstype"); fs {
	case "":
	case layouts.Ext4, layouts.XFS:
		t.s.RootFS = fs
	default:
		t.refuse(c, "--fstype", "ext4 or xfs", "root cannot be %s", quoteShort(fs))
	}
}

// maxMiB is the largest partition, a pebibyte, in MiB.
const maxMiB = 1 << 30

// Options of mounts, Anaconda's.
const (
	mountDefaults = "defaults"
	mountESP      = "umask=0077,shortname=winnt"
)

// layout makes a layout of the lines part.
func (t *translation) layout() {
	if len(t.parts) == 0 {
		t.diskLabel(nil)
		return
	}
	t.s.Unattended = true
	l := &layouts.Layout{
		Table: layouts.GPT, SectorSize: 512, Grain: layouts.DefaultGrain, Compact: true, FixedRoot: true, Mounts: layouts.MountsUnits, AddFirmware: true,
	}
	t.diskLabel(l)
	before := len(t.p.report.Problems)
	for i := range t.parts {
		c := &t.parts[i]
		if d := c.text("--ondisk"); d != "" {
			t.disks.use(t, c, "--ondisk", d)
		}
		if p, ok := t.partition(l, c); ok {
			l.Partitions = append(l.Partitions, p)
		}
	}
	if l.At("/") < 0 && len(t.p.report.Problems) == before {
		t.wrong(&t.parts[0], "", "part / --grow", "no partition is mounted at /")
	}
	t.s.Layout = l
}

// diskLabel sets the kind of partition table.
func (t *translation) diskLabel(l *layouts.Layout) {
	if t.clear == nil {
		return
	}
	switch label := t.clear.text("--disklabel"); {
	case label == "", label == "gpt":
	case label != "msdos" && label != "dos" && label != "mbr":
		t.refuse(t.clear, "--disklabel", "gpt or msdos", "imgbuild writes no partition table %s", quoteShort(label))
	case l == nil:
		t.refuse(t.clear, "--disklabel", "part lays out such a disk", "the layout of autopart is for gpt")
	default:
		l.Table = layouts.DOS
	}
}

// partition returns what a line part asks for.
func (t *translation) partition(l *layouts.Layout, c *Command) (layouts.Partition, bool) {
	var p layouts.Partition
	where, fs := c.Args[0], c.text("--fstype")
	before := len(t.p.report.Problems)
	if n := c.number("--size"); n != nil {
		if *n <= 0 || *n > maxMiB {
			t.wrong(c, "--size", "", "%d is no size in MiB", *n)
		}
		p.Size = max(0, min(*n, maxMiB)) * layouts.MiB
	} else if where != "/" && !c.has("--recommended") && !c.has("--hibernation") && !c.has("--onpart") {
		t.wrong(c, "--size", "", "is missing")
	}
	switch {
	case c.has("--grow") && where == "/":
		l.FixedRoot = false
	case c.has("--grow"):
		t.refuse(c, "--grow", "part / --grow", "the partition of / takes the room that is left, and no other")
	case where == "/" && p.Size == 0 && c.number("--size") == nil:
		t.wrong(c, "--size", "--grow", "is missing")
	}
	switch {
	case where == "biosboot" || fs == "biosboot":
		p.Type, p.Bootable = partition.BIOSBoot.String(), true
		if l.Table == layouts.DOS {
			t.wrong(c, "", "drop the line", "an MBR has no such partition")
		}
		return p, len(t.p.report.Problems) == before
	case where == "prepboot" || fs == "prepboot":
		p.Type, p.Bootable = partition.PReP.String(), true
		if l.Table == layouts.DOS {
			p.Type = "41"
		}
		return p, len(t.p.report.Problems) == before
	case where == "swap":
		if fs != "" && fs != "swap" {
			t.wrong(c, "--fstype", "", "swap space is no %s", quoteShort(fs))
		}
		if c.has("--fsoptions") {
			t.refuse(c, "--fsoptions", "", "swap space is used without options")
		}
		p.FS = &layouts.FileSystem{Type: layouts.Swap, Label: c.text("--label")}
		return p, len(t.p.report.Problems) == before
	case !strings.HasPrefix(where, "/"):
		t.refuse(c, "", "", "%s is no mount point; imgbuild writes partitions with file systems, and no parts of volumes", quoteShort(where))
		return p, false
	}
	p.FS = &layouts.FileSystem{Type: t.fileSystem(c, where, fs), Label: c.text("--label"), Mount: where, Options: c.text("--fsoptions")}
	if p.FS.Options == "" {
		p.FS.Options = mountDefaults
		if where == "/boot/efi" {
			p.FS.Options = mountESP
		}
	}
	return p, len(t.p.report.Problems) == before
}

// fileSystem returns the type of a file system, "" for that of the image.
func (t *translation) fileSystem(c *Command, where, fs string) string {
	switch fs {
	case "efi":
		fs = layouts.VFAT
	case "", layouts.Ext4, layouts.XFS, layouts.Btrfs, layouts.VFAT:
	default:
		t.refuse(c, "--fstype", "ext4, xfs, btrfs or vfat", "imgbuild writes no %s", quoteShort(fs))
	}
	if (fs == layouts.VFAT) != (where == "/boot/efi") && fs != "" {
		if where == "/boot/efi" {
			t.wrong(c, "--fstype", "efi", "the firmware reads FAT")
		} else if where == "/" || where == "/boot" {
			t.wrong(c, "--fstype", "", "%s cannot be vfat", where)
		}
	}
	return fs
}
