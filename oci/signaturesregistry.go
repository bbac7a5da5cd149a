package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"imgbuild/fault"
	"imgbuild/trust"
)

// trustEnv is where the configuration of trust is looked for.
func trustEnv(opt Options) trust.Env {
	return trust.Env{Getenv: opt.Getenv, Home: opt.Home, UID: storeUID(opt), Root: opt.root}
}

// LoadPolicy reads the policy in a file, or without one that of the user or the
// system, see [trust.Load].
func LoadPolicy(path string, opt Options) (*trust.Policy, error) {
	return trust.Load(path, trustEnv(opt))
}

// identity is that of the name that was asked for, wherever its mirrors are.
func (m *mirrored) identity() (*trust.Image, error) {
	return trust.InRegistry(m.ref.registry+"/"+m.ref.place, m.ref.tag, m.ref.digest), nil
}

// signatures returns those of the place that had the manifest, or where that has
// none, of the registry itself.
func (m *mirrored) signatures(ctx context.Context, digest string, want trust.Want) (signatures, error) {
	chosen, last := m.list[m.chosen.Load()], m.list[len(m.list)-1]
	got, err := m.attached(ctx, chosen, digest, want)
	if chosen != last && ctx.Err() == nil && (err != nil || len(got.list) == 0) {
		return m.attached(ctx, last, digest, want)
	}
	return got, err
}

// attached returns the signatures that one place has.
func (m *mirrored) attached(ctx context.Context, at *registrySource, digest string, want trust.Want) (got signatures, err error) {
	places, err := m.places()
	if err != nil {
		return got, err
	}
	here := trust.InRegistry(at.host+"/"+at.path, m.ref.tag, m.ref.digest)
	if want.Sigstore {
		use, said := places.Attachments(here)
		if use || !said && want.Explicit {
			if err := m.addAttachments(ctx, at, digest, &got); err != nil {
				return got, err
			}
		} else {
			got.hint = "signatures in the registry are looked at where registries.d has use-sigstore-attachments: true for it (" + here.Name() + "), or with --signature-policy and no word in registries.d"
		}
	}
	if want.Simple {
		if err := at.addLookaside(ctx, places.Lookaside(here), digest, &got); err != nil {
			return got, err
		}
	}
	return got, nil
}

// addAttachments adds the sigstore signatures in the repository: those under the
// tag of cosign, then those that refer to the image.
func (m *mirrored) addAttachments(ctx context.Context, at *registrySource, digest string, got *signatures) error {
	src := &onePlace{m, at}
	raw, mediaType, err := m.tagged(ctx, at, signatureTag(digest))
	if err == nil && raw != nil {
		err = got.addManifest(ctx, src, raw, mediaType, m.cache)
	}
	if err != nil {
		return err
	}
	list, err := m.referrers(ctx, at, digest)
	if err == nil {
		err = got.addReferrers(ctx, src, list, m.cache)
	}
	if err != nil && len(got.list) > 0 && fault.ClassOf(err) != fault.Untrusted && ctx.Err() == nil {
		return nil // what there is may do
	}
	return err
}

// tagged returns the document with a tag, from the cache if the registry need not
// be asked, or nil where there is none.
func (m *mirrored) tagged(ctx context.Context, at *registrySource, tag string) ([]byte, string, error) {
	ref := m.ref
	ref.tag, ref.digest = tag, ""
	if m.cache != nil && m.remember {
		if raw, mediaType := m.cache.root(ref); raw != nil {
			return raw, mediaType, nil
		}
	}
	if m.offline {
		return nil, "", nil
	}
	raw, mediaType, err := at.manifest(ctx, tag, maxManifest)
	if absent(err) {
		return nil, "", nil
	}
	if err == nil && m.cache != nil {
		// A cache that cannot be written costs time, not the build.
		_ = m.cache.putRef(ref, raw, mediaType)
	}
	return raw, mediaType, err
}

// absent tells whether an error says that a registry does not have something.
func absent(err error) bool {
	var te *transport.Error
	return errors.As(err, &te) && te.StatusCode == http.StatusNotFound
}

// maxReferrerPages bounds the answers about one image.
const maxReferrerPages = 32

// referrers lists what refers to an image: by the API, distribution specification
// 1.1, "Listing Referrers", or where the registry has none by the tag.
func (m *mirrored) referrers(ctx context.Context, at *registrySource, digest string) ([]descriptor, error) {
	ref := m.ref
	ref.tag, ref.digest = referrersTag(digest), ""
	if m.cache != nil && m.remember {
		if raw, _ := m.cache.root(ref); raw != nil {
			return parseReferrers(raw)
		}
	}
	if m.offline {
		return nil, nil
	}
	var list []descriptor
	path, query := "referrers/"+digest, ""
	for page := 0; ; page++ {
		raw, next, err := at.referrersPage(ctx, path, query)
		if page == 0 && noAPI(err) {
			raw, _, err := m.tagged(ctx, at, ref.tag)
			if err != nil || raw == nil {
				return nil, err
			}
			return parseReferrers(raw)
		}
		if err != nil {
			return nil, err
		}
		more, err := parseReferrers(raw)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
		if page == 0 && next == "" && m.cache != nil && len(list) > 0 {
			_ = m.cache.putRef(ref, raw, mediaIndex)
		}
		if next == "" {
			return list, nil
		}
		if page == maxReferrerPages {
			return nil, badImage(fmt.Errorf("the list of what refers to %s does not end", digest))
		}
		query = next
	}
}

// noAPI tells whether an error says that a registry does not know the API.
// Besides 404, which the specification has for this, registries answer with what
// they have for all that they do not know.
func noAPI(err error) bool {
	var te *transport.Error
	if !errors.As(err, &te) {
		return false
	}
	switch te.StatusCode {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	}
	return false
}

// referrersPage returns one answer, and the query of the next.
func (s *registrySource) referrersPage(ctx context.Context, path, query string) (raw []byte, next string, err error) {
	resp, err := s.ask(ctx, path, query, http.Header{"Accept": {mediaIndex}}, http.StatusOK)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if raw, err = readLimited(resp.Body, "list of referrers", maxManifest); err != nil {
		return nil, "", s.class(ctx, err)
	}
	// RFC 8288: <URL>; rel="next". Only its query is taken: the rest is known.
	link := resp.Header.Get("Link")
	target, params, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if ok && strings.Contains(params, "next") {
		if u, err := url.Parse(target); err == nil {
			next = u.RawQuery
		}
	}
	return raw, next, nil
}

// parseReferrers parses an index of what refers to an image. An empty one has no
// manifests.
func parseReferrers(raw []byte) ([]descriptor, error) {
	var index struct {
		SchemaVersion int          `json:"schemaVersion"`
		Manifests     []descriptor `json:"manifests"`
	}
	if err := unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("list of referrers: %w", err)
	}
	if index.SchemaVersion != 2 {
		return nil, badImage(errors.New("list of referrers: schemaVersion is not 2"))
	}
	return index.Manifests, checkDescriptors("referrer", index.Manifests)
}

// onePlace reads documents from one of the places of an image.
type onePlace struct {
	*mirrored
	at *registrySource
}

func (o *onePlace) document(ctx context.Context, d descriptor, limit int64) ([]byte, error) {
	if o.offline {
		return nil, fault.New(fault.NotFound, errors.New("is not in the cache, and nothing may be pulled"), "--pull missing asks the registry for it")
	}
	return o.at.document(ctx, d, limit)
}

// addLookaside adds the simple signatures in a store beside the registry,
// signature-protocols.md of containers/image: numbered files in a directory that is
// named after the repository and the digest.
func (s *registrySource) addLookaside(ctx context.Context, base, digest string, got *signatures) error {
	u, err := url.Parse(base)
	if err != nil {
		return fault.New(fault.Config, fmt.Errorf("registries.d: lookaside %s: no URL", clip(base)), "")
	}
	alg, hex, _ := strings.Cut(digest, ":")
	u.Path = strings.TrimSuffix(u.Path, "/") + "/" + s.path + "@" + alg + "=" + hex + "/signature-"
	prefix := u.Path
	for n := 1; ; n++ {
		u.Path = fmt.Sprintf("%s%d", prefix, n)
		raw, err := s.lookaside(ctx, u)
		if err != nil || raw == nil {
			return err
		}
		if n > maxSignatures { // what is no signature is not counted by add
			return fault.New(fault.Untrusted, fmt.Errorf("%s: there are more than %d files", u.Redacted(), maxSignatures), "")
		}
		sig, err := trust.ParseBlob(raw)
		if err != nil {
			return fault.New(fault.Untrusted, fmt.Errorf("%s: %w", u.Redacted(), err), "")
		}
		if err := got.add(sig); err != nil {
			return err
		}
	}
}

// lookaside returns a file of the store, or nil where there is none. Signatures
// vouch for themselves, so that plain HTTP will do; no credentials are sent.
func (s *registrySource) lookaside(ctx context.Context, u *url.URL) ([]byte, error) {
	switch u.Scheme {
	case "file":
		path := u.Path
		if drive := strings.TrimPrefix(path, "/"); reDrive.MatchString(drive) {
			path = drive
		}
		f, err := openRegular(filepath.FromSlash(path))
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		} else if err != nil {
			return nil, fault.New(fault.NotFound, err, "")
		}
		defer f.Close()
		return readLimited(f, u.Path, maxSignature)
	case "http", "https":
	default:
		return nil, fault.New(fault.Config, fmt.Errorf("registries.d: lookaside %s: only file, http and https are supported", u.Redacted()), "")
	}
	if s.offline {
		return nil, nil
	}
	client := &http.Client{CheckRedirect: checkRedirect,
		Transport: transport.NewUserAgent(&retrier{&guard{inner: s.base, insecure: true, idle: s.idle}}, s.agent)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	var raw []byte
	resp, err := client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			raw, err = readLimited(resp.Body, "the answer", maxSignature)
		case http.StatusNotFound:
			return nil, nil
		default:
			err = errors.New("the server answers " + resp.Status)
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fault.New(fault.NotFound, fmt.Errorf("signature %s: %w", u.Redacted(), err), "")
	}
	return raw, nil
}
