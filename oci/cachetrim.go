package oci

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cacheItem is what is kept or removed as a whole: a blob, or a spool with its
// record.
type cacheItem struct {
	paths []string  // in the order in which they are removed
	size  int64     // on disk, in bytes
	used  time.Time // last
}

// items lists what is in the cache, least recently used first.
func (c *Cache) items() ([]*cacheItem, error) {
	items := make(map[string]*cacheItem)
	for _, dir := range []string{c.blobDir(), c.spoolDir()} {
		list, err := os.ReadDir(dir)
		if err != nil {
			return nil, classHost(fmt.Errorf("cache: %w", err))
		}
		for _, e := range list {
			fi, err := e.Info()
			if err != nil || !fi.Mode().IsRegular() {
				continue // removed by another process
			}
			// A record goes before its spool, and both at once.
			path := filepath.Join(dir, e.Name())
			key := strings.TrimSuffix(strings.TrimSuffix(path, ".tar"), ".idx")
			it := items[key]
			if it == nil {
				it = &cacheItem{}
				items[key] = it
			}
			if strings.HasSuffix(path, ".idx") {
				it.paths = slices.Insert(it.paths, 0, path)
			} else {
				it.paths = append(it.paths, path)
			}
			it.size += diskSize(fi)
			if fi.ModTime().After(it.used) {
				it.used = fi.ModTime()
			}
		}
	}
	order := make([]*cacheItem, 0, len(items))
	for _, it := range items {
		order = append(order, it)
	}
	slices.SortFunc(order, func(a, b *cacheItem) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(a.paths[0], b.paths[0]))
	})
	return order, nil
}

// Trim removes what was not used for the longest time until the cache takes at
// most limit bytes on disk. What is in use stays readable.
func (c *Cache) Trim(limit int64) error {
	_, err := c.prune(limit, time.Time{})
	return err
}

// Prune removes what was last used before a time, and then as [Cache.Trim] does
// unless limit is negative. It returns how many bytes were freed.
func (c *Cache) Prune(limit int64, before time.Time) (freed int64, err error) {
	return c.prune(limit, before)
}

func (c *Cache) prune(limit int64, before time.Time) (freed int64, err error) {
	items, err := c.items()
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, it := range items {
		total += it.size
	}
	for _, it := range items {
		if (limit < 0 || total <= limit) && !it.used.Before(before) {
			break
		}
		for _, path := range it.paths {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return freed, classHost(fmt.Errorf("cache: %w", err))
			}
		}
		total -= it.size
		freed += it.size
	}
	if freed > 0 {
		c.dropRefs()
	}
	return freed, nil
}

// Usage is how much the cache holds.
type Usage struct {
	Files int
	Bytes int64 // on disk
}

// Usage returns how much the cache holds.
func (c *Cache) Usage() (Usage, error) {
	items, err := c.items()
	u := Usage{}
	for _, it := range items {
		u.Files += len(it.paths)
		u.Bytes += it.size
	}
	return u, err
}
