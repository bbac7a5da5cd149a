package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"imgbuild/content"
	"imgbuild/fault"
)

// Cache is a directory that keeps what was pulled and unpacked:
//
//	blobs/sha256/HEX   blobs, manifests and configs of registries
//	spools/HEX.tar     plain layers by their diff_id
//	spools/HEX.idx     what is in them, see record
//	spools/HEX.dat     what was computed from layers, see OpenDerived
//	refs/HEX.json      what a name stood for when it was pulled last
//	tmp/               files that are not complete yet
//
// Several processes may use it at once: files get their name when they are
// complete and never change, and open files outlive their names. What is
// damaged or missing is made again.
type Cache struct {
	dir  string
	boot string
}

// staleTemp is how old a temporary file is when nobody can be writing it any
// more.
const staleTemp = 48 * time.Hour

// OpenCache opens the cache in a directory, which it makes where it is missing.
// The error is of the class Output, or NoSpace.
func OpenCache(dir string) (*Cache, error) {
	c := &Cache{dir: dir, boot: bootID()}
	for _, d := range []string{c.blobDir(), c.spoolDir(), c.tempDir()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, classHost(fmt.Errorf("cache: %w", err))
		}
	}
	c.removeStale()
	return c, nil
}

// Dir returns the directory of the cache.
func (c *Cache) Dir() string { return c.dir }

func (c *Cache) blobDir() string  { return filepath.Join(c.dir, "blobs", "sha256") }
func (c *Cache) spoolDir() string { return filepath.Join(c.dir, "spools") }
func (c *Cache) tempDir() string  { return filepath.Join(c.dir, "tmp") }

// The digests that these are called with were checked by checkDigest.
func hexOf(digest string) string               { return strings.TrimPrefix(digest, "sha256:") }
func (c *Cache) blobPath(digest string) string { return filepath.Join(c.blobDir(), hexOf(digest)) }
func (c *Cache) spoolPath(diffID string) string {
	return filepath.Join(c.spoolDir(), hexOf(diffID)+".tar")
}
func (c *Cache) recordPath(diffID string) string {
	return filepath.Join(c.spoolDir(), hexOf(diffID)+".idx")
}

// removeStale removes what killed processes left.
func (c *Cache) removeStale() {
	list, err := os.ReadDir(c.tempDir())
	if err != nil {
		return
	}
	for _, e := range list {
		if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > staleTemp {
			_ = os.Remove(filepath.Join(c.tempDir(), e.Name()))
		}
	}
}

// document returns a manifest or config by its digest, or nil.
func (c *Cache) document(digest string, limit int64) []byte {
	f, err := openRegular(c.blobPath(digest))
	if err != nil {
		return nil
	}
	defer f.Close()
	raw, err := readLimited(f, "", limit)
	if err != nil || sum(raw) != digest {
		return nil
	}
	touch(c.blobPath(digest))
	return raw
}

// putDocument keeps a manifest or config. Errors are for tests: the cache is
// not what matters then.
func (c *Cache) putDocument(digest string, raw []byte) error {
	return c.putFile(c.blobPath(digest), raw)
}

// putFile writes a file whole or not at all.
func (c *Cache) putFile(path string, raw []byte) error {
	f, err := os.CreateTemp(c.tempDir(), "file-*")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return c.finish(f, path, err)
}

// finish closes a temporary file and gives it its name, or removes it when err
// says so.
func (c *Cache) finish(f *os.File, path string, err error) error {
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// openBlob opens a blob of the right size, or returns an error.
func (c *Cache) openBlob(digest string, size int64) (*os.File, error) {
	f, err := openRegular(c.blobPath(digest))
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != size {
		f.Close()
		return nil, fs.ErrNotExist
	}
	touch(c.blobPath(digest))
	return f, nil
}

// cachedLayer is a layer from the cache.
type cachedLayer struct {
	record *record
	spool  *content.Spool
}

// layer returns the layer if its spool and record are there and sound. The only
// error is that of the context.
func (c *Cache) layer(ctx context.Context, diffID string) (*cachedLayer, error) {
	raw, err := readRecord(c.recordPath(diffID))
	if err != nil {
		return nil, nil
	}
	r, err := decodeRecord(raw)
	if err != nil || hex.EncodeToString(r.diffID[:]) != hexOf(diffID) {
		return nil, nil
	}
	f, err := openRegular(c.spoolPath(diffID))
	if err != nil {
		return nil, nil
	}
	ok, err := c.sound(ctx, f, r, diffID)
	if !ok || err != nil {
		f.Close()
		return nil, err
	}
	spool := content.NewSpool(f, r.spoolSize, r.holes)
	if bind(r.entries, spool) != nil {
		f.Close()
		return nil, nil
	}
	touch(c.recordPath(diffID))
	return &cachedLayer{r, spool}, nil
}

func readRecord(path string) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() > maxRecord {
		return nil, errRecord
	}
	raw := make([]byte, fi.Size())
	_, err = io.ReadFull(f, raw)
	return raw, err
}

// sound tells whether the spool in f is what the record says. Within the boot
// that wrote it there is no doubt: what was written can be read. After another
// boot the file may have lost what never reached the disk, so it is hashed
// once.
func (c *Cache) sound(ctx context.Context, f *os.File, r *record, diffID string) (bool, error) {
	fi, err := f.Stat()
	if err != nil || fi.Size() != r.spoolSize {
		return false, nil
	}
	untouched := fi.ModTime().UnixNano() == r.spoolMtime
	sameBoot := c.boot != "" && c.boot == r.boot
	if untouched && (r.durable || sameBoot) {
		return true, nil
	}
	h := sha256.New()
	buf := make([]byte, chunkSize)
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, nil
		}
	}
	if hex.EncodeToString(h.Sum(nil)) != hexOf(diffID) {
		return false, nil
	}
	r.durable = untouched // it came from the disk
	r.boot, r.spoolMtime = c.boot, fi.ModTime().UnixNano()
	_ = c.putFile(c.recordPath(diffID), r.encode())
	return true, nil
}

// putLayer gives a spool its name and writes the record. It returns the spool
// as it is in the cache.
func (c *Cache) putLayer(f *os.File, spool *content.Spool, diffID string, r *record) (*content.Spool, error) {
	var err error
	if c.boot == "" {
		err = f.Sync()
		r.durable = err == nil
	}
	if err := c.finish(f, c.spoolPath(diffID), err); err != nil {
		return nil, err
	}
	g, err := openRegular(c.spoolPath(diffID))
	if err != nil {
		return nil, err
	}
	fi, err := g.Stat()
	if err == nil && fi.Size() != spool.Size() {
		err = fmt.Errorf("%s has %d bytes, %d were written", g.Name(), fi.Size(), spool.Size())
	}
	if err == nil {
		r.boot, r.spoolMtime = c.boot, fi.ModTime().UnixNano()
		err = c.putFile(c.recordPath(diffID), r.encode())
	}
	if err != nil {
		g.Close()
		return nil, err
	}
	return content.NewSpool(g, spool.Size(), spool.Holes()), nil
}

// touch notes that a file was used. Where it cannot, it looks older than it is.
func touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}

func openRegular(path string) (*os.File, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	return os.Open(path)
}

// classHost classes an error of writing on this machine.
func classHost(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.New(fault.NoSpace, err, "free some space, or choose another place for the cache")
	}
	return fault.Default(fault.Output, err)
}
