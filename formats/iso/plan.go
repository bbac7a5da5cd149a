package iso

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/partition"
	"imgbuild/tree"
)

const (
	// espAlign is what the EFI system partition is aligned to, in bytes: a page of
	// flash, and whole sectors of 4 KiB.
	espAlign = 4096
	// tailGap is the padding behind the partition in bytes, as xorriso has it:
	// Linux reads ahead, and some drives fail at the end of a track.
	tailGap = 300 << 10
	// maxBootImage bounds the BIOS boot image, which is patched in memory; those
	// of GRUB have 40 KiB.
	maxBootImage = 4 << 20
	// secondSet is the block of the second set of descriptors.
	secondSet = partitionBase + systemArea
)

// basicData is the partition type that xorriso gives to the ISO 9660 partition,
// EBD0A0A2-B9E5-4433-87C0-68B6B72699C7.
func basicData() partition.GUID {
	return partition.GUID{0xEB, 0xD0, 0xA0, 0xA2, 0xB9, 0xE5, 0x44, 0x33, 0x87, 0xC0, 0x68, 0xB6, 0xB7, 0x26, 0x99, 0xC7}
}

// plan is an ISO with an address for everything.
type plan struct {
	opt         Options
	primary     *hierarchy
	joliet      *hierarchy
	files       []*file // in the order of their content
	boot        *file   // the BIOS boot image
	esp         *file   // stands for the partition
	partitioned bool
	metaEnd     int64 // block behind all directories
	catalog     int64 // block
	dataEnd     int64 // block behind the files
	gap         int64 // block of the padding
	total       int64 // blocks
}

// newPlan gives everything its address.
func newPlan(root *tree.Inode, opt Options) (*plan, error) {
	p := &plan{opt: opt}
	if err := p.check(root); err != nil {
		return nil, err
	}
	files, err := p.collect(root)
	if err != nil {
		return nil, err
	}
	if p.primary, err = newHierarchy(root, false, files); err != nil {
		return nil, err
	}
	if p.joliet, err = newHierarchy(root, true, files); err != nil {
		return nil, err
	}
	return p, p.place()
}

// check validates the options and fills in the defaults.
func (p *plan) check(root *tree.Inode) error {
	o := &p.opt
	if !root.IsDir() {
		return errors.New("iso: the root is not a directory")
	}
	if err := CheckVolumeID(o.VolumeID); err != nil {
		return err
	}
	if o.SystemID == "" {
		o.SystemID = "LINUX"
	}
	if o.Application == "" {
		o.Application = "IMGBUILD"
	}
	for _, f := range []struct {
		name, text string
		room       int
	}{{"system", o.SystemID, 32}, {"application", o.Application, 128}, {"publisher", o.Publisher, 128}} {
		if len(f.text) > f.room || strings.ContainsFunc(f.text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return fault.New(fault.Config, fmt.Errorf("iso: %s identifier %.140q", f.name, f.text), fmt.Sprintf("%d characters of ASCII are possible", f.room))
		}
	}
	if o.BIOS != nil && o.BIOS.MBR != nil {
		if n := len(o.BIOS.MBR); n != virtualSector {
			return fmt.Errorf("iso: boot sector of %d bytes", n)
		}
	}
	if o.ESP != nil && (o.ESP.Size() == 0 || o.ESP.Size()%BlockSize != 0) {
		return fmt.Errorf("iso: EFI system partition of %d bytes", o.ESP.Size())
	}
	if o.ESPPath != "" && o.ESP == nil {
		return fmt.Errorf("iso: %s: there is no EFI system partition", o.ESPPath)
	}
	p.partitioned = o.ESP != nil || o.BIOS != nil && o.BIOS.MBR != nil
	return nil
}

// collect returns the content of all regular files, each once.
func (p *plan) collect(root *tree.Inode) (map[*tree.Inode]*file, error) {
	byInode := make(map[*tree.Inode]*file)
	err := tree.Walk(root, func(path string, i *tree.Inode) error {
		if i.IsLink() && len(i.Target) == 0 {
			return fmt.Errorf("iso: %s: a symbolic link without target", path)
		}
		if !i.IsFile() {
			return nil
		}
		if f := byInode[i]; f != nil {
			f.links++
			return nil
		}
		f := &file{size: i.Content.Size(), data: i.Content, links: 1}
		if s, ok := p.opt.Streams[i]; ok {
			if s.Size < 0 {
				return fmt.Errorf("iso: %s: %d bytes", path, s.Size)
			}
			f.size, f.data, f.stream = s.Size, content.Ref{}, &s
		}
		byInode[i] = f
		p.files = append(p.files, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if b := p.opt.BIOS; b != nil {
		if p.boot, err = special(root, byInode, b.Path); err != nil {
			return nil, err
		}
		if n := p.boot.size; p.boot.stream != nil || n < infoBlockList+8 || n > maxBootImage {
			return nil, fmt.Errorf("iso: %s: %d bytes are no boot image", b.Path, n)
		}
	}
	if p.opt.ESP != nil {
		p.esp = &file{}
		if p.opt.ESPPath != "" {
			if p.esp, err = special(root, byInode, p.opt.ESPPath); err != nil {
				return nil, err
			}
		}
		p.esp.size, p.esp.data, p.esp.stream = p.opt.ESP.Size(), content.NewRef(p.opt.ESP, 0, p.opt.ESP.Size()), nil
	}
	if p.boot != nil && p.boot == p.esp {
		return nil, fmt.Errorf("iso: %s is the boot image for BIOS and for UEFI", p.opt.ESPPath)
	}
	return byInode, nil
}

// special returns the file at a path.
func special(root *tree.Inode, files map[*tree.Inode]*file, path string) (*file, error) {
	i := tree.Lookup(root, path)
	if i == nil || !i.IsFile() {
		return nil, fmt.Errorf("iso: %s: no such file", path)
	}
	return files[i], nil
}

// place lays everything out, front to back.
func (p *plan) place() error {
	at := int64(systemArea + 4)
	if p.partitioned {
		at = secondSet + 3
	}
	at = p.primary.place(0, 0, at)
	at = p.joliet.place(0, 0, at)
	if p.partitioned {
		at = p.primary.place(1, partitionBase, at)
		at = p.joliet.place(1, partitionBase, at)
	}
	p.metaEnd = at
	if p.boot != nil || p.esp != nil {
		p.catalog = at
		at++
	}
	for _, f := range p.files {
		if f == p.esp {
			continue
		}
		f.block = at
		if f.size > math.MaxInt64-BlockSize || blocks(f.size) > maxBlocks-at {
			return tooLarge()
		}
		at += blocks(f.size)
	}
	p.dataEnd = at
	if p.esp != nil {
		at = (at*BlockSize + espAlign - 1) / espAlign * espAlign / BlockSize
		p.esp.block = at
		at += p.esp.size / BlockSize
	}
	p.gap = at
	at += tailGap / BlockSize
	if p.partitioned {
		// The backup of the partition table: 33 sectors.
		at += blocks(33 * virtualSector)
	}
	if at > maxBlocks-1 {
		return tooLarge()
	}
	p.total = at
	return nil
}

func tooLarge() error {
	return fault.New(fault.Unsupported, errors.New("iso: more than 8 TiB, which an ISO can hold"), "")
}

func (p *plan) size() int64 { return p.total * BlockSize }

// table returns the partition table: the file system, the EFI system partition
// and the padding, so that nothing on the disk is free.
func (p *plan) table() ([]disk.Part, error) {
	var code []byte
	if p.boot != nil && p.opt.BIOS.MBR != nil {
		code = p.bootSector()
	}
	seed := func(name string) partition.GUID { return partition.DeriveGUID(p.opt.Seed, "iso "+name) }
	end := p.gap
	if p.esp != nil {
		end = p.esp.block
	}
	t := &partition.Table{DiskID: seed("disk"), Size: p.size(), SectorSize: virtualSector}
	add := func(name string, kind partition.GUID, a partition.Attributes, from, to int64) {
		t.Partitions = append(t.Partitions, partition.Partition{
			Name: name, Type: kind, ID: seed(name), Attributes: a, Start: from * BlockSize, Size: (to - from) * BlockSize,
		})
	}
	add("ISO9660", basicData(), partition.Required|partition.ReadOnly, partitionBase, end)
	if p.esp != nil {
		add("Appended2", partition.ESP, 0, p.esp.block, p.gap)
	}
	add("Gap1", basicData(), partition.Required|partition.ReadOnly, p.gap, p.gap+tailGap/BlockSize)
	return t.Parts(code)
}
