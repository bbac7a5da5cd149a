package attest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// Envelope is a DSSE envelope.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"` // base64
	Signatures  []Signature `json:"signatures"`
}

// Signature is one of an envelope. KeyID is a hint only, which no trust is put in.
type Signature struct {
	KeyID string `json:"keyid,omitempty"`
	Sig   string `json:"sig"` // base64
}

// maxSignatures is how many signatures of an envelope are tried.
const maxSignatures = 64

// ErrNotSigned is returned where no signature of an envelope is by the key.
var ErrNotSigned = errors.New("no signature by this key")

// PAE returns what is signed: the pre-authentication encoding of protocol.md.
func PAE(payloadType string, payload []byte) []byte {
	b := fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload))
	return append(b, payload...)
}

// Sign returns an envelope with the payload, as one line of JSON.
func Sign(k *PrivateKey, payloadType string, payload []byte) ([]byte, error) {
	sig, err := k.sign(PAE(payloadType, payload))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	id, err := k.Public().ID()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(Envelope{
		PayloadType: payloadType,
		Payload:     base64.StdEncoding.EncodeToString(payload),
		Signatures:  []Signature{{KeyID: id, Sig: base64.StdEncoding.EncodeToString(sig)}},
	})
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// IsEnvelope tells whether a JSON text is an envelope rather than a statement.
func IsEnvelope(text []byte) bool {
	var e struct {
		PayloadType *string `json:"payloadType"`
		Payload     *string `json:"payload"`
	}
	return json.Unmarshal(bytes.TrimSpace(text), &e) == nil && e.PayloadType != nil && e.Payload != nil
}

// ParseEnvelope parses an envelope and returns its payload, which nobody vouches
// for until Verify did.
func ParseEnvelope(text []byte) (*Envelope, []byte, error) {
	var e Envelope
	if err := unmarshal(text, &e); err != nil {
		return nil, nil, err
	}
	payload, err := decode(e.Payload)
	if err != nil {
		return nil, nil, fmt.Errorf("payload: %w", err)
	}
	return &e, payload, nil
}

// Verify returns the payload when one of the signatures is by the key, and else an
// error that wraps ErrNotSigned.
func (e *Envelope) Verify(k *PublicKey) ([]byte, error) {
	payload, err := decode(e.Payload)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	if len(e.Signatures) > maxSignatures {
		return nil, fmt.Errorf("%d signatures, more than %d", len(e.Signatures), maxSignatures)
	}
	signed := PAE(e.PayloadType, payload)
	for _, s := range e.Signatures {
		sig, err := decode(s.Sig)
		if err == nil && k.verify(signed, sig) {
			return payload, nil
		}
	}
	return nil, ErrNotSigned
}

// decode decodes base64 in its standard or its URL-safe form, both of which
// readers must take.
func decode(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		if u, uerr := base64.URLEncoding.DecodeString(s); uerr == nil {
			return u, nil
		}
	}
	return b, err
}
