package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"imgbuild/fault"
)

// source is a place that images come from.
type source interface {
	// root returns the document that the reference names, with its media type
	// where the source knows one. Its digest was checked when the reference
	// pins one.
	root(ctx context.Context) (raw []byte, mediaType string, err error)
	// document returns a manifest or index by its descriptor, at most limit
	// bytes of it. The caller verifies.
	document(ctx context.Context, d descriptor, limit int64) ([]byte, error)
	// blob opens a blob for reading from its start. The caller verifies.
	blob(ctx context.Context, digest string, size int64) (io.ReadCloser, error)
	// local tells whether blobs are at hand, so that a copy is no gain.
	local() bool
	Close() error
}

// plainSource is a source that has layers in their plain form only. Its blobs
// are never opened, and what it returns is checked against the diff_id.
type plainSource interface {
	// plain opens layer k, of those of the manifest, for reading from its start.
	plain(ctx context.Context, k int, info LayerInfo) (io.ReadCloser, error)
}

func openSource(ctx context.Context, ref Reference, opt Options) (source, error) {
	switch ref.transport {
	case TransportRegistry:
		return openNamed(ctx, ref, opt)
	case TransportLayout:
		return openLayout(ref, opt.Arch)
	case TransportArchive:
		return openArchive(ctx, ref, opt)
	case TransportDockerArchive:
		return openDockerArchive(ctx, ref, opt)
	case TransportDir:
		return openDir(ref)
	case TransportStorage:
		return openStorage(ctx, ref, opt)
	}
	return nil, fault.New(fault.Usage, errors.New("empty image reference"), "")
}

// maxIndexDepth is how deep indexes may nest. A layout's index.json that names
// an index of platforms has depth two.
const maxIndexDepth = 4

// resolve follows indexes from the root of src to a manifest and its config.
func resolve(ctx context.Context, src source, ref Reference, opt Options) (*Image, error) {
	raw, mediaType, err := src.root(ctx)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	digest := sum(raw)
	var chain []string        // digests of the manifest and of the indexes before it
	var attested []descriptor // attestations in the indexes
	for depth := 0; ; depth++ {
		doc, err := parseDocument(raw, mediaType)
		if err != nil {
			return nil, fmt.Errorf("image %s: %s: %w", ref, digest, err)
		}
		chain = append([]string{digest}, chain...)
		if doc.Manifests == nil {
			signed, err := authorize(ctx, src, ref, opt, chain)
			if err != nil {
				return nil, err
			}
			img, err := resolveManifest(ctx, src, ref, opt, raw, doc, mediaType)
			if err == nil {
				img.Signed, img.Chain, img.cache, img.attested = signed, chain, opt.Cache, attested
			}
			return img, err
		}
		if depth == maxIndexDepth {
			return nil, badImage(fmt.Errorf("image %s: indexes nest more than %d deep", ref, maxIndexDepth))
		}
		attested = append(attested, attestations(doc.Manifests)...)
		d, err := choose(doc.Manifests, opt.Arch)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", ref, err)
		}
		raw, err = readDocument(ctx, src, *d, maxManifest, opt.Cache)
		if err != nil {
			return nil, fmt.Errorf("image %s: manifest: %w", ref, err)
		}
		digest, mediaType = d.Digest, d.MediaType
	}
}

func resolveManifest(ctx context.Context, src source, ref Reference, opt Options, raw []byte, doc *document, mediaType string) (*Image, error) {
	img := &Image{
		Reference: ref, Manifest: raw, ManifestDigest: sum(raw), Annotations: doc.Annotations,
		MediaType: mediaType, ConfigDigest: doc.Config.Digest, src: src,
	}
	if doc.MediaType != "" {
		img.MediaType = doc.MediaType
	}
	switch doc.Config.MediaType {
	case mediaConfig, mediaDockerConfig, "", "application/octet-stream":
	default:
		return nil, badImage(fmt.Errorf("image %s: is an artifact of type %s, not a container image", ref, clip(doc.Config.MediaType)))
	}
	config, err := readDocument(ctx, src, *doc.Config, maxConfig, opt.Cache)
	if err != nil {
		return nil, fmt.Errorf("image %s: config: %w", ref, err)
	}
	c, err := parseConfig(config, len(doc.Layers))
	if err != nil {
		return nil, fmt.Errorf("image %s: config %s: %w", ref, doc.Config.Digest, err)
	}
	if opt.Arch != "" && c.Architecture != opt.Arch {
		return nil, fault.New(fault.NotFound, fmt.Errorf("image %s: is for linux/%s, not linux/%s", ref, c.Architecture, opt.Arch),
			"--target-arch "+clip(c.Architecture)+" takes it as it is")
	}
	img.Config, img.Arch, img.Labels = config, c.Architecture, c.Config.Labels
	for i, d := range doc.Layers {
		if strings.Contains(d.MediaType, "+encrypted") {
			return nil, fault.New(fault.Unsupported, fmt.Errorf("image %s: layer %s is encrypted", ref, d.Digest),
				"decrypt it with: skopeo copy --decryption-key")
		}
		img.Layers = append(img.Layers, LayerInfo{Digest: d.Digest, DiffID: c.RootFS.DiffIDs[i], Size: d.Size, MediaType: d.MediaType})
	}
	return img, nil
}

// readDocument reads and verifies a manifest, index or config.
func readDocument(ctx context.Context, src source, d descriptor, limit int64, cache *Cache) ([]byte, error) {
	if d.Size > limit {
		return nil, badImage(fmt.Errorf("%s has %d bytes, more than the limit of %d", d.Digest, d.Size, limit))
	}
	if cache != nil && !src.local() {
		if raw := cache.document(d.Digest, limit); raw != nil {
			return raw, nil
		}
	}
	raw, err := src.document(ctx, d, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	if int64(len(raw)) != d.Size {
		return nil, badImage(fmt.Errorf("%s has %d bytes, its descriptor says %d", d.Digest, len(raw), d.Size))
	}
	if got := sum(raw); got != d.Digest {
		return nil, badImage(fmt.Errorf("%s does not match its digest: the content has %s", d.Digest, got))
	}
	if cache != nil && !src.local() {
		// A cache that cannot be written costs time, not the build.
		_ = cache.putDocument(d.Digest, raw)
	}
	return raw, nil
}

// choose returns the manifest for linux and the architecture, or the only one
// where arch is empty. Attestations and manifests for other systems are not
// looked at. A manifest without a platform is taken when it is the only one:
// its config decides.
func choose(list []descriptor, arch string) (*descriptor, error) {
	var fit, plain []*descriptor
	var have []string
	for i := range list {
		d := &list[i]
		if d.Annotations[annotationAttestation] != "" || isArtifact(*d) {
			continue
		}
		switch p := d.Platform; {
		case p == nil || p.OS == "" && p.Architecture == "":
			plain = append(plain, d)
		case p.OS != "linux":
		case arch == "" || p.Architecture == arch:
			fit = append(fit, d)
			have = append(have, printable(p.String()))
		default:
			have = append(have, printable(p.String()))
		}
	}
	slices.Sort(have)
	have = slices.Compact(have)
	hint := ""
	if len(have) > 0 {
		hint = "the image is there for " + clipList(have)
	}
	switch {
	case len(fit) == 1, len(fit) > 1 && arch != "":
		return baseline(fit), nil
	case len(fit) > 1:
		return nil, fault.New(fault.Usage, errors.New("is there for several architectures and none was asked for"), hint)
	case len(plain) == 1:
		return plain[0], nil
	case len(plain) > 1:
		return nil, badImage(fmt.Errorf("index has %d manifests without a platform", len(plain)))
	case arch == "":
		return nil, fault.New(fault.NotFound, errors.New("has no manifest for linux"), hint)
	}
	return nil, fault.New(fault.NotFound, fmt.Errorf("is not there for linux/%s", arch), hint)
}

// baseline returns the first of several manifests for one architecture that
// asks for the least of a processor: no variant, then v1 or, for arm64, v8, then
// the lowest. Variants of other names come last.
func baseline(fit []*descriptor) *descriptor {
	rank := func(d *descriptor) int {
		switch v := d.Platform.Variant; v {
		case "":
			return 0
		default:
			if n, err := strconv.Atoi(strings.TrimPrefix(v, "v")); err == nil && n > 0 && n < 1000 && v[0] == 'v' {
				return n
			}
			return 1000
		}
	}
	return slices.MinFunc(fit, func(a, b *descriptor) int { return rank(a) - rank(b) })
}

// clipList joins names for a message, not too many of them.
func clipList(names []string) string {
	const most = 12
	if len(names) > most {
		names = append(slices.Clone(names[:most]), "…")
	}
	s := strings.Join(names, ", ")
	if len(s) > 1000 {
		s = s[:1000] + "…"
	}
	return s
}

// printable returns s with what a terminal might act on replaced.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, s)
}
