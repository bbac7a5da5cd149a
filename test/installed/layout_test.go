//go:build linux

package installed

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// manifestDigest returns the digest of the only manifest of an OCI layout.
func manifestDigest(t *testing.T, layout string) string {
	t.Helper()
	var index struct{ Manifests []struct{ Digest string } }
	readJSON(t, filepath.Join(layout, "index.json"), &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("%s has %d manifests", layout, len(index.Manifests))
	}
	return index.Manifests[0].Digest
}

// layerDigests returns the digests of its layers.
func layerDigests(t *testing.T, layout string) []string {
	t.Helper()
	var manifest struct{ Layers []struct{ Digest string } }
	readJSON(t, filepath.Join(layout, "blobs/sha256", manifestDigest(t, layout)[len("sha256:"):]), &manifest)
	var list []string
	for _, l := range manifest.Layers {
		list = append(list, l.Digest)
	}
	return list
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
