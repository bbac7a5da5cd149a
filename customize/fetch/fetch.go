// Package fetch gets the content of files that a configuration names by URI: local
// ones, and those that https serves.
package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"imgbuild/content"
	"imgbuild/fault"
)

const (
	// DefaultLimit is the largest content in bytes.
	DefaultLimit = 1 << 30
	// inMemory is the largest content that is not put into a file.
	inMemory = 1 << 20
	// maxRedirects is the number that is followed, as curl and Go have it.
	maxRedirects = 10
	// attempts is how often a server is asked that does not answer or is overloaded.
	attempts = 3
	// silence is how long a server may send nothing.
	silence = time.Minute
)

// Source fetches what file: and https: URIs name. Its content is there until it is
// closed. The zero value is ready for use; it is not safe for concurrent use.
type Source struct {
	// Dir is where content is kept that is too large for memory, by default the
	// system's directory for temporary files.
	Dir string
	// Transport does the requests, by default one that heeds the proxy settings of
	// the environment.
	Transport http.RoundTripper
	// Limit is the largest content in bytes, DefaultLimit by default.
	Limit int64
	// Silence is how long a server may send nothing, a minute by default.
	Silence time.Duration
	// Pause is the time before the second request to a server that fails, a second
	// by default. It doubles before the third.
	Pause time.Duration

	kept []*os.File
}

// Close removes what was kept.
func (s *Source) Close() error {
	var errs []error
	for _, f := range s.kept {
		errs = append(errs, f.Close(), os.Remove(f.Name()))
	}
	s.kept = nil
	return errors.Join(errs...)
}

// Fetch returns the content and, of a local file, its permissions. Where sum is
// given, the content has that SHA-256.
func (s *Source) Fetch(ctx context.Context, uri, sum string) (content.Ref, uint32, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return content.Ref{}, 0, fault.New(fault.Usage, errors.New("not a URI"), "")
	}
	switch u.Scheme {
	case "", "file":
		return s.local(ctx, u.Path, sum)
	case "https":
		ref, err := s.remote(ctx, u, sum)
		return ref, 0, err
	}
	return content.Ref{}, 0, fault.New(fault.Usage, fmt.Errorf("%s: the scheme is not supported", u.Redacted()), "file:// and https:// are")
}

func (s *Source) limit() int64 {
	if s.Limit > 0 {
		return s.Limit
	}
	return DefaultLimit
}

// local copies a file, which may change while the image is built.
func (s *Source) local(ctx context.Context, name, sum string) (content.Ref, uint32, error) {
	name = filepath.FromSlash(name)
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(name)
	}
	if err != nil {
		return content.Ref{}, 0, fault.New(fault.Usage, err, "the file is read where imgbuild runs, so inside of a container it has to be mounted")
	}
	defer f.Close()
	ref, err := s.keep(ctx, f, info.Size(), sum)
	if err != nil {
		return content.Ref{}, 0, fmt.Errorf("%s: %w", name, err)
	}
	return ref, uint32(info.Mode().Perm()), nil
}

// keep reads content, of a size if that is known and else -1, and checks it.
func (s *Source) keep(ctx context.Context, r io.Reader, size int64, sum string) (content.Ref, error) {
	limit := s.limit()
	if size > limit {
		return content.Ref{}, s.tooLarge()
	}
	hash := sha256.New()
	r = io.TeeReader(io.LimitReader(contextReader{ctx, r}, limit+1), hash)
	var head bytes.Buffer
	n, err := io.CopyN(&head, r, inMemory+1)
	if err != nil && !errors.Is(err, io.EOF) {
		return content.Ref{}, err
	}
	ref := content.Bytes(head.Bytes())
	if n > inMemory {
		if ref, n, err = s.spool(io.MultiReader(&head, r)); err != nil {
			return content.Ref{}, err
		}
	}
	if n > limit {
		return content.Ref{}, s.tooLarge()
	}
	if size >= 0 && n != size {
		return content.Ref{}, fmt.Errorf("%d bytes instead of %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); sum != "" && !strings.EqualFold(got, sum) {
		return content.Ref{}, fault.New(fault.Usage, fmt.Errorf("its sha256 is %s", got), "either the content or the sha256 in the configuration is out of date")
	}
	return ref, nil
}

// spool writes content to a file.
func (s *Source) spool(r io.Reader) (content.Ref, int64, error) {
	f, err := os.CreateTemp(s.Dir, "imgbuild-file-")
	if err != nil {
		return content.Ref{}, 0, fault.New(fault.Output, err, "")
	}
	s.kept = append(s.kept, f)
	n, err := io.Copy(f, r)
	if err != nil {
		return content.Ref{}, 0, err
	}
	return content.NewRef(f, 0, n), n, nil
}

func (s *Source) tooLarge() error {
	return fault.New(fault.Usage, fmt.Errorf("more than %d bytes", s.limit()), "what is as large belongs into the image: COPY FILE PATH in the Containerfile")
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// errTemporary marks what may go well another time.
var errTemporary = errors.New("the server cannot answer now")

// remote asks a server, several times if need be.
func (s *Source) remote(ctx context.Context, u *url.URL, sum string) (ref content.Ref, err error) {
	pause := s.Pause
	if pause == 0 {
		pause = time.Second
	}
	for k := range attempts {
		if k > 0 {
			select {
			case <-ctx.Done():
				return content.Ref{}, context.Cause(ctx)
			case <-time.After(pause << (k - 1)):
			}
		}
		ref, err = s.request(ctx, u, sum)
		if err == nil || ctx.Err() != nil || !errors.Is(err, errTemporary) {
			break
		}
	}
	if err != nil {
		return content.Ref{}, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	return ref, nil
}

// request does one request.
func (s *Source) request(ctx context.Context, u *url.URL, sum string) (content.Ref, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := s.Silence
	if limit == 0 {
		limit = silence
	}
	timer := time.AfterFunc(limit, func() { cancel(fmt.Errorf("nothing came for %v: %w", limit, errTemporary)) })
	defer timer.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return content.Ref{}, fault.New(fault.Usage, errors.New("not a URI"), "")
	}
	req.Header.Set("User-Agent", "imgbuild")
	req.Header.Set("Accept-Encoding", "identity") // the digest is that of the file
	client := http.Client{Transport: s.Transport, CheckRedirect: checkRedirect}
	if client.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		defer t.CloseIdleConnections()
		client.Transport = t
	}
	resp, err := client.Do(req)
	if err != nil {
		return content.Ref{}, requestError(ctx, err)
	}
	defer resp.Body.Close()
	if err := statusError(resp.StatusCode); err != nil {
		return content.Ref{}, err
	}
	ref, err := s.keep(ctx, progress{resp.Body, func() { timer.Reset(limit) }}, resp.ContentLength, sum)
	if err != nil && fault.ClassOf(err) == fault.Internal {
		return content.Ref{}, requestError(ctx, err)
	}
	return ref, err
}

// progress calls a function whenever something was read.
type progress struct {
	r    io.Reader
	some func()
}

func (p progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.some()
	}
	return n, err
}

// errRedirect is a redirection that is not followed.
type errRedirect struct{ why string }

func (e errRedirect) Error() string { return e.why }

// checkRedirect follows redirections to https only.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if req.URL.Scheme != "https" {
		return errRedirect{"the server redirects to " + req.URL.Redacted() + ", which is not https"}
	}
	if len(via) > maxRedirects {
		return errRedirect{fmt.Sprintf("more than %d redirections", maxRedirects)}
	}
	return nil
}

// requestError classes what kept a request from its answer.
func requestError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, errTemporary) {
			return fault.New(fault.NotFound, cause, "")
		}
		return cause
	}
	var redirect errRedirect
	if errors.As(err, &redirect) {
		return fault.New(fault.NotFound, redirect, "give the address that it redirects to, with https")
	}
	var why *url.Error
	if errors.As(err, &why) {
		err = why.Err // the address is said once, and without a password
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return fault.New(fault.Output, err, "")
	}
	return fault.New(fault.NotFound, fmt.Errorf("%w: %w", errTemporary, err), "")
}

// statusError returns the error of an HTTP status.
func statusError(status int) error {
	said := fmt.Errorf("the server answers %d %s", status, http.StatusText(status))
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fault.New(fault.Auth, said, "")
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500:
		return fault.New(fault.NotFound, fmt.Errorf("%w: %w", said, errTemporary), "")
	}
	return fault.New(fault.NotFound, said, "")
}
