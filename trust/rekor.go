package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// loggedContent is what an entry of the log has to be about.
type loggedContent struct {
	der       []byte // key or certificate
	signature []byte
	payload   []byte // what is signed; of a DSSE envelope its payload
	envelope  bool   // it is one
}

// logEntry is an entry of Rekor.
type logEntry struct {
	body  []byte
	time  int64 // when it was made, in seconds since 1970
	index int64
	logID string // hexadecimal
}

// maxExact is the greatest number that the canonical form of JSON, RFC 8785,
// writes with all its digits.
const maxExact = 1 << 53

// canonical returns what a signed entry timestamp signs: the entry in JSON in the
// form of RFC 8785.
func (e logEntry) canonical() ([]byte, error) {
	if _, err := hex.DecodeString(e.logID); err != nil || e.time < 0 || e.index < 0 || e.time >= maxExact || e.index >= maxExact {
		return nil, errors.New("entry of the log: damaged")
	}
	return fmt.Appendf(nil, `{"body":"%s","integratedTime":%d,"logID":"%s","logIndex":%d}`,
		base64.StdEncoding.EncodeToString(e.body), e.time, e.logID, e.index), nil
}

// verifyTimestamp verifies the signed entry timestamp.
func (e logEntry) verifyTimestamp(keys []publicKey, set []byte) error {
	text, err := e.canonical()
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.verify(text, set) {
			return nil
		}
	}
	return errors.New("entry of the log: none of the log's keys has signed its timestamp")
}

// verifyAnnotatedEntry verifies the entry in the annotation
// dev.sigstore.cosign/bundle, and returns when it was made.
func verifyAnnotatedEntry(keys []publicKey, annotation []byte, want *loggedContent) (time.Time, error) {
	var set []byte
	var raw json.RawMessage
	if err := exact(annotation, map[string]any{"SignedEntryTimestamp": &set, "Payload": &raw}); err != nil {
		return time.Time{}, fmt.Errorf("entry of the log: %w", err)
	}
	var e logEntry
	if err := exact(raw, map[string]any{"body": &e.body, "integratedTime": &e.time, "logIndex": &e.index, "logID": &e.logID}); err != nil {
		return time.Time{}, fmt.Errorf("entry of the log: %w", err)
	}
	if err := e.verifyTimestamp(keys, set); err != nil {
		return time.Time{}, err
	}
	if err := want.matches(e.body); err != nil {
		return time.Time{}, fmt.Errorf("entry of the log: %w", err)
	}
	return time.Unix(e.time, 0), nil
}

// logHash is a digest as entries have it.
type logHash struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`  // hexadecimal, version 0.0.1
	Digest    []byte `json:"digest"` // version 0.0.2
}

func (h logHash) of(data []byte) bool {
	sum := sha256.Sum256(data)
	switch h.Algorithm {
	case "sha256":
		return h.Value == hex.EncodeToString(sum[:])
	case "SHA2_256":
		return bytes.Equal(h.Digest, sum[:])
	}
	return false
}

// logVerifier is the key or certificate in an entry of version 0.0.2.
type logVerifier struct {
	PublicKey   struct{ RawBytes []byte } `json:"publicKey"`
	Certificate struct{ RawBytes []byte } `json:"x509Certificate"`
}

func (v logVerifier) is(der []byte) bool {
	return len(der) > 0 && (bytes.Equal(v.PublicKey.RawBytes, der) || bytes.Equal(v.Certificate.RawBytes, der))
}

// isPEM tells whether a PEM text is that of a key or certificate.
func isPEM(text, der []byte) bool {
	block, rest := pem.Decode(text)
	return block != nil && len(bytes.TrimSpace(rest)) == 0 && bytes.Equal(block.Bytes, der)
}

// matches tells whether the body of an entry, which the log vouches for, is about
// the content.
func (want *loggedContent) matches(body []byte) error {
	var head struct {
		Kind       string          `json:"kind"`
		APIVersion string          `json:"apiVersion"`
		Spec       json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return fmt.Errorf("body: %w", invalid(err))
	}
	about := map[string]func(*loggedContent, json.RawMessage) (key, sig, data bool, err error){
		"hashedrekord 0.0.1": (*loggedContent).hashedRecord,
		"hashedrekord 0.0.2": (*loggedContent).hashedRecord2,
		"dsse 0.0.1":         (*loggedContent).dsse,
		"dsse 0.0.2":         (*loggedContent).dsse2,
		"intoto 0.0.2":       (*loggedContent).inToto,
	}[head.Kind+" "+head.APIVersion]
	if about == nil || want.envelope == (head.Kind == "hashedrekord") {
		return fmt.Errorf("is of the kind %s, which does not fit the signature", clip(head.Kind+" "+head.APIVersion))
	}
	key, sig, data, err := about(want, head.Spec)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", head.Kind, invalid(err))
	case !key:
		return errors.New("is of another key or certificate")
	case !sig:
		return errors.New("is of another signature")
	case !data:
		return errors.New("is of other content")
	}
	return nil
}

func (want *loggedContent) hashedRecord(spec json.RawMessage) (key, sig, data bool, err error) {
	var s struct {
		Data struct {
			Hash logHash `json:"hash"`
		} `json:"data"`
		Signature struct {
			Content   []byte `json:"content"`
			PublicKey struct {
				Content []byte `json:"content"`
			} `json:"publicKey"`
		} `json:"signature"`
	}
	err = json.Unmarshal(spec, &s)
	return isPEM(s.Signature.PublicKey.Content, want.der), bytes.Equal(s.Signature.Content, want.signature), s.Data.Hash.of(want.payload), err
}

func (want *loggedContent) hashedRecord2(spec json.RawMessage) (key, sig, data bool, err error) {
	var s struct {
		Record struct {
			Data      logHash `json:"data"`
			Signature struct {
				Content  []byte      `json:"content"`
				Verifier logVerifier `json:"verifier"`
			} `json:"signature"`
		} `json:"hashedRekordV002"`
	}
	err = json.Unmarshal(spec, &s)
	r := &s.Record
	return r.Signature.Verifier.is(want.der), bytes.Equal(r.Signature.Content, want.signature), r.Data.of(want.payload), err
}

func (want *loggedContent) dsse(spec json.RawMessage) (key, sig, data bool, err error) {
	var s struct {
		PayloadHash logHash `json:"payloadHash"`
		Signatures  []struct {
			Signature []byte `json:"signature"`
			Verifier  []byte `json:"verifier"`
		} `json:"signatures"`
	}
	err = json.Unmarshal(spec, &s)
	if len(s.Signatures) == 1 {
		key, sig = isPEM(s.Signatures[0].Verifier, want.der), bytes.Equal(s.Signatures[0].Signature, want.signature)
	}
	return key, sig, s.PayloadHash.of(want.payload), err
}

func (want *loggedContent) dsse2(spec json.RawMessage) (key, sig, data bool, err error) {
	var s struct {
		Envelope struct {
			PayloadHash logHash `json:"payloadHash"`
			Signatures  []struct {
				Content  []byte      `json:"content"`
				Verifier logVerifier `json:"verifier"`
			} `json:"signatures"`
		} `json:"dsseV002"`
	}
	err = json.Unmarshal(spec, &s)
	if e := &s.Envelope; len(e.Signatures) == 1 {
		key, sig = e.Signatures[0].Verifier.is(want.der), bytes.Equal(e.Signatures[0].Content, want.signature)
	}
	return key, sig, s.Envelope.PayloadHash.of(want.payload), err
}

// inToto is the kind of older versions of cosign; its signature is in base64
// twice.
func (want *loggedContent) inToto(spec json.RawMessage) (key, sig, data bool, err error) {
	var s struct {
		Content struct {
			Envelope struct {
				Signatures []struct {
					PublicKey []byte `json:"publicKey"`
					Sig       []byte `json:"sig"`
				} `json:"signatures"`
			} `json:"envelope"`
			PayloadHash logHash `json:"payloadHash"`
		} `json:"content"`
	}
	err = json.Unmarshal(spec, &s)
	if e := &s.Content.Envelope; len(e.Signatures) == 1 {
		key = isPEM(e.Signatures[0].PublicKey, want.der)
		sig = string(e.Signatures[0].Sig) == base64.StdEncoding.EncodeToString(want.signature)
	}
	return key, sig, s.Content.PayloadHash.of(want.payload), err
}
