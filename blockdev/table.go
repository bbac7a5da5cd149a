package blockdev

import (
	"encoding/binary"
	"fmt"
	"io"

	"imgbuild/partition"
)

// Limits of tables that are looked at. Unlike package partition, which reads what
// is to be worked with, this is about what somebody may still need: a table with
// a damaged copy or a wrong checksum counts.
const (
	maxEntries   = 1024
	maxEntrySize = 4096

	sizeMBR    = 512
	mbrRecords = 0x1be
	sizeRecord = 16
)

// readTable returns the kind of the partition table and its partitions.
func readTable(r io.ReaderAt, size int64, sectorSize int) (string, []Partition) {
	sizes := []int64{int64(sectorSize), 512, 4096}
	table := ""
	for _, ss := range sizes {
		for _, lba := range []int64{1, size/ss - 1} {
			parts, ok := readGPT(r, size, ss, lba)
			if len(parts) > 0 {
				return "gpt", parts
			}
			if ok {
				table = "gpt" // what was lost in this copy may be in the other one
			}
		}
	}
	if table != "" {
		return table, nil
	}
	b := make([]byte, sizeMBR)
	if n, _ := r.ReadAt(b, 0); n < len(b) || b[0x1fe] != 0x55 || b[0x1ff] != 0xaa {
		return "", nil
	}
	var parts []Partition
	for i := range 4 {
		e := b[mbrRecords+i*sizeRecord:][:sizeRecord]
		if e[0]&0x7f != 0 {
			return "", nil // a boot sector of something else
		}
		start, count := int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))
		if e[4] == 0 || count == 0 {
			continue
		}
		ss := int64(sectorSize)
		parts = append(parts, Partition{Number: i + 1, Start: start * ss, Size: count * ss, Kind: dosKind(e[4])})
	}
	if len(parts) == 0 && !zero(b[:440]) {
		return "", nil // boot code and no partition: unknown, and not empty
	}
	return "dos", parts
}

// readGPT reads the table whose header is at the sector.
func readGPT(r io.ReaderAt, size, ss, lba int64) ([]Partition, bool) {
	if ss < 512 || lba < 1 || (lba+1)*ss > size || !at(r, size, lba*ss, "EFI PART") {
		return nil, false
	}
	b := make([]byte, 92)
	if n, _ := r.ReadAt(b, lba*ss); n < len(b) {
		return nil, false
	}
	le := binary.LittleEndian
	array, count, entry := le.Uint64(b[0x48:]), le.Uint32(b[0x50:]), le.Uint32(b[0x54:])
	if entry < 128 || entry > maxEntrySize || array > uint64(size/ss) {
		return nil, false
	}
	var parts []Partition
	for i := range min(count, maxEntries) {
		e := make([]byte, 128)
		if n, _ := r.ReadAt(e, int64(array)*ss+int64(i)*int64(entry)); n < len(e) {
			break
		}
		if zero(e[:16]) {
			continue
		}
		first, last := le.Uint64(e[0x20:]), le.Uint64(e[0x28:])
		if first > last || last >= uint64(size/ss) {
			first, last = 0, 0
		}
		parts = append(parts, Partition{
			Number: int(i) + 1, Start: int64(first) * ss, Size: int64(last-first+1) * ss,
			Name: utf16Text(e[0x38:128]), ID: partition.DecodeGUID(e[16:32]), Kind: gptKind(partition.DecodeGUID(e[:16])),
		})
	}
	return parts, true
}

// gptKind names the types that say more than the content does.
func gptKind(g partition.GUID) string {
	switch g {
	case partition.ESP:
		return "EFI system"
	case partition.BIOSBoot:
		return "BIOS boot"
	case partition.PReP:
		return "PReP boot"
	}
	switch g.String() {
	case "e3c9e316-0b5c-4db8-817d-f92df00215ae":
		return "Microsoft reserved"
	case "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7":
		return "Windows data"
	case "de94bba4-06d1-4d40-a16a-bfd50179d6ac":
		return "Windows recovery"
	}
	return ""
}

func dosKind(t byte) string {
	switch t {
	case 0x05, 0x0f, 0x85:
		return "extended"
	case 0x07:
		return "Windows data"
	case 0x82, 0x83:
		return ""
	case 0x8e:
		return "lvm2"
	case 0xee:
		return "protective"
	case 0xef:
		return "EFI system"
	case 0xfd:
		return "raid"
	}
	return fmt.Sprintf("type %02x", t)
}
