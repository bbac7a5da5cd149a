package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
)

// attach adds an artifact with one document that refers to subject.
func (b blobs) attach(t testing.TB, subject descriptor, artifactType, mediaType, text string, annotations map[string]string) descriptor {
	t.Helper()
	empty := []byte("{}")
	manifest := map[string]any{
		"schemaVersion": 2, "mediaType": mediaManifest, "artifactType": artifactType,
		"config":  map[string]any{"mediaType": mediaEmpty, "digest": b.add(empty), "size": len(empty)},
		"layers":  []any{map[string]any{"mediaType": mediaType, "digest": b.add([]byte(text)), "size": len(text), "annotations": annotations}},
		"subject": map[string]any{"mediaType": mediaManifest, "digest": subject.Digest, "size": subject.Size},
	}
	d := b.json(t, mediaManifest, manifest)
	d.ArtifactType = artifactType
	return d
}

// sbomsOf opens an image and returns its SBOMs as "extension: content".
func sbomsOf(t testing.TB, ref string, opt Options) ([]string, error) {
	t.Helper()
	opt.Arch = "amd64"
	img, err := Open(context.Background(), mustParse(t, ref), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	list, err := img.SBOMs(context.Background())
	var out []string
	for _, s := range list {
		if sum(s.Content) != s.Digest || !slices.Contains(img.Chain, s.Of) || len(s.Short()) != 12 {
			t.Errorf("%+v", s)
		}
		out = append(out, s.Extension()+": "+string(s.Content))
	}
	slices.Sort(out)
	return out, err
}

// SBOMs that refer to an image or to its index are found by the API, by the tags of
// registries without it, by that of cosign, and in layouts.
func TestSBOMs(t *testing.T) {
	b := blobs{}
	image, other := b.image(t, "amd64", simplePart(t, "x")), b.image(t, "arm64", simplePart(t, "y"))
	index := b.index(t, image, other)
	artifacts := []descriptor{
		b.attach(t, image, "application/spdx+json", "application/spdx+json", "one", nil),
		b.attach(t, image, "", "application/vnd.cyclonedx+json", "two", nil),
		b.attach(t, index, "application/vnd.syft+json", "application/vnd.syft+json", "three", nil),
		b.attach(t, image, mediaInToto, mediaInToto, "four", map[string]string{annotationInToto: "https://spdx.dev/Document/v2.3"}),
		b.attach(t, image, mediaInToto, mediaInToto, "provenance", map[string]string{annotationInToto: "https://slsa.dev/provenance/v1"}),
		b.attach(t, image, "application/vnd.example", "text/plain", "of another type", nil),
		b.attach(t, other, "application/spdx+json", "application/spdx+json", "of another image", nil),
	}
	cosign := b.attach(t, image, "", "text/spdx+json", "five", nil)
	attest := b.attach(t, image, "", mediaDSSE, "six", map[string]string{annotationDSSE: "https://cyclonedx.org/bom"})
	want := []string{".cdx.json: two", ".dsse.json: six", ".intoto.json: four", ".spdx.json: five", ".spdx.json: one", ".syft.json: three"}
	tags := map[string]descriptor{"1": index, sbomTags(image.Digest)[0]: cosign, sbomTags(image.Digest)[1]: attest}

	api := newServer(t)
	api.withReferrers()
	api.push(t, b, tags)
	cache := openCache(t, t.TempDir())
	for _, opt := range []Options{{Cache: cache}, {Cache: cache}, {}} {
		if got, err := sbomsOf(t, api.host+"/org/os:1", opt); err != nil || !slices.Equal(got, want) {
			t.Errorf("by the API: %q, %v", got, err)
		}
	}

	plain := newServer(t)
	tags[referrersTag(image.Digest)] = b.index(t, artifacts[0], artifacts[1], artifacts[3], artifacts[4], artifacts[5], artifacts[6])
	tags[referrersTag(index.Digest)] = b.index(t, artifacts[2])
	plain.push(t, b, tags)
	if got, err := sbomsOf(t, plain.host+"/org/os:1", Options{}); err != nil || !slices.Equal(got, want) {
		t.Errorf("by tags: %q, %v", got, err)
	}

	layout := b.layout(t, append([]descriptor{tagged(index, "1"), tagged(cosign, sbomTags(image.Digest)[0]), tagged(attest, sbomTags(image.Digest)[1])}, artifacts...)...)
	if got, err := sbomsOf(t, "oci:"+layout+":1", Options{}); err != nil || !slices.Equal(got, want) {
		t.Errorf("in a layout: %q, %v", got, err)
	}

	none := newServer(t)
	none.push(t, b, map[string]descriptor{"1": index})
	if got, err := sbomsOf(t, none.host+"/org/os:1", Options{}); err != nil || len(got) > 0 {
		t.Errorf("without any: %q, %v", got, err)
	}
}

// What is attached is bounded and checked like all else.
func TestHostileSBOMs(t *testing.T) {
	b := blobs{}
	image := b.image(t, "amd64", simplePart(t, "x"))
	one := b.attach(t, image, "application/spdx+json", "application/spdx+json", "one", nil)
	s := newServer(t)
	s.push(t, b, map[string]descriptor{"1": image, referrersTag(image.Digest): b.index(t, one)})
	s.hostile(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if strings.Contains(r.URL.Path, "/blobs/"+sum([]byte("one"))) {
			fmt.Fprint(w, "two")
			return
		}
		inner.ServeHTTP(w, r)
	})
	_, err := sbomsOf(t, s.host+"/org/os:1", Options{})
	wantFault(t, err, fault.BadImage, "")

	var many []descriptor
	for i := range maxSBOMs + 1 {
		many = append(many, b.attach(t, image, "application/spdx+json", "application/spdx+json", fmt.Sprint("number ", i), nil))
	}
	s = newServer(t)
	s.push(t, b, map[string]descriptor{"1": image, referrersTag(image.Digest): b.index(t, many...)})
	_, err = sbomsOf(t, s.host+"/org/os:1", Options{})
	wantFault(t, err, fault.BadImage, "SBOMs are attached")

	// Each of which could be one, and is looked into.
	many = nil
	for i := range maxArtifacts + 1 {
		many = append(many, b.attach(t, image, "", "text/plain", fmt.Sprint("number ", i), nil))
	}
	s = newServer(t)
	s.push(t, b, map[string]descriptor{"1": image, referrersTag(image.Digest): b.index(t, many...)})
	_, err = sbomsOf(t, s.host+"/org/os:1", Options{})
	wantFault(t, err, fault.BadImage, "artifacts may be SBOMs")
}

// What cosign 3 attaches says in the manifest what is in its bundle.
func TestBundledSBOM(t *testing.T) {
	b := blobs{}
	image := b.image(t, "amd64", simplePart(t, "x"))
	const kind = mediaBundle + ".v0.3+json"
	var list []descriptor
	for text, predicate := range map[string]string{"sbom": "https://spdx.dev/Document", "other": "https://slsa.dev/provenance/v1"} {
		d := b.attach(t, image, kind, kind, text, nil)
		var manifest map[string]any
		if err := json.Unmarshal(b[d.Digest], &manifest); err != nil {
			t.Fatal(err)
		}
		manifest["annotations"] = map[string]string{annotationSubject: predicate}
		list = append(list, b.json(t, mediaManifest, manifest))
	}
	s := newServer(t)
	s.push(t, b, map[string]descriptor{"1": image, referrersTag(image.Digest): b.index(t, list...)})
	if got, err := sbomsOf(t, s.host+"/org/os:1", Options{}); err != nil || !slices.Equal(got, []string{".sigstore.json: sbom"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// What BuildKit attaches is in the index, beside the image that it is about.
func TestAttestedSBOM(t *testing.T) {
	b := blobs{}
	image, other := b.image(t, "amd64", simplePart(t, "x")), b.image(t, "arm64", simplePart(t, "y"))
	list := []descriptor{image, other}
	for text, of := range map[string]string{"one": image.Digest, "two": other.Digest} {
		d := b.attach(t, image, "", mediaInToto, text, map[string]string{annotationInToto: "https://spdx.dev/Document"})
		var manifest map[string]any
		if err := json.Unmarshal(b[d.Digest], &manifest); err != nil {
			t.Fatal(err)
		}
		delete(manifest, "subject")
		d = b.json(t, mediaManifest, manifest)
		d.Platform = &platform{OS: "unknown", Architecture: "unknown"}
		d.Annotations = map[string]string{annotationAttestation: "attestation-manifest", annotationOf: of}
		list = append(list, d)
	}
	index := b.index(t, list...)
	s := newServer(t)
	s.push(t, b, map[string]descriptor{"1": index})
	want := []string{".intoto.json: one"}
	cache := openCache(t, t.TempDir())
	// The last one asks no registry.
	for _, opt := range []Options{{}, {Cache: cache}, {Cache: cache, Access: Access{Pull: PullNever}}} {
		if got, err := sbomsOf(t, s.host+"/org/os:1", opt); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if got, err := sbomsOf(t, "oci:"+b.layout(t, tagged(index, "1")), Options{}); err != nil || !slices.Equal(got, want) {
		t.Errorf("in a layout: %q, %v", got, err)
	}
}
