package trust

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// seeds adds what real cosign made: payloads, bundles and manifests.
func seeds(f *testing.F) {
	f.Helper()
	list, err := filepath.Glob("../oci/testdata/cosign/*/blobs/sha256/*")
	must(f, err)
	if len(list) == 0 {
		f.Fatal("no seeds")
	}
	for _, name := range list {
		data, err := os.ReadFile(name)
		must(f, err)
		f.Add(data)
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"*.example.com":[{"type":"reject"}],"":[{"type":"signedBy","keyType":"GPGKeys","keyData":"YQ==","signedIdentity":{"type":"remapIdentity","prefix":"a.example","signedPrefix":"b.example/x"}}]}}}`))
	f.Add([]byte(`{"default":[{"type":"sigstoreSigned","keyDatas":["YQ==","Yg=="],"rekorPublicKeyData":"YQ==","signedIdentity":{"type":"exactReference","dockerReference":"a/b:1"}}]}`))
	f.Add([]byte(`{"default":[{"type":"sigstoreSigned","fulcio":{"caData":"YQ==","oidcIssuer":"a","subjectEmail":"b"},"rekorPublicKeyDatas":["YQ=="]}]}`))
	f.Add([]byte(`{"default":[{"type":"sigstoreSigned","pki":{"caRootsData":"YQ==","caIntermediatesData":"YQ==","subjectHostname":"b"}}],"transports":{"oci":{"/a":[{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"}}]}}}`))
	none := func(context.Context, string, Want) ([]Signature, error) { return nil, nil }
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data, "policy.json")
		if err != nil {
			return
		}
		// A policy from outside must not make this test read files.
		if strings.Contains(strings.ToLower(string(data)), "path") || strings.Contains(string(data), `\u`) {
			return
		}
		for _, img := range []*Image{tagged("1"), InPath(OCI, "/a/b"), InDockerArchive(""), InStorage("overlay", "/s", repo, "1", "", "")} {
			by, err := p.Check(context.Background(), img, []string{digest}, none)
			if len(by) > 0 || err == nil && len(by) > 0 {
				t.Fatalf("%s: signed by %q", data, by)
			}
		}
	})
}

// nobody verifies signatures that nobody can have made.
func nobody(t testing.TB) *sigstoreVerifier {
	key, log := newKey(t), newKey(t)
	return &sigstoreVerifier{keys: []publicKey{{"x", key.Public(), key.der(t)}}, rekor: []publicKey{{"y", log.Public(), log.der(t)}}}
}

func FuzzBundle(f *testing.F) {
	seeds(f)
	key := newKey(f)
	f.Add(key.bundled(f, statementOf(digest, repo, PredicateSignedBy), dict{"tlogEntries": []any{transparency{key}.proven(f, []byte("{}"), 2, 5)}}))
	f.Add(key.bundled(f, statementOf(digest, repo, PredicateSignedBy), dict{"tlogEntries": []any{transparency{key}.promised(f, []byte("{}"), signedAt)}}))
	logged, plain := nobody(f), nobody(f)
	plain.rekor = nil
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []*sigstoreVerifier{logged, plain} {
			if by, err := v.verifyBundle(tagged("1"), digest, data); err == nil {
				t.Fatalf("signed by %q", by)
			}
		}
	})
}

func FuzzPayload(f *testing.F) {
	seeds(f)
	f.Add(simple(digest, repo+":1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range []string{typeCosign, typeAtomic} {
			p, err := parsePayload(data, kind)
			if err == nil && (!reDigest.MatchString(p.digest) || !strings.Contains(string(data), "critical")) {
				t.Fatalf("%+v", p)
			}
		}
	})
}

func FuzzLogEntry(f *testing.F) {
	log, key := transparency{newKey(f)}, newKey(f)
	f.Add([]byte(log.annotation(f, hashedRekord(f, []byte("x"), []byte("y"), key.pem(f)), signedAt)), hashedRekord(f, []byte("x"), []byte("y"), key.pem(f)))
	for _, version := range []string{"dsse 0.0.1", "dsse 0.0.2", "intoto 0.0.2"} {
		f.Add([]byte("{}"), dsseBody(f, version, []byte("x"), []byte("y"), key.pem(f), key.der(f), false))
	}
	keys := nobody(f).rekor
	f.Fuzz(func(t *testing.T, annotation, body []byte) {
		want := &loggedContent{[]byte("der"), []byte("sig"), []byte("payload"), false}
		if _, err := verifyAnnotatedEntry(keys, annotation, want); err == nil {
			t.Fatal("an entry of nobody's log is taken")
		}
		for _, want.envelope = range []bool{false, true} {
			_ = want.matches(body)
		}
	})
}

func FuzzBlob(f *testing.F) {
	f.Add([]byte("\x00sigstore-json\n{\"mimeType\":\"application/vnd.dev.cosign.simplesigning.v1+json\",\"payload\":\"e30=\",\"annotations\":{}}"))
	f.Add([]byte("\x00simple-signing\n\x90"))
	f.Add([]byte{0x90, 1, 2, 3})
	v := openpgpVerifier{}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseBlob(data)
		if err != nil || s == nil || s.Kind != Simple {
			return
		}
		if by, err := v.verify(tagged("1"), digest, s); err == nil {
			t.Fatalf("signed by %q", by)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	log := transparency{newKey(f)}
	proof := log.proven(f, []byte("x"), 1, 3)["inclusionProof"].(dict)
	f.Add(proof["checkpoint"].(dict)["envelope"].(string))
	keys := nobody(f).rekor
	f.Fuzz(func(t *testing.T, note string) {
		if _, _, err := verifyCheckpoint(keys, note); err == nil {
			t.Fatal("a checkpoint of nobody's log is taken")
		}
	})
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"busybox", repo + ":1", repo + "@" + digest, "localhost/x", "a.b:5000/c/d__e:1", "[::1]:5000/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseNamed(s)
		if err != nil {
			return
		}
		if again, err := parseNamed(n.String()); err != nil || again != n {
			t.Fatalf("%q becomes %q, which becomes %q, %v", s, n, again, err)
		}
	})
}
