package btrfs

import (
	"context"
	"errors"
)

// size returns the smallest number of bytes, up to a few MiB, that holds the
// collection and leaves free bytes for new content: a multiple of 1 MiB.
func (c *collection) size(ctx context.Context, free int64) (int64, error) {
	size := max(uint64(minSize), c.sectors<<sectorShift+c.metadata+uint64(free))
	for size <= maxSize {
		size = (size + mebi - 1) &^ (mebi - 1)
		_, err := c.placeIn(ctx, int64(size), free)
		var small *shortfall
		if !errors.As(err, &small) {
			if err == nil {
				return int64(size), nil
			}
			return 0, err
		}
		if small.bytes > maxSize {
			break
		}
		size += max(small.bytes, 1)
	}
	return 0, tooLarge()
}
