package trust

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/fault"
)

const (
	repo   = "registry.example.com/org/os"
	digest = "sha256:599f4e97139ea87c41c7a43c6ec471cbbf5b113b056faca21ee3dd2d55a6f133"
	other  = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
)

// private is a key that tests sign with.
type private struct{ crypto.Signer }

func newKey(t testing.TB) private {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return private{k}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p private) sign(t testing.TB, message []byte) []byte {
	t.Helper()
	if k, ok := p.Signer.(ed25519.PrivateKey); ok {
		return ed25519.Sign(k, message)
	}
	sum := sha256.Sum256(message)
	sig, err := p.Sign(rand.Reader, sum[:], crypto.SHA256)
	must(t, err)
	return sig
}

func (p private) der(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(p.Public())
	must(t, err)
	return der
}

func (p private) pem(t testing.TB) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: p.der(t)})
}

// file writes a file and returns its path.
func file(t testing.TB, data []byte) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "file")
	must(t, err)
	_, err = f.Write(data)
	must(t, err)
	must(t, f.Close())
	return f.Name()
}

// simple makes a payload of simple signing.
func simple(digest, reference string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, reference, digest)
}

// signed makes a signature of the kind Cosign.
func (p private) signed(t testing.TB, digest, reference string) Signature {
	payload := simple(digest, reference)
	return Signature{Cosign, payload, map[string]string{annotationSignature: base64.StdEncoding.EncodeToString(p.sign(t, payload))}}
}

// policy parses a policy whose default is one requirement.
func policy(t testing.TB, requirement any) *Policy {
	t.Helper()
	text, err := json.Marshal(map[string]any{"default": []any{requirement}})
	must(t, err)
	p, err := Parse(text, "policy.json")
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

// dict is a JSON object.
type dict = map[string]any

// check checks an image that has signatures.
func check(p *Policy, img *Image, sigs ...Signature) ([]string, error) {
	return p.Check(context.Background(), img, []string{digest}, func(_ context.Context, d string, _ Want) ([]Signature, error) {
		return sigs, nil
	})
}

// refused checks that an error is of the class Untrusted and has the text.
func refused(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || fault.ClassOf(err) != fault.Untrusted || !strings.Contains(err.Error(), text) {
		t.Errorf("%v (class %d), want it untrusted for: %s", err, fault.ClassOf(err), text)
	}
}

func tagged(tag string) *Image { return InRegistry(repo, tag, "") }

func TestKeys(t *testing.T) {
	key, wrong := newKey(t), newKey(t)
	good := key.signed(t, digest, repo+":1")
	p := policy(t, dict{"type": "sigstoreSigned", "keyPath": file(t, key.pem(t))})
	if by, err := check(p, tagged("1"), good); err != nil || len(by) != 1 || !strings.Contains(by[0], digest) {
		t.Error(by, err)
	}
	_, err := check(p, tagged("1"))
	refused(t, err, "none")
	_, err = check(p, tagged("1"), wrong.signed(t, digest, repo+":1"))
	refused(t, err, "by none of the keys")
	_, err = check(p, tagged("1"), key.signed(t, other, repo+":1"))
	refused(t, err, "another image")
	_, err = check(p, tagged("2"), good)
	refused(t, err, "is for \""+repo+":1\"")
	if _, err := check(p, tagged("1"), wrong.signed(t, digest, repo+":1"), good); err != nil {
		t.Error("one good signature is not enough: ", err)
	}
	// A payload of the other scheme.
	payload := []byte(strings.Replace(string(good.Payload), typeCosign, typeAtomic, 1))
	_, err = check(p, tagged("1"), Signature{Cosign, payload, map[string]string{annotationSignature: base64.StdEncoding.EncodeToString(key.sign(t, payload))}})
	refused(t, err, typeAtomic)
	// A changed byte, wherever it is.
	for i := range good.Payload {
		bad := good
		bad.Payload = append([]byte{}, good.Payload...)
		bad.Payload[i] ^= 1
		_, err := check(p, tagged("1"), bad)
		refused(t, err, "none of the keys")
	}
	sig, _ := base64.StdEncoding.DecodeString(good.Annotations[annotationSignature])
	for i := range sig {
		sig[i] ^= 1
		_, err := check(p, tagged("1"), Signature{Cosign, good.Payload, map[string]string{annotationSignature: base64.StdEncoding.EncodeToString(sig)}})
		refused(t, err, "none of the keys")
		sig[i] ^= 1
	}
}

// All ways to name keys, and all kinds of them.
func TestKeyForms(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	spare := newKey(t)
	for name, key := range map[string]private{"ed25519": {ed}, "rsa": {rsaKey}, "p384": {p384}, "p256": newKey(t)} {
		sig := key.signed(t, digest, repo+":1")
		path, sparePath := file(t, key.pem(t)), file(t, spare.pem(t))
		for form, value := range map[string]any{
			"keyPath": path, "keyPaths": []string{sparePath, path},
			"keyData": key.pem(t), "keyDatas": [][]byte{spare.pem(t), key.pem(t)},
		} {
			if _, err := check(policy(t, dict{"type": "sigstoreSigned", form: value}), tagged("1"), sig); err != nil {
				t.Errorf("%s, %s: %v", name, form, err)
			}
		}
	}
	// As newer versions of cosign sign with longer curves.
	payload := simple(digest, repo+":1")
	sum := sha512.Sum384(payload)
	sig, err := p384.Sign(rand.Reader, sum[:], crypto.SHA384)
	must(t, err)
	if _, err := check(policy(t, dict{"type": "sigstoreSigned", "keyData": private{p384}.pem(t)}), tagged("1"),
		Signature{Cosign, payload, map[string]string{annotationSignature: base64.StdEncoding.EncodeToString(sig)}}); err != nil {
		t.Error(err)
	}
	for name, data := range map[string][]byte{
		"too few": private{short}.pem(t), "no public key": []byte("hello"),
		"more than one": append(spare.pem(t), spare.pem(t)...),
		"PRIVATE":       pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"}),
	} {
		_, err := check(policy(t, dict{"type": "sigstoreSigned", "keyData": data}), tagged("1"), key384(t, p384))
		if fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = check(policy(t, dict{"type": "sigstoreSigned", "keyPath": filepath.Join(t.TempDir(), "none")}), tagged("1"))
	if fault.ClassOf(err) != fault.Config {
		t.Error(err)
	}
}

func key384(t testing.TB, k *ecdsa.PrivateKey) Signature {
	return private{k}.signed(t, digest, repo+":1")
}

// Who asks for keys by a flag does not care for names; an index that is signed
// vouches for what it names.
func TestRequireKeys(t *testing.T) {
	key := newKey(t)
	p, err := Anything().RequireKeys(file(t, newKey(t).pem(t)), file(t, key.pem(t)))
	must(t, err)
	if _, err := check(p, InPath(OCI, "/srv/image"), key.signed(t, digest, "elsewhere.example.com/x")); err != nil {
		t.Error(err)
	}
	_, err = check(p, tagged("1"), newKey(t).signed(t, digest, repo+":1"))
	refused(t, err, "required key")
	var asked []Want
	index := func(_ context.Context, d string, w Want) ([]Signature, error) {
		asked = append(asked, w)
		if d == other {
			return []Signature{key.signed(t, other, "")}, nil
		}
		return nil, nil
	}
	if _, err := p.Check(context.Background(), tagged("1"), []string{digest, other}, index); err != nil {
		t.Error(err)
	}
	if len(asked) != 2 || !asked[0].Explicit || !asked[0].Sigstore || asked[0].Simple {
		t.Errorf("%+v", asked)
	}
	// The policy goes first.
	strict, err := policy(t, dict{"type": "reject"}).RequireKeys(file(t, key.pem(t)))
	must(t, err)
	_, err = check(strict, tagged("1"), key.signed(t, digest, ""))
	refused(t, err, "rejects")
	if _, err := Anything().RequireKeys(filepath.Join(t.TempDir(), "none")); fault.ClassOf(err) != fault.Config {
		t.Error(err)
	}
}

// What the sources answer with is passed on.
func TestSourceFails(t *testing.T) {
	p := policy(t, dict{"type": "sigstoreSigned", "keyData": newKey(t).pem(t)})
	gone := fault.New(fault.NotFound, fmt.Errorf("gone"), "look")
	_, err := p.Check(context.Background(), tagged("1"), []string{digest}, func(context.Context, string, Want) ([]Signature, error) { return nil, gone })
	if fault.ClassOf(err) != fault.NotFound || fault.HintOf(err) != "look" {
		t.Error(err)
	}
	_, err = p.Check(context.Background(), tagged("1"), []string{digest}, func(context.Context, string, Want) ([]Signature, error) { return nil, context.Canceled })
	if fault.ClassOf(err) != fault.Internal {
		t.Error(err)
	}
}

func TestUnimplemented(t *testing.T) {
	for _, r := range []any{
		dict{"type": "signedBaseLayer", "baseLayerIdentity": dict{"type": "matchExact"}},
		dict{"type": "signedBy", "keyType": "X509Certificates", "keyData": []byte("x")},
	} {
		if _, err := check(policy(t, r), tagged("1")); fault.ClassOf(err) != fault.Unsupported {
			t.Error(err)
		}
	}
}
