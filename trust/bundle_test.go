package trust

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// statementOf makes an in-toto statement about an image, as cosign does, or with a
// name.
func statementOf(digest, name, predicate string) []byte {
	subject := ""
	if name != "" {
		subject = fmt.Sprintf(`"name":%q,`, name)
	}
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{%s"digest":{"sha256":%q}}],"predicateType":%q,"predicate":{}}`,
		subject, strings.TrimPrefix(digest, "sha256:"), predicate)
}

// bundled makes a bundle around a statement.
func (p private) bundled(t testing.TB, statement []byte, material dict) []byte {
	t.Helper()
	text, err := json.Marshal(dict{
		"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": material,
		"dsseEnvelope": dict{"payloadType": typeInToto, "payload": statement,
			"signatures": []any{dict{"sig": p.sign(t, preAuthentication(typeInToto, statement))}}},
	})
	must(t, err)
	return text
}

func bundleOf(data []byte) Signature { return Signature{Kind: Bundle, Payload: data} }

func TestBundle(t *testing.T) {
	key := newKey(t)
	p, err := Anything().RequireKeys(file(t, key.pem(t)))
	must(t, err)
	plain := dict{"publicKey": dict{"hint": "x"}}
	good := key.bundled(t, statementOf(digest, "", PredicateSignedBy), plain)
	if _, err := check(p, tagged("1"), bundleOf(good)); err != nil {
		t.Error(err)
	}
	for want, data := range map[string][]byte{
		"another image":      key.bundled(t, statementOf(other, "", PredicateSignedBy), plain),
		"not that it is":     key.bundled(t, statementOf(digest, "", "https://slsa.dev/provenance/v1"), plain),
		"none of the keys":   newKey(t).bundled(t, statementOf(digest, "", PredicateSignedBy), plain),
		"is of the type":     []byte(strings.Replace(string(good), "v0.3", "v0.9", 1)),
		"in place of one":    []byte(strings.Replace(string(good), `"signatures":[`, `"signatures":[{"sig":""},`, 1)),
		"signs a message":    []byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","messageSignature":{}}`),
		"no content":         []byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`),
		"not an in-toto":     []byte(strings.Replace(string(good), "in-toto", "x-other", 1)),
		"invalid JSON":       []byte("{"),
		"statement: invalid": key.bundled(t, []byte("x"), plain),
		"Statement/v9":       key.bundled(t, []byte(strings.Replace(string(statementOf(digest, "", PredicateSignedBy)), "v1", "v9", 1)), plain),
	} {
		_, err := check(p, tagged("1"), bundleOf(data))
		refused(t, err, want)
	}
	for _, at := range []string{`"payload":"`, `"sig":"`} {
		bad := []byte(good)
		i := strings.Index(string(good), at) + len(at) + 20
		bad = append(append(append([]byte{}, bad[:i]...), bad[i]^1), bad[i+1:]...)
		_, err := check(p, tagged("1"), bundleOf(bad))
		refused(t, err, "")
	}
	// A policy wants a name. What names one is taken by it.
	byName := policy(t, dict{"type": "sigstoreSigned", "keyData": key.pem(t), "signedIdentity": dict{"type": "matchRepository"}})
	_, err = check(byName, tagged("1"), bundleOf(good))
	refused(t, err, "names no image")
	if _, err := check(byName, tagged("1"), bundleOf(key.bundled(t, statementOf(digest, repo, PredicateSignedBy), plain))); err != nil {
		t.Error(err)
	}
	_, err = check(byName, tagged("1"), bundleOf(key.bundled(t, statementOf(digest, repo+"2", PredicateSignedBy), plain)))
	refused(t, err, "is for")
}

// dsseBody makes the body of a log's entry about an envelope, in all versions.
func dsseBody(t testing.TB, version string, payload, sig, keyPEM, der []byte, cert bool) []byte {
	t.Helper()
	sum := sha256.Sum256(payload)
	kind, spec := "dsse", dict{}
	switch version {
	case "dsse 0.0.1":
		spec = dict{"payloadHash": dict{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])},
			"signatures": []any{dict{"signature": sig, "verifier": keyPEM}}}
	case "dsse 0.0.2":
		by := "publicKey"
		if cert {
			by = "x509Certificate"
		}
		spec = dict{"dsseV002": dict{"payloadHash": dict{"algorithm": "SHA2_256", "digest": sum[:]},
			"signatures": []any{dict{"content": sig, "verifier": dict{by: dict{"rawBytes": der}}}}}}
	case "intoto 0.0.2":
		kind = "intoto"
		spec = dict{"content": dict{"payloadHash": dict{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])},
			"envelope": dict{"signatures": []any{dict{"publicKey": keyPEM, "sig": []byte(base64.StdEncoding.EncodeToString(sig))}}}}}
	}
	text, err := json.Marshal(dict{"kind": kind, "apiVersion": strings.Fields(version)[1], "spec": spec})
	must(t, err)
	return text
}

// promised makes an entry with a signed timestamp.
func (l transparency) promised(t testing.TB, body []byte, at time.Time) dict {
	t.Helper()
	id, err := hex.DecodeString(l.id(t))
	must(t, err)
	return dict{"logIndex": "7", "logId": dict{"keyId": id}, "integratedTime": fmt.Sprint(at.Unix()), "canonicalizedBody": body,
		"inclusionPromise": dict{"signedEntryTimestamp": l.set(t, body, at)}}
}

// proven makes an entry with a proof that it is one of several in a log.
func (l transparency) proven(t testing.TB, body []byte, index, size int) dict {
	t.Helper()
	tree := make([][]byte, size)
	for i := range tree {
		tree[i] = fmt.Appendf(nil, "entry %d", i)
	}
	tree[index] = body
	root := rootOf(tree)
	note := fmt.Sprintf("log.example.com - 1\n%d\n%s\n", size, base64.StdEncoding.EncodeToString(root))
	note += fmt.Sprintf("\n— witness.example.com %s\n— log.example.com %s\n", base64.StdEncoding.EncodeToString([]byte("1234nothing")),
		base64.StdEncoding.EncodeToString(append([]byte("1234"), l.sign(t, []byte(note))...)))
	return dict{"logIndex": "0", "canonicalizedBody": body, "inclusionProof": dict{
		"logIndex": fmt.Sprint(index), "treeSize": fmt.Sprint(size), "rootHash": root, "hashes": pathOf(tree, index), "checkpoint": dict{"envelope": note}}}
}

// rootOf and pathOf are MTH and PATH of RFC 9162 section 2.1, as written there.
func rootOf(leaves [][]byte) []byte {
	if len(leaves) == 1 {
		sum := sha256.Sum256(append([]byte{0}, leaves[0]...))
		return sum[:]
	}
	k := split(len(leaves))
	sum := sha256.Sum256(append(append([]byte{1}, rootOf(leaves[:k])...), rootOf(leaves[k:])...))
	return sum[:]
}

func pathOf(leaves [][]byte, m int) [][]byte {
	if len(leaves) == 1 {
		return nil
	}
	k := split(len(leaves))
	if m < k {
		return append(pathOf(leaves[:k], m), rootOf(leaves[k:]))
	}
	return append(pathOf(leaves[k:], m-k), rootOf(leaves[:k]))
}

func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

func TestInclusion(t *testing.T) {
	for size := 1; size <= 33; size++ {
		leaves := make([][]byte, size)
		for i := range leaves {
			leaves[i] = fmt.Appendf(nil, "%d", i)
		}
		root := rootOf(leaves)
		for i := range leaves {
			path := pathOf(leaves, i)
			if !included(int64(i), int64(size), path, root, leaves[i]) {
				t.Fatalf("%d of %d", i, size)
			}
			if included(int64(i), int64(size), path, root, []byte("x")) || size > 1 && included(int64((i+1)%size), int64(size), path, root, leaves[i]) ||
				included(int64(i), int64(size), append(path, root), root, leaves[i]) || included(int64(i), int64(size)*2+1, path, root, leaves[i]) {
				t.Fatalf("%d of %d: a wrong proof is taken", i, size)
			}
		}
	}
	if included(-1, 1, nil, nil, nil) || included(1, 1, nil, nil, nil) {
		t.Error("an index outside of the tree")
	}
}

func TestLoggedBundle(t *testing.T) {
	k := newKeyless(t)
	text := statementOf(digest, repo+":1", PredicateSignedBy)
	chain := dict{"certificates": []any{dict{"rawBytes": k.leaf.Raw}, dict{"rawBytes": k.ca.middle.Raw}}}
	// The bundle is put together twice: its signature has to be in the entry.
	sig := k.key.sign(t, preAuthentication(typeInToto, text))
	pack := func(material dict) Signature {
		data, err := json.Marshal(dict{
			"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2", "verificationMaterial": material,
			"dsseEnvelope": dict{"payloadType": typeInToto, "payload": text, "signatures": []any{dict{"sig": sig}}},
		})
		must(t, err)
		return bundleOf(data)
	}
	body := func(version string) []byte { return dsseBody(t, version, text, sig, certPEM(k.leaf), k.leaf.Raw, true) }
	p := policy(t, k.rule(t))
	for _, version := range []string{"dsse 0.0.1", "dsse 0.0.2", "intoto 0.0.2"} {
		entry := k.log.promised(t, body(version), signedAt)
		if _, err := check(p, tagged("1"), pack(dict{"x509CertificateChain": chain, "tlogEntries": []any{entry}})); err != nil {
			t.Error(version, err)
		}
		// Without a time the certificate proves nothing.
		_, err := check(p, tagged("1"), pack(dict{"x509CertificateChain": chain, "tlogEntries": []any{k.log.proven(t, body(version), 4, 11)}}))
		refused(t, err, "no time")
		_, err = check(p, tagged("1"), pack(dict{"x509CertificateChain": chain, "tlogEntries": []any{newKeyless(t).log.promised(t, body(version), signedAt)}}))
		refused(t, err, "none of the log's keys")
		_, err = check(p, tagged("1"), pack(dict{"x509CertificateChain": chain, "tlogEntries": []any{k.log.promised(t, body(version), signedAt.Add(time.Hour))}}))
		refused(t, err, "expired")
		wrong := dsseBody(t, version, []byte("x"), sig, certPEM(k.leaf), k.leaf.Raw, true)
		_, err = check(p, tagged("1"), pack(dict{"x509CertificateChain": chain, "tlogEntries": []any{k.log.promised(t, wrong, signedAt)}}))
		refused(t, err, "other content")
		wrong = dsseBody(t, version, text, []byte("x"), certPEM(k.leaf), k.leaf.Raw, true)
		_, err = check(p, tagged("1"), pack(dict{"x509CertificateChain": chain, "tlogEntries": []any{k.log.promised(t, wrong, signedAt)}}))
		refused(t, err, "another signature")
	}
	_, err := check(p, tagged("1"), pack(dict{"x509CertificateChain": chain}))
	refused(t, err, "no entry")
	_, err = check(p, tagged("1"), pack(dict{"x509CertificateChain": chain, "tlogEntries": []any{dict{"canonicalizedBody": body("dsse 0.0.1")}}}))
	refused(t, err, "neither")
	// Version 0.3 has the signer's certificate only: the policy has the others.
	r := k.rule(t)
	r["fulcio"].(dict)["caData"] = certPEM(k.ca.root, k.ca.middle)
	entry := k.log.promised(t, body("dsse 0.0.1"), signedAt)
	alone := pack(dict{"certificate": dict{"rawBytes": k.leaf.Raw}, "tlogEntries": []any{entry}})
	if _, err := check(policy(t, r), tagged("1"), alone); err != nil {
		t.Error(err)
	}
	_, err = check(p, tagged("1"), alone)
	refused(t, err, "unknown authority")

	// A key needs no time, so that a proof will do.
	key := policy(t, dict{"type": "sigstoreSigned", "keyData": k.key.pem(t), "rekorPublicKeyData": k.log.pem(t)})
	for _, version := range []string{"dsse 0.0.1", "dsse 0.0.2", "intoto 0.0.2"} {
		b := dsseBody(t, version, text, sig, k.key.pem(t), k.key.der(t), false)
		proven := k.log.proven(t, b, 4, 11)
		if _, err := check(key, tagged("1"), pack(dict{"tlogEntries": []any{proven}})); err != nil {
			t.Error(version, err)
		}
		proven["canonicalizedBody"] = append([]byte(" "), b...)
		_, err := check(key, tagged("1"), pack(dict{"tlogEntries": []any{proven}}))
		refused(t, err, "does not lead")
	}
	b := dsseBody(t, "dsse 0.0.2", text, sig, nil, k.key.der(t), false)
	for want, change := range map[string]func(e dict){
		"none of the log's": func(e dict) {
			checkpoint := e["inclusionProof"].(dict)["checkpoint"].(dict)
			checkpoint["envelope"] = strings.Replace(checkpoint["envelope"].(string), "log.example.com - 1", "log.example.com - 2", 1)
		},
		"another checkpoint": func(e dict) { e["inclusionProof"].(dict)["treeSize"] = "12" },
		"damaged":            func(e dict) { e["inclusionProof"].(dict)["checkpoint"] = dict{"envelope": "x"} },
		"no number":          func(e dict) { e["inclusionProof"].(dict)["treeSize"] = "x" },
	} {
		e := k.log.proven(t, b, 4, 11)
		change(e)
		_, err := check(key, tagged("1"), pack(dict{"tlogEntries": []any{e}}))
		refused(t, err, want)
	}
}
