package registries

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// config is what containers-registries.conf(5) shows, and more.
const config = `
unqualified-search-registries = ["registry.example.com", "docker.io/"]
short-name-mode = "enforcing"
credential-helpers = ["containers-auth.json", "secretservice"]
unknown = 1

[[registry]]
prefix = "example.com/foo"
location = "internal.example.com/bar"
insecure = false
[[registry.mirror]]
location = "mirror-1.example.com"
[[registry.mirror]]
location = "mirror-2.example.com:5000/copy/"
insecure = true

[[registry]]
prefix = "example.com/foo/deep"
location = "deep.example.com"
mirror-by-digest-only = true
[[registry.mirror]]
location = "by-digest.example.com"

[[registry]]
prefix = "*.wild.example.com"
[[registry.mirror]]
location = "tags.example.com"
pull-from-mirror = "tag-only"
[[registry.mirror]]
location = "digests.example.com"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "any.example.com"
pull-from-mirror = "all"

[[registry]]
location = "blocked.example.com"
blocked = true

[[registry]]
location = "plain.example.com:5000"
insecure = true

[aliases]
fedora = "registry.example.com/fedora/fedora"
"team/os" = "localhost:5000/os"
`

func load(t *testing.T, files ...string) *Config {
	t.Helper()
	dir := t.TempDir()
	p := Paths{Required: true, Dirs: []string{filepath.Join(dir, "d"), filepath.Join(dir, "none")}}
	if err := os.Mkdir(p.Dirs[0], 0o755); err != nil {
		t.Fatal(err)
	}
	for i, text := range files {
		name := filepath.Join(dir, "registries.conf")
		if i > 0 {
			name = filepath.Join(p.Dirs[0], string(rune('a'+i))+".conf")
		} else {
			p.File = name
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.Dirs[0], "ignored.txt"), []byte("="), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSources(t *testing.T) {
	c := load(t, config)
	for _, tc := range []struct {
		name   string
		digest bool
		want   string
	}{
		{"example.com/foo/os", false, "mirror-1.example.com/os mirror-2.example.com:5000/copy/os! internal.example.com/bar/os"},
		{"example.com/foobar/os", false, "example.com/foobar/os"},
		{"example.com/foo/deep/os", false, "deep.example.com/os"},
		{"example.com/foo/deep/os", true, "by-digest.example.com/os deep.example.com/os"},
		{"a.wild.example.com/os", false, "tags.example.com/os any.example.com/os a.wild.example.com/os"},
		{"a.b.wild.example.com/x/os", true, "digests.example.com/x/os any.example.com/x/os a.b.wild.example.com/x/os"},
		{"wild.example.com/os", false, "wild.example.com/os"},
		{"other.example.com/a.wild.example.com/os", false, "other.example.com/a.wild.example.com/os"},
		{"plain.example.com:5000/os", false, "plain.example.com:5000/os!"},
		{"plain.example.com/os", false, "plain.example.com/os"},
	} {
		list, err := c.Sources(tc.name, tc.digest)
		var got []string
		for i, s := range list {
			text := s.Name
			if s.Insecure {
				text += "!"
			}
			if s.Mirror != (i < len(list)-1) {
				t.Errorf("%s: %+v", tc.name, list)
			}
			got = append(got, text)
		}
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, %v, want %s", tc.name, got, err, tc.want)
		}
	}
	_, err := c.Sources("blocked.example.com/os", false)
	if !errors.As(err, new(*BlockedError)) {
		t.Errorf("blocked: %v", err)
	}
}

func TestShortNames(t *testing.T) {
	c := load(t, config)
	for name, want := range map[string]string{
		"fedora":      "registry.example.com/fedora/fedora",
		"fedora:42":   "registry.example.com/fedora/fedora:42",
		"fedora:1@d":  "registry.example.com/fedora/fedora:1@d",
		"team/os@d":   "localhost:5000/os@d",
		"os:1":        "registry.example.com/os:1 docker.io/os:1",
		"team/fedora": "registry.example.com/team/fedora docker.io/team/fedora",
	} {
		list, alias := c.Candidates(name)
		if got := strings.Join(list, " "); got != want || alias != (len(list) == 1) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if c.Mode != Enforcing || !reflect.DeepEqual(c.Helpers, []string{"containers-auth.json", "secretservice"}) || !strings.HasSuffix(c.Origin, "registries.conf") {
		t.Errorf("%+v", c)
	}
	for name, want := range map[string]bool{"os": true, "team/os:1": true, "localhost/os": false, "host:5000/os": false, "a.b/os": false} {
		if IsShort(name) != want {
			t.Errorf("IsShort(%s) is %v", name, !want)
		}
	}
}

// Later files replace registries and aliases one by one, and lists as a whole.
func TestDropIns(t *testing.T) {
	c := load(t, config,
		"[[registry]]\nprefix = \"example.com/foo\"\nlocation = \"new.example.com\"\n[aliases]\nfedora = \"\"\n",
		"unqualified-search-registries = []\nshort-name-mode = \"disabled\"\n[[registry]]\nlocation = \"blocked.example.com\"\n")
	list, err := c.Sources("example.com/foo/os", false)
	if err != nil || len(list) != 1 || list[0].Name != "new.example.com/os" {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := c.Sources("blocked.example.com/os", false); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if list, _ := c.Candidates("fedora"); len(list) != 0 || c.Search == nil || c.Mode != Disabled {
		t.Errorf("%v, %+v", list, c)
	}
}

func TestVersion1(t *testing.T) {
	c := load(t, "[registries.search]\nregistries = [\"a.example.com\"]\n[registries.insecure]\nregistries = [\"b.example.com\"]\n[registries.block]\nregistries = [\"c.example.com\"]\n")
	list, err := c.Sources("b.example.com/os", false)
	if err != nil || !list[0].Insecure {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := c.Sources("c.example.com/os", false); err == nil {
		t.Error("not blocked")
	}
	if list, _ := c.Candidates("os"); len(list) != 1 || list[0] != "a.example.com/os" {
		t.Errorf("%v", list)
	}
}

func TestBroken(t *testing.T) {
	for text, want := range map[string]string{
		"x":                              "line 1",
		"[[registry]]\n":                 "neither a prefix nor a location",
		"[[registry]]\nprefix = \"a.b\"": "has no location",
		"[[registry]]\nlocation = \"https://a.b\"":                                                                                        "has a scheme",
		"[[registry]]\nprefix = \"*.a/b\"\nlocation = \"x\"":                                                                              "of the form",
		"[[registry]]\nlocation = \"a\"\npull-from-mirror = \"all\"":                                                                      "is for mirrors",
		"[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\n":                                                                           "a mirror has no location",
		"[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"x\"":                                 "neither all",
		"[[registry]]\nlocation = \"a\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"all\"": "mirror-by-digest-only, and",
		"[[registry]]\nprefix = \"a\"\nlocation = \"c\"\n[[registry]]\nprefix = \"b\"\nlocation = \"c\"\ninsecure = true":                 "once with insecure",
		"[[registry]]\nprefix = \"a\"\nlocation = \"c\"\n[[registry]]\nprefix = \"b\"\nlocation = \"c\"\nblocked = true":                  "once with blocked",
		"short-name-mode = \"ask\"":                 "short-name-mode",
		"unqualified-search-registries = [\"a/b\"]": "not the name of a host",
		"[aliases]\n\"a.b/c\" = \"x.y/z\"":          "without registry",
		"[aliases]\na = \"z\"":                      "not a registry and a repository",
		"[aliases]\na = \"x.y/z:1\"":                "without tag",
		"unqualified-search-registries = 3":         "",
		"unqualified-search-registries = []\n[registries.block]\nregistries = [\"a\"]": "mixed",
	} {
		c := &Config{aliases: map[string]string{}}
		if err := c.merge([]byte(text), "x", false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	c := &Config{aliases: map[string]string{}}
	if err := c.merge([]byte("[registries.block]\nregistries = [\"a\"]"), "x", true); err == nil {
		t.Error("version 1 in registries.conf.d")
	}
}

// Which files are read.
func TestFind(t *testing.T) {
	home, root := t.TempDir(), t.TempDir()
	env := Env{Getenv: func(string) string { return "" }, Home: home, Root: root}
	etc := root + "/etc/containers/registries.conf"
	user := home + "/.config/containers/registries.conf"
	check := func(name, explicit string, want Paths) {
		t.Helper()
		if got := Find(explicit, env); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	alias := home + "/.cache/containers/short-name-aliases.conf"
	check("system", "", Paths{File: etc, Dirs: []string{etc + ".d", user + ".d"}, Aliases: alias})
	check("flag", "/x", Paths{File: "/x", Required: true, Dirs: []string{etc + ".d", user + ".d"}, Aliases: alias})
	if err := os.MkdirAll(filepath.Dir(user), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(user, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	check("user", "", Paths{File: user, Dirs: []string{user + ".d"}, Aliases: alias})
	env.Getenv = func(k string) string {
		return map[string]string{"CONTAINERS_REGISTRIES_CONF": "/env", "XDG_CACHE_HOME": "/cache"}[k]
	}
	check("environment", "", Paths{File: "/env", Required: true, Dirs: []string{etc + ".d", user + ".d"}, Aliases: "/cache/containers/short-name-aliases.conf"})
	if _, err := Load(Paths{File: "/none", Required: true}); err == nil {
		t.Error("a named file that does not exist")
	}
	if _, err := Load(Paths{File: "/none"}); err != nil {
		t.Error(err)
	}
}

// Whatever a file says, names come out that can be checked, or an error.
func FuzzRegistries(f *testing.F) {
	f.Add(config, "example.com/foo/os")
	f.Add("[registries.insecure]\nregistries = [\"b.example.com\"]\n", "b.example.com/os")
	f.Add("[[registry]]\nprefix=\"*.\"\n", "a./b")
	f.Fuzz(func(t *testing.T, text, name string) {
		c := &Config{aliases: map[string]string{}}
		if c.merge([]byte(text), "x", false) != nil {
			return
		}
		for _, digest := range []bool{false, true} {
			list, err := c.Sources(name, digest)
			if err == nil && len(list) == 0 {
				t.Error("no sources")
			}
		}
		c.Candidates(name)
	})
}
