package spdx

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
		{Type: packages.Deb, Name: "libc6", Version: "2.41", Arch: "amd64", License: "LGPL-2.1-or-later AND x_y", Supplier: "A (B) <no mail>", Homepage: "not a url"},
		{Type: packages.RPM, Name: "bash", Version: "1:5.2-1", Arch: "x86_64", License: "GPLv3+", Supplier: "Fedora Project", Source: "bash-5.2-1.src.rpm", Homepage: "https://example.com/a b"},
		{Type: packages.APK, Name: "a_b", Version: "1", Arch: "x86_64", License: "MIT", Supplier: "<>", Homepage: "https://example.com/%zz"},
		{Type: packages.APK, Name: "a b", Version: "1", Arch: "x86_64", License: "Public Domain"},
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

// The official schema of SPDX 2.3 takes it.
func TestSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("testdata/spdx-2.3.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]*packages.Document{"full": sample(), "hostile": hostile(), "empty": {Digest: sample().Digest, Name: "x"}} {
		text, err := Encode(d)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		v.(map[string]any)["relationships"].([]any)[0].(map[string]any)["relationshipType"] = "IS_LIKE"
		if schema.Validate(v) == nil {
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
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	byName := map[string]spdxPackage{}
	for _, p := range d.Packages {
		if ids[p.SPDXID] {
			t.Errorf("%s is there twice", p.SPDXID)
		}
		ids[p.SPDXID] = true
		byName[p.Name] = p
	}
	if p := byName["libstdc++6"]; p.LicenseDeclared != "GPL-3.0-or-later WITH GCC-exception-3.1" || p.Supplier != "Organization: Debian GCC Maintainers (debian-gcc@lists.debian.org)" || p.SourceInfo != "built from the source package gcc-14 14-1" {
		t.Errorf("%+v", p)
	}
	for name, want := range map[string]string{"libc6": "LGPL-2.1-or-later AND LicenseRef-x-y-", "bash": "LicenseRef-GPLv3-", "a b": "LicenseRef-Public-Domain-"} {
		if got := byName[name].LicenseDeclared; len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("%s: licence %q, want %q…", name, got, want)
		}
	}
	if len(d.ExtractedLicenses) != 3 {
		t.Errorf("%+v", d.ExtractedLicenses)
	}
	for _, name := range []string{"libc6", "bash", "a_b"} {
		if h := byName[name].Homepage; h != "" {
			t.Errorf("%s has the homepage %q", name, h)
		}
	}
	found := false
	for _, r := range d.Relationships {
		if !ids[r.Related] || r.Element != documentID && !ids[r.Element] {
			t.Errorf("%+v is about nothing", r)
		}
		found = found || r.Type == "DEPENDS_ON" && r.Element == byName["libstdc++6"].SPDXID && r.Related == byName["libc6"].SPDXID
	}
	if !found {
		t.Error("no dependency")
	}
	if dir := os.Getenv("IMGBUILD_KEEP"); dir != "" {
		if err := os.WriteFile(dir+"/sample.spdx.json", text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}
