package oci

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

var errPlain = errors.New("plain HTTP is only used for loopback registries")

// errIdle is why a silent connection was cut.
var errIdle = errors.New("the registry stopped sending")

const (
	// stallBytes have to come within the time that a registry may stay silent,
	// unless the answer is shorter: at the default of a minute that is 273
	// bytes a second, less than any use, and more than a drip that keeps a
	// connection alive.
	stallBytes = 16 << 10
	// maxAnswer bounds what is read of answers that are neither manifests nor
	// blobs: pings, tokens and errors.
	maxAnswer = 1 << 20
)

// guard is in front of the network. It refuses plain HTTP where it was not
// allowed, which go-containerregistry by itself falls back to for every private
// address, and answers that never end.
type guard struct {
	inner    http.RoundTripper
	insecure bool
	idle     time.Duration // 0 does not watch answers
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.insecure && !loopback(req.URL.Hostname()) {
		return nil, errPlain
	}
	if g.idle == 0 {
		return g.inner.RoundTrip(req)
	}
	ctx, cancel := context.WithCancel(req.Context())
	resp, err := g.inner.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	body := &watched{body: resp.Body, idle: g.idle, cancel: cancel, left: -1}
	first := req // of a chain of redirects
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	ok := resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent
	if path := first.URL.Path; !ok || !strings.Contains(path, "/blobs/") && !strings.Contains(path, "/manifests/") {
		body.left = maxAnswer
	}
	resp.Body = body
	// What was asked for is that of the caller, without our context.
	resp.Request = req
	return resp, nil
}

// watched is the body of an answer. It ends with an error when too little comes
// for a while. Only the time counts that the registry takes, not what the reader
// does in between.
type watched struct {
	body   io.ReadCloser
	idle   time.Duration
	cancel context.CancelFunc
	left   int64 // bytes that may still come; negative for any number

	waited time.Duration // for less than stallBytes
	since  int           // bytes that came in that time
	err    error         // sticks
}

func (w *watched) Read(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.left == 0 {
		w.err = errors.New("the registry's answer does not end")
		return 0, w.err
	}
	if w.left > 0 && int64(len(p)) > w.left {
		p = p[:w.left]
	}
	start := time.Now()
	t := time.AfterFunc(w.idle-w.waited, w.cancel)
	n, err := w.body.Read(p)
	inTime := t.Stop()
	w.waited += time.Since(start)
	if w.since += n; w.since >= stallBytes {
		w.since, w.waited = 0, 0
	}
	if w.left > 0 {
		w.left -= int64(n)
	}
	if (!inTime || w.waited >= w.idle) && err != io.EOF {
		err = errIdle
	}
	w.err = err
	return n, err
}

func (w *watched) Close() error {
	err := w.body.Close()
	w.cancel()
	return err
}

func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
