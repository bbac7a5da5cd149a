package trust

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"imgbuild/fault"
)

func pgpKey(t testing.TB, config *packet.Config) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("test", "", "test@example.com", config)
	must(t, err)
	return e
}

func pgpRing(t testing.TB, list ...*openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, e := range list {
		must(t, e.Serialize(&b))
	}
	return b.Bytes()
}

func pgpSigned(t testing.TB, e *openpgp.Entity, payload string, config *packet.Config) Signature {
	t.Helper()
	var b bytes.Buffer
	w, err := openpgp.Sign(&b, e, nil, config)
	must(t, err)
	_, err = io.WriteString(w, payload)
	must(t, err)
	must(t, w.Close())
	return Signature{Kind: Simple, Payload: b.Bytes()}
}

func TestOpenPGP(t *testing.T) {
	key, other := pgpKey(t, nil), pgpKey(t, nil)
	text := strings.Replace(string(simple(digest, repo+":1")), typeCosign, typeAtomic, 1)
	text = strings.Replace(text, "null", `{"creator":"test","timestamp":1700000000}`, 1)
	rule := func(form string, value any) *Policy {
		return policy(t, dict{"type": "signedBy", "keyType": "GPGKeys", form: value})
	}
	var armored bytes.Buffer
	w, err := armor.Encode(&armored, openpgp.PublicKeyType, nil)
	must(t, err)
	_, err = w.Write(pgpRing(t, key))
	must(t, err)
	must(t, w.Close())
	good := pgpSigned(t, key, text, nil)
	for _, p := range []*Policy{
		rule("keyData", pgpRing(t, key)), rule("keyData", pgpRing(t, other, key)), rule("keyData", armored.Bytes()),
		rule("keyPath", file(t, pgpRing(t, key))), rule("keyPaths", []string{file(t, pgpRing(t, other)), file(t, pgpRing(t, key))}),
	} {
		if by, err := check(p, tagged("1"), good); err != nil || !strings.Contains(by[0], "OpenPGP key") {
			t.Error(by, err)
		}
	}
	p := rule("keyData", pgpRing(t, key))
	_, err = check(rule("keyData", pgpRing(t, other)), tagged("1"), good)
	refused(t, err, "OpenPGP")
	_, err = check(p, tagged("2"), good)
	refused(t, err, "is for")
	_, err = check(p, tagged("1"), pgpSigned(t, key, strings.Replace(text, digest, "sha256:"+strings.Repeat("0", 64), 1), nil))
	refused(t, err, "another image")
	_, err = check(p, tagged("1"), pgpSigned(t, key, strings.Replace(text, typeAtomic, typeCosign, 1), nil))
	refused(t, err, typeCosign)
	_, err = check(p, tagged("1"), pgpSigned(t, key, strings.Replace(text, "1700000000", "0.5", 1), nil))
	refused(t, err, "timestamp")
	_, err = check(p, tagged("1"), newKey(t).signed(t, digest, repo+":1"))
	refused(t, err, "1 of the kind cosign")
	for i := range good.Payload {
		bad := Signature{Kind: Simple, Payload: bytes.Clone(good.Payload)}
		bad.Payload[i] ^= 1
		if _, err := check(p, tagged("1"), bad); err != nil {
			refused(t, err, "")
		} else if i > 8 && i < len(good.Payload)-8 {
			// Some bits of packet headers mean nothing; the signed text does.
			v := openpgpVerifier{identity: identity{kind: anyIdentity}}
			v.keys, _ = openpgp.ReadKeyRing(bytes.NewReader(pgpRing(t, key)))
			if by, err := v.verify(tagged("1"), digest, &bad); err != nil || !strings.Contains(by, digest) {
				t.Errorf("byte %d: %q, %v", i, by, err)
			}
		}
	}
	// What is only wrapped, or not signed at all.
	var literal bytes.Buffer
	lw, err := packet.SerializeLiteral(nopCloser{&literal}, false, "", 0)
	must(t, err)
	_, err = io.WriteString(lw, text)
	must(t, err)
	must(t, lw.Close())
	_, err = check(p, tagged("1"), Signature{Kind: Simple, Payload: literal.Bytes()})
	refused(t, err, "no signed message")
	// Keys that expired before they signed.
	past := time.Now().AddDate(-2, 0, 0)
	config := &packet.Config{Time: func() time.Time { return past }, KeyLifetimeSecs: 3600}
	old := pgpKey(t, config)
	_, err = check(rule("keyData", pgpRing(t, old)), tagged("1"), pgpSigned(t, old, text, config))
	refused(t, err, "expired")
	for _, data := range [][]byte{[]byte("hello"), {}} {
		_, err = check(rule("keyPath", file(t, data)), tagged("1"), good)
		if fault.ClassOf(err) != fault.Config {
			t.Error(err)
		}
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
