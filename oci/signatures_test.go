package oci

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"imgbuild/fault"
	"imgbuild/trust"
)

// testdata/cosign has what cosign 3.1.3 made of a tiny image: signatures in a
// bundle that refers to the image, by the tag for registries without the API
// ("bundle"), in the older form under a tag of their own ("tag"), and what
// "cosign save" wrote of the latter ("saved"). All are by the key of cosign.pub.
const (
	cosigned  = "testdata/cosign"
	signedKey = cosigned + "/cosign.pub"
)

// required is a policy that asks for a signature by a key, and whatever else the
// policy in text says.
func required(t testing.TB, key string) *trust.Policy {
	t.Helper()
	p, err := trust.Anything().RequireKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// signedBy is a policy for all images, with an identity.
func signedBy(t testing.TB, key, identity string) *trust.Policy {
	t.Helper()
	abs, err := filepath.Abs(key)
	if err != nil {
		t.Fatal(err)
	}
	p, err := trust.Parse(fmt.Appendf(nil, `{"default":[{"type":"sigstoreSigned","keyPath":%q,"signedIdentity":%s}]}`, abs, identity), "policy.json")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wrongKey is that of somebody else.
func wrongKey(t testing.TB) string {
	return writeTemp(t, "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEIb33KsKzVgIVdpy40nryJdv5BR4k\n1VaIkW+PUO29CnHUd7vNsBMXKATogIqmJusdD//BZ/UUHOyGfQ09EQ9aHg==\n-----END PUBLIC KEY-----\n")
}

func writeTemp(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	writeFile(t, name, []byte(text))
	return name
}

func opened(t testing.TB, ref string, policy *trust.Policy, opt Options) (*Image, error) {
	t.Helper()
	r, err := ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	opt.Policy = policy
	if opt.root == "" {
		opt.root = t.TempDir() // no configuration of this machine
	}
	img, err := Open(context.Background(), r, opt)
	if err == nil {
		img.Close()
	}
	return img, err
}

const (
	anyRepo = `{"type":"exactRepository","dockerRepository":"registry.example.com/org/os"}`
	anyTag  = `{"type":"exactReference","dockerReference":"registry.example.com/org/os:1"}`
)

// What cosign made, in layouts.
func TestSignedLayout(t *testing.T) {
	for _, name := range []string{"bundle", "tag", "saved"} {
		ref := "oci:" + cosigned + "/" + name
		if name != "saved" {
			ref += ":1"
		}
		img, err := opened(t, ref, required(t, signedKey), Options{})
		if err != nil || len(img.Signed) != 1 || !strings.Contains(img.Signed[0], img.ManifestDigest) {
			t.Errorf("%s: %v", ref, err)
		}
		_, err = opened(t, ref, required(t, wrongKey(t)), Options{})
		wantFault(t, err, fault.Untrusted, "none of the keys")
		for _, id := range []string{anyRepo, anyTag} {
			_, err = opened(t, ref, signedBy(t, signedKey, id), Options{})
			if name == "bundle" {
				wantFault(t, err, fault.Untrusted, "names no image")
			} else if err != nil {
				t.Error(ref, err)
			}
		}
		_, err = opened(t, ref, signedBy(t, signedKey, strings.ReplaceAll(anyTag, ":1", ":2")), Options{})
		wantFault(t, err, fault.Untrusted, "")
	}
	// Without a tag the image is found among its signatures.
	if _, err := opened(t, "oci:"+cosigned+"/bundle", required(t, signedKey), Options{}); err != nil {
		t.Error(err)
	}
	// Another image in the layout is not signed.
	b := blobs{}
	layout := b.layout(t, b.image(t, "amd64", simplePart(t, "x")))
	_, err := opened(t, "oci:"+layout, required(t, signedKey), Options{})
	wantFault(t, err, fault.Untrusted, "none")
}

// pushLayout puts what is in a layout into the registry.
func (s *server) pushLayout(t testing.TB, layout string) {
	t.Helper()
	list, err := os.ReadDir(layout + "/blobs/sha256")
	if err != nil {
		t.Fatal(err)
	}
	b := blobs{}
	for _, e := range list {
		raw, err := os.ReadFile(layout + "/blobs/sha256/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		b["sha256:"+e.Name()] = raw
	}
	raw, err := os.ReadFile(layout + "/index.json")
	if err != nil {
		t.Fatal(err)
	}
	var index document
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	tags := map[string]descriptor{}
	for _, d := range index.Manifests {
		tags[d.Annotations[annotationRefName]] = d
	}
	s.push(t, b, tags)
}

// withReferrers makes the registry one with the API for referrers.
func (s *server) withReferrers() {
	s.inner = registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
}

func TestSignedInRegistry(t *testing.T) {
	for _, c := range []struct {
		layout    string
		referrers bool
	}{{"bundle", false}, {"bundle", true}, {"tag", false}, {"tag", true}} {
		s := newServer(t)
		if c.referrers {
			s.withReferrers()
		}
		s.pushLayout(t, cosigned+"/"+c.layout)
		ref := s.host + "/org/os:1"
		cache := openCache(t, t.TempDir())
		img, err := opened(t, ref, required(t, signedKey), Options{Cache: cache})
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		_, err = opened(t, ref, required(t, wrongKey(t)), Options{})
		wantFault(t, err, fault.Untrusted, "none of the keys")
		if s.count("/blobs/"+img.Layers[0].Digest) != 0 {
			t.Error("a layer was read")
		}
		if _, err := opened(t, s.host+"/org/os@"+img.ManifestDigest, required(t, signedKey), Options{}); err != nil {
			t.Error(err)
		}
		// The signatures are in the cache, too, and no images of it.
		if list := cache.Images(); len(list) != 1 || list[0].Digest != img.ManifestDigest {
			t.Errorf("%+v", list)
		}
		s.Close()
		if _, err := opened(t, ref, required(t, signedKey), Options{Cache: cache, Access: Access{Pull: PullNever}}); err != nil {
			t.Errorf("%+v, from the cache: %v", c, err)
		}
		_, err = opened(t, ref, required(t, signedKey), Options{Cache: openCache(t, t.TempDir()), Access: Access{Pull: PullNever}})
		wantFault(t, err, fault.NotFound, "")
	}
}

// The system's policy looks at registries only where registries.d says so.
func TestAttachmentsAreAsked(t *testing.T) {
	s := newServer(t)
	s.pushLayout(t, cosigned+"/tag")
	ref := s.host + "/org/os:1"
	policy := signedBy(t, signedKey, anyTag)
	_, err := opened(t, ref, policy, Options{})
	wantFault(t, err, fault.Untrusted, "none")
	if !strings.Contains(fault.HintOf(err), "use-sigstore-attachments") || s.count(".sig") != 0 {
		t.Errorf("hint %q, asked %v", fault.HintOf(err), s.requests)
	}
	if _, err := opened(t, ref, policy.Explicit(), Options{}); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	say := func(value bool) {
		writeFile(t, filepath.Join(dir, "x.yaml"), fmt.Appendf(nil, "docker:\n  %q: {use-sigstore-attachments: %v}\n", s.host, value))
	}
	say(true)
	if _, err := opened(t, ref, policy, Options{Access: Access{RegistriesD: dir}}); err != nil {
		t.Error(err)
	}
	say(false)
	_, err = opened(t, ref, required(t, signedKey), Options{Access: Access{RegistriesD: dir}})
	wantFault(t, err, fault.Untrusted, "none")
}

// The signature of one image under the tag of another, and of a registry that
// answers with anything.
func TestReplayedSignature(t *testing.T) {
	s := newServer(t)
	s.pushLayout(t, cosigned+"/tag")
	img, err := opened(t, s.host+"/org/os:1", required(t, signedKey), Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := blobs{}
	m := b.image(t, "amd64", simplePart(t, "other"))
	s.push(t, b, map[string]descriptor{"2": m})
	s.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if tag := signatureTag(m.Digest); strings.HasSuffix(r.URL.Path, tag) {
			r.URL.Path = strings.TrimSuffix(r.URL.Path, tag) + signatureTag(img.ManifestDigest)
		}
		inner.ServeHTTP(w, r)
	})
	_, err = opened(t, s.host+"/org/os:2", required(t, signedKey), Options{})
	wantFault(t, err, fault.Untrusted, "another image")
	// A registry that does not answer is no reason to call an image unsigned.
	s.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if strings.HasSuffix(r.URL.Path, ".sig") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		inner.ServeHTTP(w, r)
	})
	_, err = opened(t, s.host+"/org/os:1", required(t, signedKey), Options{})
	wantFault(t, err, fault.Auth, "signatures of")
	// Lists without an end, and with too much.
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"does not end": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `<`+r.URL.Path+`?last=x>; rel="next"`)
			_, _ = io.WriteString(w, `{"schemaVersion":2,"manifests":[]}`)
		},
		"more than 128": func(w http.ResponseWriter, r *http.Request) {
			d := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"` + m.Digest + `"}`
			_, _ = io.WriteString(w, `{"schemaVersion":2,"manifests":[`+strings.Repeat(d+",", 200)+d+`]}`)
		},
		"list of referrers": func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"schemaVersion":1}`) },
	} {
		s.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
			if strings.Contains(r.URL.Path, "/referrers/") {
				answer(w, r)
				return
			}
			inner.ServeHTTP(w, r)
		})
		if _, err := opened(t, s.host+"/org/os:2", required(t, signedKey), Options{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %s", err, name)
		}
	}
}

// A signed index vouches for the images in it.
func TestSignedIndex(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := writeTemp(t, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	s := newServer(t)
	b := blobs{}
	arm := b.image(t, "arm64", simplePart(t, "arm"))
	index := b.index(t, b.image(t, "amd64", simplePart(t, "amd")), arm)
	sign := func(digest string) descriptor {
		payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":{}}`, digest)
		hash := sha256.Sum256(payload)
		sig, err := key.Sign(rand.Reader, hash[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		config := []byte("{}")
		return b.json(t, mediaManifest, map[string]any{
			"schemaVersion": 2, "mediaType": mediaManifest,
			"config": map[string]any{"mediaType": mediaConfig, "digest": b.add(config), "size": len(config)},
			"layers": []any{map[string]any{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": b.add(payload), "size": len(payload),
				"annotations": map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig)}}},
		})
	}
	s.push(t, b, map[string]descriptor{"1": index})
	for _, arch := range []string{"amd64", "arm64"} {
		_, err := opened(t, s.host+"/org/os:1", required(t, public), Options{Arch: arch})
		wantFault(t, err, fault.Untrusted, "none")
	}
	// One of the images is signed, then the index.
	s.push(t, b, map[string]descriptor{signatureTag(arm.Digest): sign(arm.Digest)})
	_, err = opened(t, s.host+"/org/os:1", required(t, public), Options{Arch: "amd64"})
	wantFault(t, err, fault.Untrusted, "none")
	if _, err := opened(t, s.host+"/org/os:1", required(t, public), Options{Arch: "arm64"}); err != nil {
		t.Error(err)
	}
	s.push(t, b, map[string]descriptor{signatureTag(index.Digest): sign(index.Digest)})
	if _, err := opened(t, s.host+"/org/os:1", required(t, public), Options{Arch: "amd64"}); err != nil {
		t.Error(err)
	}
}

// Signatures beside a registry, and in the files of skopeo.
func TestLookaside(t *testing.T) {
	s := newServer(t)
	s.pushLayout(t, cosigned+"/tag")
	ref := s.host + "/org/os:1"
	img, err := opened(t, ref, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	simple := func(key string) *trust.Policy {
		p, err := trust.Parse(fmt.Appendf(nil, `{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":%q}]}`, key), "policy.json")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	path := "/org/os@" + strings.Replace(img.ManifestDigest, ":", "=", 1) + "/signature-1"
	var got []string
	store := newServer(t)
	store.hostile(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		got = append(got, r.URL.Path)
		if r.Header.Get("Authorization") != "" {
			t.Error("the store got credentials")
		}
		if r.URL.Path == "/sigs"+path {
			_, _ = w.Write([]byte{0x90, 1, 2, 3})
			return
		}
		http.NotFound(w, r)
	})
	files := t.TempDir()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(files, path)), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(files, path), []byte{0x90, 1, 2, 3})
	for _, url := range []string{store.URL + "/sigs", "file://" + files} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "x.yaml"), fmt.Appendf(nil, "default-docker: {lookaside: %q}\n", url))
		_, err = opened(t, ref, simple(gpgKey), Options{Access: Access{RegistriesD: dir, Creds: "me:secret"}})
		wantFault(t, err, fault.Untrusted, "OpenPGP")
	}
	if len(got) != 2 {
		t.Error(got)
	}
	// A store that has an answer to everything, none of which is a signature.
	endless := newServer(t)
	endless.hostile(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.WriteString(w, "\x00sigstore-json\n{\"mimeType\":\"text/plain\",\"payload\":\"\",\"annotations\":{}}")
	})
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "x.yaml"), fmt.Appendf(nil, "default-docker: {lookaside: %q}\n", endless.URL))
	_, err = opened(t, ref, simple(gpgKey), Options{Access: Access{RegistriesD: dir}})
	wantFault(t, err, fault.Untrusted, "more than 128 files")

	_, err = opened(t, ref, simple(gpgKey), Options{})
	wantFault(t, err, fault.Untrusted, "none")
	writeFile(t, filepath.Join(dir, "x.yaml"), []byte("default-docker: {lookaside: \"ftp://example.com\"}\n"))
	_, err = opened(t, ref, simple(gpgKey), Options{Access: Access{RegistriesD: dir}})
	wantFault(t, err, fault.Config, "only file")
}

const gpgKey = "testdata/cosign/openpgp.asc"

func FuzzReferrers(f *testing.F) {
	for _, name := range []string{"bundle", "tag", "saved"} {
		raw, err := os.ReadFile(cosigned + "/" + name + "/index.json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := parseReferrers(raw)
		if err != nil {
			return
		}
		for _, d := range list {
			if !reDigest.MatchString(d.Digest) || d.Size < 0 {
				t.Fatalf("%+v", d)
			}
			_, _ = mayBeSignature(d), isArtifact(d)
		}
	})
}
