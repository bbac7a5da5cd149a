package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// fulcioRule is "fulcio" of sigstoreSigned.
type fulcioRule struct {
	ca            material
	issuer, email string
}

type fulcioRoot struct {
	roots         *x509.CertPool
	issuer, email string
}

func (f *fulcioRule) load() (*fulcioRoot, error) {
	pool, err := f.ca.pool()
	return &fulcioRoot{pool, f.issuer, f.email}, err
}

// pkiRule is "pki" of sigstoreSigned.
type pkiRule struct {
	roots, intermediates material
	email, hostname      string
}

type pkiRoot struct {
	roots, intermediates *x509.CertPool
	email, hostname      string
}

func (p *pkiRule) load() (*pkiRoot, error) {
	roots, err := p.roots.pool()
	if err != nil {
		return nil, err
	}
	intermediates, err := p.intermediates.pool()
	return &pkiRoot{roots, intermediates, p.email, p.hostname}, err
}

// Extensions of Fulcio's certificates, oid-info.md of fulcio: the OIDC issuer as
// plain bytes, and as a DER string.
var (
	oidIssuer   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}
	oidIssuerV2 = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}
	oidSAN      = asn1.ObjectIdentifier{2, 5, 29, 17}
)

func parseLeaf(der []byte) (*x509.Certificate, error) {
	leaf, err := parseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	// Go calls a subject alternative name without anything that it knows, which
	// certificates for workflows have, unhandled. What is needed of it is looked
	// at here.
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(leaf.UnhandledCriticalExtensions,
		func(oid asn1.ObjectIdentifier) bool { return oid.Equal(oidSAN) })
	return leaf, nil
}

// verify checks that Fulcio issued the certificate, valid at a time that the log
// vouches for, to whom the policy names. Signed certificate timestamps are not
// looked at: the log's entry already has the certificate.
func (f *fulcioRoot) verify(leaf *x509.Certificate, chain []*x509.Certificate, at time.Time) (publicKey, error) {
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: f.roots, Intermediates: withChain(x509.NewCertPool(), chain), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}); err != nil {
		return publicKey{}, fmt.Errorf("certificate: %w", err)
	}
	issuer, err := oidcIssuer(leaf)
	if err != nil {
		return publicKey{}, fmt.Errorf("certificate: %w", err)
	}
	if issuer != f.issuer {
		return publicKey{}, fmt.Errorf("certificate: vouched for by %s, not by %s", clip(issuer), clip(f.issuer))
	}
	if !slices.Contains(leaf.EmailAddresses, f.email) {
		return publicKey{}, fmt.Errorf("certificate: is for %s, not for %s", clipList(leaf.EmailAddresses), clip(f.email))
	}
	return leafKey(leaf, f.email+" ("+f.issuer+")")
}

// verify checks that the PKI issued the certificate, valid now, to whom the
// policy names.
func (p *pkiRoot) verify(leaf *x509.Certificate, chain []*x509.Certificate) (publicKey, error) {
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: p.roots, Intermediates: withChain(p.intermediates.Clone(), chain),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}); err != nil {
		return publicKey{}, fmt.Errorf("certificate: %w", err)
	}
	if p.email != "" && !slices.Contains(leaf.EmailAddresses, p.email) {
		return publicKey{}, fmt.Errorf("certificate: is for %s, not for %s", clipList(leaf.EmailAddresses), clip(p.email))
	}
	if p.hostname != "" {
		if err := leaf.VerifyHostname(p.hostname); err != nil {
			return publicKey{}, fmt.Errorf("certificate: %w", err)
		}
	}
	who := p.email
	if who == "" {
		who = p.hostname
	}
	return leafKey(leaf, who)
}

func leafKey(leaf *x509.Certificate, who string) (publicKey, error) {
	if err := checkKey(leaf.PublicKey); err != nil {
		return publicKey{}, fmt.Errorf("certificate: %w", err)
	}
	return publicKey{name: who, key: leaf.PublicKey, der: leaf.RawSubjectPublicKeyInfo}, nil
}

// withChain adds what a signature brings beside its certificate.
func withChain(pool *x509.CertPool, chain []*x509.Certificate) *x509.CertPool {
	for _, c := range chain {
		pool.AddCert(c)
	}
	return pool
}

// oidcIssuer returns who vouched for the user to Fulcio.
func oidcIssuer(leaf *x509.Certificate) (string, error) {
	var v1, v2 string
	var has1, has2 bool
	for _, e := range leaf.Extensions { // none comes twice: x509 refuses that
		switch {
		case e.Id.Equal(oidIssuer):
			v1, has1 = string(e.Value), true
		case e.Id.Equal(oidIssuerV2):
			rest, err := asn1.Unmarshal(e.Value, &v2)
			if err != nil || len(rest) > 0 {
				return "", errors.New("the extension with the OIDC issuer is damaged")
			}
			has2 = true
		}
	}
	switch {
	case has1 && has2 && v1 != v2:
		return "", fmt.Errorf("names two OIDC issuers, %s and %s", clip(v1), clip(v2))
	case has1:
		return v1, nil
	case has2:
		return v2, nil
	}
	return "", errors.New("names no OIDC issuer")
}

func clipList(list []string) string {
	if len(list) == 0 {
		return "nobody's address"
	}
	text := clip(list[0])
	if len(list) > 1 {
		text += fmt.Sprintf(" and %d more", len(list)-1)
	}
	return text
}
