package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Verify reads all layers, keeps nothing, and returns how many bytes they have in
// plain form, which is what unpacking them takes. Every blob is checked against its
// digest and size, and every plain layer against its diff_id; of layers with one
// diff_id the first is read, as Unpack does. Of opt it takes what
// concerns reading: Progress and Limits.
func (i *Image) Verify(ctx context.Context, opt UnpackOptions) (plain int64, err error) {
	u := &unpacker{img: i, opt: opt}
	u.budget.limits = opt.Limits.withDefaults()
	seen := map[string]bool{}
	var total atomic.Int64
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for k, info := range i.Layers {
		if seen[info.DiffID] {
			continue
		}
		seen[info.DiffID] = true
		g.Go(func() error {
			n, err := u.verify(inner, k)
			total.Add(n)
			if err != nil {
				return fmt.Errorf("layer %d (%s): %w", k, info.Digest, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, fmt.Errorf("image %s: %w", i.Reference, err)
	}
	return total.Load(), nil
}

// verify reads layer k and returns its size in plain form.
func (u *unpacker) verify(ctx context.Context, k int) (int64, error) {
	in := &inflater{u: u, k: k, full: make(chan []byte, chunks), free: make(chan []byte, chunks)}
	for range chunks {
		in.free <- make([]byte, chunkSize)
	}
	info := u.img.Layers[k]
	limit := u.budget.layerBytes(info.Size)
	h := sha256.New()
	size := int64(0)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(in.full)
		in.err = in.run(ctx)
		return in.err
	})
	g.Go(func() error {
		for b := range in.full {
			if size += int64(len(b)); size > limit {
				return limitError(u.budget.layerLimit(limit), "more than %d bytes", limit)
			}
			h.Write(b)
			in.free <- b[:cap(b)]
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return 0, err
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != info.DiffID {
		return 0, badImage(fmt.Errorf("the plain layer is %s, and the image says %s", got, info.DiffID))
	}
	return size, nil
}
