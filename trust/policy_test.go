package trust

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
)

func TestIdentity(t *testing.T) {
	pinned := InRegistry(repo, "", digest)
	both := InRegistry(repo, "1", digest)
	file := InPath(OCI, "/srv/image")
	is := func(kind string, more ...string) dict {
		o := dict{"type": kind}
		for i := 0; i < len(more); i += 2 {
			o[more[i]] = more[i+1]
		}
		return o
	}
	remap := is("remapIdentity", "prefix", "registry.example.com/org", "signedPrefix", "vendor.example.org")
	key := newKey(t)
	for _, c := range []struct {
		id     dict
		img    *Image
		signed string
		ok     bool
	}{
		{nil, tagged("1"), repo + ":1", true},
		{nil, tagged("1"), repo + ":2", false},
		{nil, tagged("1"), repo, false},
		{nil, pinned, repo + ":2", true},
		{nil, pinned, repo, false},
		{nil, pinned, repo + "2:1", false},
		{nil, both, repo + ":2", true},
		{nil, file, repo + ":1", false},
		{is("matchRepoDigestOrExact"), tagged("1"), repo + ":1", true},
		{is("matchExact"), tagged("1"), repo + ":1", true},
		{is("matchExact"), tagged("1"), repo, false},
		{is("matchExact"), pinned, repo + ":1", false},
		{is("matchExact"), pinned, repo + "@" + digest, true},
		{is("matchRepository"), tagged("1"), repo, true},
		{is("matchRepository"), tagged("1"), repo + ":7", true},
		{is("matchRepository"), tagged("1"), "registry.example.com/org", false},
		{is("matchRepository"), file, repo, false},
		{is("exactReference", "dockerReference", "example.com/a:1"), file, "example.com/a:1", true},
		{is("exactReference", "dockerReference", "example.com/a:1"), file, "example.com/a:2", false},
		{is("exactReference", "dockerReference", "busybox:1"), file, "docker.io/library/busybox:1", true},
		{is("exactRepository", "dockerRepository", "example.com/a"), file, "example.com/a:2", true},
		{is("exactRepository", "dockerRepository", "example.com/a"), file, "example.com/a", true},
		{is("exactRepository", "dockerRepository", "example.com/a"), file, "example.com/b", false},
		{remap, tagged("1"), "vendor.example.org/os:1", true},
		{remap, tagged("1"), "vendor.example.org/os:2", false},
		{remap, tagged("1"), repo + ":1", false},
		{remap, pinned, "vendor.example.org/os:2", true},
		{is("remapIdentity", "prefix", "registry.example.com/o", "signedPrefix", "vendor.example.org"), tagged("1"), repo + ":1", true},
		{is("remapIdentity", "prefix", repo, "signedPrefix", "vendor.example.org/x"), tagged("1"), "vendor.example.org/x:1", true},
		{is("matchRepository"), tagged("1"), "", false},
		{is("matchRepository"), tagged("1"), "NOT a name", false},
	} {
		r := dict{"type": "sigstoreSigned", "keyData": key.pem(t)}
		if c.id != nil {
			r["signedIdentity"] = c.id
		}
		_, err := check(policy(t, r), c.img, key.signed(t, digest, c.signed))
		if (err == nil) != c.ok {
			t.Errorf("%v, %+v, signed for %q: %v", c.id, c.img, c.signed, err)
		}
	}
}

func TestScopes(t *testing.T) {
	for _, c := range []struct {
		img  *Image
		want []string
	}{
		{InRegistry("a.b.example.com:5000/org/os", "1", ""), []string{"a.b.example.com:5000/org/os:1", "a.b.example.com:5000/org/os",
			"a.b.example.com:5000/org", "a.b.example.com:5000", "*.b.example.com", "*.example.com", "*.com"}},
		{InRegistry("localhost/os", "", digest), []string{"localhost/os@" + digest, "localhost/os", "localhost"}},
		{InRegistry("localhost/os", "1", digest), []string{"localhost/os@" + digest, "localhost/os:1", "localhost/os", "localhost"}},
		{InPath(Dir, "/srv/images/os"), []string{"/srv/images/os", "/srv/images", "/srv"}},
		{InDockerArchive("localhost/os:1"), nil},
		{InStorage("overlay", "/s", "localhost/os", "1", "", ""), []string{"[overlay@/s]localhost/os:1", "[overlay@/s]localhost/os", "[overlay@/s]localhost", "[overlay@/s]", "[/s]"}},
		{InStorage("overlay", "/s", "localhost/os", "1", digest, "abc"), []string{"[overlay@/s]localhost/os:1@" + digest + "@abc", "[overlay@/s]localhost/os:1@" + digest,
			"[overlay@/s]localhost/os:1", "[overlay@/s]localhost/os", "[overlay@/s]localhost", "[overlay@/s]", "[/s]"}},
		{InStorage("vfs", "/s", "", "", "", "abc"), []string{"[vfs@/s]@abc", "[vfs@/s]", "[/s]"}},
	} {
		if !slices.Equal(c.img.scopes, c.want) {
			t.Errorf("%q, want %q", c.img.scopes, c.want)
		}
	}
	// The narrowest scope wins, then the default of the transport, then that of all.
	p, err := Parse([]byte(`{"default":[{"type":"reject"}],"transports":{
"docker":{"registry.example.com/org":[{"type":"insecureAcceptAnything"}],"registry.example.com/org/os:bad":[{"type":"reject"}],"*.org":[{"type":"insecureAcceptAnything"}]},
"oci":{"":[{"type":"insecureAcceptAnything"}],"/srv":[{"type":"reject"}]}}}`), "policy.json")
	must(t, err)
	for _, c := range []struct {
		img *Image
		ok  bool
	}{
		{tagged("1"), true}, {tagged("bad"), false}, {InRegistry("registry.example.com/other", "1", ""), false},
		{InRegistry("a.b.example.org/x", "1", ""), true}, {InRegistry("example.org.evil/x", "1", ""), false},
		{InPath(OCI, "/home/x"), true}, {InPath(OCI, "/srv/x"), false}, {InPath(Dir, "/home/x"), false},
	} {
		if _, err := check(p, c.img); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.img, err)
		}
	}
}

// The policy is as strict as that of containers/image.
func TestBadPolicy(t *testing.T) {
	sigstore := func(fields string) string {
		return `{"default":[{"type":"sigstoreSigned",` + fields + `}]}`
	}
	const fulcio = `"fulcio":{"caPath":"/ca","oidcIssuer":"https://i","subjectEmail":"a@b"}`
	for text, want := range map[string]string{
		``: "unexpected", `[]`: "no JSON object", `{}`: "default: missing", `{"default":[]}`: "no requirement",
		`{"default":null}`: "no requirement", `{"default":[{"type":"reject"}],"more":1}`: "unknown",
		`{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}`: "twice",
		`{"default":[{"type":"reject"}]}{}`:                                             "more follows",
		`{"Default":[{"type":"reject"}]}`:                                               `"Default": unknown`,
		`{"default":[{"type":"reject","x":1}]}`:                                         "unknown",
		`{"default":[{"type":"rejekt"}]}`:                                               `type "rejekt": unknown`,
		`{"default":[{}]}`:                                                              "type: missing",
		`{"default":[{"type":"reject","type":"insecureAcceptAnything"}]}`:               "twice",
		`{"default":[{"type":"reject"}],"transports":{"dir":{"relative":[]}}}`:          "absolute",
		`{"default":[{"type":"reject"}],"transports":{"dir":{"/":[]}}}`:                 `""`,
		`{"default":[{"type":"reject"}],"transports":{"oci":{"/a/../b":[]}}}`:           "shortest",
		`{"default":[{"type":"reject"}],"transports":{"docker-archive":{"/a":[]}}}`:     "only the scope",
		`{"default":[{"type":"reject"}],"transports":{"containers-storage":{"/a":[]}}}`: "store",
		`{"default":[{"type":"reject"}],"transports":{"docker":{"a":[]}}}`:              "no requirement",
		sigstore(`"x":1`): "unknown",
		sigstore(`"signedIdentity":{"type":"matchRepository"}`): "one of keyPath",
		sigstore(`"keyPath":"/a","keyData":"YQ=="`):             "only one of keyPath",
		sigstore(`"keyPaths":[]`):                               "empty",
		sigstore(`"keyData":"*"`):                               "keyData",
		sigstore(fulcio):                                        "key of Rekor",
		sigstore(`"keyPath":"/a","rekorPublicKeyPath":"/a","rekorPublicKeyData":"YQ=="`):                        "only one of rekorPublicKeyPath",
		sigstore(`"fulcio":{"caPath":"/ca","subjectEmail":"a@b"},"rekorPublicKeyPath":"/a"`):                    "oidcIssuer",
		sigstore(`"pki":{"caRootsPath":"/ca"}`):                                                                 "subjectEmail or",
		sigstore(`"pki":{"caRootsPath":"/ca","subjectEmail":"a@b"},"rekorPublicKeyPath":"/a"`):                  "not possible",
		sigstore(`"pki":{"caRootsPath":"/ca","caIntermediatesPath":"/a","caIntermediatesData":"YQ=="}`):         "only one",
		sigstore(`"keyPath":"/a","signedIdentity":{"type":"matchAll"}`):                                         "unknown",
		sigstore(`"keyPath":"/a","signedIdentity":{"type":"exactReference"}`):                                   "dockerReference",
		sigstore(`"keyPath":"/a","signedIdentity":{"type":"exactReference","dockerReference":"example.com/a"}`): "neither tag",
		sigstore(`"keyPath":"/a","signedIdentity":{"type":"matchExact","dockerReference":"example.com/a:1"}`):   "does not take",
		sigstore(`"keyPath":"/a","signedIdentity":{"type":"remapIdentity","prefix":"a b","signedPrefix":"c"}`):  "prefix",
		sigstore(`"keyPath":"/a","signedIdentity":{"type":"remapIdentity","prefix":"a.example"}`):               "prefix",
		`{"default":[{"type":"signedBy","keyType":"GPGKeys"}]}`:                                                 "one of keyPath",
		`{"default":[{"type":"signedBy","keyType":"x","keyPath":"/a"}]}`:                                        "keyType",
	} {
		if p, err := Parse([]byte(text), "policy.json"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %s", text, p, err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	root, home := t.TempDir(), t.TempDir()
	write := func(path, kind string) string {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(`{"default":[{"type":"`+kind+`"}]}`), 0o644))
		return path
	}
	vars := map[string]string{}
	env := Env{Getenv: func(name string) string { return vars[name] }, Home: home, Root: root}
	is := func(want string, path string) {
		t.Helper()
		p, err := Load(path, env)
		if err != nil || p.Name() != want || p.explicit != (path != "") {
			t.Errorf("%+v, %v; want that of %q", p, err, want)
		}
	}
	is("", "")
	if p, _ := Load("", env); p != nil {
		if _, err := check(p, tagged("1")); err != nil {
			t.Error(err)
		}
	}
	is(write(filepath.Join(root, "usr/share/containers/policy.json"), "reject"), "")
	is(write(filepath.Join(root, "etc/containers/policy.json"), "reject"), "")
	user := write(filepath.Join(home, ".config/containers/policy.json"), "reject")
	is(user, "")
	vars["XDG_CONFIG_HOME"] = filepath.Join(home, "xdg")
	is(write(filepath.Join(home, "xdg/containers/policy.json"), "reject"), "")
	vars["CONTAINERS_POLICY_JSON"] = write(filepath.Join(home, "env.json"), "reject")
	is(vars["CONTAINERS_POLICY_JSON"], "")
	is(user, user)
	if _, err := Load(filepath.Join(home, "none"), env); fault.ClassOf(err) != fault.Usage {
		t.Error(err)
	}
	must(t, os.WriteFile(user, []byte("{"), 0o644))
	if _, err := Load(user, env); fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), user) {
		t.Error(err)
	}
	must(t, os.Remove(user))
	must(t, os.Mkdir(user, 0o755))
	if _, err := Load(user, env); fault.ClassOf(err) != fault.Config {
		t.Error(err)
	}
}

func TestPlaces(t *testing.T) {
	root, home := t.TempDir(), t.TempDir()
	env := Env{Home: home, UID: 1000, Root: root}
	write := func(path, text string) {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	load := func() *Places {
		t.Helper()
		p, err := LoadPlaces("", env)
		must(t, err)
		return p
	}
	img := tagged("1")
	if use, said := load().Attachments(img); use || said || load().Lookaside(img) != "file://"+home+"/.local/share/containers/sigstore" {
		t.Error(use, said, load().Lookaside(img))
	}
	etc := filepath.Join(root, "etc/containers/registries.d")
	write(etc+"/a.yaml", "default-docker:\n  lookaside: https://default.example.com\n  use-sigstore-attachments: true\n")
	write(etc+"/b.yaml", "docker:\n  registry.example.com:\n    sigstore: file:///old\n    use-sigstore-attachments: false\n  registry.example.com/org/os:\n    lookaside: https://os.example.com\n")
	write(etc+"/c.conf", "no: [yaml")
	p := load()
	if use, said := p.Attachments(img); use || !said {
		t.Error("the section of the host is not taken")
	}
	if got := p.Lookaside(img); got != "https://os.example.com" {
		t.Error(got)
	}
	if got := p.Lookaside(InRegistry("registry.example.com/x", "1", "")); got != "file:///old" {
		t.Error(got)
	}
	if use, said := p.Attachments(InRegistry("example.org/x", "1", "")); !use || !said {
		t.Error("the default is not taken")
	}
	// The user's file of the same name hides the system's.
	write(filepath.Join(home, ".config/containers/registries.d/b.yaml"), "docker:\n  registry.example.com:\n    use-sigstore-attachments: true\n")
	if use, _ := load().Attachments(img); !use {
		t.Error("the user's file does not hide the system's")
	}
	write(filepath.Join(root, "etc/containers/registries.rootless.d/1000/d.yaml"), "docker:\n  registry.example.com: {}\n")
	if _, err := LoadPlaces("", env); fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), "both in") {
		t.Error(err)
	}
	if _, err := LoadPlaces(filepath.Join(root, "none"), env); fault.ClassOf(err) != fault.Usage {
		t.Error(err)
	}
	if p, err := LoadPlaces(etc, env); err != nil || len(p.places) != 2 {
		t.Error(p, err)
	}
}
