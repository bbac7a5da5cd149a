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
// seconds apart. Unlike there, waiting ends with the context. A registry that is
// asked too often, or that says when to come back, gets more of them: its limits
// count requests in a window of time.
const (
	attempts     = 3
	busyAttempts = 6
	firstDelay   = time.Second
	delayGrows   = 3
	maxDelay     = 30 * time.Second
	// maxRetryAfter is the longest that a registry can make us wait.
	maxRetryAfter = 2 * time.Minute
)

// retrier repeats requests that met a passing failure.
type retrier struct{ inner http.RoundTripper }

func (t *retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	delay := firstDelay
	for attempt := 1; ; attempt++ {
		resp, err := t.inner.RoundTrip(req)
		again := err != nil && passing(err) || err == nil && passingStatus(resp.StatusCode)
		most, wait := attempts, delay
		if err == nil && again {
			after, said := retryAfter(resp.Header.Get("Retry-After"), time.Now())
			if said || resp.StatusCode == http.StatusTooManyRequests {
				most = busyAttempts
			}
			if said {
				wait = max(firstDelay, after)
			}
		}
		if !again || attempt >= most || wait > maxRetryAfter || req.Body != nil && req.GetBody == nil {
			return resp, err
		}
		if err == nil {
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
			resp.Body.Close()
		}
		if err := sleep(req.Context(), wait); err != nil {
			return nil, err
		}
		delay = min(delay*delayGrows, maxDelay)
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

// retryAfter parses the header of this name, RFC 9110 section 10.2.3: seconds or
// a date.
func retryAfter(value string, now time.Time) (d time.Duration, ok bool) {
	if value == "" {
		return 0, false
	}
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(now)), true
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
	b.r = resp.Body
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
