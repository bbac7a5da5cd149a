package ext4

// maxBlocks is the size up to which the copies of the group descriptors leave
// room in a group: 128 TiB. Beyond it mke2fs would use meta_bg.
const maxBlocks = 1 << 47 / blockSize

// size returns the smallest number of blocks from least on that holds the
// collection and leaves free blocks that anyone may use.
func (c *collection) size(least, free uint64) (uint64, error) {
	fixed := c.row.len() + c.dataBlocks
	trees := uint64(0)
	blocks := max(least, fixed+free, ceilDiv(c.inodes(), maxInodesPerGroup)*blocksPerGroup-(blocksPerGroup-1))
	for blocks <= maxBlocks {
		g, err := newGeometry(blocks, c.inodes(), c.opt)
		if err != nil {
			blocks++
			continue
		}
		need := fixed + trees + g.overhead() + uint64(g.journalBlocks) + free
		if g.resizeInode {
			need++
		}
		if free > 0 {
			need += g.rootBlocks
		}
		if need > g.blocks {
			blocks += g.skip(blocks, need-g.blocks)
			continue
		}
		l, err := c.place(g)
		if err == nil && l.tree.len() <= trees {
			return blocks, nil
		}
		if err == nil {
			trees = l.tree.len() // known now; look again
			continue
		}
		blocks++
	}
	return 0, errTooSmall
}

// skip returns how many blocks can surely be added when missing ones are still
// needed. Growing by n blocks gives n blocks more at most, but for what
// rounding takes here and not there: the tail that is left out, and the last
// block of each inode table.
func (g *geometry) skip(blocks, missing uint64) uint64 {
	slack := blocks - g.blocks + uint64(g.groups) + 2
	if missing <= slack {
		return 1
	}
	n := missing - slack
	// At these sizes there are fewer inodes, or none of the blocks reserved for
	// growth.
	const meg = 1 << 20 / blockSize
	for _, limit := range [...]uint64{3 * meg, 512 * meg, 4 << 20 * meg, 16 << 20 * meg, 1 << 32} {
		if blocks < limit && blocks+n > limit {
			n = limit - blocks
		}
	}
	return n
}
