package oci

import (
	"context"
	"fmt"
	"io"
)

// PlainOnly tells whether the source has the layers in their plain form only, so
// that the blobs that the manifest names are nowhere.
func (i *Image) PlainOnly() bool {
	_, ok := i.src.(plainSource)
	return ok
}

// OpenBlob opens layer k to be copied: the blob as the manifest names it, or the
// plain tar where the source is [Image.PlainOnly]. What is read is verified, a blob
// by its digest and size: a mismatch is an error in place of io.EOF. The plain form
// is for the caller to verify by LayerInfo.DiffID. cache may be nil.
func (i *Image) OpenBlob(ctx context.Context, k int, cache *Cache) (io.ReadCloser, error) {
	info := i.Layers[k]
	if src, ok := i.src.(plainSource); ok {
		return src.plain(ctx, k, info)
	}
	var blob io.ReadCloser
	if cache != nil && !i.src.local() {
		if f, err := cache.openBlob(info.Digest, info.Size); err == nil {
			blob = f
		}
	}
	if blob == nil {
		var err error
		if blob, err = i.src.blob(ctx, info.Digest, info.Size); err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", k, info.Digest, err)
		}
	}
	return &verifiedBlob{newVerifier(blob, info.Digest, info.Size), blob, k, info.Digest}, nil
}

// verifiedBlob names the layer in errors, and ends with an error where the blob is
// not what its digest says.
type verifiedBlob struct {
	v      *verifier
	blob   io.Closer
	layer  int
	digest string
}

func (b *verifiedBlob) Read(p []byte) (int, error) {
	n, err := b.v.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("layer %d (%s): %w", b.layer, b.digest, err)
	}
	return n, err
}

func (b *verifiedBlob) Close() error { return b.blob.Close() }
