package partition

import (
	"hash/crc32"
	"unicode/utf16"

	"imgbuild/content"
	"imgbuild/disk"
)

// Parts returns the table as parts of a disk: the protective MBR, the header and
// entries behind it, and their backup at the end. They do not overlap each other
// or a partition. Of bootCode the first 440 bytes go into the MBR, so a whole
// boot sector may be passed; it may be empty.
func (t *Table) Parts(bootCode []byte) ([]disk.Part, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	g, err := newGeometry(t.Size, t.SectorSize)
	if err != nil {
		return nil, err
	}

	sector0 := make([]byte, sizeMBR)
	mbr{code: bootCode, sectors: uint64(g.last + 1)}.encode(sector0)

	array := t.encodeArray(g)
	primary := header{
		MyLBA:         1,
		AlternateLBA:  uint64(g.last),
		FirstUsable:   uint64(g.firstUsable),
		LastUsable:    uint64(g.lastUsable),
		DiskID:        t.DiskID,
		ArrayLBA:      2,
		EntryCount:    maxEntries,
		EntrySize:     sizeEntry,
		ArrayChecksum: crc32.ChecksumIEEE(array),
	}
	backup := primary
	backup.MyLBA, backup.AlternateLBA = primary.AlternateLBA, primary.MyLBA
	backup.ArrayLBA = uint64(g.lastUsable + 1)

	entries := content.Bytes(array[:t.used()*sizeEntry])
	arraySize := g.array * g.sector
	return []disk.Part{
		{Off: 0, Size: g.sector, Extents: []disk.Extent{{Off: 0, Data: content.Bytes(sector0)}}},
		{Off: g.sector, Size: g.sector + arraySize, Extents: []disk.Extent{
			{Off: 0, Data: encodeHeader(primary)},
			{Off: g.sector, Data: entries},
		}},
		{Off: (g.lastUsable + 1) * g.sector, Size: arraySize + g.sector, Extents: []disk.Extent{
			{Off: 0, Data: entries},
			{Off: arraySize, Data: encodeHeader(backup)},
		}},
	}, nil
}

func encodeHeader(h header) content.Ref {
	b := make([]byte, sizeHeader)
	h.encode(b)
	return content.Bytes(b)
}

// used returns the number of entries up to the last one in use.
func (t *Table) used() int {
	n := 0
	for _, p := range t.Partitions {
		n = next(n, p)
	}
	return n
}

// encodeArray returns the entry array of a valid table.
func (t *Table) encodeArray(g geometry) []byte {
	array := make([]byte, arrayBytes)
	n := 0
	for _, p := range t.Partitions {
		n = next(n, p)
		e := entry{
			Type:       p.Type,
			ID:         p.ID,
			FirstLBA:   uint64(p.Start / g.sector),
			LastLBA:    uint64(p.End()/g.sector - 1),
			Attributes: p.Attributes,
		}
		copy(e.Name[:], utf16.Encode([]rune(p.Name)))
		e.encode(array[(n-1)*sizeEntry:])
	}
	return array
}
