package xfs

import (
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
	inodes, freeInodes, freeBlocks uint64 // as the superblock counts them
	out                            []disk.Extent
}

// write returns the extents of the file system, ascending.
func (l *layout) write(ctx context.Context) ([]disk.Extent, error) {
	l.resolve()
	w := &writer{layout: l}
	total := 0
	for i := range l.groups {
		total += len(l.groups[i].content) + 16
	}
	w.out = make([]disk.Extent, 0, total)
	headers := make([]int, len(l.groups))
	for ag := range l.groups {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		headers[ag] = len(w.out)
		w.group(uint64(ag))
	}
	super := w.superblock()
	for ag, i := range headers {
		w.out[i].Data = content.Bytes(super)
		w.out[i].Off = int64(w.linear(uint64(ag), 0)) << blockShift
	}
	return w.out, nil
}

// resolve replaces the indices in directories and parent pointers by the numbers
// of inodes.
func (l *layout) resolve() {
	number := func(i uint32) uint32 { return l.nodes[i].number }
	for i := range l.nodes {
		n := &l.nodes[i]
		if l.opt.has(Parent) && n.attrs != nil && n.attrs.local != nil {
			resolveAttrs(n.attrs.local, number)
		}
		if p := l.pending[uint32(i)]; p != nil {
			p.fill(&l.row, n.firstAttr, number)
		}
		if n.dir == nil {
			continue
		}
		if n.dir.local != nil {
			resolveShort(n.dir.local, number)
		}
		for k := range n.dir.data {
			resolveData(l.row.head(n.first+k), number)
		}
	}
}

// group adds an allocation group: the place of its superblock, the other
// headers, the trees, the log, the inodes, the content.
func (w *writer) group(ag uint64) {
	g := &w.groups[ag]
	w.out = append(w.out, disk.Extent{}) // superblock
	first := w.row.len()
	var fixed []disk.Extent
	add := func(agbno uint64, data content.Ref) {
		fixed = append(fixed, disk.Extent{Off: int64(w.linear(ag, agbno)) << blockShift, Data: data})
	}
	inodes := w.inodeHeader(ag)
	space := w.freeHeader(ag)
	sector := int(w.opt.sectorSize())
	headers := make([]byte, 3*sector)
	space.encode(headers[:sector])
	inodes.encode(headers[sector : 2*sector])
	encodeFreeList(headers[2*sector:], w.opt.UUID, uint32(ag), uint32(g.agfl), uint32(w.agfl))
	fixed = append(fixed, disk.Extent{Off: int64(w.linear(ag, 0))<<blockShift + int64(sector), Data: content.Bytes(headers)})
	if ag == w.logAG {
		add(w.logAt, content.Bytes(encodeLog(w.opt.UUID, w.logUnit())))
	}
	if n := g.chunks(); n > 0 {
		add(g.chunkAt, content.NewRef(&inodeTable{w.layout, ag}, 0, int64(n)*chunkBlocks<<blockShift))
	}
	for i := first; i < w.row.len(); i++ {
		fixed = append(fixed, disk.Extent{
			Off:  int64(w.row.blocks[i].address) << blockShift,
			Data: content.NewRef(&w.row, int64(i)<<blockShift, blockSize),
		})
	}
	slices.SortFunc(fixed, func(a, b disk.Extent) int { return cmp.Compare(a.Off, b.Off) })
	w.out = filesystem.Merge(w.out, fixed, g.content)
	g.content = nil
}

// inodeHeader builds the trees of the inodes of a group.
func (w *writer) inodeHeader(ag uint64) *agInodes {
	g := &w.groups[ag]
	be := binary.BigEndian
	a := &agInodes{
		uuid: w.opt.UUID, seqno: uint32(ag), length: uint32(g.length),
		newest: nullBlock, counted: w.opt.has(InobtCount),
	}
	used := agRecords{btreeType: inodeTree}
	free := agRecords{btreeType: freeInoTree}
	chunks := g.chunks()
	for k := range chunks {
		record := be.AppendUint32(nil, uint32((g.chunkAt+k*chunkBlocks)<<inodesPerBlkLog))
		n := min(g.nodes.n-k*inodesPerChunk, inodesPerChunk)
		record = be.AppendUint16(record, 0) // ir_holemask
		record = append(record, inodesPerChunk, uint8(inodesPerChunk-n))
		record = be.AppendUint64(record, ^uint64(0)<<(n-1)<<1)
		used.b = append(used.b, record...)
		if n < inodesPerChunk {
			free.b = append(free.b, record...)
		}
	}
	if chunks > 0 {
		a.newest = uint32((g.chunkAt + (chunks-1)*chunkBlocks) << inodesPerBlkLog)
		a.count = uint32(chunks * inodesPerChunk)
		a.freeCount = uint32(chunks*inodesPerChunk - g.nodes.n)
	}
	a.tree = used.build(&w.row, w.geometry, ag, w.inoRoot, uint32(g.inobtAt))
	if w.finoRoot != 0 {
		a.free = free.build(&w.row, w.geometry, ag, w.finoRoot, 0) // one record at most
	}
	w.inodes += uint64(a.count)
	w.freeInodes += uint64(a.freeCount)
	return a
}

// freeHeader builds the trees of owners, of shared blocks and of the free space
// of a group.
func (w *writer) freeHeader(ag uint64) *agFree {
	g := &w.groups[ag]
	a := &agFree{uuid: w.opt.UUID, seqno: uint32(ag), length: uint32(g.length), listCount: uint32(w.agfl)}
	if w.rmapRoot != 0 {
		records, more := w.owners(ag)
		list := agRecords{btreeType: rmapTree, b: records.encode()}
		a.rmap = list.build(&w.row, w.geometry, ag, w.rmapRoot, uint32(g.next))
		a.treeBlocks = more
		g.next += uint64(more)
	}
	if w.refcRoot != 0 {
		none := agRecords{btreeType: refcountTree}
		a.refcount = none.build(&w.row, w.geometry, ag, w.refcRoot, 0)
	}
	free := g.gaps // a few: one block holds 505
	if g.next < g.length {
		free = append(free, run{g.next, g.length - g.next})
	}
	encode := func(t btreeType) agRecords {
		r := agRecords{btreeType: t}
		for _, f := range free {
			r.b = binary.BigEndian.AppendUint32(r.b, uint32(f.start))
			r.b = binary.BigEndian.AppendUint32(r.b, uint32(f.n))
		}
		return r
	}
	byBlock := encode(byBlockTree)
	for _, f := range free {
		a.freeBlocks += uint32(f.n)
		a.longest = max(a.longest, uint32(f.n))
	}
	slices.SortStableFunc(free, func(a, b run) int { return cmp.Compare(a.n, b.n) })
	byCount := encode(byCountTree)
	a.byBlock = byBlock.build(&w.row, w.geometry, ag, w.bnoRoot, 0)
	a.byCount = byCount.build(&w.row, w.geometry, ag, w.cntRoot, 0)
	w.freeBlocks += uint64(a.freeBlocks) + uint64(a.listCount) + uint64(a.treeBlocks)
	return a
}

// owners returns the owners of all blocks of a group in use, and how many
// blocks the tree of them takes besides its root. Those lie behind everything
// else and are in it.
func (w *writer) owners(ag uint64) (list ownedList, more uint32) {
	g := &w.groups[ag]
	list = make(ownedList, 0, len(g.owners)+16)
	add := func(start, n uint64, owner uint64) { list.add(owned{uint32(start), uint32(n), owner, 0}) }
	add(0, uint64(w.bnoRoot), ownFS)
	add(uint64(w.bnoRoot), 2, ownAG) // and cntRoot
	add(uint64(w.inoRoot), 1, ownInobt)
	if w.finoRoot != 0 {
		add(uint64(w.finoRoot), 1, ownInobt)
	}
	add(uint64(w.rmapRoot), 1, ownAG)
	if w.refcRoot != 0 {
		add(uint64(w.refcRoot), 1, ownRefcount)
	}
	if ag == w.logAG {
		add(w.logAt, w.log, ownLog)
	}
	add(g.agfl, w.agfl, ownAG)
	add(g.chunkAt, g.chunks()*chunkBlocks, ownInodes)
	add(g.inobtAt, g.inobt, ownInobt)
	list = append(list, g.owners...) // all of inodes: nothing to join
	for {
		all := list
		all.add(owned{uint32(g.next), more, ownAG, 0})
		need := treeBlocks(len(all), rmapTree) - 1
		if need == more {
			return all, more
		}
		more = need
	}
}

// superblock returns the sector of the superblock, the same for all groups.
func (w *writer) superblock() []byte {
	s := superblock{
		blocks:      w.geometry.blocks,
		uuid:        w.opt.UUID,
		logStart:    w.fsblock(w.logAG, w.logAt),
		root:        uint64(w.nodes[nodeRoot].number),
		agBlocks:    uint32(w.agBlocks),
		agCount:     uint32(w.agCount),
		logBlocks:   uint32(w.log),
		version:     versionBase,
		sectorSize:  uint16(w.opt.sectorSize()),
		label:       w.opt.Label,
		agBlockLog:  w.agBlockLog,
		sectorLog:   9,
		maxPercent:  w.maxPercent(w.inodes),
		inodes:      w.inodes,
		freeInodes:  w.freeInodes,
		freeBlocks:  w.freeBlocks,
		stripeUnit:  uint32(w.unit),
		stripeWidth: uint32(w.width),
		logUnit:     w.logUnit(),
		incompat:    incompatFtype | incompatSparse,
	}
	if w.attrs {
		s.version |= versionAttr
	}
	if w.unit > 0 {
		s.version |= versionDAlign
	}
	if s.sectorSize > basicBlock {
		s.version |= versionSector
		s.sectorLog, s.logSectorLog, s.logSector = blockShift, blockShift, s.sectorSize
	}
	for _, f := range [...]struct {
		feature Features
		bits    *uint32
		bit     uint32
	}{
		{Finobt, &s.roCompat, roFinobt}, {Rmapbt, &s.roCompat, roRmapbt},
		{Reflink, &s.roCompat, roReflink}, {InobtCount, &s.roCompat, roInobtCount},
		{Bigtime, &s.incompat, incompatBigtime}, {NrExt64, &s.incompat, incompatNrExt64},
		{ExchangeRange, &s.incompat, incompatExchange}, {Parent, &s.incompat, incompatParent},
	} {
		if w.opt.has(f.feature) {
			*f.bits |= f.bit
		}
	}
	b := make([]byte, w.opt.sectorSize())
	s.encode(b)
	return b
}

// inodeTable is the inodes of a group, a content.Source that encodes them when
// they are read.
type inodeTable struct {
	l  *layout
	ag uint64
}

// ReadAt implements io.ReaderAt.
func (t *inodeTable) ReadAt(b []byte, off int64) (int, error) {
	g := &t.l.groups[t.ag]
	return filesystem.ReadUnits(b, off, inodeSize, int(g.chunks())*inodesPerChunk, func(i int, out []byte) error {
		d := diskInode{uuid: t.l.opt.UUID}
		if uint64(i) < g.nodes.n {
			t.l.fill(&d, uint32(g.nodes.start)+uint32(i))
		} else {
			d.free = true
		}
		d.number = t.ag<<(t.l.agBlockLog+inodesPerBlkLog) | g.chunkAt<<inodesPerBlkLog + uint64(i)
		d.encode(out)
		return nil
	})
}

// fill sets what the inode of a node has.
func (l *layout) fill(d *diskInode, i uint32) {
	n := &l.nodes[i]
	d.bigtime, d.nrext64 = l.opt.has(Bigtime), l.opt.has(NrExt64)
	d.links = n.links
	d.data = l.fork(i, dataFork)
	t := n.inode
	if t == nil {
		d.mode = tree.TypeFile
		d.time = clampTime(l.opt.Time, d.bigtime)
		if i == nodeRTBitmap {
			d.flags = flagNewRTBitmap
		}
		return
	}
	d.mode = t.Mode & (tree.TypeMask | tree.PermMask)
	d.uid, d.gid = t.UID, t.GID
	d.time = clampTime(t.Mtime, d.bigtime)
	d.blocks = d.data.blocks
	if t.Flags&tree.Immutable != 0 {
		d.flags |= flagImmutable
	}
	if n.attrs != nil {
		d.attrAt = n.attrAt()
		d.attr = l.fork(i, attrFork)
		d.blocks += d.attr.blocks
		if n.attrs.local != nil {
			d.attr.format, d.attr.content = formatLocal, n.attrs.local
		}
	}
	switch t.Type() {
	case tree.TypeFile:
		d.size = uint64(t.Content.Size())
	case tree.TypeDir:
		d.size = uint64(n.dir.data) << blockShift
		if n.dir.local != nil {
			d.data.format, d.data.content = formatLocal, n.dir.local
			d.size = uint64(len(n.dir.local))
		}
	case tree.TypeLink:
		d.size = uint64(len(t.Target))
		if len(t.Target) <= n.dataRoom() {
			d.data.format, d.data.content = formatLocal, []byte(t.Target)
		}
	default:
		d.data.format, d.data.content = formatDevice, deviceNumber(t)
	}
}

// fork returns a fork of a node as a list or a tree of extents.
func (l *layout) fork(i uint32, which uint8) fork {
	at := l.nodes[i].extents[which]
	f := fork{format: formatExtents, count: uint64(at.n), extents: l.extents[at.first : at.first+at.n]}
	for _, e := range f.extents {
		f.blocks += e.n()
	}
	if deep, ok := l.deep[forkKey{i, which}]; ok {
		f.format, f.content = formatBtree, deep.root
		f.blocks += deep.blocks
	}
	return f
}
