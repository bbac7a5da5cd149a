package xfs

import (
	"fmt"
	"math/bits"

	"imgbuild/fault"
)

const (
	maxAGBlocks  = 1<<28 - 1            // XFS_AG_MAX_BLOCKS: 1 TiB less one
	minAGBlocks  = 16 << 20 / blockSize // XFS_AG_MIN_BLOCKS: of the last group too
	minLogBlocks = 64 << 20 / blockSize
	maxLogBlocks = 521728 // 2 GiB less 10 MiB, XFS_MAX_LOG_BYTES

	mebi = 1 << 20 / blockSize // blocks
	gibi = mebi << 10
	tebi = gibi << 10
)

// geometry is where the fixed parts of a file system are. Units are blocks
// unless said otherwise; a number within an allocation group is an agbno.
type geometry struct {
	opt        *Options
	blocks     uint64 // in use, in all groups
	agBlocks   uint64 // of all groups but the last
	agCount    uint64
	agBlockLog uint8

	// Roots of the trees, or 0 where there is no such tree.
	bnoRoot, cntRoot, inoRoot, finoRoot, rmapRoot, refcRoot uint32

	fixed  uint64 // blocks of headers and roots, from 0 on
	agfl   uint64 // blocks in the free list
	logAG  uint64
	logAt  uint64 // agbno
	log    uint64
	unit   uint64 // stripe unit
	width  uint64 // stripe width
	rootAt uint64 // agbno of the chunk of the root inode
}

// newGeometry returns the geometry of a file system of so many blocks, that of
// mkfs.xfs.
func newGeometry(blocks uint64, opt *Options) (geometry, error) {
	g := geometry{opt: opt, blocks: blocks, unit: uint64(opt.StripeUnit) >> blockShift, width: uint64(opt.StripeWidth) >> blockShift}
	if blocks < minSize>>blockShift {
		return g, &shortfall{minSize>>blockShift - blocks}
	}
	g.chooseGroups()
	switch {
	case g.agBlocks > maxAGBlocks:
		return g, fault.New(fault.Usage, fmt.Errorf("xfs: %d allocation groups for %d bytes, of more than 1 TiB each", opt.AGCount, blocks<<blockShift), "")
	case g.agBlocks < minAGBlocks || g.agCount < 2:
		return g, &shortfall{(minAGBlocks - min(g.agBlocks, minAGBlocks-1)) * max(g.agCount, 2)}
	}
	g.agBlockLog = uint8(bits.Len64(g.agBlocks - 1))
	g.placeRoots()
	if err := g.placeLog(); err != nil {
		return g, err
	}
	g.rootAt = roundUp(g.fixed+g.agfl, chunkBlocks)
	if g.unit > 0 && g.unit%chunkBlocks == 0 {
		g.rootAt = roundUp(g.fixed+g.agfl, g.unit)
	}
	if end := g.rootAt + chunkBlocks + g.reserve(g.agBlocks); end > g.agBlocks { // very long stripes
		return g, &shortfall{(end - g.agBlocks) * g.agCount}
	}
	return g, nil
}

// chooseGroups divides the file system as calc_default_ag_geometry and
// align_ag_geometry of mkfs.xfs do it.
func (g *geometry) chooseGroups() {
	given := uint64(g.opt.AGCount)
	switch {
	case given > 0:
		g.agBlocks = ceilDiv(g.blocks, given)
	case g.unit == 0 && g.blocks >= 4*tebi, g.blocks >= 32*tebi:
		g.agBlocks = maxAGBlocks
	case g.unit == 0:
		g.agBlocks = ceilDiv(g.blocks, 4)
	case g.blocks > 512*gibi:
		g.agBlocks = ceilDiv(g.blocks, 32)
	case g.blocks > 8*gibi:
		g.agBlocks = ceilDiv(g.blocks, 16)
	default:
		g.agBlocks = ceilDiv(g.blocks, 8)
	}
	if given == 0 {
		g.agBlocks = min(g.agBlocks, maxAGBlocks)
	}
	if g.unit > 0 {
		aligned := roundUp(g.agBlocks, g.unit)
		if aligned > maxAGBlocks {
			aligned = g.agBlocks / g.unit * g.unit
		}
		// Groups that all start on the same disk of the stripe are slow.
		if given == 0 && aligned%g.width == 0 && g.width != g.unit && aligned > g.unit {
			aligned -= g.unit
		}
		g.agBlocks = aligned
	}
	if g.agBlocks == 0 {
		return
	}
	g.agCount = ceilDiv(g.blocks, g.agBlocks)
	if rest := g.blocks % g.agBlocks; rest != 0 && rest < minAGBlocks {
		g.blocks -= rest
		g.agCount--
	}
}

// placeRoots numbers the blocks that are the same in all groups.
func (g *geometry) placeRoots() {
	next := uint32(ceilDiv(4*uint64(g.opt.sectorSize()), blockSize))
	take := func(root *uint32, present bool) {
		if present {
			*root = next
			next++
		}
	}
	take(&g.bnoRoot, true)
	take(&g.cntRoot, true)
	take(&g.inoRoot, true)
	take(&g.finoRoot, g.opt.has(Finobt))
	take(&g.rmapRoot, g.opt.has(Rmapbt))
	take(&g.refcRoot, g.opt.has(Reflink))
	g.fixed = uint64(next)
	g.agfl = 4
	if g.opt.has(Rmapbt) {
		g.agfl = 6
	}
}

// placeLog chooses size and place of the log.
func (g *geometry) placeLog() error {
	g.logAG = g.agCount / 2
	unit := max(uint64(g.logUnit())>>blockShift, 1)
	g.logAt = roundUp(g.fixed, unit)
	// What Linux wants for itself, the free list and a chunk of inodes stay.
	length := g.length(g.logAG)
	keep := g.logAt + g.agfl + 2*chunkBlocks + g.reserve(length)
	room := length - min(length, keep)
	least := uint64(minLogBlocks)
	g.log = roundUp(min(max(g.blocks/2048, minLogBlocks), maxLogBlocks), unit)
	if g.opt.LogSize > 0 {
		least = roundUp(ceilDiv(uint64(g.opt.LogSize), blockSize), unit)
		g.log = least
	}
	g.log = min(g.log, room/unit*unit)
	if least > room {
		return &shortfall{(least - room) * g.agCount}
	}
	return nil
}

// logUnit returns sb_logsunit in bytes, 1 for none. mkfs.xfs allows 256 KiB;
// from 32 KiB on a log record would have several headers.
func (g *geometry) logUnit() uint32 {
	if g.unit > 0 {
		return uint32(min(g.unit<<blockShift, logRecordSize))
	}
	if s := g.opt.sectorSize(); s > basicBlock {
		return s
	}
	return 1
}

// length returns the number of blocks of a group.
func (g *geometry) length(ag uint64) uint64 {
	if ag == g.agCount-1 {
		return g.blocks - ag*g.agBlocks
	}
	return g.agBlocks
}

// end returns the first agbno of a group behind what is fixed, and that of its
// free list.
func (g *geometry) end(ag uint64) (agfl, end uint64) {
	agfl = g.fixed
	if ag == g.logAG {
		agfl = g.logAt + g.log
	}
	return agfl, agfl + g.agfl
}

// reserve returns the blocks of a group of so many that stay free. Linux keeps
// them for the trees of the group, at their largest (xfs_ag_resv_init), and
// for the free list. It complains when there are less.
func (g *geometry) reserve(length uint64) uint64 {
	n := uint64(32)
	if g.opt.has(Finobt) {
		n += treeLimit(length/chunkBlocks, inodeTree)
	}
	if g.opt.has(Reflink) {
		n += treeLimit(length, refcountTree)
	}
	if g.opt.has(Rmapbt) {
		n += max(length/100, treeLimit(length, rmapTree)) + 16
	}
	return n
}

// pool returns the blocks of the whole file system that Linux keeps for
// emergencies.
func (g *geometry) pool() uint64 { return min(g.blocks/20, 8192) }

// inodeGroups returns how many groups have inodes, so that their numbers need
// 32 bits only.
func (g *geometry) inodeGroups() uint64 {
	return min(g.agCount, 1<<(32-inodesPerBlkLog-g.agBlockLog))
}

// maxPercent returns the part of the file system that inodes may take, at least
// as much as they do.
func (g *geometry) maxPercent(inodes uint64) uint8 {
	percent := uint64(1)
	switch {
	case g.blocks < tebi:
		percent = 25
	case g.blocks < 50*tebi:
		percent = 5
	}
	if used := ceilDiv(inodes/inodesPerBlock*100, g.blocks); used >= percent {
		percent = min(used*2, 100)
	}
	return uint8(percent)
}

// fsblock returns the number of a block as the format has it, with a gap behind
// groups whose size is no power of two.
func (g *geometry) fsblock(ag, agbno uint64) uint64 { return ag<<g.agBlockLog | agbno }

// linear returns the number of a block, counted from the first one.
func (g *geometry) linear(ag, agbno uint64) uint64 { return ag*g.agBlocks + agbno }

func ceilDiv(a, b uint64) uint64 { return a/b + min(a%b, 1) }

func roundUp(a, b uint64) uint64 { return ceilDiv(a, b) * b }
