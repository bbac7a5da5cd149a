package pipeline

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"

	"imgbuild/bootloader"
	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/formats/iso"
	"imgbuild/tree"
)

// isoTree is an ISO that is put together.
type isoTree struct {
	root    *tree.Inode
	options iso.Options
}

// newISOTree returns an empty ISO, which is called volumeID unless the configuration
// has another name. Everything on it has the time of the image.
func newISOTree(o *Options, volumeID string, time int64, id identity) *isoTree {
	root := tree.NewDir(0o755)
	root.Mtime = time
	opt := iso.Options{Time: time, Streams: map[*tree.Inode]iso.Stream{}}
	if o.Config != nil && o.Config.Blueprint.Customizations.ISO != nil {
		i := o.Config.Blueprint.Customizations.ISO
		opt.Application, opt.Publisher = i.ApplicationID, i.Publisher
		volumeID = cmp.Or(i.VolumeID, volumeID)
	}
	seed := id.guid("iso " + volumeID)
	opt.VolumeID, opt.Seed = volumeID, seed[:]
	return &isoTree{root: root, options: opt}
}

// file puts content at a path.
func (t *isoTree) file(path string, ref content.Ref) error {
	return t.put(path, tree.NewFile(0o644, ref))
}

// put puts an inode of nobody else at a path.
func (t *isoTree) put(path string, i *tree.Inode) error {
	i.Mtime = t.options.Time
	if err := tree.Put(t.root, path, i); err != nil {
		return fmt.Errorf("iso: %w", err)
	}
	return nil
}

// stream puts a file at a path whose content is read when it is written.
func (t *isoTree) stream(path string, size int64, open func(context.Context) (io.ReadCloser, error)) error {
	i := tree.NewFile(0o644, content.Ref{})
	t.options.Streams[i] = iso.Stream{Size: size, Open: open}
	return t.put(path, i)
}

// write writes the ISO into an artefact.
func (t *isoTree) write(ctx context.Context, a *artefact, progress func(done int64)) error {
	opt := t.options
	opt.Progress = func(done, _ int64) { progress(done) }
	return iso.Write(ctx, t.root, a.file, opt)
}

// size returns how large the ISO will be, in bytes.
func (t *isoTree) size() (int64, error) { return iso.Size(t.root, t.options) }

// startBy makes the medium start by boot loaders that are on it.
func (t *isoTree) startBy(m *bootloader.Medium) error {
	t.options.ESP = m.ESP
	if m.BIOSImage != "" {
		t.options.BIOS = &iso.BIOSBoot{Path: m.BIOSImage, MBR: m.MBR}
	}
	if m.ESP == nil {
		return nil
	}
	t.options.ESPPath = "images/efiboot.img"
	return t.file(t.options.ESPPath, content.Ref{})
}

// Files and media types of an OCI image layout (image-layout.md).
const (
	layoutFile    = `{"imageLayoutVersion":"1.0.0"}`
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaTar      = "application/vnd.oci.image.layer.v1.tar"
)

type ociDescriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// addPayload puts the image into the directory dir as an OCI image layout, its
// blobs as they are at their source, and returns the digest of its manifest and
// the size of all blobs in bytes. An image of a local store, whose blobs nobody has
// any more, gets plain layers and a manifest of its own.
func (t *isoTree) addPayload(dir string, s *source, p Progress) (digest string, size int64, err error) {
	manifest, mediaType, digest := s.image.Manifest, s.image.MediaType, s.image.ManifestDigest
	if mediaType == "" {
		mediaType = mediaManifest
	}
	config := s.image.ConfigDigest
	if s.image.PlainOnly() {
		if manifest, err = plainManifest(s); err != nil {
			return "", 0, err
		}
		mediaType, digest, config = mediaManifest, digestOf(manifest), digestOf(s.image.Config)
		p.Note("the image is in a local store, which keeps no compressed layers: they are plain on the medium, and the manifest is one for them")
	}
	blob := func(digest string) string { return dir + "/blobs/sha256/" + digest[len("sha256:"):] }
	done := map[string]bool{}
	for k, l := range s.image.Layers {
		name, n := l.Digest, l.Size
		if s.image.PlainOnly() {
			name, n = l.DiffID, s.layers[k].Size
		}
		if done[name] {
			continue
		}
		done[name] = true
		size += n
		if err := t.stream(blob(name), n, func(ctx context.Context) (io.ReadCloser, error) {
			return s.openLayer(ctx, k)
		}); err != nil {
			return "", 0, err
		}
	}
	index, err := json.Marshal(struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     []ociDescriptor `json:"manifests"`
	}{2, mediaIndex, []ociDescriptor{{mediaType, digest, int64(len(manifest))}}})
	if err != nil {
		return "", 0, err
	}
	for _, f := range []struct {
		path string
		data []byte
	}{
		{dir + "/oci-layout", []byte(layoutFile)}, {dir + "/index.json", index},
		{blob(digest), manifest}, {blob(config), s.image.Config},
	} {
		size += int64(len(f.data))
		if err := t.file(f.path, content.Bytes(f.data)); err != nil {
			return "", 0, err
		}
	}
	return digest, size, nil
}

// openLayer opens a layer as it goes onto a medium.
func (s *source) openLayer(ctx context.Context, k int) (io.ReadCloser, error) {
	r, err := s.image.OpenBlob(ctx, k, s.cache)
	if err != nil || !s.image.PlainOnly() {
		return r, err
	}
	return &plainLayer{r, sha256.New(), s.image.Layers[k].DiffID, k}, nil
}

// plainLayer verifies a plain layer by its diff_id.
type plainLayer struct {
	io.ReadCloser
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	diffID string
	layer  int
}

func (l *plainLayer) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	l.hash.Write(p[:n])
	if err == io.EOF {
		if got := fmt.Sprintf("sha256:%x", l.hash.Sum(nil)); got != l.diffID {
			err = fault.New(fault.BadImage, fmt.Errorf("layer %d: the plain layer has %s, and its diff_id is %s", l.layer, got, l.diffID), "")
		}
	}
	return n, err
}

// plainManifest returns a manifest of the image with plain layers.
func plainManifest(s *source) ([]byte, error) {
	m := struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Config        ociDescriptor     `json:"config"`
		Layers        []ociDescriptor   `json:"layers"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}{2, mediaManifest, ociDescriptor{mediaConfig, digestOf(s.image.Config), int64(len(s.image.Config))}, nil, s.image.Annotations}
	for k, l := range s.image.Layers {
		m.Layers = append(m.Layers, ociDescriptor{mediaTar, l.DiffID, s.layers[k].Size})
	}
	return json.Marshal(m)
}

func digestOf(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
