package oci

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// UnpackOptions say where layers are unpacked to and what is computed on the
// way.
type UnpackOptions struct {
	// Cache keeps blobs and layers for later. Without one, layers go into a
	// temporary directory that [Image.Close] removes.
	Cache *Cache
	// TempDir is where the temporary directory is made. An empty one stands
	// for the default of the system.
	TempDir string
	// FileHash, which may be nil, returns the hash whose sum becomes the Object
	// of a regular file. The inode has its metadata and the size of its
	// content, which cannot be read yet; the content is written to the hash.
	// Layers are hashed at the same time, so it is called concurrently.
	FileHash func(*tree.Inode) hash.Hash
	// LinkHash does the same for symbolic links.
	LinkHash func(*tree.Inode) tree.Sum
	// HashID names what FileHash and LinkHash compute. Sums in the cache are
	// used when they have the same name, and are computed again otherwise.
	HashID string
	// Progress, which may be nil, is told how far layers are. It is not called
	// concurrently.
	Progress func(Event)
	// Limits bound what the image may cost.
	Limits Limits
}

// Event is the progress of a layer.
type Event struct {
	Layer  int    // index, lowest layer first
	Digest string // of the blob
	Done   int64  // bytes of the blob that were read
	Total  int64  // bytes of the blob
	Cached bool   // the layer was in the cache
}

// Layer is an unpacked layer.
type Layer struct {
	Digest string // of the blob
	DiffID string
	Size   int64 // of the plain tar in bytes
	// Tree has the entries of the layer as they are: whiteouts are ordinary
	// files. Hard links share their inode. Directories are sorted, so that the
	// tree can be read concurrently. Layers with the same DiffID share it.
	Tree *tree.Inode
	// Implied holds the directories of Tree that no entry of the layer
	// describes: they were made 0755 and owned by root for what is below them,
	// and say nothing of a directory in a lower layer. The root may be one.
	Implied map[*tree.Inode]bool
}

// unpackState is what Close has to release.
type unpackState struct {
	mu     sync.Mutex
	spools []*content.Spool
	dirs   []string
}

func (s *unpackState) add(spool *content.Spool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spools = append(s.spools, spool)
}

func (s *unpackState) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, spool := range s.spools {
		errs = append(errs, spool.Close())
	}
	for _, dir := range s.dirs {
		errs = append(errs, os.RemoveAll(dir))
	}
	s.spools, s.dirs = nil, nil
	return errors.Join(errs...)
}

// Unpack unpacks all layers, several at a time, and returns them lowest first.
// Their content can be read until the image is closed.
//
// Every blob is checked against its digest and size, every plain layer against
// its diff_id. Errors name the layer; beside the classes of [Open] they can be
// Output or NoSpace when the cache cannot be written. When the context ends its
// error is returned.
func (i *Image) Unpack(ctx context.Context, opt UnpackOptions) ([]*Layer, error) {
	u := &unpacker{img: i, opt: opt}
	u.budget.limits = opt.Limits.withDefaults()
	if len(i.Layers) > u.budget.limits.Layers {
		return nil, fmt.Errorf("image %s: %w", i.Reference, limitError("layers", "%d layers, more than %d", len(i.Layers), u.budget.limits.Layers))
	}
	u.temp = opt.TempDir
	if opt.Cache == nil {
		dir, err := os.MkdirTemp(opt.TempDir, "imgbuild-")
		if err != nil {
			return nil, classHost(err)
		}
		u.temp = dir
		i.state.mu.Lock()
		i.state.dirs = append(i.state.dirs, dir)
		i.state.mu.Unlock()
	} else {
		u.temp = opt.Cache.tempDir()
	}
	layers, err := u.all(ctx)
	if err != nil {
		if cerr := ctx.Err(); cerr != nil {
			err = cerr
		}
		return nil, fmt.Errorf("image %s: %w", i.Reference, err)
	}
	return layers, nil
}

// unpacker is one call of Unpack.
type unpacker struct {
	img    *Image
	opt    UnpackOptions
	temp   string
	budget budget
	mu     sync.Mutex // of Progress
}

// all unpacks each diff_id once. The largest blobs come first, so that none of
// them is left for the end.
func (u *unpacker) all(ctx context.Context) ([]*Layer, error) {
	first := make(map[string]int)
	var order []int
	for k, l := range u.img.Layers {
		if _, ok := first[l.DiffID]; !ok {
			first[l.DiffID] = k
			order = append(order, k)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(u.img.Layers[b].Size, u.img.Layers[a].Size)
	})
	layers := make([]*Layer, len(u.img.Layers))
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	if !u.img.src.local() {
		workers = max(workers, minDownloads)
	}
	g.SetLimit(workers)
	for _, k := range order {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			l, err := u.layer(ctx, k)
			if err != nil {
				return fmt.Errorf("layer %d (%s): %w", k, u.img.Layers[k].Digest, err)
			}
			layers[k] = l
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil && len(order) > 0 && layers[order[len(order)-1]] == nil {
		return nil, err
	}
	for k, l := range u.img.Layers {
		if layers[k] == nil {
			same := *layers[first[l.DiffID]]
			same.Digest = l.Digest
			layers[k] = &same
			u.progress(Event{Layer: k, Digest: l.Digest, Done: l.Size, Total: l.Size, Cached: true})
		}
	}
	return layers, nil
}

// minDownloads is how many blobs are pulled at once on a small machine: waiting
// for a registry takes no core.
const minDownloads = 3

func (u *unpacker) progress(e Event) {
	if u.opt.Progress == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.opt.Progress(e)
}

func (u *unpacker) layer(ctx context.Context, k int) (*Layer, error) {
	info := u.img.Layers[k]
	if u.opt.Cache != nil {
		l, err := u.cached(ctx, k)
		if l != nil || err != nil {
			return l, err
		}
	}
	f, err := os.CreateTemp(u.temp, "spool-*")
	if err != nil {
		return nil, classHost(err)
	}
	if u.opt.Cache == nil {
		// The name is not needed: without it not even a killed process leaves
		// anything. Where open files cannot be removed Close does it.
		_ = os.Remove(f.Name())
	}
	discard := func(err error) (*Layer, error) {
		f.Close()
		_ = os.Remove(f.Name())
		return nil, err
	}
	entries, spool, err := u.stream(ctx, k, f)
	if err != nil {
		return discard(err)
	}
	l, err := u.finish(ctx, k, entries, spool)
	if err != nil {
		return discard(err)
	}
	if u.opt.Cache != nil {
		r := &record{spoolSize: spool.Size(), hashID: u.hashID(), holes: spool.Holes(), entries: entries}
		if _, err := hex.Decode(r.diffID[:], []byte(hexOf(info.DiffID))); err != nil {
			return discard(err)
		}
		if spool, err = u.opt.Cache.putLayer(f, spool, info.DiffID, r); err != nil {
			return discard(classHost(fmt.Errorf("cache: %w", err)))
		}
	}
	if err := bind(entries, spool); err != nil {
		spool.Close()
		return nil, badImage(err)
	}
	u.img.state.add(spool)
	return l, nil
}

// hashID returns the name of the sums that are computed, or "" for none.
func (u *unpacker) hashID() string {
	if u.opt.FileHash == nil && u.opt.LinkHash == nil {
		return ""
	}
	return u.opt.HashID
}

// finish makes the layer of its entries.
func (u *unpacker) finish(ctx context.Context, k int, entries []entry, spool *content.Spool) (*Layer, error) {
	root, implied, err := buildTree(ctx, entries, u.budget.limits.Entries)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, fault.Default(fault.BadImage, err)
	}
	info := u.img.Layers[k]
	return &Layer{Digest: info.Digest, DiffID: info.DiffID, Size: spool.Size(), Tree: root, Implied: implied}, nil
}

// cached returns the layer from the cache, or nil.
func (u *unpacker) cached(ctx context.Context, k int) (*Layer, error) {
	info := u.img.Layers[k]
	c, err := u.opt.Cache.layer(ctx, info.DiffID)
	if c == nil || err != nil {
		return nil, err
	}
	l, err := u.reuse(ctx, k, c)
	if l == nil || err != nil {
		c.spool.Close()
		return nil, err
	}
	u.img.state.add(c.spool)
	u.progress(Event{Layer: k, Digest: info.Digest, Done: info.Size, Total: info.Size, Cached: true})
	return l, nil
}

func (u *unpacker) reuse(ctx context.Context, k int, c *cachedLayer) (*Layer, error) {
	// Limits do not depend on where a layer comes from.
	if err := u.budget.addBytes(c.spool.Size()); err != nil {
		return nil, err
	}
	if len(c.record.entries) > u.budget.limits.Entries {
		return nil, limitError("entries", "more than %d entries", u.budget.limits.Entries)
	}
	for k := range c.record.entries {
		if err := u.budget.addEntry(&c.record.entries[k]); err != nil {
			return nil, err
		}
	}
	l, err := u.finish(ctx, k, c.record.entries, c.spool)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, nil // it tells why when it is unpacked again
	}
	id := u.hashID()
	if id == c.record.hashID && (id != "" || u.opt.FileHash == nil && u.opt.LinkHash == nil) {
		return l, nil
	}
	if err := u.rehash(ctx, c.record.entries); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, nil
	}
	if id != "" {
		c.record.hashID = id
		_ = u.opt.Cache.putFile(u.opt.Cache.recordPath(l.DiffID), c.record.encode())
	}
	return l, nil
}

// rehash computes the sums of entries whose content can be read.
func (u *unpacker) rehash(ctx context.Context, entries []entry) error {
	buf := make([]byte, chunkSize)
	for k := range entries {
		i := entries[k].inode
		if i == nil {
			continue
		}
		i.Object = tree.Sum{}
		switch {
		case i.IsLink() && u.opt.LinkHash != nil:
			i.Object = u.opt.LinkHash(i)
		case i.IsFile() && u.opt.FileHash != nil:
			h := u.opt.FileHash(i)
			r := i.Content.Reader()
			for {
				if err := ctx.Err(); err != nil {
					return err
				}
				n, err := r.Read(buf)
				h.Write(buf[:n])
				if err == io.EOF {
					break
				}
				if err != nil {
					return err
				}
			}
			if err := setObject(i, h); err != nil {
				return err
			}
		}
	}
	return nil
}

func setObject(i *tree.Inode, h hash.Hash) error {
	if h.Size() != len(i.Object) {
		return fmt.Errorf("object hash of %d bytes, not %d", h.Size(), len(i.Object))
	}
	h.Sum(i.Object[:0])
	return nil
}
