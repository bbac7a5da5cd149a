package fat

import (
	"encoding/binary"
	"unicode/utf16"

	"imgbuild/content"
	"imgbuild/disk"
)

// newBootSector returns what the boot sector says.
func newBootSector(g geometry, opt Options, label *shortName) bootSector {
	boot := bootSector{
		SectorSize:        uint16(g.sectorSize),
		SectorsPerCluster: uint8(g.perCluster),
		SectorsPerTrack:   uint16(opt.SectorsPerTrack),
		Heads:             uint16(opt.Heads),
		HiddenSectors:     opt.HiddenSectors,
		TotalSectors:      uint32(g.sectors),
		FATSectors:        uint32(g.fatSectors),
		VolumeID:          opt.VolumeID,
		Label:             shortName([]byte(noLabel)),
	}
	if label != nil {
		boot.Label = *label
	}
	return boot
}

// bootRegion returns the boot sector and the FSInfo sector, and their backups.
func bootRegion(g geometry, used int64, boot bootSector) []disk.Extent {
	info := fsInfo{
		Free: uint32(g.clusters - used),
		Last: uint32(rootCluster + used - 1),
	}
	b := make([]byte, sizeBootSector)
	boot.encode(b)
	i := make([]byte, sizeFSInfo)
	info.encode(i)
	return []disk.Extent{
		{Off: sectorBoot * g.sectorSize, Data: content.Bytes(b)},
		{Off: sectorFSInfo * g.sectorSize, Data: content.Bytes(i)},
		{Off: sectorBackup * g.sectorSize, Data: content.Bytes(b)},
		{Off: sectorFSInfoCopy * g.sectorSize, Data: content.Bytes(i)},
	}
}

// fats returns both FATs, up to the last entry in use: a free cluster is zero.
func fats(p *plan, g geometry, used int64) []disk.Extent {
	le := binary.LittleEndian
	b := make([]byte, (rootCluster+used)*sizeFATEntry)
	le.PutUint32(b[0:], fatEntry0)
	le.PutUint32(b[sizeFATEntry:], fatEntry1)
	eachChain(p, g, func(c int64) {
		le.PutUint32(b[c*sizeFATEntry:], uint32(c+1))
	}, func(c int64) {
		le.PutUint32(b[c*sizeFATEntry:], fatEnd)
	})
	fat := content.Bytes(b)
	return []disk.Extent{{Off: g.fatOffset(0), Data: fat}, {Off: g.fatOffset(1), Data: fat}}
}

// eachChain calls link for each cluster in use that the next one follows, and end
// for each that ends a chain.
func eachChain(p *plan, g geometry, link, end func(cluster int64)) {
	for _, nodes := range [][]*node{p.dirs, p.files} {
		for _, n := range nodes {
			if n.first == 0 {
				continue
			}
			last := int64(n.first) + n.clusters(g.clusterSize()) - 1
			for c := int64(n.first); c < last; c++ {
				link(c)
			}
			end(last)
		}
	}
}

// directories returns the content of all directories. The rest of their last
// clusters is zero, which ends them.
func directories(p *plan, g geometry, opt Options, label *shortName) []disk.Extent {
	extents := make([]disk.Extent, 0, len(p.dirs))
	for _, d := range p.dirs {
		off := g.rootStart() * g.sectorSize // of the root of a FAT16
		if d.first != 0 {
			off = g.offset(d.first)
		}
		extents = append(extents, disk.Extent{Off: off, Data: content.Bytes(encodeDir(d, opt, label))})
	}
	return extents
}

func encodeDir(d *node, opt Options, label *shortName) []byte {
	b := make([]byte, d.size)
	rest := b
	put := func(e entry) {
		e.encode(rest)
		rest = rest[sizeEntry:]
	}
	switch {
	case d.parent != nil:
		up := d.parent.first
		if d.parent.parent == nil {
			up = 0 // the specification's rule: the root has no number there
		}
		put(entry{Name: newShortName(".", ""), Attr: attrDir, Time: d.time(opt), Cluster: d.first})
		put(entry{Name: newShortName("..", ""), Attr: attrDir, Time: d.parent.time(opt), Cluster: up})
	case label != nil:
		put(entry{Name: *label, Attr: attrVolumeID, Time: newTimestamp(opt.Time)})
	}
	for _, c := range d.children {
		if c.long {
			name := utf16.Encode([]rune(c.name))
			for ordinal := longEntries(name); ordinal > 0; ordinal-- {
				encodeLong(rest, name, ordinal, c.short.checksum())
				rest = rest[sizeEntry:]
			}
		}
		e := entry{Name: c.short, Attr: attrDir, Time: c.time(opt), Cluster: c.first}
		if c.inode.IsFile() {
			e.Attr, e.Size = attrArchive, uint32(c.size)
		}
		put(e)
	}
	return b
}

// entries returns the number of entries of c in its directory.
func (c child) entries() int64 {
	if !c.long {
		return 1
	}
	return int64(1 + longEntries(utf16.Encode([]rune(c.name))))
}

// longEntries returns the number of long entries of a name.
func longEntries(name []uint16) int { return (len(name) + longUnits - 1) / longUnits }

// time returns the time of the entry of n.
func (n *node) time(opt Options) timestamp {
	if n.inode.Mtime == 0 {
		return newTimestamp(opt.Time)
	}
	return newTimestamp(n.inode.Mtime)
}

// files returns the content of all files. The rest of their last clusters is
// zero.
func files(p *plan, g geometry) []disk.Extent {
	extents := make([]disk.Extent, 0, len(p.files))
	for _, f := range p.files {
		if f.first != 0 {
			extents = append(extents, disk.Extent{Off: g.offset(f.first), Data: f.inode.Content})
		}
	}
	return extents
}
