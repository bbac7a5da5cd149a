package layouts

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"imgbuild/fault"
	"imgbuild/partition"
)

// hintLVM is what to do instead of LVM or LUKS.
const hintLVM = "plain partitions and btrfs subvolumes work; encryption can be set up at the first boot by systemd-repart or ignition"

// Parse reads a disk.yaml, strictly: every key must be one that has an effect.
// The result has no automatic partitions and is not checked yet; without a
// partition_table its Table is empty, and [Resolve] takes the default one. warnings are
// sentences about what is written in the file and has no effect. Problems have
// the class fault.Config, or fault.Unsupported for what is only not possible; all
// of them are in the error, with their lines.
func Parse(text []byte) (l *Layout, warnings []string, err error) {
	if len(text) > MaxFile {
		return nil, nil, fault.New(fault.Config, fmt.Errorf("larger than %d bytes", MaxFile), "")
	}
	root, err := document(text)
	if err != nil {
		return nil, nil, fault.New(fault.Config, err, "")
	}
	f := &file{layout: &Layout{Table: GPT, SectorSize: 512, Grain: DefaultGrain, Mounts: MountsUnits}}
	if err := f.read(root); err != nil {
		return nil, nil, err
	}
	return f.layout, f.warnings, nil
}

// file is a disk.yaml that is being read.
type file struct {
	reader
	layout      *Layout
	warnings    []string
	unsupported Problems
	hasTable    bool
}

func (f *file) read(root *yaml.Node) (err error) {
	defer func() {
		if e := recover(); e != nil {
			if e != any(errTooLarge) {
				panic(e)
			}
			err = fault.New(fault.Config, errTooLarge, "")
		}
	}()
	mounts := ""
	anchors := func(_, v *yaml.Node) bool { return hasAnchor(v, 0) }
	if f.mapping(root, "disk.yaml", anchors, f.text("mount_configuration", &mounts), key{"partition_table", f.table}) {
		switch MountConfig(mounts) {
		case "":
		case MountsUnits, MountsFstab, MountsNone:
			f.layout.Mounts = MountConfig(mounts)
		default:
			f.problems.add("mount_configuration %q: not one of fstab, units and none", mounts)
		}
		if !f.hasTable {
			f.layout.Table = ""
		}
	}
	if err := f.problems.err(fault.Config, ""); err != nil {
		return err
	}
	return f.unsupported.err(fault.Unsupported, hintLVM)
}

// hasAnchor tells whether a value holds anchors: image-builder's own files keep
// what they use several times under keys that mean nothing.
func hasAnchor(n *yaml.Node, depth int) bool {
	if n.Anchor != "" {
		return true
	}
	return depth < 20 && slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return hasAnchor(c, depth+1) })
}

func (f *file) table(n *yaml.Node) {
	l, kind := f.layout, ""
	f.hasTable = true
	f.mapping(n, "partition_table", nil,
		f.size("size", &l.Size), f.text("uuid", &l.ID), f.text("type", &kind), f.integer("sector_size", 1<<20, &l.SectorSize),
		f.size("grain_size", &l.Grain), f.size("extra_padding", &l.Padding), f.size("start_offset", &l.StartOffset),
		f.boolean("absolute_start_offset", &l.AbsoluteStart), key{"policy", f.policy},
		key{"partitions", func(n *yaml.Node) {
			f.list(n, "partitions", func(i int, n *yaml.Node) {
				p := f.partition(i+1, n)
				l.Partitions = append(l.Partitions, p)
			})
		}})
	switch Table(strings.ToLower(kind)) {
	case "", GPT:
	case DOS:
		l.Table = DOS
	default:
		f.fail(n, "partition table type %q: neither gpt nor dos", kind)
	}
	if l.SectorSize == 0 {
		l.SectorSize = 512
	}
	if l.Grain == 0 {
		l.Grain = DefaultGrain
	}
	if l.Size > 0 {
		l.Compact = true
	}
	for i := range l.Partitions {
		l.Partitions[i].Type = l.typeOf(&l.Partitions[i])
	}
}

func (f *file) policy(n *yaml.Node) {
	// As with image-builder, a policy that says nothing of it wants no /boot.
	ensure, grow := false, true
	f.mapping(n, "policy", nil, f.boolean("ensure_xbootldr", &ensure), f.boolean("grow_root_to_fill_disk", &grow))
	f.layout.NoXBOOTLDR, f.layout.FixedRoot = !ensure, !grow
}

// typeOf returns the type of a partition as layouts have it, or one for its
// content where it has none.
func (l *Layout) typeOf(p *Partition) string {
	if p.Type != "" {
		return strings.ToLower(p.Type)
	}
	switch {
	case p.FS != nil && p.FS.Type == Swap:
		return pick(l.Table, partition.Swap, dosSwap)
	case p.FS.mounts("/boot"):
		return pick(l.Table, partition.XBOOTLDR, dosLinux)
	case p.FS.mounts("/boot/efi"):
		return pick(l.Table, partition.ESP, dosESP)
	}
	return pick(l.Table, partition.LinuxData, dosLinux)
}

// partition reads the n-th partition.
func (f *file) partition(number int, n *yaml.Node) Partition {
	var p Partition
	var kind string
	var start int64
	var payload *yaml.Node
	what := fmt.Sprintf("partition %d", number)
	f.mapping(n, what, nil,
		f.size("size", &p.Size), f.text("type", &p.Type), f.boolean("bootable", &p.Bootable), f.text("uuid", &p.ID),
		f.text("label", &p.Name), f.text("payload_type", &kind), f.integer("start", 1<<62, &start),
		key{"attrs", func(n *yaml.Node) { f.attributes(n, &p) }},
		key{"payload", func(n *yaml.Node) { payload = n }})
	p.ID = strings.ToLower(p.ID)
	if start != 0 {
		f.warnings = append(f.warnings, what+`: "start" has no effect: partitions follow each other, from start_offset on`)
	}
	f.payload(&p, n, kind, payload, what)
	return p
}

func (f *file) attributes(n *yaml.Node, p *Partition) {
	f.list(n, "attrs", func(_ int, n *yaml.Node) {
		bit := int64(-1)
		if f.number(n, "attrs", 63, &bit); bit > 2 && bit < 48 {
			f.fail(n, "attrs: bit %d is reserved; 0 to 2 and 48 to 63 are attributes of a GPT partition", bit)
		} else if bit >= 0 {
			p.Attributes |= 1 << bit
		}
	})
}

func (f *file) payload(p *Partition, at *yaml.Node, kind string, n *yaml.Node, what string) {
	if n == nil && kind != "" && kind != "swap" && kind != "lvm" && kind != "luks" {
		f.fail(at, "%s: payload_type %q without a payload", what, kind)
		return
	}
	switch kind {
	case "":
		if n != nil {
			f.fail(n, "%s: a payload without a payload_type", what)
		}
	case "filesystem":
		p.FS = &FileSystem{}
		f.fileSystem(p.FS, n)
	case "swap":
		p.FS = &FileSystem{Type: Swap}
		if n != nil {
			f.mapping(n, "swap", nil, f.text("uuid", &p.FS.UUID), f.text("label", &p.FS.Label),
				f.text("fstab_options", &p.FS.Options), f.text("fstaboptions", &p.FS.Options))
		}
	case "btrfs":
		p.FS = &FileSystem{Type: Btrfs}
		f.mapping(n, "btrfs", nil, f.text("uuid", &p.FS.UUID), f.text("label", &p.FS.Label), f.text("mountpoint", &p.FS.Mount),
			key{"subvolumes", func(n *yaml.Node) {
				total := int64(0)
				f.list(n, "subvolumes", func(_ int, n *yaml.Node) { total += f.subvolume(p, n) })
				p.Size = max(p.Size, total)
			}})
	case "raw":
		f.mapping(n, "raw", nil, f.text("source_path", &p.Source))
		if p.Source == "" {
			f.fail(n, "%s: raw without a source_path", what)
		}
	case "lvm", "luks":
		f.unsupported.add("line %d: %s: payload_type %s: %s", at.Line, what, kind, whyNot(kind))
	default:
		f.fail(at, "%s: payload_type %q: not one of filesystem, btrfs, swap and raw", what, kind)
	}
	if p.FS != nil && p.FS.Type != VFAT {
		p.FS.UUID = strings.ToLower(p.FS.UUID)
	}
}

// whyNot says why LVM and LUKS are refused.
func whyNot(kind string) string {
	if strings.HasPrefix(kind, "lvm") {
		return "imgbuild writes no LVM: bootable containers do not start from it reliably (osbuild/images#2228)"
	}
	return "imgbuild writes no LUKS: a key that is in an image protects nothing, and one of a TPM exists only on its machine"
}

func (f *file) fileSystem(fs *FileSystem, n *yaml.Node) {
	f.mapping(n, "filesystem", nil,
		f.text("type", &fs.Type), f.text("uuid", &fs.UUID), f.text("label", &fs.Label), f.text("mountpoint", &fs.Mount),
		f.text("fstab_options", &fs.Options), f.small("fstab_freq", 9, &fs.Freq), f.small("fstab_passno", 9, &fs.PassNo),
		key{"mkfs_options", func(n *yaml.Node) {
			f.mapping(n, "mkfs_options", nil, f.boolean("verity", &fs.Verity), f.small("agcount", 1<<20, &fs.AGCount),
				key{"geometry", func(n *yaml.Node) {
					f.mapping(n, "geometry", nil, f.small("heads", 255, &fs.Heads), f.small("sectors_per_track", 63, &fs.SectorsPerTrack))
				}})
		}})
	switch fs.Type {
	case "", Ext4, XFS, Btrfs, VFAT:
	default:
		f.fail(n, "file system type %q: not one of ext4, xfs, btrfs and vfat", fs.Type)
	}
}

// subvolume reads a subvolume of p and returns its least size.
func (f *file) subvolume(p *Partition, n *yaml.Node) (size int64) {
	var s Subvolume
	var group int64
	var uuid string
	f.mapping(n, "subvolume", nil, f.text("name", &s.Name), f.size("size", &size), f.text("mountpoint", &s.Mount),
		f.integer("group_id", 1<<62, &group), f.text("compress", &s.Compress), f.boolean("read_only", &s.ReadOnly), f.text("uuid", &uuid))
	if group != 0 {
		f.unsupported.add("line %d: subvolume %s: group_id: imgbuild writes no quota groups", n.Line, s.Name)
	}
	if uuid != "" && !strings.EqualFold(uuid, p.FS.UUID) {
		f.warnings = append(f.warnings, fmt.Sprintf("subvolume %s: \"uuid\" has no effect: it is that of its file system", s.Name))
	}
	p.FS.Subvolumes = append(p.FS.Subvolumes, s)
	return size
}

// ParseVolumeID parses the serial number of a FAT file system as blkid shows it:
// two groups of four hexadecimal digits. It is not zero.
func ParseVolumeID(s string) (uint32, error) {
	if len(s) == 9 && s[4] == '-' {
		if n, err := strconv.ParseUint(s[:4]+s[5:], 16, 32); err == nil && n != 0 {
			return uint32(n), nil
		}
	}
	return 0, fmt.Errorf("volume ID %q, and 7B77-95E7 is one", s)
}
