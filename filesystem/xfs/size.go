package xfs

import (
	"context"
	"errors"
)

// size returns the smallest number of blocks from least on, up to a few MiB, that
// holds the collection and leaves free blocks that anyone may use: a multiple of
// 1 MiB where it is more than least.
func (c *collection) size(ctx context.Context, least, free uint64) (uint64, error) {
	blocks := max(roundUp(c.blocks+free, mebi), minSize>>blockShift, least)
	for blocks <= maxSize>>blockShift {
		_, err := c.placeIn(ctx, blocks, free)
		var small *shortfall
		if !errors.As(err, &small) {
			if err == nil {
				return blocks, nil
			}
			return 0, err
		}
		if small.blocks > maxSize>>blockShift {
			break
		}
		blocks = roundUp(blocks+max(small.blocks, 1), mebi)
	}
	return 0, tooLarge()
}
