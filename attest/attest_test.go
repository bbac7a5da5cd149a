package attest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

// sample is a statement as builds write them.
func sample() *Statement {
	return &Statement{
		Type: StatementType, PredicateType: ProvenanceV1,
		Subject: []Resource{{Name: "qcow2/disk.qcow2", Digest: SHA256([32]byte{1})}},
		Predicate: Provenance{
			BuildDefinition: BuildDefinition{
				BuildType:            BuildType,
				ExternalParameters:   Parameters{Image: "docker://registry.example.com/os:1", Flags: []string{"--type=qcow2", "--karg=a=<b>"}},
				ResolvedDependencies: []Resource{{Name: DependencyManifest, Digest: SHA256([32]byte{2})}},
			},
			RunDetails: RunDetails{Builder: BuilderID{ID: Builder}, Byproducts: []Resource{{Name: "m.json", Digest: SHA256([32]byte{3})}}},
		},
	}
}

func encode(t *testing.T, s *Statement) []byte {
	t.Helper()
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestStatement(t *testing.T) {
	text := encode(t, sample())
	s, err := ParseStatement(text)
	if err != nil {
		t.Fatal(err)
	}
	if again := encode(t, s); !bytes.Equal(again, text) {
		t.Errorf("%s\nwant %s", again, text)
	}
	if files := s.Files(); len(files) != 2 || files[1].Name != "m.json" || len(s.Dependencies(DependencyManifest)) != 1 {
		t.Errorf("%+v", s)
	}
	if !bytes.Contains(text, []byte("--karg=a=<b>")) {
		t.Error("characters of flags are written as escapes")
	}
	for old, want := range map[string]string{
		StatementType: "not that of a statement",
		ProvenanceV1:  "predicate",
		BuildType:     "build type",
		`"sha256"`:    "no sha256",
		"0100000000000000000000000000000000000000000000000000000000000000": "not 64",
	} {
		_, err := ParseStatement([]byte(strings.Replace(string(text), old, old[:1]+"x"+old[1:], 1)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: %v", old, err)
		}
	}
	if _, err := ParseStatement(append(text, '{')); err == nil {
		t.Error("text after the statement is taken")
	}
}

// program runs a program that the test needs; a missing one fails it.
func program(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, b []byte, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func noPassword() ([]byte, error) { return nil, errors.New("a password is asked for") }

// makeKeys makes a pair of keys of each kind with the programs that users make them
// with, as NAME.key and NAME.pub.
func makeKeys(t *testing.T) (dir string, names []string) {
	t.Helper()
	dir = t.TempDir()
	for _, k := range []struct{ name, command string }{
		{"sec1", "openssl ecparam -name prime256v1 -genkey -noout -out sec1.key"},
		{"p256", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.key"},
		{"p384", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.key"},
		{"p521", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.key"},
		{"ed25519", "openssl genpkey -algorithm ed25519 -out ed25519.key"},
	} {
		args := strings.Fields(k.command)
		program(t, dir, args[0], args[1:]...)
		program(t, dir, "openssl", "pkey", "-in", k.name+".key", "-pubout", "-out", k.name+".pub")
		names = append(names, k.name)
	}
	// As cosign keeps them, by the same library.
	block, _ := pem.Decode(read(t, dir, "p256.key"))
	text, err := encrypted.Encrypt(block.Bytes, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: text}), dir, "sigstore.key")
	write(t, read(t, dir, "p256.pub"), dir, "sigstore.pub")
	return dir, append(names, "sigstore")
}

// What we sign, OpenSSL verifies, and not when a bit of it is another one.
func TestSignOpenSSL(t *testing.T) {
	dir, names := makeKeys(t)
	payload := encode(t, sample())
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			private, err := ParsePrivateKey(read(t, dir, name+".key"), func() ([]byte, error) { return []byte("secret"), nil })
			if err != nil {
				t.Fatal(err)
			}
			public, err := ParsePublicKey(read(t, dir, name+".pub"))
			if err != nil {
				t.Fatal(err)
			}
			text, err := Sign(private, PayloadType, payload)
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := Sign(private, PayloadType, payload); !bytes.Equal(again, text) {
				t.Error("signing twice gives different bytes")
			}
			if !IsEnvelope(text) || IsEnvelope(payload) {
				t.Error("envelopes and statements are not told apart")
			}
			checkOpenSSL(t, dir, name, text, payload)
			checkEnvelope(t, text, payload, public)
		})
	}
}

// checkOpenSSL has OpenSSL verify the pre-authentication encoding, which is made
// here by the words of the specification.
func checkOpenSSL(t *testing.T, dir, name string, envelope, payload []byte) {
	t.Helper()
	var e struct {
		PayloadType string
		Payload     []byte
		Signatures  []struct{ Sig []byte }
	}
	if err := json.Unmarshal(envelope, &e); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e.Payload, payload) || e.PayloadType != "application/vnd.in-toto+json" || len(e.Signatures) != 1 {
		t.Fatalf("envelope %s", envelope)
	}
	pae := []byte("DSSEv1 28 application/vnd.in-toto+json " + strconv.Itoa(len(payload)) + " " + string(payload))
	write(t, e.Signatures[0].Sig, dir, "sig")
	hash, ok := map[string]string{"p384": "-sha384", "p521": "-sha512"}[name]
	if !ok {
		hash = "-sha256"
	}
	verify := func() error {
		cmd := exec.Command("openssl", "dgst", hash, "-verify", name+".pub", "-signature", "sig", "signed")
		if name == "ed25519" {
			cmd = exec.Command("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", name+".pub", "-rawin", "-in", "signed", "-sigfile", "sig")
		}
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	}
	write(t, pae, dir, "signed")
	if err := verify(); err != nil {
		t.Fatalf("openssl: %v", err)
	}
	pae[len(pae)/2] ^= 1
	write(t, pae, dir, "signed")
	if verify() == nil {
		t.Error("openssl verifies what was changed: the check checks nothing")
	}
}

// checkEnvelope verifies an envelope, and changed ones not.
func checkEnvelope(t *testing.T, text, payload []byte, key *PublicKey) {
	t.Helper()
	e, got, err := ParseEnvelope(text)
	if err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("payload %s: %v", got, err)
	}
	if got, err = e.Verify(key); err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("payload %s: %v", got, err)
	}
	changed := *e
	changed.PayloadType += "x"
	if _, err := changed.Verify(key); !errors.Is(err, ErrNotSigned) {
		t.Errorf("another payload type: %v", err)
	}
	for _, i := range []int{0, len(payload) / 2, len(payload) - 1} {
		b := bytes.Clone(payload)
		b[i] ^= 1
		changed = *e
		changed.Payload = base64.StdEncoding.EncodeToString(b)
		if _, err := changed.Verify(key); !errors.Is(err, ErrNotSigned) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	public, _, err := ed25519.GenerateKey(bytes.NewReader(make([]byte, 64)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Verify(&PublicKey{public}); !errors.Is(err, ErrNotSigned) {
		t.Errorf("another key: %v", err)
	}
	// One signature among several, and base64 as URLs have it.
	changed = *e
	changed.Signatures = append([]Signature{{Sig: "!"}, {Sig: ""}}, e.Signatures...)
	changed.Payload = base64.URLEncoding.EncodeToString(payload)
	if _, err := changed.Verify(key); err != nil {
		t.Errorf("among others: %v", err)
	}
	changed.Signatures = make([]Signature, maxSignatures+1)
	if _, err := changed.Verify(key); err == nil || errors.Is(err, ErrNotSigned) {
		t.Errorf("too many signatures: %v", err)
	}
}

func TestKeysRefused(t *testing.T) {
	dir, _ := makeKeys(t)
	program(t, dir, "openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa.key")
	program(t, dir, "openssl", "pkey", "-in", "rsa.key", "-pubout", "-out", "rsa.pub")
	program(t, dir, "openssl", "ecparam", "-name", "secp224r1", "-genkey", "-noout", "-out", "p224.key")
	program(t, dir, "openssl", "pkey", "-in", "p256.key", "-aes256", "-passout", "pass:x", "-out", "encrypted.key")
	write(t, []byte("no key"), dir, "text")
	sigstore := string(read(t, dir, "sigstore.key"))
	for name, want := range map[string]string{
		"rsa.key": "not ECDSA", "p224.key": "not ECDSA", "encrypted.key": "ENCRYPTED PRIVATE KEY", "p256.pub": "cannot sign", "text": "not in PEM",
	} {
		if _, err := ParsePrivateKey(read(t, dir, name), noPassword); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	for name, want := range map[string]string{"rsa.pub": "not ECDSA", "p256.key": "not a PUBLIC KEY", "text": "not in PEM"} {
		if _, err := ParsePublicKey(read(t, dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	_, err := ParsePrivateKey([]byte(sigstore), func() ([]byte, error) { return []byte("wrong"), nil })
	if err == nil || !strings.Contains(err.Error(), "wrong password") {
		t.Errorf("wrong password: %v", err)
	}
	if _, err = ParsePrivateKey([]byte(sigstore), noPassword); err == nil || !strings.Contains(err.Error(), "asked for") {
		t.Errorf("no password: %v", err)
	}
}

// Parameters that would take the memory of the machine are refused before.
func TestScryptBounds(t *testing.T) {
	for _, params := range []string{`"N":1073741824,"r":8,"p":1`, `"N":32768,"r":8192,"p":1`, `"N":2,"r":1,"p":1000000`, `"N":0,"r":0,"p":0`} {
		text := `{"kdf":{"name":"scrypt","params":{` + params + `},"salt":"AA=="},"cipher":{"name":"nacl/secretbox","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"ciphertext":"AA=="}`
		if _, err := decrypt([]byte(text), nil); err == nil || !strings.Contains(err.Error(), "out of bounds") {
			t.Errorf("%s: %v", params, err)
		}
	}
}

// FuzzRecord parses what others wrote: nothing of it may panic, and what is parsed
// and written is parsed again.
func FuzzRecord(f *testing.F) {
	text, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	signed, err := Sign(&PrivateKey{key}, PayloadType, text)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add([]byte(`{"kdf":{"name":"scrypt","params":{"N":2,"r":1,"p":1},"salt":"AA=="},"cipher":{"name":"nacl/secretbox","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"ciphertext":"AA=="}`))
	public := &PublicKey{key.Public()}
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, payload, err := ParseEnvelope(b); err == nil {
			if got, err := e.Verify(public); err == nil && !bytes.Equal(got, payload) {
				t.Fatal("another payload is verified than parsed")
			}
		}
		if s, err := ParseStatement(b); err == nil {
			again, err := s.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseStatement(again); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = ParsePublicKey(b)
		if len(b) < 1000 && !bytes.Contains(bytes.ToLower(b), []byte("params")) { // as JSON takes names
			_, _ = decrypt(b, nil)
		}
	})
}

// The key in testdata is of cosign 3.1.3: COSIGN_PASSWORD=pw cosign generate-key-pair.
// What it signs that cosign verifies with "verify-blob-attestation".
func TestCosignKey(t *testing.T) {
	public, err := ParsePublicKey(read(t, "testdata", "cosign.pub"))
	if err != nil {
		t.Fatal(err)
	}
	private, err := ParsePrivateKey(read(t, "testdata", "cosign.key"), func() ([]byte, error) { return []byte("pw"), nil })
	if err != nil {
		t.Fatal(err)
	}
	payload := encode(t, sample())
	text, err := Sign(private, PayloadType, payload)
	if err != nil {
		t.Fatal(err)
	}
	checkEnvelope(t, text, payload, public)
}
