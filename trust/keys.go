package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"imgbuild/fault"
)

// material is keys or certificates, as a policy gives them: in one of four ways,
// or not at all.
type material struct {
	path  string
	paths []string
	data  []byte
	datas [][]byte
}

func (m material) check() error {
	if m.paths != nil && len(m.paths) == 0 || m.datas != nil && len(m.datas) == 0 {
		return errors.New("a list of keys is empty")
	}
	return nil
}

// piece is one of them, with what messages call it.
type piece struct {
	name string
	data []byte
}

// load reads the files. The error is of the class Config.
func (m material) load() (list []piece, err error) {
	paths := m.paths
	if m.path != "" {
		paths = []string{m.path}
	}
	for _, path := range paths {
		data, err := readFile(path)
		if err != nil {
			return nil, fault.New(fault.Config, err, "")
		}
		list = append(list, piece{path, data})
	}
	datas := m.datas
	if m.data != nil {
		datas = [][]byte{m.data}
	}
	for _, data := range datas {
		list = append(list, piece{"the key in the policy", data})
	}
	return list, nil
}

// readFile reads a file of bounded length.
func readFile(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPolicy+1))
	if err == nil && len(data) > maxPolicy {
		err = fmt.Errorf("%s: more than %d bytes", path, maxPolicy)
	}
	return data, err
}

// publicKey is a key that signatures are verified with.
type publicKey struct {
	name string // for messages
	key  crypto.PublicKey
	der  []byte // SubjectPublicKeyInfo
}

// publicKeys loads keys in PEM, at least one.
func (m material) publicKeys() (list []publicKey, err error) {
	pieces, err := m.load()
	if err != nil {
		return nil, err
	}
	for _, p := range pieces {
		k, err := parsePublicKey(p.data)
		if err != nil {
			return nil, fault.New(fault.Config, fmt.Errorf("%s: %w", p.name, err), "a public key of cosign or skopeo is a file with -----BEGIN PUBLIC KEY-----")
		}
		k.name = p.name
		list = append(list, k)
	}
	if len(list) == 0 {
		return nil, fault.New(fault.Config, errors.New("a requirement of the signature policy names no key: the path is empty"), "")
	}
	return list, nil
}

// parsePublicKey parses a file with one public key.
func parsePublicKey(data []byte) (publicKey, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return publicKey{}, errors.New("has no public key in PEM")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return publicKey{}, errors.New("has more than one PEM block")
	}
	var k publicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		k.key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		k.key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return publicKey{}, fmt.Errorf("is a PEM block of type %s, not PUBLIC KEY", clip(block.Type))
	}
	if err != nil {
		return publicKey{}, err
	}
	if err := checkKey(k.key); err != nil {
		return publicKey{}, err
	}
	k.der, err = x509.MarshalPKIXPublicKey(k.key)
	return k, err
}

// minRSA is the shortest RSA key that sigstore takes, in bits.
const minRSA = 2048

func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return fmt.Errorf("is an RSA key of %d bits, too few to be safe", k.N.BitLen())
		}
	default:
		return fmt.Errorf("is a key of a kind that is not supported, %T", key)
	}
	return nil
}

// verify tells whether sig is a signature of message by the key: ECDSA in ASN.1,
// RSA PKCS #1 v1.5 or Ed25519. The hash is SHA-256, as containers/image and
// cosign have it for all keys; newer versions of cosign take that of the curve's
// size.
func (k publicKey) verify(message, sig []byte) bool {
	digest := sha256.Sum256(message)
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(key, digest[:], sig) {
			return true
		}
		switch bits := key.Curve.Params().BitSize; {
		case bits > 384:
			long := sha512.Sum512(message)
			return ecdsa.VerifyASN1(key, long[:], sig)
		case bits > 256:
			long := sha512.Sum384(message)
			return ecdsa.VerifyASN1(key, long[:], sig)
		}
		return false
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, sig)
	}
	return false
}

// maxRSA is the longest RSA key of a certificate, in bits: what is signed with one
// of a megabyte, which everybody can make, takes a quarter of an hour to verify.
const maxRSA = 16384

// parseCertificate parses a certificate in DER.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSA {
		return nil, fmt.Errorf("has an RSA key of %d bits, more than %d", k.N.BitLen(), maxRSA)
	}
	return c, nil
}

// certificates parses certificates in PEM, at least one.
func certificates(data []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for len(data) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("is a PEM block of type %s, not CERTIFICATE", clip(block.Type))
		}
		c, err := parseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if list = append(list, c); len(list) > maxChain {
			return nil, errors.New("has too many certificates")
		}
	}
	if len(list) == 0 {
		return nil, errors.New("has no certificate in PEM")
	}
	return list, nil
}

// maxChain is more certificates than a file of them has.
const maxChain = 256

// pool loads certificates into a pool. The error is of the class Config.
func (m material) pool() (*x509.CertPool, error) {
	pieces, err := m.load()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, p := range pieces {
		list, err := certificates(p.data)
		if err != nil {
			return nil, fault.New(fault.Config, fmt.Errorf("%s: %w", p.name, err), "")
		}
		for _, c := range list {
			pool.AddCert(c)
		}
	}
	return pool, nil
}
