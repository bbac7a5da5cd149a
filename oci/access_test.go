package oci

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imgbuild/fault"
	"imgbuild/test/timing"
)

// conf writes a registries.conf.
func conf(t testing.TB, format string, args ...any) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "registries.conf")
	writeFile(t, name, []byte(fmt.Sprintf(format, args...)))
	return name
}

// basicAuth lets those in who have the token, and counts who sends it.
func basicAuth(token string, seen *atomic.Int32) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		got := r.Header.Get("Authorization")
		if strings.Contains(got, token) && seen != nil {
			seen.Add(1)
		}
		if got != "Basic "+token {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}
}

func TestMirrors(t *testing.T) {
	primary, mirror, empty := newServer(t), newServer(t), newServer(t)
	b := blobs{}
	m := b.image(t, "amd64", simplePart(t, "x"), bigPart(t, 300_000))
	for _, s := range []*server{primary, mirror} {
		s.push(t, b, map[string]descriptor{"1": m})
	}
	const name = "registry.example.com/os"
	opt := Options{Access: Access{RegistriesConf: conf(t, `
[[registry]]
prefix = "registry.example.com"
location = "%s/org"
[[registry.mirror]]
location = "%s/org"
[[registry.mirror]]
location = "%s/org"
`, primary.host, empty.host, mirror.host)}}
	img, _, err := pulled(t, name+":1", opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.Reference.String() != "docker://"+name+":1" || img.ManifestDigest != m.Digest {
		t.Errorf("%+v", img)
	}
	if empty.count("") == 0 || mirror.count("") == 0 || primary.count("") != 0 {
		t.Errorf("asked: %v, %v, %v", empty.requests, mirror.requests, primary.requests)
	}
	// What the mirror does not have after all.
	mirror.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.NotFound(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	})
	if _, _, err := pulled(t, name+":1", opt, nil); err != nil {
		t.Error(err)
	}
	if primary.count("/blobs/") == 0 || primary.count("/manifests/") != 0 {
		t.Errorf("asked of the registry: %v", primary.requests)
	}
	// A mirror that lies about a pinned image is passed over.
	mirror.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", mediaManifest)
			_, _ = io.WriteString(w, strings.Replace(string(b[m.Digest]), "here", "thar", 1))
			return
		}
		inner.ServeHTTP(w, r)
	})
	if img, _, err := pulled(t, name+"@"+m.Digest, opt, nil); err != nil || img.ManifestDigest != m.Digest {
		t.Error(err)
	}
	// Nobody has it: all are named.
	mirror.hostile(nil)
	_, _, err = pulled(t, name+":none", opt, nil)
	wantFault(t, err, fault.NotFound, "registry "+primary.host)
	if !strings.Contains(err.Error(), "registry "+empty.host) {
		t.Errorf("%v does not name the mirror", err)
	}
	opt.RegistriesConf = conf(t, "[[registry]]\nprefix = \"registry.example.com\"\nlocation = \"UPPER/x y\"\n")
	wantFault(t, openErr(t, name, opt), fault.Config, "becomes")
}

// Credentials that were given are for the registry itself.
func TestCreds(t *testing.T) {
	primary, mirror := newServer(t), newServer(t)
	b := blobs{}
	m := b.image(t, "amd64", simplePart(t, "x"))
	primary.push(t, b, map[string]descriptor{"1": m})
	token := base64.StdEncoding.EncodeToString([]byte("me:secret:x"))
	var leaked atomic.Int32
	primary.hostile(basicAuth(token, nil))
	mirror.hostile(basicAuth(token, &leaked))
	opt := Options{Access: Access{Creds: "me:secret:x", RegistriesConf: conf(t, "[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", primary.host, mirror.host)}}
	if _, _, err := pulled(t, primary.host+"/org/os:1", opt, nil); err != nil {
		t.Error(err)
	}
	if leaked.Load() != 0 {
		t.Error("the mirror got the credentials")
	}
	opt.Creds = "me:wrong"
	_, _, err := pulled(t, primary.host+"/org/os:1", opt, nil)
	wantFault(t, err, fault.Auth, "")
	if strings.Contains(err.Error()+fault.HintOf(err), "wrong") {
		t.Errorf("%v shows the password", err)
	}
	// A token is used as it is.
	primary.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if r.Header.Get("Authorization") != "Bearer the-token" {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token"`, primary.URL))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	})
	if _, _, err := pulled(t, primary.host+"/org/os:1", Options{Access: Access{RegistryToken: "the-token"}}, nil); err != nil {
		t.Error(err)
	}
}

// A credential helper of any credentials file is run, and its token exchanged.
func TestHelper(t *testing.T) {
	s := newServer(t)
	b := blobs{}
	s.push(t, b, map[string]descriptor{"1": b.image(t, "amd64", simplePart(t, "x"))})
	bin := t.TempDir()
	script := func(name, text string) {
		writeFile(t, filepath.Join(bin, "docker-credential-"+name), []byte("#!/bin/sh\nread server\n"+text+"\n"))
		if err := os.Chmod(filepath.Join(bin, "docker-credential-"+name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script("password", `[ "$1 $server" = "get `+s.host+`" ] && echo '{"ServerURL":"x","Username":"me","Secret":"secret"}'`)
	script("identity", `echo '{"ServerURL":"x","Username":"<token>","Secret":"refresh"}'`)
	script("none", `echo "credentials not found in native keychain"; exit 1`)
	script("broken", `echo "it is locked"; exit 1`)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	token := base64.StdEncoding.EncodeToString([]byte("me:secret"))
	bearer := func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		switch {
		case r.URL.Path == "/token":
			if r.Method != http.MethodPost || r.FormValue("grant_type") != "refresh_token" || r.FormValue("refresh_token") != "refresh" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, `{"access_token":"new"}`)
		case r.Header.Get("Authorization") != "Bearer new":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, s.URL))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			inner.ServeHTTP(w, r)
		}
	}
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "auth.json")
		writeFile(t, name, []byte(text))
		return name
	}
	own := fmt.Sprintf(`"auths":{"%s":{"auth":"%s"}}`, s.host, token)
	ident := fmt.Sprintf(`{"auths":{"%s":{"auth":"%s","identitytoken":"refresh"}}}`, s.host, base64.StdEncoding.EncodeToString([]byte("<token>:")))
	env := func(string) string { return "" }
	for name, c := range map[string]struct {
		auth, conf string
		wrap       func(http.ResponseWriter, *http.Request, http.Handler)
		text       string
	}{
		"credHelpers":          {`{"credHelpers":{"` + s.host + `":"password"}}`, "", basicAuth(token, nil), ""},
		"credsStore":           {`{"credsStore":"password"}`, "", basicAuth(token, nil), ""},
		"helper before file":   {`{"credHelpers":{"` + s.host + `":"password"},"auths":{"` + s.host + `":{"auth":"eDp5"}}}`, "", basicAuth(token, nil), ""},
		"helper without":       {`{"credHelpers":{"` + s.host + `":"none"},` + own + `}`, "", basicAuth(token, nil), ""},
		"identity token":       {`{"credsStore":"identity"}`, "", bearer, ""},
		"identity in the file": {ident, "", bearer, ""},
		"registries.conf":      {"", `credential-helpers = ["none", "containers-auth.json", "password"]`, basicAuth(token, nil), ""},
		"broken":               {`{"credsStore":"broken"}`, "", basicAuth(token, nil), "it is locked"},
		"not there":            {`{"credsStore":"absent"}`, "", basicAuth(token, nil), `credential helper "absent"`},
		"a path":               {`{"credsStore":"../../x"}`, "", basicAuth(token, nil), "is not a name"},
	} {
		t.Run(name, func(t *testing.T) {
			s.hostile(c.wrap)
			opt := Options{Getenv: env, Home: t.TempDir(), Access: Access{root: t.TempDir()}}
			if c.auth != "" {
				opt.AuthFile = file(c.auth)
			}
			if c.conf != "" {
				opt.RegistriesConf = conf(t, "%s", c.conf)
			}
			_, _, err := pulled(t, s.host+"/org/os:1", opt, nil)
			if c.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantFault(t, err, fault.Auth, c.text)
		})
	}
}

// Tokens that expire while a long image is pulled are renewed.
func TestTokenRefresh(t *testing.T) {
	s := newServer(t)
	b := blobs{}
	s.push(t, b, map[string]descriptor{"1": b.image(t, "amd64", simplePart(t, "x"), simplePart(t, "y"), simplePart(t, "z"))})
	var issued, uses atomic.Int32
	s.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if r.URL.Path == "/token" {
			uses.Store(0)
			fmt.Fprintf(w, `{"token":"token-%d","expires_in":60}`, issued.Add(1))
			return
		}
		// Each token is good for two requests.
		if r.Header.Get("Authorization") != fmt.Sprintf("Bearer token-%d", issued.Load()) || uses.Add(1) > 2 {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, s.URL))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	})
	img, err := Open(context.Background(), mustParse(t, s.host+"/org/os:1"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	for _, l := range img.Layers {
		r, err := img.src.blob(context.Background(), l.Digest, l.Size)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	if issued.Load() < 2 {
		t.Errorf("%d tokens", issued.Load())
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"5": 5 * time.Second, "0": 0, now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if d, ok := retryAfter(value, now); !ok || d != want {
			t.Errorf("%s: %v, %v", value, d, ok)
		}
	}
	for _, value := range []string{"", "-1", "soon", "99999999999999999999", "1.5"} {
		if d, ok := retryAfter(value, now); ok {
			t.Errorf("%q: %v", value, d)
		}
	}
	s := newServer(t)
	b := blobs{}
	s.push(t, b, map[string]descriptor{"1": b.image(t, "amd64", simplePart(t, "x"))})
	var refused atomic.Int32
	s.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if strings.Contains(r.URL.Path, "/manifests/") && refused.Add(1) <= 4 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		inner.ServeHTTP(w, r)
	})
	if testing.Short() {
		return
	}
	start := time.Now()
	if _, _, err := pulled(t, s.host+"/org/os:1", Options{}, nil); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < 4*time.Second || refused.Load() != 5 {
		t.Errorf("took %v for %d requests", took, refused.Load())
	}
	// A time that nobody waits for.
	refused.Store(0)
	s.hostile(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	timing.Within(t, 10*time.Second, func() time.Duration {
		start := time.Now()
		wantFault(t, openErr(t, s.host+"/org/os:1", Options{}), fault.NotFound, "429")
		return time.Since(start)
	})
}

// Answers that drip, or that never end, at every step of the conversation.
func TestNeverEnding(t *testing.T) {
	s := newServer(t)
	b := blobs{}
	m := b.image(t, "amd64", bigPart(t, 200_000))
	s.push(t, b, map[string]descriptor{"1": m})
	drip := func(w http.ResponseWriter) {
		for {
			if _, err := w.Write([]byte{' '}); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}
	flood := func(w http.ResponseWriter) {
		buf := make([]byte, 64<<10)
		for {
			if _, err := w.Write(buf); err != nil {
				return
			}
		}
	}
	challenge := func(w http.ResponseWriter) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, s.URL))
		w.WriteHeader(http.StatusUnauthorized)
	}
	for how, answer := range map[string]func(http.ResponseWriter){"drip": drip, "flood": flood} {
		for step, at := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
			"ping":     func(_ http.ResponseWriter, r *http.Request) bool { return r.URL.Path == "/v2/" },
			"manifest": func(_ http.ResponseWriter, r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") },
			"blob":     func(_ http.ResponseWriter, r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") },
			"error": func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/manifests/") {
					w.WriteHeader(http.StatusForbidden)
					return true
				}
				return false
			},
			"token": func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/token" {
					challenge(w)
				}
				return true
			},
		} {
			t.Run(how+" "+step, func(t *testing.T) {
				t.Parallel()
				mine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if at(w, r) {
						answer(w)
						return
					}
					s.inner.ServeHTTP(w, r)
				}))
				defer mine.Close()
				defer mine.CloseClientConnections()
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				before := heap()
				img, err := Open(ctx, mustParse(t, strings.TrimPrefix(mine.URL, "http://")+"/org/os:1"), Options{IdleTimeout: 300 * time.Millisecond})
				if err == nil {
					_, err = img.Unpack(ctx, UnpackOptions{TempDir: t.TempDir()})
					img.Close()
				}
				// A ping is only there to say what is wanted: too much of it does no harm.
				if err == nil && step != "ping" {
					t.Error("no error")
				}
				if ctx.Err() != nil {
					t.Errorf("it hangs: %v", err)
				}
				if err != nil && fault.ClassOf(err) == fault.Internal {
					t.Errorf("%v has no class", err)
				}
				if grown := heap() - before; grown > 64<<20 {
					t.Errorf("%d bytes of memory", grown)
				}
			})
		}
	}
}

// Certificates of certs.d: an own CA, and a client certificate.
func TestCerts(t *testing.T) {
	inner := newServer(t)
	b := blobs{}
	inner.push(t, b, map[string]descriptor{"1": b.image(t, "amd64", simplePart(t, "x"))})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	clientCert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	clientKey := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(clientCert)
	s := httptest.NewUnstartedServer(inner.inner)
	s.TLS = &tls.Config{ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "https://")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	root, home := t.TempDir(), t.TempDir()
	opt := Options{Getenv: func(string) string { return "" }, Home: home, Access: Access{root: root}}
	put := func(dir string, files map[string][]byte) string {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, raw := range files {
			writeFile(t, filepath.Join(dir, name), raw)
		}
		return dir
	}
	ref := host + "/org/os:1"
	wantFault(t, openErr(t, ref, opt), fault.NotFound, "certificate")
	put(root+"/etc/docker/certs.d/"+host, map[string][]byte{"ca.crt": ca})
	wantFault(t, openErr(t, ref, opt), fault.NotFound, "")
	put(root+"/etc/containers/certs.d/"+host, map[string][]byte{"ca.crt": ca, "client.cert": clientCert, "client.key": clientKey, "README": nil})
	if _, _, err := pulled(t, ref, opt, nil); err != nil {
		t.Error(err)
	}
	// The user's directory comes first, and --cert-dir before all.
	put(home+"/.config/containers/certs.d/"+host, map[string][]byte{"client.cert": clientCert})
	wantFault(t, openErr(t, ref, opt), fault.Auth, "client.key: no such file")
	opt.CertDir = put(t.TempDir(), map[string][]byte{"ca.crt": ca, "client.cert": clientCert, "client.key": clientKey})
	if _, _, err := pulled(t, ref, opt, nil); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		files map[string][]byte
		text  string
	}{
		"no PEM":    {map[string][]byte{"ca.crt": []byte("x")}, "no certificate in PEM"},
		"lone key":  {map[string][]byte{"client.key": clientKey}, "no client certificate"},
		"wrong key": {map[string][]byte{"client.cert": clientCert, "client.key": ca}, "client.cert"},
	} {
		opt.CertDir = put(t.TempDir(), c.files)
		err := openErr(t, ref, opt)
		wantFault(t, err, fault.Auth, c.text)
		if name == "wrong key" && strings.Contains(err.Error(), "BEGIN") {
			t.Error(err)
		}
	}
}

// What pull policies ask of the registry, and what the cache says of itself.
func TestPullPolicy(t *testing.T) {
	s := newServer(t)
	b := blobs{}
	one := b.image(t, "amd64", simplePart(t, "one"), bigPart(t, 300_000))
	index := b.index(t, one, b.image(t, "arm64", simplePart(t, "arm")))
	s.push(t, b, map[string]descriptor{"1": index})
	cache := openCache(t, t.TempDir())
	opt := Options{Arch: "amd64", Cache: cache}
	ref := s.host + "/org/os:1"
	get := func(policy PullPolicy) (*Image, error) {
		opt.Pull = policy
		img, _, err := pulled(t, ref, opt, cache)
		return img, err
	}
	_, err := get(PullNever)
	wantFault(t, err, fault.NotFound, "not in the cache")
	if _, err := get(PullMissing); err != nil {
		t.Fatal(err)
	}
	s.hostile(nil)
	for _, policy := range []PullPolicy{PullNever, PullMissing} {
		if img, err := get(policy); err != nil || img.ManifestDigest != one.Digest {
			t.Errorf("%s: %v", policy, err)
		}
	}
	if n := s.count(""); n != 0 {
		t.Errorf("asked %v", s.requests)
	}
	// The other platform is not there.
	opt.Arch = "arm64"
	_, err = get(PullNever)
	wantFault(t, err, fault.NotFound, "not in the cache")
	opt.Arch = "amd64"
	// The name moves on.
	two := b.image(t, "amd64", simplePart(t, "two"))
	s.push(t, b, map[string]descriptor{"1": two})
	if img, err := get(PullMissing); err != nil || img.ManifestDigest != one.Digest {
		t.Errorf("missing: %v", err)
	}
	if img, err := get(PullAlways); err != nil || img.ManifestDigest != two.Digest {
		t.Errorf("always: %v", err)
	}
	if img, err := get(PullNever); err != nil || img.ManifestDigest != two.Digest {
		t.Errorf("never: %v", err)
	}
	list := cache.Images()
	if len(list) != 1 || list[0].Reference != "docker://"+ref || list[0].Digest != two.Digest || list[0].Layers != 1 || list[0].Cached != 1 || list[0].Bytes == 0 || list[0].Arch != "amd64" {
		t.Errorf("%+v", list)
	}
	// A blob that was lost is fetched again, where that is allowed.
	layer := open(t, ref, opt).Layers[0]
	for _, path := range []string{cache.blobPath(layer.Digest), cache.spoolPath(layer.DiffID)} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if list := cache.Images(); list[0].Cached != 0 {
		t.Errorf("%+v", list)
	}
	_, err = get(PullNever)
	wantFault(t, err, fault.NotFound, "not in the cache")
	if _, err := get(PullMissing); err != nil {
		t.Error(err)
	}
	// Names go with what they stand for.
	if _, err := cache.Prune(0, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got := files(t, cache.Dir()); len(got) > 0 {
		t.Errorf("left %v", got)
	}
}

func TestVerifyCache(t *testing.T) {
	s := newServer(t)
	b := blobs{}
	s.push(t, b, map[string]descriptor{"1": b.image(t, "amd64", simplePart(t, "one"), bigPart(t, 300_000))})
	cache := openCache(t, t.TempDir())
	opt := Options{Cache: cache}
	img, _, err := pulled(t, s.host+"/org/os:1", opt, cache)
	if err != nil {
		t.Fatal(err)
	}
	report, err := cache.Verify(context.Background(), nil)
	if err != nil || len(report.Damaged) != 0 || report.Checked != 8 {
		t.Fatalf("%+v, %v", report, err)
	}
	flip := func(path string) string {
		t.Helper()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/2] ^= 1
		writeFile(t, path, raw)
		rel, err := filepath.Rel(cache.Dir(), path)
		if err != nil {
			t.Fatal(err)
		}
		return filepath.ToSlash(rel)
	}
	l := img.Layers[1]
	want := []string{flip(cache.blobPath(l.Digest)), flip(cache.blobPath(img.ManifestDigest)), flip(cache.spoolPath(l.DiffID)), flip(cache.recordPath(l.DiffID))}
	writeFile(t, filepath.Join(cache.blobDir(), "stranger"), nil)
	want = append(want, "blobs/sha256/stranger")
	report, err = cache.Verify(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	slices.Sort(report.Damaged)
	if !slices.Equal(report.Damaged, want) {
		t.Errorf("damaged %v, want %v", report.Damaged, want)
	}
	if report, err = cache.Verify(context.Background(), nil); err != nil || len(report.Damaged) != 0 {
		t.Errorf("the second time: %+v, %v", report, err)
	}
	if len(cache.Images()) != 0 {
		t.Error("a name without its manifest")
	}
	if _, _, err := pulled(t, s.host+"/org/os:1", opt, cache); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := cache.Verify(ctx, nil); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	if freed, err := cache.Prune(-1, time.Now().Add(time.Hour)); err != nil || freed == 0 || len(files(t, cache.blobDir())) != 0 {
		t.Errorf("%d, %v", freed, err)
	}
}

// Short names stand for what registries.conf says.
func TestFind(t *testing.T) {
	empty, full := newServer(t), newServer(t)
	b := blobs{}
	full.push(t, b, map[string]descriptor{"latest": b.image(t, "amd64", simplePart(t, "x"))})
	for _, c := range []struct{ text, conf, want string }{
		{"org/os", "", "docker://docker.io/org/os:latest"},
		{"org/os", fmt.Sprintf("unqualified-search-registries = [%q, %q]", empty.host, full.host), "docker://" + full.host + "/org/os:latest"},
		{"org/os:5", `unqualified-search-registries = ["registry.example.com"]`, "docker://registry.example.com/org/os:5"},
		{"os@" + hexDigest, "[aliases]\nos = \"registry.example.com/team/os\"", "docker://registry.example.com/team/os@" + hexDigest},
		{"docker://os", "[aliases]\nos = \"registry.example.com/team/os\"", "docker://docker.io/library/os:latest"},
		{"host.example.com/os", `unqualified-search-registries = ["registry.example.com"]`, "docker://host.example.com/os:latest"},
		{"oci:os", `unqualified-search-registries = ["registry.example.com"]`, "oci:os"},
	} {
		ref, err := Find(context.Background(), c.text, Options{Access: Access{RegistriesConf: conf(t, "%s", c.conf)}})
		if err != nil || ref.String() != c.want {
			t.Errorf("%s: %v, %v, want %s", c.text, ref, err, c.want)
		}
	}
	several := fmt.Sprintf("unqualified-search-registries = [%q, %q]", empty.host, full.host)
	_, err := Find(context.Background(), "org/none", Options{Access: Access{RegistriesConf: conf(t, "%s", several)}})
	wantFault(t, err, fault.NotFound, empty.host)
	_, err = Find(context.Background(), "org/os", Options{Access: Access{RegistriesConf: conf(t, "short-name-mode = \"enforcing\"\n%s", several)}})
	wantFault(t, err, fault.Usage, "enforcing")
}

// Whatever a file of credentials has, it is used or refused, and not shown.
func FuzzAuthFile(f *testing.F) {
	f.Add([]byte(`{"auths":{"registry.example.com":{"auth":"bWU6c2VjcmV0"},"https://index.docker.io/v1/":{"identitytoken":"x"}},"credsStore":"x","credHelpers":{"a":"b"}}`))
	f.Add([]byte(`{"auths":{"registry.example.com/os":{"username":"a","password":"b"},"registry.example.com":null}}`))
	f.Add([]byte(`{"auths":{"":{"registrytoken":"x"}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		name := filepath.Join(t.TempDir(), "auth.json")
		writeFile(t, name, raw)
		k, err := newKeychain(Options{AuthFile: name})
		if err != nil {
			t.Fatal(err)
		}
		s, err := openEndpoint(context.Background(), mustParse(t, "registry.example.com/os"), endpoint{host: "registry.example.com", path: "os"}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.ResolveContext(context.Background(), s.repo); err != nil && fault.ClassOf(err) == fault.Internal {
			t.Errorf("%v has no class", err)
		}
	})
}
