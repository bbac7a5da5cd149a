package oci

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"imgbuild/fault"
)

// defaultIdle is how long a registry may stay silent.
const defaultIdle = time.Minute

// registrySource is a repository of a registry, distribution specification 1.1.
//
// The handshake, tokens and the meaning of errors are those of
// go-containerregistry. Blobs are fetched here: a stream that breaks off is
// taken up where it ended, and its bytes are hashed once.
type registrySource struct {
	ref    Reference
	host   string // host[:port], that of a mirror where it is one
	path   string // of the repository there
	agent  string // User-Agent
	repo   name.Repository
	base   *http.Transport
	idle   time.Duration
	cache  *Cache
	client *http.Client

	insecure bool
	offline  bool // nothing is asked

	// The handshake is made when it is first needed: a pinned image that is in
	// the cache needs none.
	rt    http.RoundTripper
	auth  authn.Keychain
	mu    sync.Mutex
	ready bool
}

// openRegistry opens the registry of a reference, without its mirrors.
func openRegistry(ctx context.Context, ref Reference, opt Options) (source, error) {
	list, err := endpoints(ref, opt)
	if err != nil {
		return nil, err
	}
	return openEndpoint(ctx, ref, list[len(list)-1], opt)
}

// openEndpoint opens a place where the image of ref can be.
func openEndpoint(_ context.Context, ref Reference, at endpoint, opt Options) (*registrySource, error) {
	opt.Insecure = opt.Insecure || at.insecure
	var opts []name.Option
	if opt.Insecure {
		opts = append(opts, name.Insecure)
	}
	host := at.host
	if host == defaultRegistry {
		host = name.DefaultRegistry
	}
	repo, err := name.NewRepository(host+"/"+at.path, opts...)
	if err != nil {
		return nil, fault.New(fault.Usage, err, "")
	}
	s := &registrySource{ref: ref, host: at.host, path: at.path, agent: opt.UserAgent, repo: repo, insecure: opt.Insecure, idle: opt.IdleTimeout, cache: opt.Cache, offline: opt.Pull == PullNever}
	if s.idle == 0 {
		s.idle = defaultIdle
	}
	if at.mirror {
		opt.Creds, opt.RegistryToken = "", ""
	}
	s.auth, err = newKeychain(opt)
	if err != nil {
		return nil, err
	}
	config, err := tlsConfig(at.host, opt.Insecure, opt)
	if err != nil {
		return nil, err
	}
	s.base = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		TLSClientConfig:       config,
		ResponseHeaderTimeout: s.idle,
		ExpectContinueTimeout: time.Second,
		// Blobs are compressed already, and are hashed as they are.
		DisableCompression: true,
	}
	s.rt = transport.NewUserAgent(&retrier{&guard{inner: s.base, insecure: opt.Insecure, idle: s.idle}}, opt.UserAgent)
	return s, nil
}

func (s *registrySource) local() bool { return false }

func (s *registrySource) Close() error {
	s.base.CloseIdleConnections()
	return nil
}

// connect makes the handshake with the registry.
func (s *registrySource) connect(ctx context.Context) (*http.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		return s.client, nil
	}
	auth, err := authn.Resolve(ctx, s.auth, s.repo)
	if err != nil {
		return nil, fault.Default(fault.Auth, fmt.Errorf("credentials for %s: %w", s.host, err))
	}
	rt, err := transport.NewWithContext(ctx, s.repo.Registry, auth, s.rt, []string{s.repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, s.class(ctx, err)
	}
	s.client, s.ready = &http.Client{Transport: rt, CheckRedirect: checkRedirect}, true
	return s.client, nil
}

// get requests a path of the repository. Any status but those of the want list
// is an error.
func (s *registrySource) get(ctx context.Context, path string, header http.Header, want ...int) (*http.Response, error) {
	return s.ask(ctx, path, "", header, want...)
}

// ask is get with a query.
func (s *registrySource) ask(ctx context.Context, path, query string, header http.Header, want ...int) (*http.Response, error) {
	if s.offline {
		return nil, fault.New(fault.NotFound, errors.New("is not in the cache, and nothing may be pulled"), "--pull missing asks the registry for it")
	}
	client, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: s.repo.Scheme(), Host: s.repo.RegistryStr(), Path: "/v2/" + s.repo.RepositoryStr() + "/" + path, RawQuery: query}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, s.class(ctx, err)
	}
	if err := transport.CheckError(resp, want...); err != nil {
		resp.Body.Close()
		return nil, s.class(ctx, err)
	}
	return resp, nil
}

var acceptManifests = []string{mediaManifest, mediaIndex, mediaDockerManifest, mediaDockerList}

func (s *registrySource) root(ctx context.Context) ([]byte, string, error) {
	id := s.ref.digest
	if id == "" {
		id = s.ref.tag
	} else if s.cache != nil {
		if raw := s.cache.document(id, maxManifest); raw != nil {
			return raw, "", nil
		}
	}
	raw, mediaType, err := s.manifest(ctx, id, maxManifest)
	if err != nil {
		return nil, "", err
	}
	if s.ref.digest != "" {
		if got := sum(raw); got != s.ref.digest {
			return nil, "", badImage(fmt.Errorf("the manifest does not match its digest: the content has %s", got))
		}
		if s.cache != nil {
			// A cache that cannot be written costs time, not the build.
			_ = s.cache.putDocument(s.ref.digest, raw)
		}
	}
	return raw, mediaType, nil
}

func (s *registrySource) manifest(ctx context.Context, id string, limit int64) ([]byte, string, error) {
	resp, err := s.get(ctx, "manifests/"+id, http.Header{"Accept": {strings.Join(acceptManifests, ", ")}}, http.StatusOK)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	raw, err := readLimited(resp.Body, "manifest", limit)
	if err != nil {
		return nil, "", s.class(ctx, err)
	}
	mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return raw, mediaType, nil
}

func (s *registrySource) document(ctx context.Context, d descriptor, limit int64) ([]byte, error) {
	switch d.MediaType {
	case mediaIndex, mediaManifest, mediaDockerList, mediaDockerManifest:
		raw, _, err := s.manifest(ctx, d.Digest, limit)
		return raw, err
	}
	r, err := s.blob(ctx, d.Digest, d.Size)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := readLimited(r, "blob", limit)
	if err != nil {
		return nil, s.class(ctx, err)
	}
	return raw, nil
}

func (s *registrySource) blob(ctx context.Context, digest string, size int64) (io.ReadCloser, error) {
	b := &remoteBlob{ctx: ctx, src: s, digest: digest, size: size}
	if err := b.connect(); err != nil {
		return nil, err
	}
	return b, nil
}

// class gives an error of the network or the registry its class.
func (s *registrySource) class(ctx context.Context, err error) error {
	if cerr := ctx.Err(); cerr != nil {
		return cerr
	}
	if errors.As(err, new(*fault.Error)) {
		return err
	}
	host := s.host
	var te *transport.Error
	var cert *tls.CertificateVerificationError
	switch {
	// A loopback registry is asked over plain HTTP too; what that says of a
	// port with TLS is not the point.
	case errors.As(err, &cert):
		return fault.New(fault.NotFound, fmt.Errorf("registry %s: %w", host, err),
			"if the registry can be trusted without a certificate, use --tls-verify=false")
	case errors.As(err, &te):
		return classStatus(host, te, err)
	case errors.Is(err, errPlain), errors.Is(err, http.ErrSchemeMismatch):
		return fault.New(fault.NotFound, fmt.Errorf("registry %s: %w", host, err),
			"a registry without TLS needs --tls-verify=false")
	}
	return fault.New(fault.NotFound, fmt.Errorf("registry %s: %w", host, err), "")
}

func classStatus(host string, te *transport.Error, err error) error {
	err = fmt.Errorf("registry %s: %w", host, err)
	denied := te.StatusCode == http.StatusUnauthorized || te.StatusCode == http.StatusForbidden
	for _, d := range te.Errors {
		switch d.Code {
		case transport.UnauthorizedErrorCode, transport.DeniedErrorCode:
			denied = true
		}
	}
	if denied {
		// Registries also answer so for a repository that does not exist.
		return fault.New(fault.Auth, err, "check the name, or log in with: podman login "+host)
	}
	return fault.New(fault.NotFound, err, "")
}

// checkRedirect keeps a registry from sending us to what only this machine can
// reach, as go-containerregistry does.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	from, to := via[0].URL.Hostname(), req.URL.Hostname()
	ip, err := netip.ParseAddr(to)
	if from != to && err == nil && (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()) && !loopback(from) {
		return fmt.Errorf("redirect from %s to the private address %s refused", from, to)
	}
	return nil
}
