package cyclonedx

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"imgbuild/packages"
)

// sample has one package of each kind, and what is awkward in them.
func sample() *packages.Document {
	list, _ := packages.Resolve([]*packages.Package{
		{Type: packages.Deb, Name: "libstdc++6", Version: "1:14-1+b1", Arch: "amd64", Summary: "a <b> \"c\"", License: "GPL-3.0-or-later WITH GCC-exception-3.1",
			Supplier: "Debian GCC Maintainers <debian-gcc@lists.debian.org>", Homepage: "http://gcc.gnu.org/", Source: "gcc-14", SourceVersion: "14-1", Requires: []packages.Requirement{{"libc6"}}},
		{Type: packages.Deb, Name: "libc6", Version: "2.41", Arch: "amd64", License: "LGPL-2.1-or-later", Homepage: "not a url"},
		{Type: packages.RPM, Name: "bash", Version: "1:5.2-1", Arch: "x86_64", License: "GPLv3+ and x", Source: "bash-5.2-1.src.rpm", Homepage: "https://example.com/a b"},
		{Type: packages.APK, Name: "a", Version: "1", Arch: "x86_64", License: "MIT"},
	})
	return &packages.Document{
		Name: "registry.example.com/os:1", Digest: "sha256:0000000000000000000000000000000000000000000000000000000000000001", Arch: "amd64",
		PURL: "pkg:oci/os@sha256:00?arch=amd64", Tool: "imgbuild", Version: "1.0", Created: 1700000000,
		Inventory: packages.Inventory{
			OS:       packages.OS{ID: "debian", VersionID: "13", PrettyName: "Debian", CPE: "cpe:/o:debian:debian_linux:13", HomeURL: "https://www.debian.org/"},
			Packages: list,
		},
	}
}

// schema compiles the official schema of CycloneDX 1.6, which refers to two others.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	for _, name := range []string{"bom-1.6.schema.json", "spdx.schema.json", "jsf-0.82.schema.json"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource("http://cyclonedx.org/schema/"+name, v); err != nil {
			t.Fatal(err)
		}
	}
	c.AssertFormat()
	s, err := c.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchema(t *testing.T) {
	s := schema(t)
	for name, d := range map[string]*packages.Document{"full": sample(), "hostile": hostile(), "empty": {Digest: sample().Digest, Name: "x"}} {
		text, err := Encode(d)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		v.(map[string]any)["components"].([]any)[0].(map[string]any)["type"] = "thing"
		if s.Validate(v) == nil {
			t.Error("the schema takes anything")
		}
	}
}

// hostile is what a damaged or hostile database could say.
func hostile() *packages.Document {
	d := sample()
	d.OS = packages.OS{ID: "\x00", VersionID: "\n", CPE: "cpe:/o:\x00", HomeURL: "javascript:x"}
	d.Packages = nil
	for _, s := range []string{"", " ", "\x00\x1f\x7f", "\ufffd", "../../etc", "a\nb", "<>&\"'", "(AND", "MIT AND", "http://[", "http://\x00/", "ftp://x y/", "é" + string(make([]byte, 100))} {
		for _, typ := range []packages.Type{packages.Deb, packages.RPM} {
			d.Packages = append(d.Packages, &packages.Package{Type: typ, Name: s, Version: s, Arch: s, Summary: s, License: s, Supplier: s + " <" + s + ">", Homepage: s, Source: s, SourceVersion: s})
		}
	}
	// Two that no identifier tells apart.
	d.Packages, _ = packages.Resolve(append(d.Packages, &packages.Package{Name: "a-1", Version: "2"}, &packages.Package{Name: "a", Version: "1-2"}))
	return d
}

func TestContent(t *testing.T) {
	text, err := Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := Encode(sample()); !bytes.Equal(again, text) {
		t.Error("encoding twice gives different bytes")
	}
	var b bom
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	refs := map[string]*component{b.Metadata.Component.Ref: &b.Metadata.Component}
	for i := range b.Components {
		c := &b.Components[i]
		if refs[c.Ref] != nil {
			t.Errorf("%s is there twice", c.Ref)
		}
		refs[c.Ref] = c
	}
	found := false
	for _, d := range b.Dependencies {
		if refs[d.Ref] == nil {
			t.Errorf("%s is nothing", d.Ref)
		}
		for _, on := range d.DependsOn {
			if refs[on] == nil {
				t.Fatalf("%s is nothing", on)
			}
			found = found || refs[d.Ref].Name == "libstdc++6" && refs[on].Name == "libc6"
		}
	}
	if !found || len(b.Dependencies) != len(refs) {
		t.Errorf("dependencies %+v", b.Dependencies)
	}
	for _, c := range b.Components {
		var got string
		for _, l := range c.Licenses {
			if got = l.Expression; l.License != nil {
				got = l.License.ID + " " + l.License.Name
			}
		}
		if want := map[string]string{"a": "MIT ", "bash": " GPLv3+ and x", "libstdc++6": "GPL-3.0-or-later WITH GCC-exception-3.1", "libc6": "LGPL-2.1-or-later "}[c.Name]; got != want {
			t.Errorf("%s: licence %q, want %q", c.Name, got, want)
		}
	}
}
