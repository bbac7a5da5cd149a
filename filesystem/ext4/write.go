package ext4

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"slices"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/filesystem"
	"imgbuild/tree"
)

// writer turns a layout into extents.
type writer struct {
	*layout
	descs   []groupDesc
	bitmaps map[uint32][]sharedBitmap // by checksum
	out     []disk.Extent
}

// sharedBitmap is a bitmap that several groups have.
type sharedBitmap struct {
	bits []byte
	ref  content.Ref
}

// write returns the extents of the file system, ascending.
func (l *layout) write(ctx context.Context) ([]disk.Extent, error) {
	w := &writer{layout: l, bitmaps: map[uint32][]sharedBitmap{}}
	if err := w.inodeTables(ctx); err != nil {
		return nil, err
	}
	w.blockBitmaps()
	w.superblocks()
	w.resizeBlocks()
	w.journalSuperblock()
	w.rows()
	slices.SortFunc(w.out, func(a, b disk.Extent) int { return cmp.Compare(a.Off, b.Off) })
	return filesystem.Merge(nil, w.out, w.fileData), nil
}

func (w *writer) add(block uint64, data content.Ref) {
	w.out = append(w.out, disk.Extent{Off: int64(block) << blockShift, Data: data})
}

// inodeTables writes the inodes in use with their bitmaps, and begins the group
// descriptors.
func (w *writer) inodeTables(ctx context.Context) error {
	w.descs = make([]groupDesc, w.groups)
	per := uint64(w.inodesPerGroup)
	inodes := w.inodes()
	extents := w.extents
	for g := range w.descs {
		if err := ctx.Err(); err != nil {
			return err
		}
		d, t := &w.descs[g], w.tables[g]
		first := uint64(g)*per + 1
		used := uint64(0)
		if inodes >= first {
			used = min(inodes-first+1, per)
		}
		*d = groupDesc{
			blockBitmap:  t.blockBitmap,
			inodeBitmap:  t.inodeBitmap,
			inodeTable:   t.inodeTable,
			freeInodes:   uint32(per - used),
			unusedInodes: uint32(per - used),
			flags:        groupInodeZeroed,
		}
		if used == 0 {
			d.flags |= groupInodeUninit
			continue
		}
		table := make([]byte, ceilDiv(used, inodesPerBlock)<<blockShift)
		for k := range used {
			ino := uint32(first + k)
			b := table[k*inodeSize : (k+1)*inodeSize]
			if ino == inoRoot || ino >= inoFirst {
				i := int(ino) - inoRoot
				w.nodeInode(i, extents[:w.counts[i]]).encode(b, w.seed, ino)
				extents = extents[w.counts[i]:]
				if w.nodes[i].inode.IsDir() {
					d.usedDirs++
				}
				continue
			}
			w.reservedInode(ino).encode(b, w.seed, ino)
		}
		w.add(t.inodeTable, content.Bytes(table))
		bitmap := make([]byte, blockSize)
		setBits(bitmap, 0, used)
		d.inodeBitmapCsum = crc32c(w.seed, bitmap[:per/8])
		setBits(bitmap, per, 8*blockSize-per) // the padding, as e2fsck wants it
		w.addBitmap(t.inodeBitmap, bitmap)
	}
	return nil
}

// nodeInode returns the inode of a node with its extents.
func (w *writer) nodeInode(i int, extents []extent) *diskInode {
	n := &w.nodes[i]
	ino := uint32(i) + inoRoot
	t := n.inode
	d := &diskInode{
		mode:    t.Mode & (tree.TypeMask | tree.PermMask),
		uid:     t.UID,
		gid:     t.GID,
		time:    min(max(t.Mtime, minTime), maxTime),
		links:   n.links,
		sectors: treeBlocks(len(extents)) * sectorsPerBlk,
		xattrs:  n.inline,
	}
	for _, e := range extents {
		d.sectors += uint64(e.n) * sectorsPerBlk
	}
	if t.Flags&tree.Immutable != 0 {
		d.flags |= flagImmutable
	}
	if n.xattrBlock > 0 {
		d.fileACL = w.row.at(n.xattrBlock-1, 1).start
		d.sectors += sectorsPerBlk
	}
	switch t.Type() {
	case tree.TypeChar, tree.TypeBlock:
		putDevice(&d.block, t.Major, t.Minor)
		return d
	case tree.TypeFIFO, tree.TypeSock:
		return d
	case tree.TypeFile:
		d.size = uint64(t.Content.Size())
		if t.Verity != nil {
			d.flags |= flagVerity
		}
	case tree.TypeDir:
		d.size = n.blocks << blockShift
		if n.indexed {
			d.flags |= flagIndex
		}
	case tree.TypeLink:
		d.size = uint64(len(t.Target))
		if len(t.Target) < maxFastLink {
			copy(d.block[:], t.Target)
			return d
		}
	}
	d.flags |= flagExtents
	w.putExtents(&d.block, ino, extents)
	return d
}

// putExtents writes the extents of an inode to its i_block, or what place made
// of them.
func (w *writer) putExtents(block *[60]byte, ino uint32, extents []extent) {
	if deep := w.deep[ino]; deep != nil {
		*block = *deep
		return
	}
	putExtentHeader(block[:], len(extents), rootExtents, 0)
	for i, e := range extents {
		putExtent(block[sizeExtent*(1+i):], e, false)
	}
}

// putDevice writes a device number as Linux does: in 16 bits where it fits.
func putDevice(block *[60]byte, major, minor uint32) {
	if major < 256 && minor < 256 {
		binary.LittleEndian.PutUint32(block[0:], major<<8|minor)
		return
	}
	binary.LittleEndian.PutUint32(block[4:], minor&0xff|major<<8|minor&^0xff<<12)
}

// reservedInode returns a reserved inode.
func (w *writer) reservedInode(ino uint32) *diskInode {
	n := &diskInode{time: w.opt.Time, mode: tree.TypeFile | 0o600, links: 1}
	switch {
	case ino == inoBadBlocks:
		return &diskInode{time: w.opt.Time, old: true}
	case ino == inoResize && w.resizeInode:
		// A file of reserved descriptor blocks, of indirect blocks that are
		// themselves the copies in group 0.
		const maxSize = (12 + addrsPerBlock + addrsPerBlock*addrsPerBlock) * blockSize
		n.size = maxSize
		n.sectors = (1 + uint64(w.reservedGDT)*uint64(1+len(w.backups()))) * sectorsPerBlk
		binary.LittleEndian.PutUint32(n.block[13*4:], uint32(w.dind))
	case ino == inoJournal && w.journalBlocks > 0:
		n.size = uint64(w.journalBlocks) << blockShift
		n.sectors = (uint64(w.journalBlocks) + treeBlocks(len(w.journal))) * sectorsPerBlk
		n.flags = flagExtents
		w.putExtents(&n.block, ino, w.journal)
	default: // not in use, but checksummed by libext2fs
		return &diskInode{old: true}
	}
	return n
}

// blockBitmaps writes the bitmaps of the groups in use. The others are left to
// be made up from the descriptor (BLOCK_UNINIT); those with a copy of the
// superblock count as in use, as with mke2fs since 1.47.1.
func (w *writer) blockBitmaps() {
	for g := range w.descs {
		d := &w.descs[g]
		group := uint32(g)
		start, n := uint64(g)*blocksPerGroup, w.groupBlocks(group)
		used := w.space.countUsed(start, start+n)
		d.freeBlocks = uint32(n - used)
		if used == 0 && group != w.groups-1 {
			d.flags |= groupBlockUninit
			continue
		}
		bitmap := make([]byte, blockSize)
		w.space.used(start, start+n, func(r run) { setBits(bitmap, r.start-start, r.n) })
		setBits(bitmap, n, 8*blockSize-n)
		d.blockBitmapCsum = crc32c(w.seed, bitmap)
		w.addBitmap(d.blockBitmap, bitmap)
	}
}

// addBitmap adds a bitmap, or another reference to an equal one: a large file
// system has thousands.
func (w *writer) addBitmap(block uint64, bitmap []byte) {
	key := crc32c(0, bitmap)
	for _, s := range w.bitmaps[key] {
		if bytes.Equal(s.bits, bitmap) {
			w.add(block, s.ref)
			return
		}
	}
	ref := content.Bytes(bitmap)
	w.bitmaps[key] = append(w.bitmaps[key], sharedBitmap{bitmap, ref})
	w.add(block, ref)
}

// setBits sets n bits from bit first on, the lowest of a byte first.
func setBits(b []byte, first, n uint64) {
	for n > 0 {
		if first%8 == 0 && n >= 8 {
			k := n / 8
			for i := range b[first/8 : first/8+k] {
				b[first/8+uint64(i)] = 0xff
			}
			first, n = first+8*k, n-8*k
			continue
		}
		b[first/8] |= 1 << (first % 8)
		first, n = first+1, n-1
	}
}

// superblocks writes the superblock and the group descriptors, and their
// copies.
func (w *writer) superblocks() {
	gdt := make([]byte, uint64(w.descBlocks)<<blockShift)
	var freeInodes, freeBlocks uint64
	for g := range w.descs {
		w.descs[g].encode(gdt[g*descSize:(g+1)*descSize], w.seed, uint32(g))
		freeInodes += uint64(w.descs[g].freeInodes)
		freeBlocks += uint64(w.descs[g].freeBlocks)
	}
	s := superblock{
		blocks:         w.geometry.blocks,
		reservedBlocks: w.rootBlocks,
		freeBlocks:     freeBlocks,
		inodes:         w.inodesPerGroup * w.groups,
		freeInodes:     uint32(freeInodes),
		inodesPerGroup: w.inodesPerGroup,
		reservedGDT:    w.reservedGDT,
		overhead:       w.overhead() + uint64(w.journalBlocks),
		compat:         compatExtAttr | compatDirIndex,
		incompat:       incompatFiletype | incompatExtents | incompat64bit | incompatFlexBG,
		roCompat: roCompatSparseSuper | roCompatLargeFile | roCompatHugeFile | roCompatDirNlink |
			roCompatExtraIsize | roCompatMetadataCsum,
		uuid:     w.opt.UUID,
		hashSeed: w.opt.HashSeed,
		label:    w.opt.Label,
		time:     w.opt.Time,
	}
	if w.opt.Verity || w.verity.len() > 0 {
		s.roCompat |= roCompatVerity
	}
	if w.resizeInode {
		s.compat |= compatResizeInode
	}
	if w.journalBlocks > 0 {
		s.compat |= compatHasJournal
		var block [60]byte
		w.putExtents(&block, inoJournal, w.journal)
		for i := range 15 {
			s.journal[i] = binary.LittleEndian.Uint32(block[4*i:])
		}
		size := uint64(w.journalBlocks) << blockShift
		s.journal[15], s.journal[16] = uint32(size>>32), uint32(size)
	}
	descs := content.Bytes(gdt)
	first := make([]byte, sizeSuper)
	s.encode(first)
	w.out = append(w.out, disk.Extent{Off: superOffset, Data: content.Bytes(first)})
	w.add(1, descs)
	for _, g := range w.backups() {
		s.group, s.backup = g, true
		b := make([]byte, sizeSuper)
		s.encode(b)
		w.add(uint64(g)*blocksPerGroup, content.Bytes(b))
		w.add(uint64(g)*blocksPerGroup+1, descs)
	}
}

// resizeBlocks writes the blocks of the resize inode: a double indirect block
// of the reserved descriptor blocks of group 0, each of which names its copies.
func (w *writer) resizeBlocks() {
	if !w.resizeInode {
		return
	}
	le := binary.LittleEndian
	dind := make([]byte, blockSize)
	backups := w.backups()
	reserved := make([]byte, uint64(w.reservedGDT)<<blockShift)
	for i := range w.reservedGDT {
		at := 1 + w.descBlocks + i
		le.PutUint32(dind[(w.descBlocks+i)%addrsPerBlock*4:], at)
		for k, g := range backups {
			le.PutUint32(reserved[int(i)<<blockShift+4*k:], g*blocksPerGroup+at)
		}
	}
	w.add(w.dind, content.Bytes(dind))
	if len(reserved) > 0 && len(backups) > 0 {
		w.add(uint64(1+w.descBlocks), content.Bytes(reserved))
	}
}

// journalSuperblock writes journal_superblock_t of an empty journal: clean, so
// that nothing is replayed.
func (w *writer) journalSuperblock() {
	if w.journalBlocks == 0 {
		return
	}
	be := binary.BigEndian
	b := make([]byte, blockSize)
	be.PutUint32(b[0x00:], 0xc03b3998) // h_magic
	be.PutUint32(b[0x04:], 4)          // h_blocktype: superblock, version 2
	be.PutUint32(b[0x0c:], blockSize)
	be.PutUint32(b[0x10:], w.journalBlocks) // s_maxlen
	be.PutUint32(b[0x14:], 1)               // s_first: block of the log
	be.PutUint32(b[0x18:], 1)               // s_sequence
	copy(b[0x30:0x40], w.opt.UUID[:])       // s_uuid: that of the file system, as mke2fs
	be.PutUint32(b[0x40:], 1)               // s_nr_users
	w.add(w.journal[0].start, content.Bytes(b))
}

// rows writes directories, symbolic links and attributes, and extent trees.
func (w *writer) rows() {
	for _, index := range w.xattrBlocks {
		sealXattrBlock(&w.collection.row, index, w.row.at(index, 1).start, w.seed)
	}
	for _, r := range [...]struct {
		row *packedBlocks
		at  *placed
	}{{&w.collection.row, &w.row}, {&w.tree, &w.treeAt}} {
		for i, run := range r.at.runs {
			w.add(run.start, content.NewRef(r.row, int64(r.at.first[i])<<blockShift, int64(run.n)<<blockShift))
		}
	}
}
