package attest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"
)

// MaxKey is the largest file with a key that is read, in bytes.
const MaxKey = 64 << 10

// PrivateKey signs.
type PrivateKey struct{ key crypto.Signer }

// PublicKey verifies.
type PublicKey struct{ key crypto.PublicKey }

// Types of PEM blocks with private keys of cosign, of newer and older versions.
const (
	pemSigstore = "ENCRYPTED SIGSTORE PRIVATE KEY"
	pemCosign   = "ENCRYPTED COSIGN PRIVATE KEY"
)

// ParsePrivateKey parses a private key in PEM. The password is asked for when the
// key is encrypted.
func ParsePrivateKey(text []byte, password func() ([]byte, error)) (*PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not in PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case pemSigstore, pemCosign:
		var secret, plain []byte
		if secret, err = password(); err != nil {
			return nil, err
		}
		if plain, err = decrypt(block.Bytes, secret); err != nil {
			return nil, err
		}
		key, err = x509.ParsePKCS8PrivateKey(plain)
	case "PUBLIC KEY":
		return nil, errors.New("is a public key, which cannot sign")
	default:
		return nil, fmt.Errorf("holds a %s, which is not supported", clip(block.Type))
	}
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok || !supported(signer.Public()) {
		return nil, fmt.Errorf("is a %T: not ECDSA on a NIST curve, nor Ed25519", key)
	}
	return &PrivateKey{signer}, nil
}

// ParsePublicKey parses a public key in PEM.
func ParsePublicKey(text []byte) (*PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not in PEM")
	}
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("holds a %s, not a PUBLIC KEY", clip(block.Type))
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if !supported(key) {
		return nil, fmt.Errorf("is a %T: not ECDSA on a NIST curve, nor Ed25519", key)
	}
	return &PublicKey{key}, nil
}

func supported(key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521()
	case ed25519.PublicKey:
		return true
	}
	return false
}

// Public returns the key that verifies what k signs.
func (k *PrivateKey) Public() *PublicKey { return &PublicKey{k.key.Public()} }

// ID names the key: the SHA-256 of its SubjectPublicKeyInfo.
func (k *PublicKey) ID() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(k.key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// sign signs a message, always with the same bytes: without a source of randomness
// ECDSA is that of RFC 6979.
func (k *PrivateKey) sign(message []byte) ([]byte, error) {
	public, ok := k.key.Public().(*ecdsa.PublicKey)
	if !ok {
		return k.key.Sign(nil, message, crypto.Hash(0))
	}
	digest, hash := digestFor(public, message)
	return k.key.Sign(nil, digest, hash)
}

func (k *PublicKey) verify(message, sig []byte) bool {
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		digest, _ := digestFor(key, message)
		return ecdsa.VerifyASN1(key, digest, sig)
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, sig)
	}
	return false
}

// digestFor hashes a message as sigstore does for a curve.
func digestFor(key *ecdsa.PublicKey, message []byte) ([]byte, crypto.Hash) {
	switch key.Curve {
	case elliptic.P384():
		sum := sha512.Sum384(message)
		return sum[:], crypto.SHA384
	case elliptic.P521():
		sum := sha512.Sum512(message)
		return sum[:], crypto.SHA512
	}
	sum := sha256.Sum256(message)
	return sum[:], crypto.SHA256
}

// encryptedKey is a private key as cosign keeps it (secure-systems-lab/go-securesystemslib,
// encrypted): PKCS #8 in NaCl's secretbox, under a key that scrypt makes of the
// password.
type encryptedKey struct {
	KDF struct {
		Name   string `json:"name"`
		Params struct {
			N int `json:"N"`
			R int `json:"r"`
			P int `json:"p"`
		} `json:"params"`
		Salt []byte `json:"salt"`
	} `json:"kdf"`
	Cipher struct {
		Name  string `json:"name"`
		Nonce []byte `json:"nonce"`
	} `json:"cipher"`
	Ciphertext []byte `json:"ciphertext"`
}

// maxScrypt bounds the memory that scrypt takes, 128·N·r bytes, and its time.
// cosign's own parameters take 64 MiB.
const maxScrypt = 256 << 20

func decrypt(text, password []byte) ([]byte, error) {
	var e encryptedKey
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("encrypted key: invalid JSON: %w", err)
	}
	if e.KDF.Name != "scrypt" || e.Cipher.Name != "nacl/secretbox" {
		return nil, fmt.Errorf("encrypted key: %s and %s, not scrypt and nacl/secretbox", clip(e.KDF.Name), clip(e.Cipher.Name))
	}
	p := e.KDF.Params
	if p.N <= 1 || p.R <= 0 || p.P <= 0 || p.P > 16 || p.R > 64 || p.N > maxScrypt/128/p.R {
		return nil, fmt.Errorf("encrypted key: scrypt with N=%d, r=%d, p=%d: out of bounds", p.N, p.R, p.P)
	}
	if len(e.Cipher.Nonce) != 24 {
		return nil, errors.New("encrypted key: the nonce has not 24 bytes")
	}
	derived, err := scrypt.Key(password, e.KDF.Salt, p.N, p.R, p.P, 32)
	if err != nil {
		return nil, fmt.Errorf("encrypted key: %w", err)
	}
	plain, ok := secretbox.Open(nil, e.Ciphertext, (*[24]byte)(e.Cipher.Nonce), (*[32]byte)(derived))
	if !ok {
		return nil, errors.New("encrypted key: wrong password, or damaged")
	}
	return plain, nil
}
