package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Retries are those of go-containerregistry: three attempts, a second and three
// seconds apart. Unlike there, waiting ends with the context.
const (
	attempts   = 3
	firstDelay = time.Second
	delayGrows = 3
)

// retrier repeats requests that met a passing failure.
type retrier struct{ inner http.RoundTripper }

func (t *retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	delay := firstDelay
	for attempt := 1; ; attempt++ {
		resp, err := t.inner.RoundTrip(req)
		again := err != nil && passing(err) || err == nil && passingStatus(resp.StatusCode)
		if !again || attempt == attempts || req.Body != nil && req.GetBody == nil {
			return resp, err
		}
		if err == nil {
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
			resp.Body.Close()
		}
		if err := sleep(req.Context(), delay); err != nil {
			return nil, err
		}
		delay *= delayGrows
		if req.Body != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			req = req.Clone(req.Context())
			req.Body = body
		}
	}
}

func passing(err error) bool {
	var ne net.Error
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) ||
		errors.As(err, &ne) && ne.Timeout()
}

func passingStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		499, // nginx: the client closed the request
		522: // Cloudflare: the connection timed out
		return true
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errIdle is why a silent connection was cut.
var errIdle = errors.New("the registry stopped sending")

// idleReader cuts the connection when nothing comes for a while.
type idleReader struct {
	r      io.Reader
	idle   time.Duration
	cancel context.CancelFunc
}

func (r *idleReader) Read(p []byte) (int, error) {
	t := time.AfterFunc(r.idle, r.cancel)
	n, err := r.r.Read(p)
	if !t.Stop() && err != nil && err != io.EOF {
		err = errIdle
	}
	return n, err
}

// maxResumes is how often a blob is taken up again after it broke off.
const maxResumes = 3

// remoteBlob streams a blob. When the connection breaks it asks for the rest.
type remoteBlob struct {
	ctx     context.Context // of the whole transfer, which is one call of Unpack
	src     *registrySource
	digest  string
	size    int64 // in bytes, by the descriptor
	pos     int64
	resumes int

	body   io.Closer
	r      io.Reader
	cancel context.CancelFunc
}

// connect requests the blob from pos on.
func (b *remoteBlob) connect() error {
	ctx, cancel := context.WithCancel(b.ctx)
	header := http.Header{}
	if b.pos > 0 {
		header.Set("Range", "bytes="+strconv.FormatInt(b.pos, 10)+"-")
	}
	resp, err := b.src.get(ctx, "blobs/"+b.digest, header, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		cancel()
		return err
	}
	b.body, b.cancel = resp.Body, cancel
	b.r = &idleReader{r: resp.Body, idle: b.src.idle, cancel: cancel}
	from := int64(0)
	if resp.StatusCode == http.StatusPartialContent {
		from = b.pos
		if got := resp.Header.Get("Content-Range"); !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", from)) {
			b.hangUp()
			return badImage(fmt.Errorf("asked for bytes from %d on, the registry sent %s", from, clip(got)))
		}
	} else if n := resp.ContentLength; n >= 0 && n != b.size {
		b.hangUp()
		return badImage(fmt.Errorf("the registry has %d bytes, the manifest says %d", n, b.size))
	}
	// A registry that cannot send a range sends all.
	if _, err := io.CopyN(io.Discard, b.r, b.pos-from); err != nil {
		b.hangUp()
		return b.src.class(b.ctx, noEOF(err))
	}
	return nil
}

func (b *remoteBlob) hangUp() {
	b.cancel()
	b.body.Close()
}

func (b *remoteBlob) Read(p []byte) (int, error) {
	for {
		n, err := b.r.Read(p)
		b.pos += int64(n)
		if err == io.EOF && b.pos < b.size {
			err = io.ErrUnexpectedEOF
		}
		if n > 0 || err == nil {
			return n, nil
		}
		if err == io.EOF {
			return 0, io.EOF
		}
		if b.ctx.Err() != nil {
			return 0, b.ctx.Err()
		}
		if b.resumes == maxResumes {
			return 0, b.src.class(b.ctx, fmt.Errorf("after %d of %d bytes: %w", b.pos, b.size, err))
		}
		b.resumes++
		b.hangUp()
		if err := sleep(b.ctx, firstDelay/4); err != nil {
			return 0, err
		}
		if err := b.connect(); err != nil {
			return 0, err
		}
	}
}

func (b *remoteBlob) Close() error {
	b.hangUp()
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
