package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// identity is signedIdentity: which names in a signature are right for an image.
type identity struct {
	kind         identityKind
	reference    named  // of exactReference and exactRepository
	prefix       string // of remapIdentity
	signedPrefix string
}

type identityKind string

const (
	matchExact             identityKind = "matchExact"
	matchRepoDigestOrExact identityKind = "matchRepoDigestOrExact"
	matchRepository        identityKind = "matchRepository"
	exactReference         identityKind = "exactReference"
	exactRepository        identityKind = "exactRepository"
	remapIdentity          identityKind = "remapIdentity"
	// anyIdentity is no part of policies: the digest alone has to be right.
	anyIdentity identityKind = ""
)

// parseIdentity parses signedIdentity; nil data is its default.
func parseIdentity(data json.RawMessage) (identity, error) {
	if data == nil {
		return identity{kind: matchRepoDigestOrExact}, nil
	}
	var kind, reference, repository string
	id := identity{}
	has, err := fields(data, map[string]any{
		"type": &kind, "dockerReference": &reference, "dockerRepository": &repository,
		"prefix": &id.prefix, "signedPrefix": &id.signedPrefix,
	})
	if err != nil {
		return id, err
	}
	id.kind = identityKind(kind)
	var want []string
	switch id.kind {
	case matchExact, matchRepoDigestOrExact, matchRepository:
	case exactReference:
		want = []string{"dockerReference"}
		if id.reference, err = parseNamed(reference); err != nil {
			return id, fmt.Errorf("dockerReference %s: %w", clip(reference), err)
		}
		if id.reference.nameOnly() {
			return id, fmt.Errorf("dockerReference %s: has neither tag nor digest", clip(reference))
		}
	case exactRepository:
		want = []string{"dockerRepository"}
		if id.reference, err = parseNamed(repository); err != nil {
			return id, fmt.Errorf("dockerRepository %s: %w", clip(repository), err)
		}
	case remapIdentity:
		want = []string{"prefix", "signedPrefix"}
		for _, p := range []string{id.prefix, id.signedPrefix} {
			if err := checkPrefix(p); err != nil {
				return id, err
			}
		}
	default:
		return id, fmt.Errorf("type %s: unknown", clip(kind))
	}
	for _, key := range want {
		if !has[key] {
			return id, fmt.Errorf("%s: missing", key)
		}
	}
	if len(has) != len(want)+1 {
		return id, fmt.Errorf("has fields that %s does not take", kind)
	}
	return id, nil
}

// checkPrefix checks a prefix of remapIdentity: host[:port], or that and a path.
func checkPrefix(s string) error {
	host, path, has := strings.Cut(s, "/")
	if len(s) > maxName || !reDomain.MatchString(host) || has && !reName.MatchString(path) {
		return fmt.Errorf("prefix %s: not a host with or without a path", clip(s))
	}
	return nil
}

// check tells whether a signature for the name signed is one for img.
func (id identity) check(img *Image, signed string) error {
	if id.kind == anyIdentity {
		return nil
	}
	if signed == "" {
		return fmt.Errorf("the signature names no image, and the policy asks for a name (%s), which --verify-key does not", id.kind)
	}
	have, err := parseNamed(signed)
	if err != nil {
		return fmt.Errorf("is for %s, which is no name of an image", clip(signed))
	}
	var want named
	switch id.kind {
	case exactReference, exactRepository:
		want = id.reference
	default:
		if img.name == nil {
			return fmt.Errorf("%s cannot be met by the transport %s, whose images have no such names; exactReference and exactRepository can", id.kind, img.transport)
		}
		want = *img.name
	}
	if id.kind == remapIdentity {
		if want.name, err = id.remap(want.name); err != nil {
			return err
		}
	}
	var ok bool
	switch id.kind {
	case matchExact, exactReference:
		ok = !want.nameOnly() && !have.nameOnly() && have == want
	case matchRepository, exactRepository:
		ok = have.name == want.name
	case matchRepoDigestOrExact, remapIdentity:
		switch {
		case have.nameOnly():
		case want.tag != "":
			ok = have == want
		case want.digest != "":
			// That the digest is the image's has been checked by then.
			ok = have.name == want.name
		}
	}
	if !ok {
		return fmt.Errorf("is for %s, not for %s (%s)", clip(signed), want, id.kind)
	}
	return nil
}

// remap replaces the prefix of a name.
func (id identity) remap(name string) (string, error) {
	rest, ok := strings.CutPrefix(name, id.prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return name, nil
	}
	name = id.signedPrefix + rest
	if n, err := parseNamed(name); err != nil || n.name != name {
		return "", errors.New("remapIdentity makes " + clip(name) + " of the name, which is not complete")
	}
	return name, nil
}
