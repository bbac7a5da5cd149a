package survey

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/diskfs/go-diskfs/filesystem/fat12"
)

const (
	maxFAT   = 32 << 20 // bytes of a file allocation table: 8 million clusters of FAT32
	maxSteps = 16 << 20 // from cluster to cluster
)

// The number of clusters tells the kinds of FAT apart: up to these they are FAT12 and
// FAT16.
const (
	maxFAT12 = 4084
	maxFAT16 = 65524
)

// openVFAT opens a FAT of any kind (Microsoft, FAT: General Overview of On-Disk Format,
// 1.03).
func openVFAT(r sized) (*volume, error) {
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("FAT: boot sector: %w", err)
	}
	le := binary.LittleEndian
	sector, perCluster, reserved := int64(le.Uint16(b[11:])), int64(b[13]), int64(le.Uint16(b[14:]))
	fats, rootEntries := int64(b[16]), int64(le.Uint16(b[17:]))
	total, perFAT := int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	if perFAT == 0 {
		perFAT = int64(le.Uint32(b[36:]))
	}
	if sector != 512 && sector != 1024 && sector != 2048 && sector != 4096 || perCluster == 0 || perCluster&(perCluster-1) != 0 || fats != 1 && fats != 2 || reserved == 0 {
		return nil, errors.New("FAT: boot sector of a kind that is not known")
	}
	fatStart, fatSize := reserved*sector, perFAT*sector
	root := fatStart + fats*fatSize
	data := root + (rootEntries*32+sector-1)/sector*sector
	switch {
	case total*sector > r.Size():
		return nil, fmt.Errorf("FAT: of %d bytes, in a volume of %d", total*sector, r.Size())
	case data > total*sector:
		return nil, errors.New("FAT: its tables are larger than it is")
	case fatSize > maxFAT:
		return nil, fmt.Errorf("FAT: a table of %d bytes", fatSize)
	}
	clusters := (total*sector - data) / (perCluster * sector)
	t := &fatTable{bits: 32, table: make([]byte, fatSize), root: le.Uint32(b[44:])}
	switch {
	case clusters <= maxFAT12:
		t.bits = 12
	case clusters <= maxFAT16:
		t.bits = 16
	}
	if t.bits == 32 != (rootEntries == 0) {
		return nil, errors.New("FAT: a root directory of another kind than the table")
	}
	if t.max = uint32(min(clusters+1, fatSize*8/t.bits-1)); t.max < 2 {
		return nil, errors.New("FAT: no clusters")
	}
	if _, err := r.ReadAt(t.table, fatStart); err != nil {
		return nil, fmt.Errorf("FAT: table: %w", err)
	}
	return open(func(s *storage) (*volume, error) {
		return &volume{fs: fat12.NewFileSystem(s, nil, t, uint32(data), int(perCluster*sector), r.Size(), 0,
			root, int(rootEntries), uint64(fatStart), uint64(fatStart+fatSize))}, nil
	}, r)
}

// fatTable is the file allocation table of one kind or another, read-only. Those of
// go-diskfs follow a chain that bites its tail until the memory is full.
type fatTable struct {
	bits  int64 // of an entry
	table []byte
	max   uint32 // the last cluster
	root  uint32 // cluster of the root directory, of FAT32
	steps int
}

var _ fat12.FATTable = (*fatTable)(nil)

// ClusterValue implements fat12.FATTable. It panics after too many steps.
func (t *fatTable) ClusterValue(n uint32) uint32 {
	if t.steps++; t.steps > maxSteps {
		panic("FAT: a chain of clusters without an end")
	}
	if n > t.max {
		return 0
	}
	le := binary.LittleEndian
	switch t.bits {
	case 12:
		return uint32(le.Uint16(t.table[n*3/2:])) >> (n & 1 * 4) & 0xfff
	case 16:
		return uint32(le.Uint16(t.table[n*2:]))
	}
	return le.Uint32(t.table[n*4:]) & 0x0fffffff
}

// IsEOC implements fat12.FATTable.
func (t *fatTable) IsEOC(v uint32) bool { return v >= t.EOCMarker() }

// EOCMarker implements fat12.FATTable.
func (t *fatTable) EOCMarker() uint32 { return 1<<min(t.bits, 28) - 8 }

// MaxCluster implements fat12.FATTable.
func (t *fatTable) MaxCluster() uint32 { return t.max }

// RootDirCluster implements fat12.FATTable.
func (t *fatTable) RootDirCluster() uint32 { return t.root }

// Size implements fat12.FATTable.
func (t *fatTable) Size() uint32 { return uint32(len(t.table)) }

// The rest of fat12.FATTable is for writing.

func (t *fatTable) SetCluster(uint32, uint32) {}
func (t *fatTable) UnusedMarker() uint32      { return 0 }
func (t *fatTable) FATID() uint32             { return 0 }
func (t *fatTable) FromBytes([]byte)          {}
func (t *fatTable) Bytes() []byte             { return t.table }
