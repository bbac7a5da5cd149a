package debian

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The order is that of dpkg --compare-versions.
func TestCompareVersions(t *testing.T) {
	ascending := []string{"1.0~~", "1.0~~a", "1.0~", "1.0~rc1-1", "1.0", "1.0-0.1", "1.0-1", "1.0-1a", "1.0-1+b1", "1.0a",
		"1.0+dfsg", "1.0.1", "1.2", "1.10", "1.10.01-2", "2", "1:0.1", "10:0"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := compareVersions(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s, %s: %d", a, b, got)
			}
		}
	}
	if compareVersions("0:1.00-0", "1.0") != 0 {
		t.Error("leading zeros count")
	}
}

const zeroSum = "0000000000000000000000000000000000000000000000000000000000000000"

// stanza returns a paragraph of an index.
func stanza(name, fields string) string {
	return "Package: " + name + "\nFilename: pool/" + name + ".deb\nSize: 1\nSHA256: " + zeroSum + "\n" + fields + "\n"
}

func testIndex(t *testing.T, stanzas ...string) *index {
	t.Helper()
	x, err := parseIndex(strings.NewReader(strings.Join(stanzas, "")))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestResolve(t *testing.T) {
	x := testIndex(t,
		stanza("app", "Version: 1\nPre-Depends: libc (>= 2)\nDepends: liba:any (>= 1), editor | vim,\n mta [amd64]\n"),
		stanza("liba", "Version: 1\nDepends: libc\n"),
		stanza("libc", "Version: 1\nDepends: app\n"),
		stanza("libc", "Version: 2\nDepends: base\n"),
		stanza("libc", "Version: 2~rc\nDepends: app\n"),
		stanza("base", "Version: 1\n"),
		stanza("exim", "Version: 1\nProvides: mta (= 4), smtpd\n"),
		stanza("postfix", "Version: 1\nProvides: mta\n"),
		stanza("vim", "Version: 1\n"),
		stanza("nano", "Version: 1\nProvides: editor\n"),
		stanza("broken", "Version: 1\nDepends: nowhere | neither\n"))
	for _, c := range []struct{ name, want, drop, result string }{
		{"closure, virtual packages", "app", "", "app base exim liba libc nano"},
		{"chosen provider", "postfix app", "", "app base liba libc nano postfix"},
		{"chosen alternative", "vim app", "", "app base exim liba libc vim"},
		{"dropped", "app", "libc mta", "app liba nano"},
		{"dropped provider", "app", "exim nano", "app base liba libc"},
		{"unknown", "nothing", "", `error: no package "nothing"`},
		{"broken", "broken", "", "error: package broken: nothing provides nowhere or neither"},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := x.resolve(strings.Fields(c.want), strings.Fields(c.drop))
			var names []string
			for _, p := range list {
				names = append(names, p.Name)
			}
			got := strings.Join(names, " ")
			if err != nil {
				got = "error: " + err.Error()
			}
			if got != c.result {
				t.Errorf("%s, expected %s", got, c.result)
			}
		})
	}
}

func TestParseIndexRejects(t *testing.T) {
	for name, text := range map[string]string{
		"no name":   "Version: 1\nFilename: x\nSize: 1\nSHA256: " + zeroSum + "\n",
		"size":      "Package: a\nFilename: x\nSize: -1\nSHA256: " + zeroSum + "\n",
		"digest":    "Package: a\nFilename: x\nSize: 1\nSHA256: 00\n",
		"no colon":  "Package a\n",
		"long line": "Package: " + strings.Repeat("a", maxLine),
	} {
		if _, err := parseIndex(strings.NewReader(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestParseRelease(t *testing.T) {
	text := "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSuite: testing\nMD5Sum:\n 00 7 main/Packages\nSHA256:\n " +
		zeroSum + "  123 main/binary-amd64/Packages\nDate: now\n " + zeroSum + " 9 other\n"
	r, err := parseRelease([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := release{"main/binary-amd64/Packages": {size: 123, sha256: zeroSum}}
	if d := cmp.Diff(want, r, cmp.AllowUnexported(fileSum{})); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"", "SHA256:\n", "SHA256:\n 00 1 x\n", "SHA256:\n " + zeroSum + " -1 x\n"} {
		if _, err := parseRelease([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(stanza("a", "Version: 1:2~3-4\nDepends: b | c, d (>= 1) [amd64] <x>\nProvides: e\n")))
	f.Add([]byte("SHA256:\n " + zeroSum + " 1 x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseRelease(b)
		x, err := parseIndex(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		for name := range x.packages {
			_, _ = x.resolve([]string{name}, nil)
		}
	})
}

func TestHostConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"deb [signed-by=/x.gpg] http://mirror.example.org/debian/ sid main\n":                     "http://mirror.example.org/debian",
		"# deb http://old.example.org/debian x\ndeb cdrom:[x]/debian x\ndeb https://m/debian x\n": "https://m/debian",
		"Types: deb\n# http://snapshot.example.org/debian\nURIs: http://a/ubuntu http://b/debian": "http://b/debian",
		"deb http://security.example.org/debian-security x main":                                  "",
	} {
		if got := mirrorIn([]byte(text)); got != want {
			t.Errorf("mirror in %q: %q, expected %q", text, got, want)
		}
	}
	conf := "// Acquire::http::Proxy \"http://no:1\";\nAcquire::http::Proxy \"http://one:3142/\";\n acquire::HTTP::proxy \"http://two:3142\";\n"
	if got := proxyIn([]byte(conf)); got == nil || *got != (url.URL{Scheme: "http", Host: "two:3142"}) {
		t.Errorf("proxy %v", got)
	}
	if got := proxyIn([]byte("Acquire::http::Proxy \"DIRECT\";")); got != nil {
		t.Errorf("proxy %v", got)
	}
	t.Setenv(MirrorVariable, "http://mine/x/")
	if got := HostMirror(); got != "http://mine/x" {
		t.Errorf("mirror of the environment: %q", got)
	}
}
