package partition

import (
	"encoding/binary"
	"fmt"
	"io"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
)

// Move returns what has to be laid over a disk of size bytes when it becomes one
// of larger bytes, a multiple of its sectors: the backup of its table belongs at
// the end, and everything that says where that is has to say so. The partitions
// stay as they are.
//
// The table is read as [Read] does, and the errors are the same.
func Move(r io.ReaderAt, size, larger int64) ([]disk.Part, error) {
	t, err := Read(r, size, 0)
	if err != nil {
		return nil, err
	}
	ss := int64(t.SectorSize)
	if larger < size || larger%ss != 0 {
		return nil, fault.New(fault.Usage, fmt.Errorf("partition table: a disk of %d bytes cannot become one of %d", size, larger), "")
	}
	if larger == size {
		return nil, nil
	}
	primary, err := readHeader(r, 1, ss)
	if err != nil {
		return nil, err
	}
	old, err := readHeader(r, size/ss-1, ss)
	if err != nil {
		return nil, err
	}
	array, err := readArray(r, primary, ss)
	if err != nil {
		return nil, err
	}
	sectors := (int64(primary.arrayBytes()) + ss - 1) / ss
	last := larger/ss - 1
	primary.AlternateLBA, primary.LastUsable = uint64(last), uint64(last-sectors-1)
	backup := primary
	backup.MyLBA, backup.AlternateLBA, backup.ArrayLBA = uint64(last), 1, uint64(last-sectors)

	mbr := make([]byte, ss)
	if err := readFull(r, mbr, 0); err != nil {
		return nil, err
	}
	moveMBR(mbr, uint64(last+1))
	return []disk.Part{
		{Off: 0, Size: 2 * ss, Extents: []disk.Extent{{Data: content.Bytes(mbr)}, {Off: ss, Data: encodeHeader(primary)}}},
		// The old backup, up to the old end.
		{Off: int64(old.ArrayLBA) * ss, Size: size - int64(old.ArrayLBA)*ss},
		{Off: int64(backup.ArrayLBA) * ss, Size: (sectors + 1) * ss, Extents: []disk.Extent{
			{Data: content.Bytes(array)}, {Off: sectors * ss, Data: encodeHeader(backup)},
		}},
	}, nil
}

// moveMBR makes the protective record cover a disk of so many sectors, when it is
// the one that covers everything.
func moveMBR(b []byte, sectors uint64) {
	for at := mbrRecord; at < 0x1FE; at += sizeRecord {
		if r := b[at:]; r[4] == protectiveType && binary.LittleEndian.Uint32(r[0x8:]) == 1 {
			binary.LittleEndian.PutUint32(r[0xC:], uint32(min(sectors-1, maxMBRSectors)))
		}
	}
}
