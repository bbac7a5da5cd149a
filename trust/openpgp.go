package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp"

	"imgbuild/fault"
)

// signedBy is the requirement of this name: simple signing with OpenPGP keys.
type signedBy struct {
	keys     material
	identity identity
}

type openpgpVerifier struct {
	keys     openpgp.EntityList
	identity identity
}

func (r *signedBy) check(ctx context.Context, c *candidate) (string, error) {
	pieces, err := r.keys.load()
	if err != nil {
		return "", err
	}
	v := openpgpVerifier{identity: r.identity}
	for _, p := range pieces {
		list, err := openpgp.ReadKeyRing(bytes.NewReader(p.data))
		if err != nil {
			list, err = openpgp.ReadArmoredKeyRing(bytes.NewReader(p.data))
		}
		if err != nil {
			return "", fault.New(fault.Config, fmt.Errorf("%s: no keyring of OpenPGP: %w", p.name, err), "")
		}
		v.keys = append(v.keys, list...)
	}
	if len(v.keys) == 0 {
		return "", fault.New(fault.Config, errors.New("signedBy: the keyring has no keys"), "")
	}
	return c.oneOf(ctx, v, Want{Simple: true})
}

func (v openpgpVerifier) takes(k Kind) bool { return k == Simple }

// verify verifies an OpenPGP message with its signature.
func (v openpgpVerifier) verify(img *Image, digest string, s *Signature) (string, error) {
	message, err := openpgp.ReadMessage(bytes.NewReader(s.Payload), v.keys, nil, nil)
	if err != nil {
		return "", fmt.Errorf("OpenPGP: %w", err)
	}
	if !message.IsSigned || message.IsEncrypted {
		return "", errors.New("OpenPGP: is no signed message")
	}
	// The signature is verified when the end of the message is read.
	data, err := io.ReadAll(io.LimitReader(message.UnverifiedBody, maxPayload+1))
	if err != nil {
		return "", fmt.Errorf("OpenPGP: %w", err)
	}
	if len(data) > maxPayload {
		return "", fmt.Errorf("OpenPGP: unpacks to more than %d bytes", maxPayload)
	}
	if message.SignatureError != nil {
		return "", fmt.Errorf("OpenPGP: %w", message.SignatureError)
	}
	if message.SignedBy == nil || message.Signature == nil {
		return "", fmt.Errorf("OpenPGP: is by the key %016X, which is none of those that are accepted", message.SignedByKeyId)
	}
	p, err := parsePayload(data, typeAtomic)
	if err != nil {
		return "", fmt.Errorf("payload: %w", err)
	}
	by := fmt.Sprintf("the OpenPGP key %X", message.SignedBy.Entity.PrimaryKey.Fingerprint)
	return p.accept(img, digest, v.identity, by)
}
