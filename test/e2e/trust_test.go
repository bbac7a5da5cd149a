package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"imgbuild/test/image"
)

// sigstore runs the skopeo that has sigstore signatures.
func sigstore(t *testing.T, args ...string) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(tool(t, "skopeo-sigstore", "skopeo; make tools"), append([]string{"--insecure-policy"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR="+home, "TMPDIR="+home, "_CONTAINERS_USERNS_CONFIGURED=done", "_CONTAINERS_ROOTLESS_UID=1000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("skopeo %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// sigstoreKey makes a key pair, in the form of cosign's.
func sigstoreKey(t *testing.T, passphrase string) (private, public string) {
	t.Helper()
	prefix := filepath.Join(t.TempDir(), "key")
	sigstore(t, "generate-sigstore-key", "--output-prefix", prefix, "--passphrase-file", passphrase)
	return prefix + ".private", prefix + ".pub"
}

// attachments writes a registries.d that lets skopeo and imgbuild use sigstore
// signatures in a registry.
func attachments(t *testing.T, host string) string {
	t.Helper()
	return filepath.Dir(writeFile(t, "test.yaml", fmt.Sprintf("docker:\n  %q:\n    use-sigstore-attachments: true\n", host)))
}

// policyFile writes a policy that rejects all but what one scope of a transport
// asks for.
func policyFile(t *testing.T, transport, scope string, requirement map[string]any) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"default":    []any{map[string]string{"type": "reject"}},
		"transports": map[string]any{transport: map[string]any{scope: []any{requirement}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "policy.json", string(text))
}

// looked runs inspect, which opens the image as build does. Its environment has no
// configuration of containers.
func looked(t *testing.T, code int, stderr string, args ...string) {
	t.Helper()
	cmd := command(t, append([]string{"inspect", "--no-cache", "--target-arch", "amd64"}, args...)...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home)
	r := run(t, cmd)
	if r.code != code || !strings.Contains(r.stderr, stderr) {
		t.Errorf("%q: exit %d: %s, want %d and %q", args, r.code, r.stderr, code, stderr)
	}
	if code == 0 && !strings.Contains(r.stdout, "Signed:") {
		t.Errorf("%q: nothing is said of the signature: %s", args, r.stdout)
	}
}

// Signatures that skopeo makes with the keys of cosign.
func TestSkopeoSigstore(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	passphrase := writeFile(t, "passphrase", "secret")
	private, public := sigstoreKey(t, passphrase)
	_, wrong := sigstoreKey(t, passphrase)
	places := attachments(t, host)
	from := smallImage(t)
	sign := func(to string) {
		sigstore(t, "--registries.d", places, "copy", "--quiet", "--dest-tls-verify=false", "--sign-by-sigstore-private-key", private,
			"--sign-passphrase-file", passphrase, from, to)
	}
	sign("docker://" + host + "/org/os:1")
	sigstore(t, "copy", "--quiet", "--dest-tls-verify=false", from, "docker://"+host+"/org/unsigned:1")
	require := func(key string) string {
		return policyFile(t, "docker", host+"/org", map[string]any{"type": "sigstoreSigned", "keyPath": key})
	}
	signed, unsigned := host+"/org/os:1", host+"/org/unsigned:1"
	looked(t, 0, "", "--verify-key", public, signed)
	looked(t, 12, "none of the keys", "--verify-key", wrong, signed)
	looked(t, 12, "has none", "--verify-key", public, unsigned)
	looked(t, 0, "", "--signature-policy", require(public), "--registries-d", places, signed)
	looked(t, 0, "", "--signature-policy", require(public), signed)
	looked(t, 12, "none of the keys", "--signature-policy", require(wrong), signed)
	looked(t, 12, "has none", "--signature-policy", require(public), unsigned)
	looked(t, 12, "rejects", "--signature-policy", policyFile(t, "docker", "example.com", map[string]any{"type": "insecureAcceptAnything"}), signed)
	looked(t, 2, "verify-key", "--verify-key", wrong+".none", signed)
	looked(t, 9, "unknown", "--signature-policy", writeFile(t, "policy.json", `{"default":[{"type":"x"}]}`), signed)

	// The signature is for a name: the image under another one has its bytes, and
	// not its signature.
	sigstore(t, "--registries.d", places, "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+signed, "docker://"+host+"/org/copy:1")
	looked(t, 12, "is for", "--signature-policy", require(public), host+"/org/copy:1")
	looked(t, 0, "", "--verify-key", public, host+"/org/copy:1")

	// As a directory it takes its signatures along.
	dir := filepath.Join(t.TempDir(), "dir")
	sigstore(t, "--registries.d", places, "copy", "--quiet", "--src-tls-verify=false", "docker://"+signed, "dir:"+dir)
	looked(t, 0, "", "--verify-key", public, "dir:"+dir)
	exact := func(name string) string {
		return policyFile(t, "dir", filepath.Dir(dir), map[string]any{"type": "sigstoreSigned", "keyPath": public,
			"signedIdentity": map[string]string{"type": "exactReference", "dockerReference": name}})
	}
	looked(t, 0, "", "--signature-policy", exact(signed), "dir:"+dir)
	looked(t, 12, "is for", "--signature-policy", exact(unsigned), "dir:"+dir)
	flip(t, filepath.Join(dir, "signature-1"), "docker-manifest-digest")
	looked(t, 12, "", "--verify-key", public, "dir:"+dir)

	// A build is refused before it reads a layer, and leaves nothing.
	r := run(t, command(t, "--type", "raw", "--no-cache", "--target-arch", "amd64", "--verify-key", wrong, signed))
	failed(t, "wrong key", r, 12, "")
	_, r = build(t, "--type", "raw", "--size", "min", "--no-cache", "--target-arch", "amd64", "--verify-key", public, "-v", signed)
	if !strings.Contains(r.stderr, "signed: sha256:") {
		t.Errorf("nothing is said of the signature: %s", r.stderr)
	}
}

// flip changes a byte of the payload in a signature of skopeo's, which is base64.
func flip(t *testing.T, path, what string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(text, []byte(`"payload":"`))
	if i < 0 {
		t.Fatalf("%s has no payload with the %s: %s", path, what, text)
	}
	at := i + 60
	text[at] ^= 1
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Signatures that skopeo makes with GnuPG, in the store beside the registry and in
// a directory.
func TestSkopeoSimpleSigning(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	home, err := os.MkdirTemp("", "gpg") // its sockets want a short path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	gpg := func(args ...string) []byte {
		cmd := exec.Command(tool(t, "gpg", "gnupg"), append([]string{"--batch", "--quiet", "--homedir", home}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %q: %v", args, err)
		}
		return out
	}
	defer func() { _ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() }()
	// GnuPG waits five seconds for its agent to start, which on a busy machine is not
	// always enough.
	for range 20 {
		if exec.Command("gpgconf", "--homedir", home, "--launch", "gpg-agent").Run() == nil {
			break
		}
	}
	for _, who := range []string{"signer@example.com", "other@example.com"} {
		gpg("--passphrase", "", "--quick-generate-key", who, "rsa2048", "sign", "never")
	}
	ring := func(who string, armor ...string) string {
		return writeFile(t, "key.gpg", string(gpg(append(armor, "--export", who)...)))
	}
	store := filepath.Join(t.TempDir(), "sigs")
	places := filepath.Dir(writeFile(t, "test.yaml", fmt.Sprintf("default-docker:\n  lookaside: file://%s\n  sigstore: file://%s\n", store, store)))
	signed, dir := host+"/org/os:1", filepath.Join(t.TempDir(), "dir")
	t.Setenv("GNUPGHOME", home)
	from := smallImage(t)
	skopeo(t, "--registries.d", places, "copy", "--quiet", "--dest-tls-verify=false", "--sign-by", "signer@example.com", from, "docker://"+signed)
	skopeo(t, "--registries.d", places, "copy", "--quiet", "--src-tls-verify=false", "docker://"+signed, "dir:"+dir)
	require := func(key, transport string, id any) string {
		r := map[string]any{"type": "signedBy", "keyType": "GPGKeys", "keyPath": key}
		if id != nil {
			r["signedIdentity"] = id
		}
		return policyFile(t, transport, "", r)
	}
	exact := map[string]string{"type": "exactReference", "dockerReference": signed}
	for _, key := range []string{ring("signer@example.com"), ring("signer@example.com", "--armor")} {
		looked(t, 0, "", "--registries-d", places, "--signature-policy", require(key, "docker", nil), signed)
		looked(t, 0, "", "--signature-policy", require(key, "dir", exact), "dir:"+dir)
	}
	wrong := ring("other@example.com")
	looked(t, 12, "OpenPGP", "--registries-d", places, "--signature-policy", require(wrong, "docker", nil), signed)
	looked(t, 12, "is for", "--registries-d", places, "--signature-policy", require(ring("signer@example.com"), "docker", map[string]string{"type": "exactRepository", "dockerRepository": "example.com/x"}), signed)
	looked(t, 12, "has none", "--signature-policy", require(ring("signer@example.com"), "docker", nil), signed)

	// The signatures that an image was pulled with are in the local store.
	root := filepath.Join(t.TempDir(), "graph")
	t.Cleanup(func() { _ = exec.Command("chmod", "-R", "u+w", root).Run() }) // the roots of layers
	skopeo(t, "--registries.d", places, "copy", "--quiet", "--src-tls-verify=false", "docker://"+signed,
		"containers-storage:[vfs@"+root+"+"+t.TempDir()+":vfs.ignore_chown_errors=true]"+signed)
	store = "[vfs@" + root + "]"
	in := func(scope, key string) string {
		return policyFile(t, "containers-storage", scope, map[string]any{"type": "signedBy", "keyType": "GPGKeys", "keyPath": ring(key)})
	}
	for _, scope := range []string{store + signed, store + host, store, "[" + root + "]", ""} {
		looked(t, 0, "", "--signature-policy", in(scope, "signer@example.com"), "containers-storage:"+store+signed)
	}
	looked(t, 12, "OpenPGP", "--signature-policy", in("", "other@example.com"), "containers-storage:"+store+signed)
	looked(t, 12, "rejects", "--signature-policy", in("[vfs@/elsewhere]", "signer@example.com"), "containers-storage:"+store+signed)

	// Any byte of the signature.
	path := filepath.Join(dir, "signature-1")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{len(good) / 4, len(good) / 2, len(good) - 8} {
		bad := append([]byte{}, good...)
		bad[at] ^= 1
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		looked(t, 12, "", "--signature-policy", require(ring("signer@example.com"), "dir", exact), "dir:"+dir)
	}
}

// bootc takes no update of a system that has to verify signatures and whose policy
// accepts anything. That is said when the disk is made.
func TestPolicyOfImage(t *testing.T) {
	const accept, other = `{"default":[{"type":"insecureAcceptAnything"}]}`, `{"default":[{"type":"reject"}],"transports":{"docker":{"":[{"type":"insecureAcceptAnything"}]}}}`
	for _, c := range []struct {
		name, policy, flag, want string
	}{
		{"etc", other, "--enforce-container-sigpolicy", ""},
		{"etc", accept, "--enforce-container-sigpolicy", "accepts anything by default"},
		{"usr/share", accept, "--enforce-container-sigpolicy", "accepts anything by default"},
		{"etc", "{}", "--enforce-container-sigpolicy", "cannot be read"},
		{"", "", "--enforce-container-sigpolicy", "no /etc/containers/policy.json"},
		{"", "", "--target-imgref=ostree-image-signed:docker://registry.example.com/os:1", "no /etc/containers/policy.json"},
		{"etc", accept, "--seed=x", ""},
	} {
		s := image.New()
		if c.name != "" {
			dir := c.name
			if dir != "etc" {
				s.Dir(0, dir)
			}
			s.Dir(0, dir+"/containers")
			s.File(0, dir+"/containers/policy.json", c.policy)
		}
		r := run(t, command(t, "plan", "--no-cache", "--target-arch", "amd64", c.flag, writeImage(t, s)))
		if r.code != 0 || c.want != "" && !strings.Contains(r.stderr, c.want) || c.want == "" && strings.Contains(r.stderr, "policy.json") {
			t.Errorf("%+v: exit %d: %s", c, r.code, r.stderr)
		}
	}
	// What a config adds counts.
	config := writeFile(t, "config.toml", "[[customizations.directories]]\npath = \"/etc/containers\"\n[[customizations.files]]\npath = \"/etc/containers/policy.json\"\ndata = '''"+other+"'''\n")
	r := run(t, command(t, "plan", "--no-cache", "--target-arch", "amd64", "--enforce-container-sigpolicy", "--config", config, smallImage(t)))
	if r.code != 0 || strings.Contains(r.stderr, "policy.json") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// A digest after the tag is checked, and is what decides.
func TestPinned(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	skopeo(t, "copy", "--quiet", "--dest-tls-verify=false", smallImage(t), "docker://"+host+"/os:1")
	other := image.New()
	other.File(0, "usr/share/other", "x")
	skopeo(t, "copy", "--quiet", "--dest-tls-verify=false", writeImage(t, other), "docker://"+host+"/os:2")
	digest := func(tag string) string {
		r := run(t, command(t, "inspect", "--json", "--no-cache", "--target-arch", "amd64", host+"/os"+tag))
		var in struct{ Digest string }
		if err := json.Unmarshal([]byte(r.stdout), &in); err != nil {
			t.Fatalf("%v: %s", err, r.stderr)
		}
		return in.Digest
	}
	one, two := digest(":1"), digest(":2")
	if one == two || digest(":1@"+one) != one || digest("@"+one) != one || digest(":2@"+one) != one {
		t.Error("the digest does not decide")
	}
	bad := "sha256:" + strings.Repeat("0", 64)
	for _, name := range []string{"inspect", "build"} {
		args := []string{name, "--no-cache", "--target-arch", "amd64", host + "/os:1@" + bad}
		if r := run(t, command(t, args...)); r.code != 3 {
			t.Errorf("%q: exit %d: %s", args, r.code, r.stderr)
		}
	}
}

// The verdicts of skopeo and imgbuild on the same policies are the same.
func TestSkopeoAgrees(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	passphrase := writeFile(t, "passphrase", "secret")
	private, public := sigstoreKey(t, passphrase)
	_, wrong := sigstoreKey(t, passphrase)
	places := attachments(t, host)
	dir := filepath.Join(t.TempDir(), "dir")
	sigstore(t, "--registries.d", places, "copy", "--quiet", "--dest-tls-verify=false", "--sign-by-sigstore-private-key", private,
		"--sign-passphrase-file", passphrase, smallImage(t), "docker://"+host+"/org/os:1")
	for _, to := range []string{"docker://" + host + "/org/os:2", "docker://" + host + "/org/copy:1", "dir:" + dir} {
		sigstore(t, "--registries.d", places, "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+host+"/org/os:1", to)
	}
	r := run(t, command(t, "inspect", "--json", "--no-cache", "--target-arch", "amd64", host+"/org/os:1"))
	var in struct{ Digest string }
	if err := json.Unmarshal([]byte(r.stdout), &in); err != nil {
		t.Fatalf("%v: %s", err, r.stderr)
	}
	id := func(kind string, more ...string) map[string]any {
		o := map[string]any{"type": kind}
		for i := 0; i < len(more); i += 2 {
			o[more[i]] = more[i+1]
		}
		return o
	}
	identities := []map[string]any{
		nil, id("matchExact"), id("matchRepoDigestOrExact"), id("matchRepository"),
		id("exactReference", "dockerReference", host+"/org/os:1"), id("exactReference", "dockerReference", host+"/org/os:2"),
		id("exactRepository", "dockerRepository", host+"/org/os"), id("exactRepository", "dockerRepository", host+"/org"),
		id("remapIdentity", "prefix", host+"/org/copy", "signedPrefix", host+"/org/os"), id("remapIdentity", "prefix", host+"/or", "signedPrefix", host+"/x"),
		id("remapIdentity", "prefix", host, "signedPrefix", "example.com"),
	}
	refs := []string{"docker://" + host + "/org/os:1", "docker://" + host + "/org/os:2", "docker://" + host + "/org/os@" + in.Digest, "docker://" + host + "/org/copy:1", "dir:" + dir}
	agree := func(policy, ref string) bool {
		t.Helper()
		home := t.TempDir()
		cmd := exec.Command(tool(t, "skopeo-sigstore", "skopeo; make tools"), "--policy", policy, "--registries.d", places, "copy", "--quiet", "--src-tls-verify=false", "--remove-signatures", ref, "dir:"+filepath.Join(home, "out"))
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR="+home, "TMPDIR="+home, "_CONTAINERS_USERNS_CONFIGURED=done", "_CONTAINERS_ROOTLESS_UID=1000")
		out, err := cmd.CombinedOutput()
		theirs := err == nil
		if !theirs && !strings.Contains(string(out), "ource image rejected") {
			t.Fatalf("skopeo: %v\n%s", err, out)
		}
		ours := run(t, command(t, "inspect", "--no-cache", "--target-arch", "amd64", "--registries-d", places, "--signature-policy", policy, ref))
		if theirs && ours.code != 0 || !theirs && ours.code != 12 {
			text, _ := os.ReadFile(policy)
			t.Errorf("%s of %s: exit %d: %s\nskopeo: %v: %s", text, ref, ours.code, ours.stderr, err, out)
		}
		return theirs
	}
	accepted := 0
	for _, identity := range identities {
		r := map[string]any{"type": "sigstoreSigned", "keyPaths": []string{wrong, public}}
		if identity != nil {
			r["signedIdentity"] = identity
		}
		text, err := json.Marshal(map[string]any{"default": []any{r}})
		if err != nil {
			t.Fatal(err)
		}
		policy := writeFile(t, "policy.json", string(text))
		for _, ref := range refs {
			if agree(policy, ref) {
				accepted++
			}
		}
	}
	if all := len(identities) * len(refs); accepted < all/4 || accepted > all*3/4 {
		t.Errorf("%d of %d cases are accepted: they do not tell", accepted, all)
	}
	// Scopes: what is accepted where all else is rejected.
	for _, c := range [][2]string{
		{"docker", host + "/org/os:1"}, {"docker", host + "/org/os"}, {"docker", host + "/org"}, {"docker", host}, {"docker", "127.0.0.1"},
		{"docker", "*.0.0.1"}, {"docker", "*.1"}, {"docker", host + "/org/os:2"}, {"docker", host + "/or"}, {"docker", ""}, {"oci", ""}, {"dir", ""},
	} {
		policy := policyFile(t, c[0], c[1], map[string]any{"type": "insecureAcceptAnything"})
		agree(policy, refs[0])
		agree(policy, refs[2])
	}
	for _, scope := range []string{dir, filepath.Dir(dir), filepath.Dir(filepath.Dir(dir)), dir + "x"} {
		agree(policyFile(t, "dir", scope, map[string]any{"type": "insecureAcceptAnything"}), refs[4])
	}
}
