package iso

import "encoding/binary"

// volume is what the primary and the Joliet descriptor say.
type volume struct {
	opt    *Options
	blocks int64 // of the volume, from its base on
	h      *hierarchy
	set    int
}

// encode returns the descriptor (ECMA-119 8.4, 8.5).
func (v volume) encode() []byte {
	b := make([]byte, BlockSize)
	b[0], b[6] = byte(descriptorPrimary), 1
	copy(b[1:], standardID)
	text := func(off, n int, s string) { putText(b[off:off+n], s) }
	if v.h.joliet {
		b[0] = byte(descriptorSupplementary)
		copy(b[volEscapes:], jolietEscapes)
		text = func(off, n int, s string) { copy(b[off:], ucs2Text(s, n&^1)) }
	}
	text(volSystemID, 32, v.opt.SystemID)
	text(volVolumeID, 32, v.opt.VolumeID)
	putBoth32(b[volBlocks:], uint32(v.blocks))
	putBoth16(b[volSetSize:], 1)
	putBoth16(b[volSequence:], 1)
	putBoth16(b[volBlockSize:], BlockSize)
	p := v.h.at[v.set]
	putBoth32(b[volTableSize:], uint32(v.h.tableSize))
	binary.LittleEndian.PutUint32(b[volTableL:], uint32(p.tableL-p.base))
	binary.BigEndian.PutUint32(b[volTableM:], uint32(p.tableM-p.base))
	copy(b[volRoot:], v.h.root(v.set))
	text(volSetID, 128, v.opt.VolumeID)
	text(volPublisher, 128, v.opt.Publisher)
	text(volPreparer, 128, "IMGBUILD")
	text(volApplication, 128, v.opt.Application)
	text(volCopyright, 37, "")
	text(volAbstract, 37, "")
	text(volBiblio, 37, "")
	putLongTime(b[volCreated:], v.opt.Time)
	putLongTime(b[volModified:], v.opt.Time)
	copy(b[volExpires:], noLongTime)
	putLongTime(b[volEffective:], v.opt.Time)
	b[volStructure] = 1
	if !v.h.joliet {
		putText(b[volUse:volUse+sizeUse], "")
	}
	return b
}

// encodeBoot returns the boot record, which says where the catalog is.
func encodeBoot(catalog int64) []byte {
	b := make([]byte, BlockSize)
	b[0], b[6] = byte(descriptorBoot), 1
	copy(b[1:], standardID)
	copy(b[bootSystem:], elToritoID)
	binary.LittleEndian.PutUint32(b[bootCatalog:], uint32(catalog))
	return b
}

// encodeEnd returns the descriptor that ends the list.
func encodeEnd() []byte {
	b := make([]byte, BlockSize)
	b[0], b[6] = byte(descriptorEnd), 1
	copy(b[1:], standardID)
	return b
}

// bootEntry is a boot image that needs no emulation of a disk.
type bootEntry struct {
	platform byte
	block    int64
	sectors  int64 // virtual ones to load, or of the system partition
}

// encodeCatalog returns the boot catalog: a validation entry, the default entry,
// and a section for each further platform.
func encodeCatalog(entries []bootEntry) []byte {
	b := make([]byte, BlockSize)
	le := binary.LittleEndian
	b[0], b[1] = catalogValid, entries[0].platform
	b[30], b[31] = 0x55, 0xAA
	sum := uint16(0)
	for k := 0; k < sizeCatalogEntry; k += 2 {
		sum += le.Uint16(b[k:])
	}
	le.PutUint16(b[28:], -sum)
	at := sizeCatalogEntry
	for k, e := range entries {
		if k > 0 {
			b[at], b[at+1] = headerMore, e.platform
			if k == len(entries)-1 {
				b[at] = headerLast
			}
			le.PutUint16(b[at+2:], 1)
			at += sizeCatalogEntry
		}
		b[at] = entryBootable
		n := e.sectors
		if n > maxLoad {
			// By UEFI, 0 and 1 are up to the end of the medium. Firmware knows 1
			// of the media of Windows.
			n = 1
		}
		le.PutUint16(b[at+6:], uint16(n))
		le.PutUint32(b[at+8:], uint32(e.block))
		at += sizeCatalogEntry
	}
	return b
}

// patchBootImage fills in what a boot image of GRUB has to know about where it
// is: the boot information table at offset 8 and, for a start from a disk, the
// block list of diskboot.img behind cdboot.img.
func patchBootImage(b []byte, block int64) {
	le := binary.LittleEndian
	le.PutUint64(b[infoBlockList:], uint64(block*sectorsInBlock+sizeCDBoot/virtualSector+1))
	sum := uint32(0)
	for k := infoSummed; k < len(b); k += 4 {
		var word [4]byte
		copy(word[:], b[k:])
		sum += le.Uint32(word[:])
	}
	table := b[infoTable:infoSummed]
	clear(table)
	le.PutUint32(table[0:], systemArea)
	le.PutUint32(table[4:], uint32(block))
	le.PutUint32(table[8:], uint32(len(b)))
	le.PutUint32(table[12:], sum)
}
