package apk

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"imgbuild/packages"
)

// installed is as apk 2.14 writes it.
const installed = `C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=
P:alpine-baselayout
V:3.6.8-r1
A:x86_64
S:8515
I:315392
T:Alpine base dir structure and init scripts
U:https://git.alpinelinux.org/cgit/aports/tree/main/alpine-baselayout
L:GPL-2.0-only
o:alpine-baselayout
m:Natanael Copa <ncopa@alpinelinux.org>
t:1739909889
c:66187892e05b03a41d08e9acabd19b7576a1c875
D:alpine-baselayout-data=3.6.8-r1 /bin/sh
q:1000
F:dev
M:0:0:755
F:etc
R:motd
Z:Q1SLkS9hBidUbPwwrw+XR0Whv3ww8=

C:Q1GeJPNQnFdqYVuIdTVDbvYL0w4kE=
P:alpine-baselayout-data
V:3.6.8-r1
A:x86_64
o:alpine-baselayout
L:GPL-2.0-only

C:Q1=
P:busybox-binsh
V:1.37.0-r12
A:x86_64
L:GPL-2.0-only
o:busybox
p:/bin/sh cmd:sh=1.37.0-r12
D:busybox=1.37.0-r12 so:libc.musl-x86_64.so.1 !conflict

C:Q1=
P:busybox
V:1.37.0-r12
A:x86_64
L:GPL-2.0-only
o:busybox
D:so:libc.musl-x86_64.so.1 musl>=1.2@edge

C:Q1=
P:musl
V:1.2.5-r9
A:x86_64
L:MIT
o:musl
p:so:libc.musl-x86_64.so.1=1
`

func TestParse(t *testing.T) {
	list, err := Parse(strings.NewReader(installed))
	if err != nil {
		t.Fatal(err)
	}
	if list, err = packages.Resolve(list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range list {
		line := p.Name + " " + p.Version + " " + p.License + " " + p.Source + " <"
		for _, k := range p.Depends {
			line += " " + list[k].Name
		}
		got = append(got, line)
	}
	want := []string{
		"alpine-baselayout 3.6.8-r1 GPL-2.0-only alpine-baselayout < alpine-baselayout-data busybox-binsh",
		"alpine-baselayout-data 3.6.8-r1 GPL-2.0-only alpine-baselayout <",
		"busybox 1.37.0-r12 GPL-2.0-only busybox < musl",
		"busybox-binsh 1.37.0-r12 GPL-2.0-only busybox < busybox musl",
		"musl 1.2.5-r9 MIT musl <",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if p := list[0]; p.Supplier != "Natanael Copa <ncopa@alpinelinux.org>" || p.Arch != "x86_64" || !strings.HasPrefix(p.Homepage, "https://git.alpine") || p.Summary != "Alpine base dir structure and init scripts" {
		t.Errorf("%+v", p)
	}
}

func TestParseFails(t *testing.T) {
	for text, want := range map[string]string{
		"nonsense\n":                        "line 1: no field",
		"V:1\n\n":                           "without a name",
		"P:" + strings.Repeat("a", maxLine): "line 1: longer",
	} {
		if _, err := Parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func FuzzInstalled(f *testing.F) {
	f.Add([]byte(installed))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if list, err := Parse(bytes.NewReader(b)); err == nil {
			packages.Resolve(list)
		}
	})
}
