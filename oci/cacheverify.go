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
)

// CacheReport is what [Cache.Verify] found.
type CacheReport struct {
	Checked int      `json:"checked"` // files
	Bytes   int64    `json:"bytes"`   // of them
	Damaged []string `json:"damaged"` // files below the directory of the cache, which were removed
}

// Verify reads all that the cache holds, and removes what does not have the
// digest that it is kept under. Builds check what they use by themselves; this
// finds what a failing disk did to the rest. progress, which may be nil, is told
// how many bytes were read.
//
// Files that are computed from layers (.dat) have no digest, and are left to
// those who use them.
func (c *Cache) Verify(ctx context.Context, progress func(n int64)) (*CacheReport, error) {
	report := &CacheReport{Damaged: []string{}}
	check := func(dir, suffix string, fn func(path, hex string) (bool, error)) error {
		list, err := os.ReadDir(dir)
		if err != nil {
			return classHost(fmt.Errorf("cache: %w", err))
		}
		for _, e := range list {
			name, ok := strings.CutSuffix(e.Name(), suffix)
			if !ok || suffix == "" && !e.Type().IsRegular() {
				continue
			}
			path := filepath.Join(dir, e.Name())
			fi, err := os.Stat(path)
			if err != nil {
				continue // removed by another process
			}
			sound, err := fn(path, name)
			if cerr := ctx.Err(); cerr != nil {
				return cerr
			}
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			report.Checked++
			report.Bytes += fi.Size()
			if sound && err == nil {
				continue
			}
			rel, rerr := filepath.Rel(c.dir, path)
			if rerr != nil {
				rel = path
			}
			report.Damaged = append(report.Damaged, filepath.ToSlash(rel))
			if err := os.RemoveAll(path); err != nil {
				return classHost(fmt.Errorf("cache: %w", err))
			}
		}
		return nil
	}
	digest := func(path, want string) (bool, error) {
		got, err := hashFile(ctx, path, progress)
		return got == want, err
	}
	record := func(path, want string) (bool, error) {
		raw, err := readRecord(path)
		if err != nil {
			return false, err
		}
		r, err := decodeRecord(raw)
		return err == nil && hex.EncodeToString(r.diffID[:]) == want, nil
	}
	if err := check(c.blobDir(), "", digest); err != nil {
		return nil, err
	}
	if err := check(c.spoolDir(), ".tar", digest); err != nil {
		return nil, err
	}
	if err := check(c.spoolDir(), ".idx", record); err != nil {
		return nil, err
	}
	if len(report.Damaged) > 0 {
		c.dropRefs()
	}
	return report, nil
}

// hashFile returns the SHA-256 of a regular file, as hexadecimal digits.
func hashFile(ctx context.Context, path string, progress func(n int64)) (string, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !fi.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, chunkSize)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if progress != nil {
			progress(int64(n))
		}
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}
