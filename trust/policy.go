package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// maxPolicy is the most that is read of a policy and of a key file, in bytes.
const maxPolicy = 4 << 20

// Policy says what is required of images.
type Policy struct {
	name       string // of the file, for messages
	explicit   bool   // the user named it, see [Want]
	fallback   []requirement
	transports map[string]map[string][]requirement
	also       []requirement // required of all images, whatever the policy says
}

// Anything is the policy that accepts all images.
func Anything() *Policy {
	return &Policy{fallback: []requirement{acceptAnything{}}}
}

// Parse parses a policy of a file called name. What is unknown or comes twice is
// an error, and so is a file that leaves out the default.
func Parse(data []byte, name string) (*Policy, error) {
	p := &Policy{name: name, transports: map[string]map[string][]requirement{}}
	var fallback, transports json.RawMessage
	has, err := fields(data, map[string]any{"default": &fallback, "transports": &transports})
	if err != nil {
		return nil, err
	}
	if !has["default"] {
		return nil, errors.New("default: missing")
	}
	if p.fallback, err = parseRequirements(fallback); err != nil {
		return nil, fmt.Errorf("default: %w", err)
	}
	if !has["transports"] {
		return p, nil
	}
	list, err := rawObject(transports)
	if err != nil {
		return nil, fmt.Errorf("transports: %w", err)
	}
	for _, transport := range sortedKeys(list) {
		scopes, err := rawObject(*list[transport])
		if err != nil {
			return nil, fmt.Errorf("transports: %s: %w", clip(transport), err)
		}
		p.transports[transport] = map[string][]requirement{}
		for _, scope := range sortedKeys(scopes) {
			if err := checkScope(transport, scope); err != nil {
				return nil, fmt.Errorf("transports: %s: %s: %w", clip(transport), clip(scope), err)
			}
			reqs, err := parseRequirements(*scopes[scope])
			if err != nil {
				return nil, fmt.Errorf("transports: %s: %s: %w", clip(transport), clip(scope), err)
			}
			p.transports[transport][scope] = reqs
		}
	}
	return p, nil
}

// rawObject decodes an object with any keys.
func rawObject(data []byte) (map[string]*json.RawMessage, error) {
	list := map[string]*json.RawMessage{}
	return list, object(data, func(key string) any {
		list[key] = &json.RawMessage{}
		return list[key]
	})
}

// checkScope checks a scope as its transport does in containers/image. Those of
// registries, and of transports that are not known here, may be anything.
func checkScope(transport, scope string) error {
	if scope == "" {
		return nil
	}
	switch transport {
	case Dir, OCI, OCIArchive:
		switch {
		case !strings.HasPrefix(scope, "/") && !filepath.IsAbs(scope):
			return errors.New("not an absolute path")
		case scope == "/":
			return errors.New(`the scope for all paths is ""`)
		case filepath.ToSlash(filepath.Clean(scope)) != filepath.ToSlash(scope):
			return errors.New("not a path in its shortest form, " + filepath.ToSlash(filepath.Clean(scope)))
		}
	case DockerArchive:
		return errors.New(`only the scope "" is possible here`)
	case Storage:
		store, _, ok := strings.Cut(scope, "]")
		store, bracket := strings.CutPrefix(store, "[")
		if _, root, has := strings.Cut(store, "@"); has {
			store = root
		}
		if !ok || !bracket || !strings.HasPrefix(store, "/") {
			return errors.New("does not begin with a store, as [overlay@/var/lib/containers/storage]")
		}
	}
	return nil
}

func parseRequirements(data []byte) ([]requirement, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, plain(err)
	}
	if len(list) == 0 {
		return nil, errors.New("lists no requirement")
	}
	var reqs []requirement
	for i, raw := range list {
		r, err := parseRequirement(raw)
		if err != nil {
			return nil, fmt.Errorf("requirement %d: %w", i+1, err)
		}
		reqs = append(reqs, r)
	}
	return reqs, nil
}

func parseRequirement(data []byte) (requirement, error) {
	var kind string
	var ignored any
	if err := object(data, func(key string) any {
		if key == "type" {
			return &kind
		}
		ignored = nil
		return &ignored
	}); err != nil {
		return nil, err
	}
	var r requirement
	var err error
	switch kind {
	case "insecureAcceptAnything":
		r, err = acceptAnything{}, exact(data, map[string]any{"type": &kind})
	case "reject":
		r, err = reject{}, exact(data, map[string]any{"type": &kind})
	case "sigstoreSigned":
		r, err = parseSigstoreSigned(data)
	case "signedBy":
		r, err = parseSignedBy(data)
	case "signedBaseLayer":
		var base json.RawMessage
		r, err = unimplemented("signedBaseLayer"), exact(data, map[string]any{"type": &kind, "baseLayerIdentity": &base})
		if err == nil {
			_, err = parseIdentity(base)
		}
	case "":
		err = errors.New("type: missing")
	default:
		err = fmt.Errorf("type %s: unknown", clip(kind))
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func parseSigstoreSigned(data []byte) (requirement, error) {
	r := sigstoreSigned{}
	var kind string
	var fulcio, pki, id json.RawMessage
	has, err := fields(data, map[string]any{
		"type": &kind, "keyPath": &r.keys.path, "keyPaths": &r.keys.paths, "keyData": &r.keys.data, "keyDatas": &r.keys.datas,
		"fulcio": &fulcio, "pki": &pki, "signedIdentity": &id,
		"rekorPublicKeyPath": &r.rekor.path, "rekorPublicKeyPaths": &r.rekor.paths,
		"rekorPublicKeyData": &r.rekor.data, "rekorPublicKeyDatas": &r.rekor.datas,
	})
	if err != nil {
		return nil, err
	}
	if err := one(has, "keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki"); err != nil {
		return nil, err
	}
	rekor := []string{"rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"}
	n := count(has, rekor)
	switch {
	case n > 1:
		return nil, one(has, rekor...)
	case has["fulcio"] && n == 0:
		return nil, errors.New("fulcio: needs a key of Rekor, such as rekorPublicKeyPath")
	case has["pki"] && n > 0:
		return nil, errors.New("pki: keys of Rekor are not possible with it")
	}
	for _, m := range []material{r.keys, r.rekor} {
		if err := m.check(); err != nil {
			return nil, err
		}
	}
	r.logged = n > 0
	if has["fulcio"] {
		r.fulcio = &fulcioRule{}
		if err := r.fulcio.parse(fulcio); err != nil {
			return nil, fmt.Errorf("fulcio: %w", err)
		}
	}
	if has["pki"] {
		r.pki = &pkiRule{}
		if err := r.pki.parse(pki); err != nil {
			return nil, fmt.Errorf("pki: %w", err)
		}
	}
	if r.identity, err = parseIdentity(id); err != nil {
		return nil, fmt.Errorf("signedIdentity: %w", err)
	}
	return &r, nil
}

func (f *fulcioRule) parse(data []byte) error {
	has, err := fields(data, map[string]any{
		"caPath": &f.ca.path, "caData": &f.ca.data, "oidcIssuer": &f.issuer, "subjectEmail": &f.email,
	})
	if err != nil {
		return err
	}
	if err := one(has, "caPath", "caData"); err != nil {
		return err
	}
	if f.issuer == "" || f.email == "" {
		return errors.New("oidcIssuer and subjectEmail have to be there")
	}
	return f.ca.check()
}

func (p *pkiRule) parse(data []byte) error {
	has, err := fields(data, map[string]any{
		"caRootsPath": &p.roots.path, "caRootsData": &p.roots.data,
		"caIntermediatesPath": &p.intermediates.path, "caIntermediatesData": &p.intermediates.data,
		"subjectEmail": &p.email, "subjectHostname": &p.hostname,
	})
	if err != nil {
		return err
	}
	if err := one(has, "caRootsPath", "caRootsData"); err != nil {
		return err
	}
	if has["caIntermediatesPath"] && has["caIntermediatesData"] {
		return one(has, "caIntermediatesPath", "caIntermediatesData")
	}
	if p.email == "" && p.hostname == "" {
		return errors.New("subjectEmail or subjectHostname has to be there")
	}
	return errors.Join(p.roots.check(), p.intermediates.check())
}

func parseSignedBy(data []byte) (requirement, error) {
	r := signedBy{}
	var kind, keyType string
	var id json.RawMessage
	has, err := fields(data, map[string]any{
		"type": &kind, "keyType": &keyType, "keyPath": &r.keys.path, "keyPaths": &r.keys.paths, "keyData": &r.keys.data,
		"signedIdentity": &id,
	})
	if err != nil {
		return nil, err
	}
	if err := one(has, "keyPath", "keyPaths", "keyData"); err != nil {
		return nil, err
	}
	if err := r.keys.check(); err != nil {
		return nil, err
	}
	if r.identity, err = parseIdentity(id); err != nil {
		return nil, fmt.Errorf("signedIdentity: %w", err)
	}
	switch keyType {
	case "GPGKeys":
		return &r, nil
	case "signedByGPGKeys", "X509Certificates", "signedByX509CAs":
		return unimplemented("signedBy with the keyType " + keyType), nil
	}
	return nil, fmt.Errorf("keyType %s: unknown", clip(keyType))
}

// one checks that exactly one of the keys is there.
func one(has map[string]bool, keys ...string) error {
	switch count(has, keys) {
	case 0:
		return errors.New("one of " + strings.Join(keys, ", ") + " has to be there")
	case 1:
		return nil
	}
	return errors.New("only one of " + strings.Join(keys, ", ") + " can be there")
}

func count(has map[string]bool, keys []string) (n int) {
	for _, key := range keys {
		if has[key] {
			n++
		}
	}
	return n
}

// AcceptsByDefault tells whether the default is to accept all images, and nothing
// else.
func (p *Policy) AcceptsByDefault() bool {
	if len(p.fallback) != 1 {
		return false
	}
	_, all := p.fallback[0].(acceptAnything)
	return all
}

// requirements returns what applies to an image, and where it stands.
func (p *Policy) requirements(img *Image) (list []requirement, where string) {
	if scopes, ok := p.transports[img.transport]; ok {
		for _, scope := range append(img.scopes[:len(img.scopes):len(img.scopes)], "") {
			if list, ok := scopes[scope]; ok {
				return list, strings.TrimSpace(img.transport + " " + scope)
			}
		}
	}
	return p.fallback, "default"
}
