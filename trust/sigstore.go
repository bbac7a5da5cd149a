package trust

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// Annotations of cosign's signatures, SIGNATURE_SPEC.md.
const (
	annotationSignature   = "dev.cosignproject.cosign/signature"
	annotationRekor       = "dev.sigstore.cosign/bundle"
	annotationCertificate = "dev.sigstore.cosign/certificate"
	annotationChain       = "dev.sigstore.cosign/chain"
)

// sigstoreSigned is the requirement of this name.
type sigstoreSigned struct {
	keys     material
	fulcio   *fulcioRule
	pki      *pkiRule
	rekor    material
	logged   bool // an entry of Rekor is required
	identity identity
	explicit bool
}

// sigstoreVerifier is the same with everything loaded.
type sigstoreVerifier struct {
	keys     []publicKey // or one of
	fulcio   *fulcioRoot
	pki      *pkiRoot
	rekor    []publicKey // nil where no entry is required
	identity identity
}

func (r *sigstoreSigned) check(ctx context.Context, c *candidate) (string, error) {
	v, err := r.load()
	if err != nil {
		return "", err
	}
	return c.oneOf(ctx, v, Want{Sigstore: true, Explicit: r.explicit})
}

func (r *sigstoreSigned) load() (v *sigstoreVerifier, err error) {
	v = &sigstoreVerifier{identity: r.identity}
	if r.logged {
		if v.rekor, err = r.rekor.publicKeys(); err != nil {
			return nil, err
		}
	}
	switch {
	case r.fulcio != nil:
		v.fulcio, err = r.fulcio.load()
	case r.pki != nil:
		v.pki, err = r.pki.load()
	default:
		v.keys, err = r.keys.publicKeys()
	}
	return v, err
}

func (v *sigstoreVerifier) takes(k Kind) bool { return k == Cosign || k == Bundle }

func (v *sigstoreVerifier) verify(img *Image, digest string, s *Signature) (string, error) {
	if s.Kind == Bundle {
		return v.verifyBundle(img, digest, s.Payload)
	}
	return v.verifyCosign(img, digest, s)
}

// signer is who a signature claims to be from: certificates, or nothing, which
// is one of the policy's keys.
type signer struct {
	leaf  []byte              // certificate in DER
	chain []*x509.Certificate // intermediate certificates
}

// accepted returns the keys that the claimed signer can have signed with. logged
// verifies that the log has an entry of the signature by a key or certificate,
// given in DER, and returns when it was made; it is called where the policy asks
// for one.
func (v *sigstoreVerifier) accepted(who signer, logged func(der []byte) (time.Time, error)) (keys []publicKey, err error) {
	if v.fulcio == nil && v.pki == nil {
		if v.rekor == nil {
			return v.keys, nil
		}
		// An entry names one key.
		for _, k := range v.keys {
			var kerr error
			if _, kerr = logged(k.der); kerr == nil {
				return []publicKey{k}, nil
			}
			err = errors.Join(err, kerr)
		}
		return nil, err
	}
	if who.leaf == nil {
		return nil, errors.New("has no certificate")
	}
	leaf, err := parseLeaf(who.leaf)
	if err != nil {
		return nil, err
	}
	var key publicKey
	if v.fulcio != nil {
		at, lerr := logged(who.leaf)
		if lerr != nil {
			return nil, lerr
		}
		if at.IsZero() {
			return nil, errors.New("the entry of the log has no time that the certificate can be checked for: it would take a timestamp, and policies name no authority for such")
		}
		key, err = v.fulcio.verify(leaf, who.chain, at)
	} else {
		key, err = v.pki.verify(leaf, who.chain)
	}
	if err != nil {
		return nil, err
	}
	return []publicKey{key}, nil
}

// verifyCosign verifies a payload of simple signing with its annotations.
func (v *sigstoreVerifier) verifyCosign(img *Image, digest string, s *Signature) (string, error) {
	text := s.Annotations[annotationSignature]
	sig, err := base64.StdEncoding.DecodeString(text)
	if err != nil || text == "" {
		return "", errors.New("has no signature in its annotations")
	}
	who := signer{}
	if chain := s.Annotations[annotationChain]; chain != "" {
		list, err := certificates([]byte(chain))
		if err != nil {
			return "", fmt.Errorf("certificate chain: %w", err)
		}
		// The last one is the root, which only the policy can name.
		who.chain = list[:len(list)-1]
	}
	if cert := s.Annotations[annotationCertificate]; cert != "" {
		list, err := certificates([]byte(cert))
		if err != nil {
			return "", fmt.Errorf("certificate: %w", err)
		}
		if len(list) != 1 {
			return "", errors.New("has several certificates in place of one")
		}
		who.leaf = list[0].Raw
	}
	keys, err := v.accepted(who, func(der []byte) (time.Time, error) {
		set := s.Annotations[annotationRekor]
		if set == "" {
			return time.Time{}, errors.New("has no entry of the transparency log")
		}
		return verifyAnnotatedEntry(v.rekor, []byte(set), &loggedContent{der: der, signature: sig, payload: s.Payload})
	})
	if err != nil {
		return "", err
	}
	by, err := verifiedBy(keys, s.Payload, sig)
	if err != nil {
		return "", err
	}
	p, err := parsePayload(s.Payload, typeCosign)
	if err != nil {
		return "", fmt.Errorf("payload: %w", err)
	}
	return p.accept(img, digest, v.identity, by)
}

// verifiedBy returns the key that made a signature.
func verifiedBy(keys []publicKey, message, sig []byte) (string, error) {
	for _, k := range keys {
		if k.verify(message, sig) {
			return k.name, nil
		}
	}
	return "", errors.New("is by none of the keys that are accepted, or what is signed was changed")
}
