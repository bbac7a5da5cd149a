package oci

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/fault"
)

func TestAuth(t *testing.T) {
	s := newServer(t)
	b := blobs{}
	m := b.image(t, "amd64", simplePart(t, "x"))
	s.push(t, b, map[string]descriptor{"latest": m})
	token := base64.StdEncoding.EncodeToString([]byte("me:secret"))
	basic := func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if r.Header.Get("Authorization") != "Basic "+token {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}
	bearer := func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		switch {
		case r.URL.Path == "/token":
			if r.Header.Get("Authorization") != "Basic "+token || r.URL.Query().Get("scope") != "repository:org/os:pull" {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, `{"token":"the-token"}`)
		case r.Header.Get("Authorization") != "Bearer the-token":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, s.URL))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			inner.ServeHTTP(w, r)
		}
	}
	forbidden := func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		inner.ServeHTTP(w, r)
	}
	home := t.TempDir()
	write := func(path, text string) string {
		name := filepath.Join(home, path)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, name, []byte(text))
		return name
	}
	entry := func(key, auth string) string { return fmt.Sprintf(`{"auths":{"%s":{"auth":"%s"}}}`, key, auth) }
	wrong := base64.StdEncoding.EncodeToString([]byte("you:secret"))
	good := write("good.json", entry(s.host, token))
	namespaced := write("namespaced.json", fmt.Sprintf(`{"auths":{"%s":{"auth":"%s"},"%s/org":{"auth":"%s"},"%s/org/other":{"auth":"%s"}}}`, s.host, wrong, s.host, token, s.host, wrong))
	url := write("url.json", entry("http://"+s.host+"/v1/", token))
	bad := write("bad.json", entry(s.host, wrong))
	write("run/containers/auth.json", entry("other.example", wrong))
	write(".docker/config.json", entry(s.host, token))
	broken := write("broken.json", "{")
	env := func(kv map[string]string) func(string) string { return func(k string) string { return kv[k] } }
	for name, c := range map[string]struct {
		opt  Options
		ok   bool
		text string
	}{
		"none":              {Options{}, false, "401"},
		"file":              {Options{AuthFile: good}, true, ""},
		"namespace":         {Options{AuthFile: namespaced}, true, ""},
		"url as key":        {Options{AuthFile: url}, true, ""},
		"wrong":             {Options{AuthFile: bad}, false, "401"},
		"docker after run":  {Options{Home: home, Getenv: env(map[string]string{"XDG_RUNTIME_DIR": home + "/run"})}, true, ""},
		"REGISTRY_AUTH":     {Options{Home: home, Getenv: env(map[string]string{"REGISTRY_AUTH_FILE": bad})}, false, "401"},
		"REGISTRY_AUTH set": {Options{Getenv: env(map[string]string{"REGISTRY_AUTH_FILE": good})}, true, ""},
		"missing":           {Options{Getenv: env(map[string]string{"REGISTRY_AUTH_FILE": home + "/none"})}, false, "no such file"},
		"broken":            {Options{AuthFile: broken}, false, "invalid JSON"},
	} {
		for kind, wrap := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){"basic": basic, "bearer": bearer} {
			t.Run(name+" "+kind, func(t *testing.T) {
				s.hostile(wrap)
				c.opt.Arch = "amd64"
				_, _, err := pulled(t, s.host+"/org/os", c.opt, nil)
				if c.ok {
					if err != nil {
						t.Error(err)
					}
					return
				}
				text := c.text
				if text == "401" {
					text = "registry " + s.host
					if !strings.Contains(fault.HintOf(err), "podman login "+s.host) {
						t.Errorf("hint %q", fault.HintOf(err))
					}
				}
				wantFault(t, err, fault.Auth, text)
				if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), token) {
					t.Errorf("%v shows the secret", err)
				}
			})
		}
	}
	s.hostile(forbidden)
	_, _, err := pulled(t, s.host+"/org/os", Options{}, nil)
	wantFault(t, err, fault.Auth, "403")
	wantFault(t, openErr(t, s.host+"/org/os", Options{AuthFile: home + "/none"}), fault.Usage, "no such file")
}

func TestAuthFiles(t *testing.T) {
	got := DefaultAuthFiles(func(k string) string {
		return map[string]string{"XDG_RUNTIME_DIR": "/run/user/1", "DOCKER_CONFIG": "/dc"}[k]
	}, "/home/me")
	want := []string{"/run/user/1/containers/auth.json", "/home/me/.config/containers/auth.json", "/dc/config.json"}
	for i := range want {
		if filepath.ToSlash(got[i]) != want[i] {
			t.Errorf("got %v", got)
		}
	}
	f := &authFile{Auths: map[string]json.RawMessage{"https://index.docker.io/v1/": json.RawMessage(`1`), "quay.io": json.RawMessage(`2`), "quay.io/a/b": json.RawMessage(`3`)}}
	for repo, want := range map[string]string{"index.docker.io/library/x": "1", "docker.io/x": "1", "quay.io/a": "2", "quay.io/a/b": "3", "quay.io/a/b/c": "3", "quay.io/a/bc": "2", "other": ""} {
		if got, _ := f.find(repo); string(got) != want {
			t.Errorf("%s: %s, want %s", repo, got, want)
		}
	}
}
