package oci

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cachedRef is what a file in refs/ says: which document a name of a registry
// stood for when it was asked last.
type cachedRef struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType,omitempty"`
}

// maxRef is more than a reference with a digest takes, in bytes.
const maxRef = 16 << 10

func (c *Cache) refDir() string { return filepath.Join(c.dir, "refs") }

func (c *Cache) refPath(ref Reference) string {
	return filepath.Join(c.refDir(), hexOf(sum([]byte(ref.String())))+".json")
}

// putRef notes what a reference stands for, and keeps the document.
func (c *Cache) putRef(ref Reference, raw []byte, mediaType string) error {
	digest := sum(raw)
	if err := c.putDocument(digest, raw); err != nil {
		return err
	}
	text, err := json.Marshal(cachedRef{ref.String(), digest, mediaType})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.refDir(), 0o755); err != nil {
		return err
	}
	return c.putFile(c.refPath(ref), append(text, '\n'))
}

// root returns the document that a reference stood for last, or nil.
func (c *Cache) root(ref Reference) (raw []byte, mediaType string) {
	r := c.readRef(c.refPath(ref))
	if r == nil || r.Reference != ref.String() || ref.digest != "" && r.Digest != ref.digest {
		return nil, ""
	}
	return c.document(r.Digest, maxManifest), r.MediaType
}

func (c *Cache) readRef(path string) *cachedRef {
	f, err := openRegular(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	raw, err := readLimited(f, "", maxRef)
	if err != nil {
		return nil
	}
	return parseRef(raw)
}

// parseRef parses a file of refs/, or returns nil.
func parseRef(raw []byte) *cachedRef {
	r := &cachedRef{}
	if unmarshal(raw, r) != nil || checkDigest(r.Digest) != nil {
		return nil
	}
	return r
}

// refs returns the paths of the files in refs/.
func (c *Cache) refs() []string {
	list, err := os.ReadDir(c.refDir())
	if err != nil {
		return nil // there are none before something is pulled
	}
	var paths []string
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".json") {
			paths = append(paths, filepath.Join(c.refDir(), e.Name()))
		}
	}
	return paths
}

// dropRefs removes the names whose document is gone.
func (c *Cache) dropRefs() {
	for _, path := range c.refs() {
		r := c.readRef(path)
		if r == nil {
			_ = os.Remove(path)
			continue
		}
		if _, err := os.Stat(c.blobPath(r.Digest)); err != nil {
			_ = os.Remove(path)
		}
	}
}

// CachedImage is an image of which the cache has at least the manifest.
type CachedImage struct {
	Reference string    `json:"reference"`
	Digest    string    `json:"digest"` // of the platform's manifest
	Arch      string    `json:"architecture"`
	Layers    int       `json:"layers"`
	Cached    int       `json:"cachedLayers"` // of the layers, as a blob or unpacked
	Bytes     int64     `json:"bytes"`        // on disk, what it shares with others included
	Used      time.Time `json:"used"`         // when it was pulled or looked up last
}

// Images lists the images that were pulled from registries, by name. Those of an
// index appear once for each architecture that was pulled.
func (c *Cache) Images() []CachedImage {
	var list []CachedImage
	for _, path := range c.refs() {
		r := c.readRef(path)
		fi, err := os.Stat(path)
		if r == nil || err != nil {
			continue
		}
		for _, digest := range c.manifests(r.Digest, 0) {
			if image, ok := c.image(digest); ok {
				image.Reference = r.Reference
				image.Used = fi.ModTime().UTC()
				if fi, err := os.Stat(c.blobPath(digest)); err == nil && fi.ModTime().After(image.Used) {
					image.Used = fi.ModTime().UTC()
				}
				list = append(list, image)
			}
		}
	}
	slices.SortFunc(list, func(a, b CachedImage) int {
		return cmp.Or(strings.Compare(a.Reference, b.Reference), strings.Compare(a.Arch, b.Arch), strings.Compare(a.Digest, b.Digest))
	})
	return list
}

// manifests returns the digests of the manifests in the cache that a document is
// or names.
func (c *Cache) manifests(digest string, depth int) []string {
	raw := c.peek(digest)
	if raw == nil || depth > maxIndexDepth {
		return nil
	}
	doc, err := parseDocument(raw, "")
	if err != nil {
		return nil
	}
	if doc.Manifests == nil {
		return []string{digest}
	}
	var list []string
	for _, d := range doc.Manifests {
		list = append(list, c.manifests(d.Digest, depth+1)...)
	}
	return list
}

// peek is document without noting that it was used.
func (c *Cache) peek(digest string) []byte {
	f, err := openRegular(c.blobPath(digest))
	if err != nil {
		return nil
	}
	defer f.Close()
	raw, err := readLimited(f, "", maxConfig)
	if err != nil || sum(raw) != digest {
		return nil
	}
	return raw
}

// image looks up what the cache has of an image.
func (c *Cache) image(digest string) (CachedImage, bool) {
	image := CachedImage{Digest: digest}
	doc, err := parseDocument(c.peek(digest), "")
	if err != nil {
		return image, false
	}
	size := func(path string) bool {
		fi, err := os.Stat(path)
		if err == nil {
			image.Bytes += diskSize(fi)
		}
		return err == nil
	}
	size(c.blobPath(digest))
	size(c.blobPath(doc.Config.Digest))
	image.Layers = len(doc.Layers)
	config, err := parseConfig(c.peek(doc.Config.Digest), len(doc.Layers))
	if err != nil {
		return image, false
	}
	image.Arch = config.Architecture
	seen := make(map[string]bool)
	for i, d := range doc.Layers {
		id := config.RootFS.DiffIDs[i]
		if seen[id] {
			image.Cached++
			continue
		}
		blob := size(c.blobPath(d.Digest))
		spool := size(c.spoolPath(id)) && size(c.recordPath(id))
		if blob || spool {
			image.Cached++
			seen[id] = true
		}
	}
	return image, true
}
