package trust

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// sigstoreBundle is a bundle in the JSON form of sigstore_bundle.proto, as far as
// it is used here.
type sigstoreBundle struct {
	MediaType string `json:"mediaType"`
	Material  struct {
		Certificate *rawBytes `json:"certificate"` // since version 0.3
		Chain       *struct {
			Certificates []rawBytes `json:"certificates"` // the signer's first
		} `json:"x509CertificateChain"`
		Entries []bundleEntry `json:"tlogEntries"`
	} `json:"verificationMaterial"`
	Message  json.RawMessage `json:"messageSignature"`
	Envelope *struct {
		Payload     []byte `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

type rawBytes struct {
	Bytes []byte `json:"rawBytes"`
}

// bundleEntry is an entry of the log, sigstore_rekor.proto.
type bundleEntry struct {
	Index protoInt `json:"logIndex"`
	LogID struct {
		KeyID []byte `json:"keyId"`
	} `json:"logId"`
	Time    protoInt `json:"integratedTime"`
	Promise *struct {
		Timestamp []byte `json:"signedEntryTimestamp"`
	} `json:"inclusionPromise"`
	Proof *inclusionProof `json:"inclusionProof"`
	Body  []byte          `json:"canonicalizedBody"`
}

// protoInt is an int64, which the JSON form of Protocol Buffers writes as a
// string.
type protoInt int64

func (n *protoInt) UnmarshalJSON(data []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(data), `"`), 10, 64)
	if err != nil {
		return fmt.Errorf("%s: no number", clip(string(data)))
	}
	*n = protoInt(v)
	return nil
}

// maxEntries is more than a bundle has entries in logs.
const maxEntries = 16

// verify verifies an entry: the promise of the log to take it, which says when it
// was made, or the proof that it is in there, which does not.
func (e *bundleEntry) verify(keys []publicKey, want *loggedContent) (time.Time, error) {
	var at time.Time
	switch {
	case e.Promise != nil && len(e.Promise.Timestamp) > 0:
		entry := logEntry{e.Body, int64(e.Time), int64(e.Index), hex.EncodeToString(e.LogID.KeyID)}
		if err := entry.verifyTimestamp(keys, e.Promise.Timestamp); err != nil {
			return at, err
		}
		at = time.Unix(entry.time, 0)
	case e.Proof != nil:
		if err := e.Proof.verify(keys, e.Body); err != nil {
			return at, fmt.Errorf("entry of the log: %w", err)
		}
	default:
		return at, errors.New("entry of the log: has neither a timestamp nor a proof")
	}
	if err := want.matches(e.Body); err != nil {
		return at, fmt.Errorf("entry of the log: %w", err)
	}
	return at, nil
}

// Types of what is in an envelope. Statements of other types are about an image,
// but do not vouch for it.
const (
	typeInToto        = "application/vnd.in-toto+json"
	typeStatement     = "https://in-toto.io/Statement/v1"
	typeStatement01   = "https://in-toto.io/Statement/v0.1"
	PredicateSignedBy = "https://sigstore.dev/cosign/sign/v1" // predicate of an image's signature
)

// statement is an in-toto statement, as far as it is used here.
type statement struct {
	Type          string `json:"_type"`
	PredicateType string `json:"predicateType"`
	Subject       []struct {
		Name   string            `json:"name"`
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
}

// verifyBundle verifies a sigstore bundle.
func (v *sigstoreVerifier) verifyBundle(img *Image, digest string, data []byte) (string, error) {
	b, err := parseBundle(data)
	if err != nil {
		return "", fmt.Errorf("bundle: %w", err)
	}
	who := signer{}
	if c := b.Material.Certificate; c != nil {
		who.leaf = c.Bytes
	} else if chain := b.Material.Chain; chain != nil {
		for i, raw := range chain.Certificates {
			if i == 0 {
				who.leaf = raw.Bytes
				continue
			}
			c, err := parseCertificate(raw.Bytes)
			if err != nil {
				return "", fmt.Errorf("certificate chain: %w", err)
			}
			who.chain = append(who.chain, c)
		}
	}
	sig := b.Envelope.Signatures[0].Sig
	keys, err := v.accepted(who, func(der []byte) (time.Time, error) {
		err := errors.New("has no entry of the transparency log")
		for i := range b.Material.Entries {
			at, eerr := b.Material.Entries[i].verify(v.rekor, &loggedContent{der, sig, b.Envelope.Payload, true})
			if eerr == nil {
				return at, nil
			}
			err = eerr
		}
		return time.Time{}, err
	})
	if err != nil {
		return "", err
	}
	by, err := verifiedBy(keys, preAuthentication(b.Envelope.PayloadType, b.Envelope.Payload), sig)
	if err != nil {
		return "", err
	}
	var s statement
	if err := json.Unmarshal(b.Envelope.Payload, &s); err != nil {
		return "", fmt.Errorf("statement: %w", invalid(err))
	}
	if s.Type != typeStatement && s.Type != typeStatement01 {
		return "", fmt.Errorf("statement: is of the type %s", clip(s.Type))
	}
	if s.PredicateType != PredicateSignedBy {
		return "", fmt.Errorf("statement: says %s of the image, and not that it is signed", clip(s.PredicateType))
	}
	err = errors.New("is for another image")
	for _, subject := range s.Subject {
		if "sha256:"+subject.Digest["sha256"] != digest {
			continue
		}
		if err = v.identity.check(img, subject.Name); err == nil {
			return signedText(digest, subject.Name, by), nil
		}
	}
	return "", err
}

// parseBundle parses a bundle and checks that it is of the kind that is known.
func parseBundle(data []byte) (*sigstoreBundle, error) {
	if len(data) > maxPayload {
		return nil, fmt.Errorf("more than %d bytes", maxPayload)
	}
	b := &sigstoreBundle{}
	if err := json.Unmarshal(data, b); err != nil {
		return nil, invalid(err)
	}
	switch b.MediaType {
	case "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.3",
		"application/vnd.dev.sigstore.bundle+json;version=0.2", "application/vnd.dev.sigstore.bundle+json;version=0.1":
	default:
		return nil, fmt.Errorf("is of the type %s", clip(b.MediaType))
	}
	switch {
	case b.Envelope == nil && b.Message != nil:
		return nil, errors.New("signs a message, not a statement about an image")
	case b.Envelope == nil:
		return nil, errors.New("has no content")
	case b.Envelope.PayloadType != typeInToto:
		return nil, fmt.Errorf("has a payload of the type %s, not an in-toto statement", clip(b.Envelope.PayloadType))
	case len(b.Envelope.Signatures) != 1:
		return nil, fmt.Errorf("has %d signatures in place of one", len(b.Envelope.Signatures))
	case len(b.Material.Entries) > maxEntries:
		return nil, errors.New("has too many entries of logs")
	}
	if c := b.Material.Chain; c != nil && len(c.Certificates) > maxChain {
		return nil, errors.New("has too many certificates")
	}
	return b, nil
}

// preAuthentication is the encoding of a DSSE envelope that is signed, protocol.md
// of DSSE v1.
func preAuthentication(kind string, payload []byte) []byte {
	b := fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(kind), kind, len(payload))
	return append(b, payload...)
}
