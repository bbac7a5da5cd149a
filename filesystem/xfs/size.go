package xfs

import (
	"context"
	"errors"
)

// size returns the smallest number of blocks, up to a few MiB, that holds the
// collection and leaves free blocks that anyone may use: a multiple of 1 MiB.
func (c *collection) size(ctx context.Context, free uint64) (uint64, error) {
	blocks := max(roundUp(c.blocks+free, mebi), minSize>>blockShift)
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
