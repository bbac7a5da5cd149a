package trust

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"imgbuild/fault"
)

// Kind is what a signature is made of.
type Kind string

// The kinds of signatures.
const (
	Simple Kind = "simple signing" // an OpenPGP message with a payload of simple signing
	Cosign Kind = "cosign"         // a payload of simple signing, with annotations
	Bundle Kind = "bundle"         // a sigstore bundle
)

// Signature is a signature as it was found, not trusted in any way.
type Signature struct {
	Kind        Kind
	Payload     []byte            // the message, the payload or the bundle
	Annotations map[string]string // of the kind Cosign
}

// Want says which signatures of an image are looked at.
type Want struct {
	Sigstore bool // of the kinds Cosign and Bundle
	Simple   bool // of the kind Simple
	// Explicit is set where the user asks for the check itself. What the system's
	// policy asks for is looked for only where registries.d says so.
	Explicit bool
}

// Source returns the signatures of the manifest or index with a digest.
type Source func(ctx context.Context, digest string, want Want) ([]Signature, error)

// requirement is an element of a policy.
type requirement interface {
	// check returns who signed the image, which is empty where no signature is
	// needed.
	check(ctx context.Context, c *candidate) (by string, err error)
}

// candidate is an image that is checked.
type candidate struct {
	img      *Image
	digests  []string // of its manifest, and of the indexes that name it
	explicit bool
	source   Source
}

// RequireKeys returns a policy that, beyond what p asks for, wants a signature by
// one of the public keys in the files. The name in the signature does not matter,
// as in "cosign verify --key". The error is of the class Config.
func (p *Policy) RequireKeys(paths ...string) (*Policy, error) {
	r := &sigstoreSigned{keys: material{paths: paths}, identity: identity{kind: anyIdentity}, explicit: true}
	if _, err := r.keys.publicKeys(); err != nil {
		return nil, err
	}
	with := *p
	with.also = append(with.also[:len(with.also):len(with.also)], r)
	return &with, nil
}

// Explicit returns p as a policy that the user named, see [Want].
func (p *Policy) Explicit() *Policy {
	with := *p
	with.explicit = true
	return &with
}

// Name returns the file of the policy, "" for none.
func (p *Policy) Name() string { return p.name }

// Check checks an image: its digests are those of its manifest and of the indexes
// through which it was found, all verified, the manifest's first. A signature of
// an index is one of the manifests that it names.
//
// It returns who signed the image, one line for each requirement of a signature.
// The error is of the class Untrusted when the image does not meet the policy, of
// the class Config when a key of the policy cannot be read, and otherwise that of
// source.
func (p *Policy) Check(ctx context.Context, img *Image, digests []string, source Source) (signed []string, err error) {
	type asked struct {
		digest string
		want   Want
	}
	known := map[asked][]Signature{}
	c := &candidate{img: img, digests: digests, explicit: p.explicit}
	c.source = func(ctx context.Context, digest string, want Want) ([]Signature, error) {
		if list, ok := known[asked{digest, want}]; ok {
			return list, nil
		}
		list, err := source(ctx, digest, want)
		if err == nil {
			known[asked{digest, want}] = list
		}
		return list, err
	}
	list, where := p.requirements(img)
	where = strings.TrimSpace("policy " + p.name + " (" + where + ")")
	for i, r := range append(list[:len(list):len(list)], p.also...) {
		if i == len(list) {
			where = "is not signed by the required key"
		}
		by, err := r.check(ctx, c)
		if err != nil {
			return nil, withHint(fmt.Errorf("%s: %w", where, err), err)
		}
		if by != "" {
			signed = append(signed, by)
		}
	}
	return signed, nil
}

// withHint returns an error with the class and hint of what it wraps.
func withHint(err, inner error) error {
	if fault.ClassOf(inner) == fault.Internal {
		return err // of source, or of the context
	}
	return fault.New(fault.ClassOf(inner), err, fault.HintOf(inner))
}

func untrusted(err error, hint string) error { return fault.New(fault.Untrusted, err, hint) }

type acceptAnything struct{}

func (acceptAnything) check(context.Context, *candidate) (string, error) { return "", nil }

type reject struct{}

func (reject) check(context.Context, *candidate) (string, error) {
	return "", untrusted(errors.New("the policy rejects all such images"), "another policy can be named with --signature-policy")
}

// unimplemented is a requirement that containers/image has not implemented either.
type unimplemented string

func (u unimplemented) check(context.Context, *candidate) (string, error) {
	return "", fault.New(fault.Unsupported, fmt.Errorf("the requirement %s is not supported", string(u)), "")
}

// verifier verifies one signature of the document with a digest, and returns who
// made it.
type verifier interface {
	takes(k Kind) bool
	verify(img *Image, digest string, s *Signature) (by string, err error)
}

// maxReasons bounds how many signatures a message speaks of.
const maxReasons = 4

// oneOf checks that one signature of the candidate satisfies the verifier.
func (c *candidate) oneOf(ctx context.Context, v verifier, want Want) (by string, err error) {
	want.Explicit = want.Explicit || c.explicit
	var reasons []string
	others := map[Kind]int{}
	for _, digest := range c.digests {
		list, err := c.source(ctx, digest, want)
		if err != nil {
			return "", err
		}
		for i := range list {
			if !v.takes(list[i].Kind) {
				others[list[i].Kind]++
				continue
			}
			by, err := v.verify(c.img, digest, &list[i])
			if err == nil {
				return by, nil
			}
			if fault.ClassOf(err) != fault.Internal {
				return "", err // about the policy, not about the signature
			}
			reasons = append(reasons, err.Error())
		}
	}
	if len(reasons) == 0 {
		text := "a signature is required, and the image has none"
		for _, k := range []Kind{Simple, Cosign, Bundle} {
			if others[k] > 0 {
				text += fmt.Sprintf(" but %d of the kind %s", others[k], k)
			}
		}
		return "", untrusted(errors.New(text), "")
	}
	n := len(reasons)
	if n == 1 {
		return "", untrusted(fmt.Errorf("the signature is not accepted: %s", reasons[0]), "")
	}
	if n > maxReasons {
		reasons = append(reasons[:maxReasons], "…")
	}
	return "", untrusted(fmt.Errorf("none of %d signatures is accepted: %s", n, strings.Join(reasons, "; ")), "")
}
