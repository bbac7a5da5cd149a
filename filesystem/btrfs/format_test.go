package btrfs

import (
	"math/rand/v2"
	"testing"
)

// Values are of Linux's own file systems, and of the specification of xxHash.
func TestHashes(t *testing.T) {
	for name, want := range map[string]uint32{"default": 2378154706, "user.a": 1640047104} {
		if got := nameHash(name); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	if got := extrefHash(257, "a"); got != 1640403811 {
		t.Errorf("extended reference: %d", got)
	}
	for text, want := range map[string]uint64{
		"": 0xef46db3751d8e999, "a": 0xd24ec4f1a98c6e5b, "abc": 0x44bc2cf5ad770999, "Nobody inspects the spammish repetition": 0xfbcea83c8a378bf1,
	} {
		if got := xxhash64([]byte(text)); got != want {
			t.Errorf("%q: %#x, want %#x", text, got, want)
		}
	}
	for c, want := range map[Checksum]int{CRC32C: 4057, XXHash64: 2028, SHA256: 506} {
		if got := c.algorithm().maxSums(); got != want {
			t.Errorf("checksum %d: %d in an item, want %d", c, got, want)
		}
	}
	a, b := collision("a"), collision("b")
	if a == b || nameHash(a) != nameHash(b) {
		t.Errorf("%q and %q", a, b)
	}
}

// TestChunk takes everything a chunk has, and finds it disjoint, complete, and
// never on a superblock.
func TestChunk(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		super := superOffsets[r.IntN(len(superOffsets))]
		c := &chunk{start: 1 + uint64(r.IntN(1000))*stripeLen, length: uint64(1+r.IntN(100)) * stripeLen, copies: 1 + r.IntN(2)}
		for i := range c.stripes {
			c.stripes[i] = super&^(stripeLen-1) + stripeLen*50 - stripeLen*min(uint64(r.IntN(160)), super/stripeLen+50)
		}
		c.reset()
		at := c.start
		for {
			least := uint64(1+r.IntN(8)) * sectorSize
			got := c.take(least+uint64(r.IntN(40))*sectorSize, least)
			if got.end == got.start {
				break
			}
			if got.start < at || got.end > c.end() || got.end-got.start < least {
				t.Fatalf("%+v behind %d, %d at least", got, at, least)
			}
			at = got.end
			for i := range c.copies {
				for _, s := range superOffsets {
					if from, to := c.physical(got.start, i), c.physical(got.end, i); from < s+sizeSuper && to > s {
						t.Fatalf("%+v is over the superblock at %d", got, s)
					}
				}
			}
		}
		sum, end := c.used, c.start
		for _, f := range c.free() {
			if f.start < end || f.end <= f.start {
				t.Fatalf("free space %+v behind %d", f, end)
			}
			sum, end = sum+f.end-f.start, f.end
		}
		if sum != c.length {
			t.Fatalf("%d used and free bytes of %d", sum, c.length)
		}
	}
}

// TestTreeLevels builds trees on the limits of nodes.
func TestTreeLevels(t *testing.T) {
	for _, leaves := range []int{1, 2, nodeFanout, nodeFanout + 1, 3 * nodeFanout, nodeFanout*nodeFanout + 1} {
		list := make(itemList, 0, leaves)
		data := make([]byte, maxItem)
		for i := range leaves {
			list = append(list, listItem{key{uint64(i), 1, 0}, data})
		}
		b := newBtree(rootTree, list)
		levels, blocks := 1, leaves
		for k := leaves; k > 1; levels++ {
			k = (k + nodeFanout - 1) / nodeFanout
			blocks += k
		}
		if len(b.leaves) != leaves || len(b.levels) != levels || int(b.blocks) != blocks {
			t.Errorf("%d leaves, %d levels, %d blocks; want %d, %d, %d", len(b.leaves), len(b.levels), b.blocks, leaves, levels, blocks)
		}
		if got := b.level(b.blocks - 1); got != b.rootLevel() {
			t.Errorf("%d leaves: the root has level %d", leaves, got)
		}
	}
	if b := newBtree(rootTree, itemList(nil)); b.blocks != 1 || b.rootLevel() != 0 {
		t.Errorf("an empty tree of %d blocks", b.blocks)
	}
}
