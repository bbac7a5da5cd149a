package ostree

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"imgbuild/tree"
)

// Metadata keys of the commits of a container image, and the version of the
// importer that the commits are the work of.
const (
	keyConfig         = "ostree.container.image-config"
	keyImporter       = "ostree.importer.version"
	keyManifest       = "ostree.manifest"
	keyManifestDigest = "ostree.manifest-digest"

	importerVersion = "0.15.3"
)

// Container is an image to be added to a repository.
type Container struct {
	Manifest, Config []byte // the JSON documents as fetched
	ManifestDigest   string // of the manifest as fetched, "sha256:…"
	// ImageRef is where upgrades come from, with the transport:
	// "docker://quay.io/org/os:1".
	ImageRef string
	Layers   []ContainerLayer // all layers of the manifest, in its order
	Merged   *tree.Inode      // what Merge made of the layers, labelled
	// Parent is the commit of the encapsulated base, zero without one. It must
	// be in the repository.
	Parent    tree.Sum
	Created   int64 // time of the merge commit, see Created, in seconds since 1970
	LayerTime int64 // time of the layer commits, likewise
}

// ContainerLayer is a layer of an image.
type ContainerLayer struct {
	Digest string      // of the blob, as in the manifest: "sha256:…"
	Tree   *tree.Inode // what ImportLayer made of it, labelled
	// Commit is the commit of a layer that is in the repository already, for
	// layers of an encapsulated base. Tree is not used then.
	Commit tree.Sum
}

// AddContainer adds an image as ostree-ext does: a commit and a ref for each
// layer, by which upgrades find what they need not fetch, and the merge commit
// with the manifest and the config in its metadata, to which the ref of the
// image points. It returns the merge commit. The Objects of all files must be
// known.
func (r *Repo) AddContainer(c *Container) (commit tree.Sum, err error) {
	metadata, err := c.metadata()
	if err != nil {
		return commit, err
	}
	merge := &Commit{Metadata: metadata, Parent: c.Parent, Time: c.Created}
	if merge.Contents, merge.Meta, err = r.AddTree(c.Merged); err != nil {
		return commit, fmt.Errorf("merged tree: %w", err)
	}
	for k := range c.Layers {
		if err := r.addLayer(&c.Layers[k], c.LayerTime); err != nil {
			return commit, fmt.Errorf("layer %s: %w", c.Layers[k].Digest, err)
		}
	}
	if commit, err = r.AddCommit(merge); err != nil {
		return commit, err
	}
	return commit, r.SetRef(ImageRef(c.ImageRef), commit)
}

func (r *Repo) addLayer(l *ContainerLayer, time int64) error {
	commit := l.Commit
	if commit == (tree.Sum{}) {
		c := &Commit{Metadata: []Metadata{{keyImporter, String(importerVersion)}}, Time: time}
		var err error
		if c.Contents, c.Meta, err = r.AddTree(l.Tree); err != nil {
			return err
		}
		if commit, err = r.AddCommit(c); err != nil {
			return err
		}
	}
	return r.SetRef(BlobRef(l.Digest), commit)
}

// metadata returns the metadata of the merge commit, by key.
func (c *Container) metadata() ([]Metadata, error) {
	if c.ImageRef == "" || !utf8.ValidString(c.ImageRef) {
		return nil, fmt.Errorf("invalid image reference %q", c.ImageRef)
	}
	if c.ManifestDigest == "" || c.Merged == nil {
		return nil, errors.New("the image has no manifest digest or no merged tree")
	}
	manifest, err := parseManifest(c.Manifest)
	if err != nil {
		return nil, err
	}
	config, err := parseConfig(c.Config)
	if err != nil {
		return nil, err
	}
	layers := *manifest.Layers
	if len(layers) == 0 || len(layers) != len(c.Layers) {
		return nil, badImage("image manifest: %d layers, and %d were unpacked", len(layers), len(c.Layers))
	}
	for k, l := range layers {
		if l.Digest != c.Layers[k].Digest {
			return nil, badImage("image manifest: layer %d is %s, and %s was unpacked", k, l.Digest, c.Layers[k].Digest)
		}
	}
	manifestJSON, err := canonicalJSON(manifest)
	if err != nil {
		return nil, badImage("image manifest: %w", err)
	}
	configJSON, err := canonicalJSON(config)
	if err != nil {
		return nil, badImage("image config: %w", err)
	}
	return []Metadata{
		{keyConfig, String(configJSON)},
		{keyImporter, String(importerVersion)},
		{keyManifest, String(manifestJSON)},
		{keyManifestDigest, String(c.ManifestDigest)},
	}, nil
}
