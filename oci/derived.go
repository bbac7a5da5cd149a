package oci

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// derivedPath is where a file lies that was computed from layers.
func (c *Cache) derivedPath(key [32]byte) string {
	return filepath.Join(c.spoolDir(), hex.EncodeToString(key[:])+".dat")
}

// OpenDerived opens the file that was kept under a key, or returns nil. What it
// holds has to be checked by the caller: it may have lost what never reached the
// disk.
func (c *Cache) OpenDerived(key [32]byte) *os.File {
	f, err := openRegular(c.derivedPath(key))
	if err != nil {
		return nil
	}
	touch(c.derivedPath(key))
	return f
}

// CreateDerived makes a file that can be kept with KeepDerived. Whoever does not
// keep it removes it.
func (c *Cache) CreateDerived() (*os.File, error) {
	f, err := os.CreateTemp(c.tempDir(), "derived-*")
	if err != nil {
		return nil, classHost(fmt.Errorf("cache: %w", err))
	}
	return f, nil
}

// KeepDerived closes a file of CreateDerived and gives it its name, and returns
// it opened again for reading. The key has to stand for all that the content
// depends on.
func (c *Cache) KeepDerived(f *os.File, key [32]byte) (*os.File, error) {
	if err := c.finish(f, c.derivedPath(key), nil); err != nil {
		return nil, classHost(fmt.Errorf("cache: %w", err))
	}
	kept, err := openRegular(c.derivedPath(key))
	if err != nil {
		return nil, classHost(fmt.Errorf("cache: %w", err))
	}
	return kept, nil
}
