package input

import "sync"

// Cache keeps blocks of bytes that were read or unpacked last. The bytes it
// returns must not be changed.
type Cache[K comparable] struct {
	mu     sync.Mutex
	max    int
	clock  int64
	blocks map[K]*block
}

type block struct {
	used int64
	once sync.Once
	data []byte
	err  error
}

// NewCache returns a cache of up to max blocks.
func NewCache[K comparable](max int) *Cache[K] {
	return &Cache[K]{max: max, blocks: map[K]*block{}}
}

// Get returns the block, which load gets where it is not there. Two that ask for
// the same block at once get it once.
func (c *Cache[K]) Get(key K, load func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	b := c.blocks[key]
	if b == nil {
		if len(c.blocks) >= c.max {
			c.evict()
		}
		b = &block{}
		c.blocks[key] = b
	}
	c.clock++
	b.used = c.clock
	c.mu.Unlock()
	b.once.Do(func() { b.data, b.err = load() })
	return b.data, b.err
}

// evict drops the block that was not used for the longest time.
func (c *Cache[K]) evict() {
	var oldest K
	at := c.clock + 1
	for key, b := range c.blocks {
		if b.used < at {
			oldest, at = key, b.used
		}
	}
	delete(c.blocks, oldest)
}
