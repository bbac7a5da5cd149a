package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/oci/internal/tar"
	"imgbuild/tree"
)

const (
	// chunkSize is the unit in bytes in which plain layers go from stage to
	// stage: a multiple of the grain of spools, and small enough for what is
	// hashed three times to stay in the processor's cache.
	chunkSize = 512 << 10
	// chunks is how many of them a layer has.
	chunks = 6
)

// stream unpacks the blob of layer k into f, in two stages that run at the same
// time: the first reads, verifies and decompresses, the second hashes, writes
// the spool, parses the tar and hashes its files. Both work on the same chunks.
func (u *unpacker) stream(ctx context.Context, k int, f *os.File) ([]entry, *content.Spool, error) {
	g, ctx := errgroup.WithContext(ctx)
	in := &inflater{
		u: u, k: k,
		full: make(chan []byte, chunks),
		free: make(chan []byte, chunks),
	}
	for range chunks {
		in.free <- make([]byte, chunkSize)
	}
	out := &layerReader{
		ctx: ctx, u: u, in: in, info: u.img.Layers[k],
		diff: sha256.New(), w: content.NewSpoolWriter(f),
	}
	out.limit = u.budget.layerBytes(out.info.Size)
	g.Go(func() error {
		defer close(in.full)
		in.err = in.run(ctx)
		return in.err
	})
	g.Go(func() error { return out.run() })
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	spool, err := out.w.Finish()
	if err != nil {
		return nil, nil, classHost(err)
	}
	return out.entries, spool, nil
}

// inflater is the first stage.
type inflater struct {
	u    *unpacker
	k    int
	full chan []byte // chunks with plain bytes, closed at the end
	free chan []byte
	err  error // of run, valid when full is closed
}

func (s *inflater) run(ctx context.Context) error {
	info := s.u.img.Layers[s.k]
	if src, ok := s.u.img.src.(plainSource); ok {
		return s.copyPlain(ctx, src, info)
	}
	blob, keep, err := s.u.openBlob(ctx, info)
	if err != nil {
		return err
	}
	v := newVerifier(blob, info.Digest, info.Size)
	var r io.Reader = v
	if keep != nil {
		r = io.TeeReader(v, keep)
	}
	err = s.inflate(ctx, r, v)
	if cerr := blob.Close(); err == nil {
		err = cerr
	}
	if keep != nil {
		err = keep.finish(err)
	}
	return err
}

// copyPlain passes a layer on that its source has in its plain form.
func (s *inflater) copyPlain(ctx context.Context, src plainSource, info LayerInfo) error {
	r, err := src.plain(ctx, s.k, info)
	if err != nil {
		return err
	}
	count := &countingReader{r: r}
	err = s.chunk(ctx, count, &count.n)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return err
}

// countingReader counts what is read of r.
type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// inflate decompresses r, which reads from v.
func (s *inflater) inflate(ctx context.Context, r io.Reader, v *verifier) error {
	plain, err := decompress(r)
	if err != nil {
		return s.damaged(ctx, v, err)
	}
	err = s.chunk(ctx, plain, &v.n)
	// A decoder may read ahead in a goroutine of its own, which ends here.
	if cerr := plain.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return s.damaged(ctx, v, err)
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

// chunk passes plain on in chunks. read is how much of its source was read, for
// the display of progress.
func (s *inflater) chunk(ctx context.Context, plain io.Reader, read *atomic.Int64) error {
	info := s.u.img.Layers[s.k]
	for {
		var buf []byte
		select {
		case buf = <-s.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		n, err := io.ReadFull(plain, buf[:chunkSize])
		s.u.progress(Event{Layer: s.k, Digest: info.Digest, Done: min(read.Load(), info.Size), Total: info.Size})
		if n > 0 {
			select {
			case s.full <- buf[:n]:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			// ReadFull says the latter for a last chunk that is short, and so
			// does a decoder whose input ends early: ask again.
			return ended(plain)
		default:
			return err
		}
	}
}

// ended returns nil when there is nothing left of r.
func ended(r io.Reader) error {
	var b [1]byte
	switch n, err := io.ReadFull(r, b[:]); {
	case n > 0:
		return errors.New("data behind the end of the stream")
	case err == io.EOF:
		return nil
	default:
		return err
	}
}

// damaged returns why a blob cannot be decompressed: its bytes are not what the
// manifest says, or else err.
func (s *inflater) damaged(ctx context.Context, v *verifier, err error) error {
	if errors.As(err, new(*fault.Error)) || ctx.Err() != nil {
		return err
	}
	if verr := v.drain(); verr != nil {
		return verr
	}
	return badImage(fmt.Errorf("decompress: %w", err))
}

// layerReader is the second stage, and the stream that its tar is read from.
type layerReader struct {
	ctx  context.Context // of the transfer, which is one call of stream
	u    *unpacker
	in   *inflater
	info LayerInfo

	diff  hash.Hash
	w     *content.SpoolWriter
	size  int64 // plain bytes so far
	limit int64
	last  []byte // the chunk that is being parsed
	fatal error  // of the stream, as against what is in it

	entries []entry
	alloc   slab
}

// Next implements tar.Stream.
func (s *layerReader) Next() ([]byte, error) {
	if s.fatal != nil {
		return nil, s.fatal
	}
	b, err := s.next()
	if err != nil && err != io.EOF {
		s.fatal = err
	}
	return b, err
}

func (s *layerReader) next() ([]byte, error) {
	if s.last != nil {
		s.in.free <- s.last // has room for all chunks
		s.last = nil
	}
	var b []byte
	var ok bool
	select {
	case b, ok = <-s.in.full:
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
	if !ok {
		if s.in.err != nil {
			return nil, s.in.err
		}
		return nil, io.EOF
	}
	s.last = b
	if err := s.u.budget.addBytes(int64(len(b))); err != nil {
		return nil, err
	}
	if s.size += int64(len(b)); s.size > s.limit {
		return nil, limitError(s.u.budget.layerLimit(s.limit), "%d bytes unpack to more than %d", s.info.Size, s.limit)
	}
	s.diff.Write(b)
	if _, err := s.w.Write(b); err != nil {
		return nil, classHost(err)
	}
	return b, nil
}

func (s *layerReader) run() error {
	r := tar.NewReader(s)
	err := s.parse(r)
	if s.fatal != nil {
		return s.fatal
	}
	if errors.Is(err, errLimit) || s.ctx.Err() != nil {
		return err
	}
	// Read on after an error: the cause may be that the blob or the layer is
	// not the right one.
	if derr := r.Drain(); derr != nil {
		return derr
	}
	if got := "sha256:" + hex.EncodeToString(s.diff.Sum(nil)); got != s.info.DiffID {
		return badImage(fmt.Errorf("unpacked layer does not match its diff_id %s: the content has %s", s.info.DiffID, got))
	}
	return fault.Default(fault.BadImage, err)
}

func (s *layerReader) parse(r *tar.Reader) error {
	limits := s.u.budget.limits
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if len(s.entries) == limits.Entries {
			return limitError("entries", "more than %d entries", limits.Entries)
		}
		e, err := newEntry(h, &s.alloc)
		if err != nil {
			return err
		}
		if err := s.u.budget.addEntry(&e); err != nil {
			return err
		}
		if h.Sparse {
			if err := s.u.budget.addBytes(h.Size - h.Stored); err != nil {
				return fmt.Errorf("entry %s: %w", clip("/"+e.path), err)
			}
		}
		if err := s.hash(r, h, e.inode); err != nil {
			return fmt.Errorf("entry %s: %w", clip("/"+e.path), err)
		}
		s.entries = append(s.entries, e)
	}
}

// hash computes the object checksum of an inode, for which it reads the content.
func (s *layerReader) hash(r *tar.Reader, h *tar.Header, i *tree.Inode) error {
	switch {
	case i == nil:
	case i.IsLink() && s.u.opt.LinkHash != nil:
		i.Object = s.u.opt.LinkHash(i)
	case i.IsFile() && s.u.opt.FileHash != nil:
		sum := s.u.opt.FileHash(i)
		var err error
		if h.Sparse {
			err = s.hashSparse(r, h, sum)
		} else {
			err = r.Content(func(b []byte) error { sum.Write(b); return nil })
		}
		if err != nil {
			return err
		}
		return setObject(i, sum)
	}
	return nil
}

// hashSparse writes a sparse file with its holes to the hash.
func (s *layerReader) hashSparse(r *tar.Reader, h *tar.Header, sum hash.Hash) error {
	segments := h.Data
	var pos, left int64 // left of the current segment
	// next moves on to the next segment, over the hole before it.
	next := func() error {
		end := h.Size
		if len(segments) > 0 {
			end, left = segments[0].Offset, segments[0].Length
			segments = segments[1:]
		}
		err := s.hashZeros(sum, end-pos)
		pos = end + left
		return err
	}
	err := r.Content(func(b []byte) error {
		for len(b) > 0 {
			if left == 0 {
				if err := next(); err != nil {
					return err
				}
			}
			n := int(min(int64(len(b)), left))
			sum.Write(b[:n])
			b, left = b[n:], left-int64(n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return next()
}

// zeros is what holes are hashed from.
var zeros [64 << 10]byte

func (s *layerReader) hashZeros(sum hash.Hash, n int64) error {
	for step := 0; n > 0; step++ {
		if step%64 == 0 && s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		k := min(n, int64(len(zeros)))
		sum.Write(zeros[:k])
		n -= k
	}
	return nil
}

// openBlob opens the blob of a layer: that of the cache if it has one, otherwise
// that of the source. keep, unless it is nil, takes what is read into the cache.
func (u *unpacker) openBlob(ctx context.Context, info LayerInfo) (blob io.ReadCloser, keep *keeper, err error) {
	src := u.img.src
	if u.opt.Cache == nil || src.local() {
		blob, err = src.blob(ctx, info.Digest, info.Size)
		return blob, nil, err
	}
	c := u.opt.Cache
	if f, err := c.openBlob(info.Digest, info.Size); err == nil {
		if checkFile(ctx, f, info) == nil {
			return f, nil, nil
		}
		f.Close()
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		_ = os.Remove(c.blobPath(info.Digest))
	}
	if blob, err = src.blob(ctx, info.Digest, info.Size); err != nil {
		return nil, nil, err
	}
	f, err := os.CreateTemp(c.tempDir(), "blob-*")
	if err != nil {
		blob.Close()
		return nil, nil, classHost(fmt.Errorf("cache: %w", err))
	}
	return blob, &keeper{c: c, f: f, digest: info.Digest}, nil
}

// checkFile reads a blob of the cache once to see that it is sound, and goes
// back to its start: once the second stage has begun it is too late for another
// one.
func checkFile(ctx context.Context, f *os.File, info LayerInfo) error {
	v := newVerifier(f, info.Digest, info.Size)
	buf := make([]byte, readBuffer)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := v.Read(buf); err == io.EOF {
			_, err = f.Seek(0, io.SeekStart)
			return err
		} else if err != nil {
			return err
		}
	}
}

// keeper writes a blob into the cache while it is read.
type keeper struct {
	c      *Cache
	f      *os.File
	digest string
}

func (k *keeper) Write(p []byte) (int, error) {
	n, err := k.f.Write(p)
	if err != nil {
		err = classHost(fmt.Errorf("cache: %w", err))
	}
	return n, err
}

// finish gives the blob its name, unless err says that it is not whole.
func (k *keeper) finish(err error) error {
	ferr := k.c.finish(k.f, k.c.blobPath(k.digest), err)
	if err == nil && ferr != nil {
		err = classHost(fmt.Errorf("cache: %w", ferr))
	}
	return err
}
