package oci

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"imgbuild/fault"
)

// pushIdle is how many times longer than when something is read a registry may
// stay silent: it takes its time to check a blob that it has got.
const pushIdle = 5

// PushImage is an image to be pushed: its documents as they are, and where its
// layers can be read. Digests are not checked here, the registry does that.
type PushImage struct {
	Manifest  []byte
	MediaType string // of the manifest
	Config    []byte
	Layers    []PushLayer
}

// PushLayer is a layer to be pushed.
type PushLayer struct {
	Digest    string // "sha256:…"
	Size      int64  // in bytes
	MediaType string
	Content   io.ReaderAt // the layer from offset 0 on
}

// CheckPush returns an error when nothing can be pushed to ref: it is not in a
// registry, or names a digest.
func CheckPush(ref Reference) error {
	switch {
	case ref.transport != TransportRegistry:
		return fault.New(fault.Usage, fmt.Errorf("%s: not in a registry", ref), "name a repository, as in registry.example.com/vm:1")
	case ref.digest != "":
		return fault.New(fault.Usage, fmt.Errorf("%s: an image is pushed to a tag, not to a digest", ref), "")
	}
	return nil
}

// CheckPushAccess asks the registry whether it would take a push to ref. Errors
// are those of [Push].
func CheckPushAccess(ctx context.Context, ref Reference, opt Options) error {
	s, tag, err := openPush(ctx, ref, opt)
	if err != nil {
		return err
	}
	defer s.Close()
	// The one call that has no context.
	done := make(chan error, 1)
	go func() { done <- remote.CheckPushPermission(tag, s.auth, s.pushTransport(opt)) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return s.class(ctx, err)
	}
	return nil
}

// openPush returns the repository and the tag that ref names.
func openPush(ctx context.Context, ref Reference, opt Options) (*registrySource, name.Tag, error) {
	if err := CheckPush(ref); err != nil {
		return nil, name.Tag{}, err
	}
	source, err := openRegistry(ctx, ref, opt)
	if err != nil {
		return nil, name.Tag{}, err
	}
	s := source.(*registrySource)
	tag, err := name.NewTag(s.repo.Name()+":"+ref.tag, nameOptions(s.insecure)...)
	if err != nil {
		s.Close()
		return nil, name.Tag{}, fault.New(fault.Usage, err, "")
	}
	s.base.ResponseHeaderTimeout = pushIdle * s.idle
	s.base.DialContext = writeDeadlines(s.base.DialContext, pushIdle*s.idle)
	return s, tag, nil
}

// pushTransport returns what requests are sent by; they are repeated where
// go-containerregistry does that.
func (s *registrySource) pushTransport(opt Options) http.RoundTripper {
	return &guard{inner: s.base, insecure: s.insecure}
}

// Push puts the image into a registry under the tag of ref. What the registry has
// already is not sent. Progress, which may be nil, is called with steps that add
// up to the size of all layers; a step is negative where a layer has to be sent
// once more. Options.Arch and Cache are not used.
//
// Errors are of the class Auth when the registry refuses, otherwise of the class
// NotFound when it cannot be reached or fails.
func Push(ctx context.Context, ref Reference, image PushImage, opt Options, progress func(n int64)) error {
	s, tag, err := openPush(ctx, ref, opt)
	if err != nil {
		return err
	}
	defer s.Close()
	count := &counter{progress: progress}
	// go-containerregistry's own count is not used: it can go on when Write has
	// returned, on a channel that is closed then.
	defer count.stop()
	img, err := partial.CompressedToImage(&pushed{image, count})
	if err != nil {
		return err
	}
	err = remote.Write(tag, img, remote.WithContext(ctx), remote.WithAuthFromKeychain(s.auth), remote.WithUserAgent(opt.UserAgent),
		remote.WithTransport(s.pushTransport(opt)))
	if err != nil {
		return s.class(ctx, fmt.Errorf("push: %w", err))
	}
	total := int64(0)
	for _, l := range image.Layers {
		total += l.Size
	}
	count.add(total - count.sent()) // what was there already
	return nil
}

func nameOptions(insecure bool) []name.Option {
	if insecure {
		return []name.Option{name.Insecure}
	}
	return nil
}

// writeDeadlines returns a dialer of connections that break when nothing can be
// sent for a while.
func writeDeadlines(dial func(context.Context, string, string) (net.Conn, error), idle time.Duration) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &deadlineConn{c, idle}, nil
	}
}

type deadlineConn struct {
	net.Conn
	idle time.Duration
}

var _ net.Conn = (*deadlineConn)(nil)

func (c *deadlineConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// counter counts the bytes of layers that were sent.
type counter struct {
	mu       sync.Mutex
	n        int64
	progress func(n int64)
}

func (c *counter) add(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
	if c.progress != nil && n != 0 {
		c.progress(n)
	}
}

func (c *counter) sent() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *counter) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress = nil
}

// pushed is the image as go-containerregistry takes it.
type pushed struct {
	PushImage
	count *counter
}

var _ partial.CompressedImageCore = (*pushed)(nil)

func (p *pushed) RawConfigFile() ([]byte, error) { return p.Config, nil }
func (p *pushed) RawManifest() ([]byte, error)   { return p.Manifest, nil }

func (p *pushed) MediaType() (types.MediaType, error) {
	return types.MediaType(p.PushImage.MediaType), nil
}

func (p *pushed) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, l := range p.Layers {
		if l.Digest == h.String() {
			return &pushedLayer{PushLayer: l, count: p.count}, nil
		}
	}
	return partial.ConfigLayer(p)
}

type pushedLayer struct {
	PushLayer
	count *counter
}

var _ partial.CompressedLayer = (*pushedLayer)(nil)

func (l *pushedLayer) Digest() (v1.Hash, error) { return v1.NewHash(l.PushLayer.Digest) }
func (l *pushedLayer) Size() (int64, error)     { return l.PushLayer.Size, nil }

func (l *pushedLayer) MediaType() (types.MediaType, error) {
	return types.MediaType(l.PushLayer.MediaType), nil
}

// Compressed is called again when the layer has to be sent once more.
func (l *pushedLayer) Compressed() (io.ReadCloser, error) {
	return &countedReader{r: io.NewSectionReader(l.Content, 0, l.PushLayer.Size), count: l.count}, nil
}

// countedReader counts what is read, and forgets it when it was not all.
type countedReader struct {
	r     *io.SectionReader
	count *counter
	mu    sync.Mutex
	n     int64
}

var _ io.ReadCloser = (*countedReader)(nil)

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.mu.Lock()
	c.n += int64(n)
	c.mu.Unlock()
	c.count.add(int64(n))
	return n, err
}

func (c *countedReader) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n < c.r.Size() {
		c.count.add(-c.n)
		c.n = 0
	}
	return nil
}
