package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"imgbuild/fault"
	"imgbuild/oci/internal/registries"
	"imgbuild/trust"
)

// endpoint is a place where the image of a reference can be.
type endpoint struct {
	host, path string
	insecure   bool
	mirror     bool
}

// loadRegistries reads the registries.conf that the options name.
func loadRegistries(opt Options) (*registries.Config, error) {
	paths := registries.Find(opt.RegistriesConf, registries.Env{
		Getenv: opt.Getenv, Home: opt.Home, Root: opt.root, System: isRoot(),
	})
	if paths.File == "" {
		paths.Required = false
	}
	c, err := registries.Load(paths)
	if err != nil {
		class := fault.Config
		if opt.RegistriesConf != "" && paths.Required && errors.Is(err, fs.ErrNotExist) {
			class = fault.Usage
		}
		return nil, fault.New(class, fmt.Errorf("registries.conf: %w", err), "")
	}
	return c, nil
}

// endpoints returns where to look for an image in turn: mirrors first, the
// registry itself last.
func endpoints(ref Reference, opt Options) ([]endpoint, error) {
	config, err := loadRegistries(opt)
	if err != nil {
		return nil, err
	}
	sources, err := config.Sources(ref.registry+"/"+ref.place, ref.digest != "")
	var blocked *registries.BlockedError
	if errors.As(err, &blocked) {
		return nil, fault.New(fault.NotFound, fmt.Errorf("image %s: %w", ref, err), "another one can be named with --registries-conf")
	} else if err != nil {
		return nil, err
	}
	var list []endpoint
	for _, s := range sources {
		host, path, _ := strings.Cut(s.Name, "/")
		if !reHost.MatchString(host) || !reRepo.MatchString(path) {
			return nil, fault.New(fault.Config, fmt.Errorf("registries.conf: %s becomes %s, which is not a registry and a repository", ref, clip(s.Name)), "")
		}
		list = append(list, endpoint{host, path, s.Insecure, s.Mirror})
	}
	return list, nil
}

// openNamed opens the image of a name in a registry: in the local store, in the
// cache, in a mirror or in the registry, by the policy of the options.
func openNamed(ctx context.Context, ref Reference, opt Options) (source, error) {
	var missed error // why the local store is not it
	if opt.local(ref) {
		src, err := openStorage(ctx, ref, opt)
		if err == nil {
			return src, nil
		}
		if fault.ClassOf(err) != fault.NotFound {
			return nil, err
		}
		missed = err
	}
	list, err := endpoints(ref, opt)
	if err != nil {
		return nil, err
	}
	m := &mirrored{ref: ref, cache: opt.Cache, missed: missed}
	m.places = sync.OnceValues(func() (*trust.Places, error) { return trust.LoadPlaces(opt.RegistriesD, trustEnv(opt)) })
	m.remember = opt.Pull == PullMissing || opt.Pull == PullNever
	m.offline = opt.Pull == PullNever
	for _, at := range list {
		s, err := openEndpoint(ctx, ref, at, opt)
		if err != nil {
			m.Close()
			return nil, err
		}
		m.list = append(m.list, s)
	}
	return m, nil
}

// mirrored is an image in a registry that may have mirrors. The first that has
// the manifest is taken; what a mirror does not have after all comes from the
// registry itself.
type mirrored struct {
	ref      Reference
	cache    *Cache
	list     []*registrySource
	chosen   atomic.Int32
	remember bool // the cache may say what the name stands for
	offline  bool
	missed   error // why the local store was not it, or nil
	places   func() (*trust.Places, error)
}

func (m *mirrored) local() bool { return false }

func (m *mirrored) Close() error {
	for _, s := range m.list {
		s.Close()
	}
	return nil
}

func (m *mirrored) root(ctx context.Context) ([]byte, string, error) {
	if m.cache != nil && m.remember {
		if raw, mediaType := m.cache.root(m.ref); raw != nil {
			return raw, mediaType, nil
		}
	}
	var errs []error
	if m.missed != nil {
		errs = append(errs, m.missed)
	}
	if m.offline {
		return nil, "", fault.New(fault.NotFound, errors.Join(append(errs, errors.New("is not in the cache, and nothing may be pulled"))...),
			"--pull missing asks the registry, and imgbuild pull fills the cache")
	}
	for i, s := range m.list {
		raw, mediaType, err := s.root(ctx)
		if err == nil {
			m.chosen.Store(int32(i))
			if m.cache != nil {
				// A cache that cannot be written costs time, not the build.
				_ = m.cache.putRef(m.ref, raw, mediaType)
			}
			return raw, mediaType, nil
		}
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
		errs = append(errs, err)
	}
	last := errs[len(errs)-1]
	if len(errs) == 1 {
		return nil, "", last
	}
	return nil, "", fault.New(fault.ClassOf(last), joined(errs), fault.HintOf(last))
}

// joined is several errors in one line.
type joined []error

func (j joined) Error() string {
	var list []string
	for _, err := range j {
		list = append(list, err.Error())
	}
	return strings.Join(list, "; ")
}

func (j joined) Unwrap() []error { return j }

// document returns a document of the place that had the manifest, or else of the
// registry itself.
func (m *mirrored) document(ctx context.Context, d descriptor, limit int64) ([]byte, error) {
	s := m.list[m.chosen.Load()]
	raw, err := s.document(ctx, d, limit)
	if next := m.fallback(ctx, s, err); next != nil {
		return next.document(ctx, d, limit)
	}
	return raw, err
}

func (m *mirrored) blob(ctx context.Context, digest string, size int64) (io.ReadCloser, error) {
	s := m.list[m.chosen.Load()]
	r, err := s.blob(ctx, digest, size)
	if next := m.fallback(ctx, s, err); next != nil {
		return next.blob(ctx, digest, size)
	}
	return r, err
}

// fallback returns the registry itself where a mirror failed.
func (m *mirrored) fallback(ctx context.Context, failed *registrySource, err error) *registrySource {
	last := m.list[len(m.list)-1]
	if err == nil || failed == last || ctx.Err() != nil || m.offline {
		return nil
	}
	return last
}

// Find parses an image reference as users type it: as [ParseReference] does, but
// a name without a registry is looked up as Podman does. It is an image of the
// local store where that is asked, or what registries.conf makes of it: an alias,
// or the name in one of the registries to search. Only where these leave several
// choices are they asked for the image. Without any of this it is one of Docker
// Hub.
func Find(ctx context.Context, text string, opt Options) (Reference, error) {
	ref, err := ParseReference(text)
	if err != nil || ref.transport != TransportRegistry || strings.HasPrefix(text, "docker://") || !registries.IsShort(text) {
		return ref, err
	}
	config, err := loadRegistries(opt)
	if err != nil {
		return Reference{}, err
	}
	names, alias := config.Candidates(text)
	if opt.local(ref) {
		for _, name := range append([]string{"localhost/" + text}, names...) {
			r, err := ParseReference(name)
			if err == nil && inStorage(ctx, r, opt) {
				return r, nil
			}
		}
	}
	var refs []Reference
	for _, name := range names {
		r, err := ParseReference(name)
		if err != nil {
			return Reference{}, fault.New(fault.Config, fmt.Errorf("registries.conf: short name %s: %w", clip(text), err), "")
		}
		refs = append(refs, r)
	}
	switch {
	case len(refs) == 0:
		return ref, nil
	case alias || len(refs) == 1:
		return refs[0], nil
	case config.Mode == registries.Enforcing:
		return Reference{}, fault.New(fault.Usage, fmt.Errorf("short name %s: can stand for %s, and short-name-mode is enforcing", clip(text), clipList(names)),
			"write the registry, too")
	}
	var errs []error
	for _, r := range refs {
		img, err := Open(ctx, r, opt)
		if err == nil {
			img.Close()
			return r, nil
		}
		if ctx.Err() != nil {
			return Reference{}, ctx.Err()
		}
		errs = append(errs, err)
	}
	last := errs[len(errs)-1]
	return Reference{}, fault.New(fault.ClassOf(last), fmt.Errorf("short name %s: %w", clip(text), joined(errs)), "the registries are those of "+config.Origin)
}
