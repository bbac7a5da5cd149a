package bmap

import (
	"encoding/binary"
	"io"
)

// maxFAT bounds the file allocation table that is read, in bytes: that of 2 TiB
// with clusters of 32 KiB.
const maxFAT = 256 << 20

// fatFree returns the free clusters of a FAT32 file system, see the FAT
// specification of Microsoft, 1.03.
func fatFree(r io.ReaderAt, size int64) spans {
	b := read(r, 0, 512)
	if b == nil || b[510] != 0x55 || b[511] != 0xaa || string(b[82:90]) != "FAT32   " {
		return nil
	}
	le := binary.LittleEndian
	sector := int64(le.Uint16(b[11:]))
	cluster := sector * int64(b[13])
	reserved := sector * int64(le.Uint16(b[14:]))
	fats := int64(b[16])
	fatSize := sector * int64(le.Uint32(b[36:]))
	total := sector * int64(le.Uint32(b[32:]))
	// FAT32 has no root directory of a fixed size and no 16-bit sizes.
	if sector < 512 || sector > 4096 || cluster == 0 || fats == 0 || fatSize == 0 || fatSize > maxFAT || total > size ||
		le.Uint16(b[17:]) != 0 || le.Uint16(b[19:]) != 0 || le.Uint16(b[22:]) != 0 {
		return nil
	}
	data := reserved + fats*fatSize
	count := min((total-data)/cluster, fatSize/4-2)
	if count <= 0 {
		return nil
	}
	fat := read(r, reserved, 4*(count+2))
	// The two upper bits of the second entry say that it was unmounted cleanly.
	const clean = 3 << 26
	if fat == nil || le.Uint32(fat[4:])&clean != clean {
		return nil
	}
	var free spans
	for i := range count {
		if le.Uint32(fat[4*(i+2):])&0x0fffffff != 0 {
			continue
		}
		from := data + i*cluster
		if n := len(free); n > 0 && free[n-1].to == from {
			free[n-1].to += cluster
			continue
		}
		free = append(free, span{from, from + cluster})
	}
	return free
}
