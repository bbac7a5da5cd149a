package trust

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"imgbuild/fault"
)

const (
	issuer = "https://accounts.example.com"
	email  = "builder@example.com"
)

// signedAt is when the tests' log takes its entries.
var signedAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// authority is a CA like Fulcio, with an intermediate one.
type authority struct {
	root, middle       *x509.Certificate
	rootKey, middleKey private
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{rootKey: newKey(t), middleKey: newKey(t)}
	ca := func(serial int64, name string, parent *x509.Certificate, key, by private) *x509.Certificate {
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: signedAt.AddDate(-1, 0, 0), NotAfter: signedAt.AddDate(50, 0, 0), KeyUsage: x509.KeyUsageCertSign,
		}
		if parent == nil {
			parent = tmpl
		}
		return certificate(t, tmpl, parent, key, by)
	}
	a.root = ca(1, "root", nil, a.rootKey, a.rootKey)
	a.middle = ca(2, "middle", a.root, a.middleKey, a.rootKey)
	return a
}

func certificate(t testing.TB, tmpl, parent *x509.Certificate, key, by private) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), by.Signer)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return c
}

func certPEM(list ...*x509.Certificate) (text []byte) {
	for _, c := range list {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// issue makes a certificate as Fulcio does: for ten minutes, for an address that an
// issuer vouches for.
func (a *authority) issue(t testing.TB, key private, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	v2, err := asn1.Marshal(issuer)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(3), EmailAddresses: []string{email},
		NotBefore: signedAt.Add(-time.Minute), NotAfter: signedAt.Add(9 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: oidIssuer, Value: []byte(issuer)}, {Id: oidIssuerV2, Value: v2}},
	}
	if change != nil {
		change(tmpl)
	}
	return certificate(t, tmpl, a.middle, key, a.middleKey)
}

// transparency is a log like Rekor.
type transparency struct{ private }

func (l transparency) id(t testing.TB) string {
	sum := sha256.Sum256(l.der(t))
	return hex.EncodeToString(sum[:])
}

// set signs an entry as Rekor does. The canonical form is made in another way than
// in the product: by encoding/json, which sorts the keys of maps.
func (l transparency) set(t testing.TB, body []byte, at time.Time) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"body": body, "integratedTime": at.Unix(), "logIndex": 7, "logID": l.id(t)})
	must(t, err)
	return l.sign(t, text)
}

// annotation makes the entry that cosign adds to a signature.
func (l transparency) annotation(t testing.TB, body []byte, at time.Time) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"SignedEntryTimestamp": l.set(t, body, at),
		"Payload": map[string]any{"body": body, "integratedTime": at.Unix(), "logIndex": 7, "logID": l.id(t)}})
	must(t, err)
	return string(text)
}

// hashedRekord makes the body of an entry of this kind.
func hashedRekord(t testing.TB, payload, sig, keyPEM []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(payload)
	text, err := json.Marshal(dict{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": dict{
		"data":      dict{"hash": dict{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
		"signature": dict{"content": sig, "publicKey": dict{"content": keyPEM}},
	}})
	must(t, err)
	return text
}

// keyless is what it takes to sign without keys.
type keyless struct {
	ca   *authority
	log  transparency
	key  private
	leaf *x509.Certificate
}

func newKeyless(t testing.TB) *keyless {
	k := &keyless{ca: newAuthority(t), log: transparency{newKey(t)}, key: newKey(t)}
	k.leaf = k.ca.issue(t, k.key, nil)
	return k
}

func (k *keyless) rule(t testing.TB) dict {
	return dict{
		"type":   "sigstoreSigned",
		"fulcio": dict{"caData": certPEM(k.ca.root), "oidcIssuer": issuer, "subjectEmail": email}, "rekorPublicKeyData": k.log.pem(t),
	}
}

// signed makes a signature with its entry in the log.
func (k *keyless) signed(t testing.TB) Signature {
	t.Helper()
	s := k.key.signed(t, digest, repo+":1")
	sig, err := base64.StdEncoding.DecodeString(s.Annotations[annotationSignature])
	must(t, err)
	s.Annotations[annotationCertificate] = string(certPEM(k.leaf))
	s.Annotations[annotationChain] = string(certPEM(k.ca.middle, k.ca.root))
	s.Annotations[annotationRekor] = k.log.annotation(t, hashedRekord(t, s.Payload, sig, certPEM(k.leaf)), signedAt)
	return s
}

func TestKeyless(t *testing.T) {
	k := newKeyless(t)
	good := k.signed(t)
	if by, err := check(policy(t, k.rule(t)), tagged("1"), good); err != nil || !strings.Contains(by[0], email) {
		t.Fatal(by, err)
	}
	with := func(s Signature, name, value string) Signature {
		s.Annotations = maps.Clone(s.Annotations)
		if s.Annotations[name] = value; value == "" {
			delete(s.Annotations, name)
		}
		return s
	}
	other := newKeyless(t)
	sig, _ := base64.StdEncoding.DecodeString(good.Annotations[annotationSignature])
	body := hashedRekord(t, good.Payload, sig, certPEM(k.leaf))
	log := func(body []byte) Signature { return with(good, annotationRekor, k.log.annotation(t, body, signedAt)) }
	for want, s := range map[string]Signature{
		"has no certificate":              with(good, annotationCertificate, ""),
		"no entry":                        with(good, annotationRekor, ""),
		"none of the log's keys":          with(good, annotationRekor, other.log.annotation(t, body, signedAt)),
		"expired":                         with(good, annotationRekor, k.log.annotation(t, body, signedAt.Add(time.Hour))),
		"not yet valid":                   with(good, annotationRekor, k.log.annotation(t, body, signedAt.Add(-time.Hour))),
		"of other content":                log(hashedRekord(t, []byte("x"), sig, certPEM(k.leaf))),
		"of another signature":            log(hashedRekord(t, good.Payload, []byte("x"), certPEM(k.leaf))),
		"of another key":                  log(hashedRekord(t, good.Payload, sig, certPEM(other.leaf))),
		"does not fit":                    log([]byte(strings.Replace(string(body), "0.0.1", "0.0.9", 1))),
		"unknown authority":               with(good, annotationChain, ""),
		"has several certificates":        with(good, annotationCertificate, string(certPEM(k.leaf, k.leaf))),
		"certificate chain":               with(good, annotationChain, "x"),
		`entry of the log: "more"`:        with(good, annotationRekor, strings.Replace(good.Annotations[annotationRekor], "{", `{"more":1,`, 1)),
		`entry of the log: "Payload"`:     with(good, annotationRekor, `{"Payload":{}, "Payload":{}}`),
		"no signature in its annotations": with(good, annotationSignature, ""),
	} {
		_, err := check(policy(t, k.rule(t)), tagged("1"), s)
		refused(t, err, want)
	}
	// Any changed digit of the time of the entry.
	_, err := check(policy(t, k.rule(t)), tagged("1"), with(good, annotationRekor,
		strings.Replace(good.Annotations[annotationRekor], fmt.Sprint(signedAt.Unix()), fmt.Sprint(signedAt.Unix()+1), 1)))
	refused(t, err, "none of the log's keys")
	// Other people, other CAs, other logs.
	for want, change := range map[string]func(r dict){
		"vouched for by":    func(r dict) { r["fulcio"].(dict)["oidcIssuer"] = "https://evil.example.com" },
		"is for":            func(r dict) { r["fulcio"].(dict)["subjectEmail"] = "other@example.com" },
		"unknown authority": func(r dict) { r["fulcio"].(dict)["caData"] = certPEM(other.ca.root) },
		"none of the log's": func(r dict) { r["rekorPublicKeyData"] = other.log.pem(t) },
	} {
		r := k.rule(t)
		change(r)
		_, err := check(policy(t, r), tagged("1"), good)
		refused(t, err, want)
	}
	// What Fulcio does not issue.
	for want, change := range map[string]func(c *x509.Certificate){
		"names no OIDC issuer": func(c *x509.Certificate) { c.ExtraExtensions = nil },
		"names two OIDC issuers": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: oidIssuer, Value: []byte("https://other.example.com")}, c.ExtraExtensions[1]}
		},
		"damaged":                  func(c *x509.Certificate) { c.ExtraExtensions[1].Value = []byte("x") },
		"incompatible key usage":   func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"is for nobody's address":  func(c *x509.Certificate) { c.EmailAddresses = nil },
		"is for \"x@example.com\"": func(c *x509.Certificate) { c.EmailAddresses = []string{"x@example.com"} },
	} {
		k.leaf = k.ca.issue(t, k.key, change)
		_, err := check(policy(t, k.rule(t)), tagged("1"), k.signed(t))
		refused(t, err, want)
	}
	// Either extension will do.
	for i := range 2 {
		k.leaf = k.ca.issue(t, k.key, func(c *x509.Certificate) { c.ExtraExtensions = c.ExtraExtensions[i : i+1] })
		if _, err := check(policy(t, k.rule(t)), tagged("1"), k.signed(t)); err != nil {
			t.Error(err)
		}
	}
}

// A key with an entry in the log.
func TestLoggedKey(t *testing.T) {
	key, spare, log := newKey(t), newKey(t), transparency{newKey(t)}
	r := dict{"type": "sigstoreSigned", "keyDatas": [][]byte{spare.pem(t), key.pem(t)}, "rekorPublicKeyDatas": [][]byte{newKey(t).pem(t), log.pem(t)}}
	s := key.signed(t, digest, repo+":1")
	_, err := check(policy(t, r), tagged("1"), s)
	refused(t, err, "no entry")
	sig, _ := base64.StdEncoding.DecodeString(s.Annotations[annotationSignature])
	s.Annotations[annotationRekor] = log.annotation(t, hashedRekord(t, s.Payload, sig, key.pem(t)), signedAt)
	if _, err := check(policy(t, r), tagged("1"), s); err != nil {
		t.Error(err)
	}
	s.Annotations[annotationRekor] = log.annotation(t, hashedRekord(t, s.Payload, sig, newKey(t).pem(t)), signedAt)
	_, err = check(policy(t, r), tagged("1"), s)
	refused(t, err, "of another key")

	// A requirement without a key is none that anything meets.
	delete(s.Annotations, annotationRekor)
	for field, none := range map[string]any{"rekorPublicKeyPath": "", "rekorPublicKeyDatas": nil, "keyPath": "", "keyDatas": nil} {
		r := dict{"type": "sigstoreSigned"}
		if strings.HasPrefix(field, "rekor") {
			r["keyData"] = key.pem(t)
		}
		r[field] = none
		if _, err := check(policy(t, r), tagged("1"), s); fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), "no key") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// A PKI of one's own has no log: its certificates have to be valid now.
func TestPKI(t *testing.T) {
	ca, key := newAuthority(t), newKey(t)
	issue := func(change func(c *x509.Certificate)) string {
		return string(certPEM(ca.issue(t, key, func(c *x509.Certificate) {
			c.NotAfter, c.DNSNames, c.ExtraExtensions = ca.root.NotAfter, []string{"builder.example.com"}, nil
			if change != nil {
				change(c)
			}
		})))
	}
	rule := func(more dict) *Policy {
		pki := dict{"caRootsData": certPEM(ca.root), "caIntermediatesData": certPEM(ca.middle)}
		maps.Copy(pki, more)
		return policy(t, dict{"type": "sigstoreSigned", "pki": pki})
	}
	s := key.signed(t, digest, repo+":1")
	s.Annotations[annotationCertificate] = issue(nil)
	for _, more := range []dict{{"subjectEmail": email}, {"subjectHostname": "builder.example.com"}, {"subjectEmail": email, "subjectHostname": "builder.example.com"}} {
		if _, err := check(rule(more), tagged("1"), s); err != nil {
			t.Error(more, err)
		}
	}
	for _, more := range []dict{{"subjectEmail": "x@example.com"}, {"subjectHostname": "x.example.com"}, {"subjectEmail": email, "caRootsData": certPEM(newAuthority(t).root)}} {
		_, err := check(rule(more), tagged("1"), s)
		refused(t, err, "certificate")
	}
	// The intermediate certificate may come with the signature.
	bare := policy(t, dict{"type": "sigstoreSigned", "pki": dict{"caRootsPath": file(t, certPEM(ca.root)), "subjectEmail": email}})
	_, err := check(bare, tagged("1"), s)
	refused(t, err, "unknown authority")
	s.Annotations[annotationChain] = string(certPEM(ca.middle, ca.root))
	if _, err := check(bare, tagged("1"), s); err != nil {
		t.Error(err)
	}
	// A key that nobody can verify with in time.
	n := new(big.Int).Lsh(big.NewInt(1), maxRSA)
	huge := certificate(t, &x509.Certificate{SerialNumber: big.NewInt(3), Subject: ca.middle.Subject, NotAfter: ca.root.NotAfter},
		ca.root, private{hugeKey{&rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}}}, ca.rootKey)
	s.Annotations[annotationChain] = string(certPEM(huge, ca.root))
	_, err = check(bare, tagged("1"), s)
	refused(t, err, "RSA key of 16385 bits")
	s.Annotations[annotationChain] = string(certPEM(ca.middle, ca.root))

	s.Annotations[annotationCertificate] = issue(func(c *x509.Certificate) {
		c.NotAfter = signedAt.AddDate(0, 0, 1)
		c.NotBefore = signedAt.AddDate(0, -1, 0)
	})
	if time.Now().After(signedAt.AddDate(0, 0, 1)) {
		_, err = check(bare, tagged("1"), s)
		refused(t, err, "expired")
	}
}

// hugeKey has no private half.
type hugeKey struct{ *rsa.PublicKey }

func (k hugeKey) Public() crypto.PublicKey { return k.PublicKey }

func (hugeKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }
