package e2e

import (
	"bytes"
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
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-crypt/x/bcrypt"
	"github.com/google/go-containerregistry/pkg/registry"

	"imgbuild/test/image"
)

// The login that the registries of these tests want.
const user, password = "tester", "not-a-secret"

// debianRegistry starts Debian's docker-registry with TLS and basic
// authentication, and returns its address and the directory with its certificate.
func debianRegistry(t *testing.T) (host, certs string) {
	t.Helper()
	program := tool(t, "docker-registry", "docker-registry")
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "registry"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), 4)
	if err != nil {
		t.Fatal(err)
	}
	certs = filepath.Join(dir, "certs")
	write := func(name string, raw []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("certs/ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	ours := x509.NewCertPool()
	ours.AddCert(cert)
	files := []any{filepath.Join(dir, "data"), "", ca,
		write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})),
		write("htpasswd", []byte(user+":"+string(hash)+"\n"))}
	// It takes a port that is named. Another program may have taken that by then.
	for try := 0; ; try++ {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		host = listener.Addr().String()
		listener.Close()
		files[1] = host
		out, ok := serveRegistry(t, program, host, write("config.yml", fmt.Appendf(nil, `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %s}}
http: {addr: %q, tls: {certificate: %s, key: %s}}
auth: {htpasswd: {realm: test, path: %s}}
`, files...)), ours)
		if ok {
			return host, certs
		}
		if try == 5 {
			t.Fatalf("docker-registry does not answer:\n%s", out)
		}
	}
}

// serveRegistry starts a registry, which runs until the test ends, and waits until
// it answers at host with one of its certificates. Where it ends before, or never
// answers, it returns what it said.
func serveRegistry(t *testing.T, program, host, config string, certs *x509.CertPool) (out string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	stop := func() {
		cancel()
		<-ended
	}
	for start := time.Now(); time.Since(start) < 3*time.Minute; {
		if conn, err := tls.Dial("tcp", host, &tls.Config{RootCAs: certs}); err == nil {
			conn.Close()
			t.Cleanup(stop)
			return "", true
		}
		select {
		case <-ended:
			return said.String(), false
		case <-time.After(100 * time.Millisecond):
		}
	}
	stop()
	return said.String(), false
}

// skopeo runs the tool as this user, who needs no user namespace for that.
func skopeo(t *testing.T, args ...string) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(tool(t, "skopeo", "skopeo"), append([]string{"--insecure-policy"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR="+home, "TMPDIR="+home)
	if os.Geteuid() != 0 {
		cmd.Env = append(cmd.Env, "_CONTAINERS_USERNS_CONFIGURED=done", "_CONTAINERS_ROOTLESS_UID=1000")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("skopeo %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// auth writes a credentials file.
func auth(t *testing.T, host, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.json")
	text := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(user+":"+secret)))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// same builds a raw disk and compares it with another one's digest, unless that
// is empty. It returns the digest.
func same(t *testing.T, want string, env []string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := command(t, append([]string{"--output", dir, "--type", "raw", "--size", "min", "--target-arch", "amd64", "--target-imgref", "registry.example.com/os:1"}, args...)...)
	if env != nil {
		cmd.Env = append(os.Environ(), env...)
	}
	r := run(t, cmd)
	if r.code != 0 {
		t.Errorf("%v: exit %d\n%s", args, r.code, r.stderr)
		return want
	}
	got := sum(t, filepath.Join(dir, "image/disk.raw"))
	if want != "" && got != want {
		t.Errorf("%v: another disk", args)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	return got
}

// seen reads the layers of an image.
func seen(t *testing.T, env []string, args ...string) {
	t.Helper()
	cmd := command(t, append([]string{"inspect", "--deep", "--no-cache", "--target-arch", "amd64"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	if r := run(t, cmd); r.code != 0 || !strings.Contains(r.stdout, "Kernel:") {
		t.Errorf("%v: exit %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
}

// The same image in real registries, with TLS and a login, and in real stores
// and directories gives the same disk.
func TestSources(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "image")
	if err := image.New().Write(layout); err != nil {
		t.Fatal(err)
	}
	layout += ":latest"
	host, certs := debianRegistry(t)
	skopeo(t, "copy", "-q", "--preserve-digests", "--dest-creds", user+":"+password, "--dest-cert-dir", certs, "oci:"+layout, "docker://"+host+"/team/os:1")
	want := same(t, "", nil, "--no-cache", "oci:"+layout)

	// Debian's registry.
	file := auth(t, host, password)
	home := t.TempDir()
	certsD := filepath.Join(home, ".config/containers/certs.d", host)
	if err := os.MkdirAll(filepath.Dir(certsD), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(certs, "ca.crt"), filepath.Join(home, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(certsD, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(home, "ca.crt"), filepath.Join(certsD, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	ref := host + "/team/os:1"
	same(t, want, []string{"HOME=" + home}, "--no-cache", "--creds", user+":"+password, ref)
	cache := t.TempDir()
	r := run(t, command(t, "pull", "--target-arch", "amd64", "--cache", cache, "--cert-dir", certsD, "--authfile", file, "docker://"+ref))
	if r.code != 0 || !strings.HasPrefix(r.stdout, "docker://"+ref+" sha256:") {
		t.Errorf("pull: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	// Nothing can be reached any more, and nothing need be.
	same(t, want, []string{"HTTPS_PROXY=http://127.0.0.1:1"}, "--cache", cache, "--pull", "never", ref)
	r = run(t, command(t, "cache", "list", "--cache", cache))
	if r.code != 0 || !strings.Contains(r.stdout, ref) {
		t.Errorf("list: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r = run(t, command(t, "cache", "verify", "--cache", cache)); r.code != 0 {
		t.Errorf("verify: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	dir := t.TempDir()
	r = run(t, command(t, "--output", dir, "--no-cache", "--cert-dir", certsD, "--authfile", auth(t, host, "wrong-"+password), ref))
	failed(t, "wrong password", r, 4, dir)
	if strings.Contains(r.stderr, password) {
		t.Errorf("the password is shown: %s", r.stderr)
	}
	r = run(t, command(t, "--output", dir, "--no-cache", "--authfile", file, ref))
	failed(t, "unknown CA", r, 3, dir)

	// go-containerregistry's own, by a short name of registries.conf and a proxy.
	own := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(own.Close)
	ownHost := strings.TrimPrefix(own.URL, "http://")
	skopeo(t, "copy", "-q", "--preserve-digests", "--dest-tls-verify=false", "oci:"+layout, "docker://"+ownHost+"/team/os:1")
	conf := filepath.Join(t.TempDir(), "registries.conf")
	if err := os.WriteFile(conf, []byte(fmt.Sprintf("[aliases]\n\"os\" = \"registry.example.com/os\"\n[[registry]]\nprefix = \"registry.example.com\"\nlocation = \"%s/team\"\n", ownHost)), 0o644); err != nil {
		t.Fatal(err)
	}
	same(t, want, nil, "--no-cache", "--registries-conf", conf, "os:1")
	seen(t, []string{"CONTAINERS_REGISTRIES_CONF=" + conf}, "registry.example.com/os:1")
	proxied := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host == "proxied.example.com" {
			proxied++
			own.Config.Handler.ServeHTTP(w, r)
			return
		}
		http.Error(w, r.URL.String(), http.StatusBadGateway)
	}))
	t.Cleanup(proxy.Close)
	seen(t, []string{"HTTP_PROXY=" + proxy.URL, "HTTPS_PROXY=" + proxy.URL, "NO_PROXY="}, "--tls-verify=false", "proxied.example.com/team/os:1")
	if proxied == 0 {
		t.Error("the proxy was not asked")
	}

	// A store of Podman that skopeo fills, as this user.
	root := filepath.Join(t.TempDir(), "graph")
	t.Cleanup(func() { _ = exec.Command("chmod", "-R", "u+w", root).Run() })
	spec := fmt.Sprintf("[vfs@%s+%s:vfs.ignore_chown_errors=true]", root, t.TempDir())
	skopeo(t, "copy", "-q", "oci:"+layout, "containers-storage:"+spec+"localhost/os:1")
	storage := filepath.Join(t.TempDir(), "storage.conf")
	if err := os.WriteFile(storage, []byte(fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\n", root)), 0o644); err != nil {
		t.Fatal(err)
	}
	local := []string{"CONTAINERS_STORAGE_CONF=" + storage}
	same(t, want, nil, "--no-cache", "containers-storage:["+root+"]localhost/os:1")
	seen(t, local, "localhost/os:1")
	same(t, want, local, "--no-cache", "--local", "os:1")

	// What skopeo writes into a directory.
	copied := filepath.Join(t.TempDir(), "dir")
	skopeo(t, "copy", "-q", "oci:"+layout, "dir:"+copied)
	same(t, want, nil, "--no-cache", "dir:"+copied)

	// An archive for Docker has another manifest, and so another identity.
	archive := filepath.Join(t.TempDir(), "image.tar")
	skopeo(t, "copy", "-q", "containers-storage:"+spec+"localhost/os:1", "docker-archive:"+archive+":localhost/os:1")
	seen(t, nil, "docker-archive:"+archive)
	check(t, "gzip", "gzip", "-1", archive)
	seen(t, nil, "docker-archive:"+archive+".gz:localhost/os:1")
}

// Credentials and tokens stay with the registry that they are for, whatever it
// answers.
func TestNoLeak(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "image")
	if err := image.New().Write(layout); err != nil {
		t.Fatal(err)
	}
	secret := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	leaked, followed := "", false
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		followed = true
		dump := fmt.Sprint(r.Header, r.URL)
		if strings.Contains(dump, secret) || strings.Contains(dump, password) || strings.Contains(dump, "Authorization") {
			leaked = dump
		}
		http.ServeFile(w, r, filepath.Join(layout, "blobs/sha256", filepath.Base(r.URL.Path)))
	}))
	t.Cleanup(thief.Close)
	redirect := func(w http.ResponseWriter, r *http.Request, path string) bool {
		http.Redirect(w, r, thief.URL+"/"+filepath.Base(path), http.StatusTemporaryRedirect)
		return true
	}
	inner := layoutRegistry(t, layout, redirect)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Basic "+secret {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r2 := r.Clone(r.Context())
		r2.RequestURI, r2.URL.Scheme, r2.URL.Host = "", "http", inner
		r2.Header.Del("Authorization")
		resp, err := http.DefaultTransport.RoundTrip(r2)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(front.Close)
	host := strings.TrimPrefix(front.URL, "http://")
	r := run(t, command(t, "inspect", "--deep", "--no-cache", "--target-arch", "amd64", "--authfile", auth(t, host, password), host+"/os:1"))
	if strings.Contains(r.stderr, "registry ") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if !followed {
		t.Errorf("the redirect was not followed: exit %d: %s", r.code, r.stderr)
	}
	if leaked != "" {
		t.Errorf("the other host got %s", leaked)
	}
}
