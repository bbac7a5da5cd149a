package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/fault"
)

func simplePart(t testing.TB, text string) part {
	return part{plain: makeTar(t, reg("file", text))}
}

func openErr(t testing.TB, ref string, opt Options) error {
	t.Helper()
	img, err := Open(context.Background(), mustParse(t, ref), opt)
	if err == nil {
		img.Close()
	}
	return err
}

// tarLayout packs a layout directory with GNU tar, as oci-archive does.
func tarLayout(t testing.TB, dir string, args ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image.tar")
	out := filter(t, nil, "tar", append(append([]string{"-C", dir, "-cf", "-"}, args...), ".")...)
	writeFile(t, name, out)
	return name
}

func TestOpenLayout(t *testing.T) {
	b := blobs{}
	amd, arm := b.image(t, "amd64", simplePart(t, "amd")), b.image(t, "arm64", simplePart(t, "arm"))
	multi := b.index(t, amd, arm)
	nested := b.index(t, b.index(t, arm), amd) // the inner index has no platform
	dir := b.layout(t, tagged(amd, "one"), tagged(multi, "multi"), tagged(nested, "nested"), arm)
	archive := tarLayout(t, dir)
	gnu := tarLayout(t, dir, "--format=gnu")
	for _, place := range []string{"oci:" + dir, "oci-archive:" + archive, "oci-archive:" + gnu} {
		for _, c := range []struct{ ref, arch, want string }{
			{":one", "amd64", amd.Digest},
			{":one", "", amd.Digest},
			{":multi", "amd64", amd.Digest},
			{":multi", "arm64", arm.Digest},
			{"@" + multi.Digest, "arm64", arm.Digest},
			{"@" + arm.Digest, "arm64", arm.Digest},
			{":multi@" + multi.Digest, "amd64", amd.Digest},
			{":nested", "amd64", amd.Digest},
		} {
			img := open(t, place+c.ref, Options{Arch: c.arch})
			if img.ManifestDigest != c.want || img.Labels["arch"] != img.Arch || img.Annotations["made"] != "here" || len(img.Layers) != 1 {
				t.Errorf("%s for %q: %+v", c.ref, c.arch, img)
			}
			if !bytes.Equal(img.Manifest, b[img.ManifestDigest]) || !bytes.Equal(img.Config, b[img.ConfigDigest]) || img.MediaType != mediaManifest {
				t.Errorf("%s: manifest or config differ", c.ref)
			}
		}
		for _, c := range []struct {
			ref, arch string
			class     fault.Class
			text      string
		}{
			{"", "amd64", fault.Usage, "several images"},
			{":none", "amd64", fault.NotFound, `no image is tagged "none"`},
			{"@" + hexDigest, "amd64", fault.NotFound, "no such image"},
			{":one", "arm64", fault.NotFound, "not there for linux/arm64"},
			{":multi", "s390x", fault.NotFound, "not there for linux/s390x"},
			{":multi", "", fault.Usage, "several architectures"},
		} {
			err := openErr(t, place+c.ref, Options{Arch: c.arch})
			wantFault(t, err, c.class, c.text)
			if fault.HintOf(err) == "" {
				t.Errorf("%s: no hint", c.ref)
			}
		}
	}
}

func TestLayoutWithoutTag(t *testing.T) {
	b := blobs{}
	amd, arm := b.image(t, "amd64"), b.image(t, "arm64")
	amd.Platform = nil
	if img := open(t, "oci:"+b.layout(t, amd), Options{Arch: "amd64"}); img.ManifestDigest != amd.Digest {
		t.Error("wrong manifest")
	}
	// Without a platform the config tells.
	wantFault(t, openErr(t, "oci:"+b.layout(t, amd), Options{Arch: "arm64"}), fault.NotFound, "is for linux/amd64, not linux/arm64")
	amd.Platform = &platform{Architecture: "amd64", OS: "linux"}
	// Manifests of one tag are told apart by their platform.
	if img := open(t, "oci:"+b.layout(t, amd, arm), Options{Arch: "arm64"}); img.ManifestDigest != arm.Digest {
		t.Error("wrong manifest")
	}
}

func TestChoose(t *testing.T) {
	p := func(os, arch, variant string) descriptor {
		return descriptor{Digest: os + arch + variant, Platform: &platform{OS: os, Architecture: arch, Variant: variant}}
	}
	attestation := p("unknown", "unknown", "")
	attestation.Annotations = map[string]string{annotationAttestation: "attestation-manifest"}
	for _, c := range []struct {
		list       []descriptor
		arch, want string
	}{
		{[]descriptor{p("linux", "arm64", "v9"), p("linux", "arm64", "v8")}, "arm64", "linuxarm64v8"},
		{[]descriptor{p("linux", "amd64", "v3"), p("linux", "amd64", "v2")}, "amd64", "linuxamd64v2"},
		{[]descriptor{p("linux", "amd64", "odd"), p("linux", "amd64", "v4")}, "amd64", "linuxamd64v4"},
		{[]descriptor{p("linux", "amd64", "v3"), p("linux", "amd64", "")}, "amd64", "linuxamd64"},
		{[]descriptor{attestation, p("windows", "amd64", ""), p("linux", "amd64", "")}, "", "linuxamd64"},
		{[]descriptor{{Digest: "plain"}, attestation}, "amd64", "plain"},
		{[]descriptor{{Digest: "plain"}, p("linux", "amd64", "")}, "amd64", "linuxamd64"},
	} {
		d, err := choose(c.list, c.arch)
		if err != nil || d.Digest != c.want {
			t.Errorf("%v: %v, %v", c.list, d, err)
		}
	}
	for _, list := range [][]descriptor{nil, {attestation}, {p("windows", "amd64", "")}, {{}, {}}} {
		if d, err := choose(list, "amd64"); err == nil {
			t.Errorf("%v: chose %v", list, d)
		}
	}
	_, err := choose([]descriptor{p("linux", "\x1b[2J", "")}, "amd64")
	if hint := fault.HintOf(err); strings.Contains(hint, "\x1b") {
		t.Errorf("hint %q", hint)
	}
}

// TestDamagedLayout damages the blobs of a layout one after the other.
func TestDamagedLayout(t *testing.T) {
	good := blobs{}
	m := good.image(t, "amd64", simplePart(t, "text"))
	var doc document
	if err := json.Unmarshal(good[m.Digest], &doc); err != nil {
		t.Fatal(err)
	}
	for name, digest := range map[string]string{"manifest": m.Digest, "config": doc.Config.Digest, "layer": doc.Layers[0].Digest} {
		for damage, f := range map[string]func([]byte) []byte{
			"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
			"truncated": func(b []byte) []byte { return b[:len(b)-1] },
			"longer":    func(b []byte) []byte { return append(b, '\n') },
			"empty":     func(b []byte) []byte { return nil },
			"missing":   nil,
		} {
			t.Run(name+" "+damage, func(t *testing.T) {
				b := maps.Clone(good)
				text := "match its digest"
				switch damage {
				case "missing":
					delete(b, digest)
					text = "lacks the blob"
				case "flipped":
					b[digest] = f(bytes.Clone(b[digest]))
				default:
					b[digest] = f(bytes.Clone(b[digest]))
					text = "bytes"
				}
				dir := b.layout(t, m)
				for _, ref := range []string{"oci:" + dir, "oci-archive:" + tarLayout(t, dir)} {
					img, err := Open(context.Background(), mustParse(t, ref), Options{Arch: "amd64"})
					if name == "layer" && err == nil {
						_, err = img.Unpack(context.Background(), UnpackOptions{TempDir: t.TempDir()})
						img.Close()
					}
					wantFault(t, err, fault.BadImage, text)
					if err != nil && !strings.Contains(err.Error(), digest) && damage != "missing" {
						t.Errorf("%v does not name %s", err, digest)
					}
				}
			})
		}
	}
}

func TestHostileDocuments(t *testing.T) {
	layer := strings.Repeat(`{"mediaType":"x","digest":"`+hexDigest+`","size":1},`, 2)
	layer = layer[:len(layer)-1]
	config := `"config":{"mediaType":"` + mediaConfig + `","digest":"` + hexDigest + `","size":2}`
	for name, c := range map[string]struct {
		raw   string
		class fault.Class
		text  string
	}{
		"not JSON":        {`<html>`, fault.BadImage, "invalid JSON"},
		"two values":      {`{"schemaVersion":2,"manifests":[]} {}`, fault.BadImage, "more than one"},
		"schema 1":        {`{"schemaVersion":1,"fsLayers":[]}`, fault.Unsupported, "schema 1"},
		"no version":      {`{"manifests":[]}`, fault.BadImage, "schemaVersion"},
		"both":            {`{"schemaVersion":2,` + config + `,"layers":[],"manifests":[]}`, fault.BadImage, "neither"},
		"nothing":         {`{"schemaVersion":2}`, fault.BadImage, "neither"},
		"no config":       {`{"schemaVersion":2,"layers":[]}`, fault.BadImage, "no config"},
		"media type":      {`{"schemaVersion":2,"mediaType":"` + mediaIndex + `",` + config + `,"layers":[]}`, fault.BadImage, "media type"},
		"digest":          {`{"schemaVersion":2,` + config + `,"layers":[{"digest":"sha256:../../etc/passwd","size":1}]}`, fault.BadImage, "invalid digest"},
		"sha512":          {`{"schemaVersion":2,` + config + `,"layers":[{"digest":"sha512:abcd","size":1}]}`, fault.Unsupported, "only sha256"},
		"negative size":   {`{"schemaVersion":2,` + config + `,"layers":[{"digest":"` + hexDigest + `","size":-1}]}`, fault.BadImage, "size"},
		"fractional size": {`{"schemaVersion":2,` + config + `,"layers":[{"digest":"` + hexDigest + `","size":1e400}]}`, fault.BadImage, "invalid JSON"},
		"huge config":     {`{"schemaVersion":2,"config":{"digest":"` + hexDigest + `","size":99999999999},"layers":[` + layer + `]}`, fault.BadImage, "more than the limit"},
		"artifact":        {`{"schemaVersion":2,"config":{"mediaType":"application/x","digest":"` + hexDigest + `","size":2},"layers":[]}`, fault.BadImage, "artifact"},
		"deep":            {strings.Repeat(`{"a":`, 100000), fault.BadImage, "invalid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			b := blobs{}
			d := descriptor{MediaType: "", Digest: b.add([]byte(c.raw)), Size: int64(len(c.raw))}
			wantFault(t, openErr(t, "oci:"+b.layout(t, d), Options{Arch: "amd64"}), c.class, c.text)
		})
	}
	for name, c := range map[string]struct{ config, text string }{
		"diff_ids": {`{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":["` + hexDigest + `"]}}`, "1 diff_ids for 0 layers"},
		"windows":  {`{"os":"windows","architecture":"amd64"}`, "windows"},
		"no arch":  {`{"os":"linux"}`, "no architecture"},
	} {
		t.Run("config "+name, func(t *testing.T) {
			b := blobs{}
			d := descriptor{Digest: b.add([]byte(c.config)), Size: int64(len(c.config))}
			m := b.json(t, mediaManifest, map[string]any{"schemaVersion": 2, "config": map[string]any{"digest": d.Digest, "size": d.Size}, "layers": []string{}})
			wantFault(t, openErr(t, "oci:"+b.layout(t, m), Options{Arch: "amd64"}), fault.BadImage, c.text)
		})
	}
	t.Run("endless indexes", func(t *testing.T) {
		b := blobs{}
		d := b.image(t, "amd64")
		for range 6 {
			d = b.index(t, d)
		}
		wantFault(t, openErr(t, "oci:"+b.layout(t, d), Options{Arch: "amd64"}), fault.BadImage, "nest")
	})
	t.Run("encrypted", func(t *testing.T) {
		b := blobs{}
		p := simplePart(t, "x")
		p.mediaType = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
		wantFault(t, openErr(t, "oci:"+b.layout(t, b.image(t, "amd64", p)), Options{Arch: "amd64"}), fault.Unsupported, "encrypted")
	})
}

func TestNotALayout(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	writeFile(t, file, []byte("text"))
	b := blobs{}
	layout := b.layout(t, b.image(t, "amd64", simplePart(t, "x")))
	huge := t.TempDir()
	writeFile(t, filepath.Join(huge, "index.json"), nil)
	if err := os.Truncate(filepath.Join(huge, "index.json"), 5<<20); err != nil {
		t.Fatal(err)
	}
	archive := tarLayout(t, layout)
	raw, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	cut, zipped := filepath.Join(dir, "cut"), filepath.Join(dir, "zipped")
	writeFile(t, cut, raw[:len(raw)/2])
	zip := filter(t, raw, "gzip")
	writeFile(t, zipped, zip[:len(zip)-9])
	for _, c := range []struct {
		ref   string
		class fault.Class
		text  string
	}{
		{"oci:" + dir + "/none", fault.NotFound, "no such file"},
		{"oci:" + file, fault.NotFound, "not a directory"},
		{"oci:" + dir, fault.NotFound, "not an image layout"},
		{"oci:" + huge, fault.BadImage, "more than"},
		{"oci-archive:" + dir + "/none", fault.NotFound, "no such file"},
		{"oci-archive:" + dir, fault.NotFound, "not a regular file"},
		{"oci-archive:" + file, fault.BadImage, "EOF"},
		{"oci-archive:" + cut, fault.BadImage, ""},
		{"oci-archive:" + zipped, fault.BadImage, ""},
	} {
		t.Run(c.ref, func(t *testing.T) {
			wantFault(t, openErr(t, c.ref, Options{Arch: "amd64"}), c.class, c.text)
		})
	}
}

func FuzzParseDocument(f *testing.F) {
	b := blobs{}
	m := b.image(f, "amd64", part{plain: []byte("x")})
	f.Add(b[m.Digest], mediaManifest)
	i := b.index(f, m, tagged(m, "x"))
	f.Add(b[i.Digest], mediaIndex)
	f.Fuzz(func(t *testing.T, raw []byte, mediaType string) {
		doc, err := parseDocument(raw, mediaType)
		if err != nil {
			if c := fault.ClassOf(err); c != fault.BadImage && c != fault.Unsupported {
				t.Fatalf("class %d: %v", c, err)
			}
			return
		}
		for _, d := range append(doc.Manifests, doc.Layers...) {
			if !reDigest.MatchString(d.Digest) || d.Size < 0 {
				t.Fatalf("took %+v", d)
			}
		}
		if doc.Manifests != nil {
			if d, err := choose(doc.Manifests, "amd64"); (d == nil) == (err == nil) {
				t.Fatalf("chose %v, %v", d, err)
			}
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":["`+hexDigest+`"]}}`), 1)
	f.Fuzz(func(t *testing.T, raw []byte, n int) {
		c, err := parseConfig(raw, n)
		if err == nil && (len(c.RootFS.DiffIDs) != n || c.Architecture == "") {
			t.Fatalf("took %+v", c)
		}
	})
}
