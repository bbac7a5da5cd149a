package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem"
)

// FAT16, for small volumes: one reserved sector, the root directory in a place of
// its own behind the FATs, clusters of one sector.
const (
	reservedSectors16 = 1
	sizeFATEntry16    = 2
	fatEntry16Zero    = 0xFF00 | mediaFixed
	fatEntry16One     = 0xFFFF // clean shutdown and no disk errors, with all others
	fatEnd16          = 0xFFFF
	bootCodeStart16   = 0x3E
	// minClusters16 keeps clear of the count below which a volume is FAT12, on
	// which drivers differ by a few.
	minClusters16 = 4096
	maxClusters16 = minClusters - 1
	// rootEntries16 is what mkfs.fat reserves for the root directory.
	rootEntries16 = 512
)

// rootSectors16 returns the sectors of the root directory.
func (p *plan) rootSectors16(sectorSize int64) int64 {
	return (max(p.dirs[0].size, rootEntries16*sizeEntry) + sectorSize - 1) / sectorSize
}

// clusters16 returns the number of clusters the tree takes: the root has none.
func (p *plan) clusters16(sectorSize int64) int64 {
	return p.clusters(sectorSize) - p.dirs[0].clusters(sectorSize)
}

// geometry16 returns the geometry for a volume of size bytes.
func (p *plan) geometry16(size, sectorSize int64) (geometry, error) {
	need, err := p.size16(0, sectorSize)
	if err != nil {
		return geometry{}, err
	}
	if size < need {
		return geometry{}, &filesystem.TooSmallError{Size: size, Need: need}
	}
	g := geometry{sectorSize: sectorSize, perCluster: 1, reserved: reservedSectors16, rootSectors: p.rootSectors16(sectorSize)}
	perSector := sectorSize / sizeFATEntry16
	for g.fatSectors = 1; ; g.fatSectors++ {
		g.clusters = size/sectorSize - g.dataStart()
		if g.fatSectors*perSector >= g.clusters+rootCluster {
			break
		}
	}
	if g.clusters > maxClusters16 {
		return geometry{}, fault.New(fault.Unsupported, fmt.Errorf("fat: %d bytes are more than a FAT16 of clusters of %d bytes can have", size, sectorSize), "")
	}
	g.sectors = g.dataStart() + g.clusters
	return g, nil
}

// size16 returns the smallest size in bytes that leaves free bytes.
func (p *plan) size16(free, sectorSize int64) (int64, error) {
	clusters := max(p.clusters16(sectorSize)+(free+sectorSize-1)/sectorSize, minClusters16)
	if clusters > maxClusters16 {
		return 0, fault.New(fault.Unsupported, errors.New("fat: the tree and its free space are more than a FAT16 can hold"), "")
	}
	root := p.rootSectors16(sectorSize)
	if root*sectorSize/sizeEntry > math.MaxUint16 {
		return 0, fault.New(fault.Unsupported, errors.New("fat: more names in the root than a FAT16 can hold"), "")
	}
	perSector := sectorSize / sizeFATEntry16
	g := geometry{reserved: reservedSectors16, rootSectors: root, fatSectors: (clusters + rootCluster + perSector - 1) / perSector}
	return (g.dataStart() + clusters) * sectorSize, nil
}

// bootSector16 is the first sector of a FAT16.
type bootSector16 struct {
	bootSector
	RootEntries uint16 // (BPB_RootEntCnt)
}

func (s bootSector16) encode(b []byte) {
	le := binary.LittleEndian
	copy(b[0x00:], []byte{0xEB, bootCodeStart16 - 2, 0x90}) // (BS_jmpBoot)
	copy(b[0x03:], "MSWIN4.1")                              // (BS_OEMName)
	le.PutUint16(b[0x0B:], s.SectorSize)
	b[0x0D] = s.SectorsPerCluster
	le.PutUint16(b[0x0E:], reservedSectors16)
	b[0x10] = fatCount
	le.PutUint16(b[0x11:], s.RootEntries)
	if s.TotalSectors <= 0xFFFF {
		le.PutUint16(b[0x13:], uint16(s.TotalSectors)) // (BPB_TotSec16)
	} else {
		le.PutUint32(b[0x20:], s.TotalSectors) // (BPB_TotSec32)
	}
	b[0x15] = mediaFixed
	le.PutUint16(b[0x16:], uint16(s.FATSectors)) // (BPB_FATSz16)
	le.PutUint16(b[0x18:], s.SectorsPerTrack)
	le.PutUint16(b[0x1A:], s.Heads)
	le.PutUint32(b[0x1C:], s.HiddenSectors)
	b[0x24] = driveNumber
	b[0x26] = extendedBoot
	le.PutUint32(b[0x27:], s.VolumeID)
	copy(b[0x2B:], s.Label[:])
	copy(b[0x36:], "FAT16   ") // (BS_FilSysType)
	copy(b[bootCodeStart16:], bootCode[:])
	b[0x1FE], b[0x1FF] = 0x55, 0xAA
}

// head16 returns the boot sector and both FATs of a FAT16.
func head16(p *plan, g geometry, used int64, boot bootSector) []disk.Extent {
	b := make([]byte, sizeBootSector)
	bootSector16{boot, uint16(g.rootSectors * g.sectorSize / sizeEntry)}.encode(b)

	le := binary.LittleEndian
	fat := make([]byte, (rootCluster+used)*sizeFATEntry16)
	le.PutUint16(fat[0:], fatEntry16Zero)
	le.PutUint16(fat[sizeFATEntry16:], fatEntry16One)
	eachChain(p, g, func(c int64) {
		le.PutUint16(fat[c*sizeFATEntry16:], uint16(c+1))
	}, func(c int64) {
		le.PutUint16(fat[c*sizeFATEntry16:], fatEnd16)
	})
	return []disk.Extent{
		{Off: 0, Data: content.Bytes(b)},
		{Off: g.fatOffset(0), Data: content.Bytes(fat)}, {Off: g.fatOffset(1), Data: content.Bytes(fat)},
	}
}
