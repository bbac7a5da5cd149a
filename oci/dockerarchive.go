package oci

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"imgbuild/fault"
)

// dockerArchive is an image in what `docker save` and `podman save` write, the
// Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset
// Format". It has no manifest of its own: one is made of the config and the plain
// layers, the same that Podman makes.
type dockerArchive struct {
	ref      Reference
	store    *tarStore
	config   []byte
	manifest []byte
	layers   map[string]string // path of a layer in the archive, by its diff_id
}

// archiveImage is an element of manifest.json.
type archiveImage struct {
	Config   string
	RepoTags []string
	Layers   []string // lowest first
}

// maxArchiveImages bounds the images of an archive.
const maxArchiveImages = 1 << 16

func openDockerArchive(ctx context.Context, ref Reference, opt Options) (source, error) {
	store, err := openTar(ctx, ref.place, opt)
	if err != nil {
		return nil, err
	}
	s := &dockerArchive{ref: ref, store: store, layers: make(map[string]string)}
	if err := s.load(ctx); err != nil {
		store.Close()
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	return s, nil
}

// read returns a file of the archive of at most limit bytes.
func (s *dockerArchive) read(name string, limit int64) ([]byte, error) {
	f, err := s.store.open(archiveName(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, name, limit)
}

// load reads the config of the image and makes its manifest.
func (s *dockerArchive) load(ctx context.Context) error {
	raw, err := s.read("manifest.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		hint := ""
		if _, ok := s.store.find("oci-layout"); ok {
			hint = "it is an OCI archive: " + TransportArchive + ":" + s.ref.place
		}
		return fault.New(fault.NotFound, errors.New("is no docker archive: it has no manifest.json"), hint)
	} else if err != nil {
		return err
	}
	list, err := parseArchiveManifest(raw)
	if err != nil {
		return fmt.Errorf("manifest.json: %w", err)
	}
	image, err := pickArchived(list, s.ref.tag)
	if err != nil {
		return err
	}
	if s.config, err = s.read(image.Config, maxConfig); err != nil {
		return lacks(err)
	}
	config, err := parseConfig(s.config, len(image.Layers))
	if err != nil {
		return fmt.Errorf("config %s: %w", clip(image.Config), err)
	}
	doc := dockerManifest{SchemaVersion: 2, MediaType: mediaDockerManifest, Layers: []dockerDescriptor{}}
	doc.Config = dockerDescriptor{mediaDockerConfig, int64(len(s.config)), sum(s.config)}
	for i, name := range image.Layers {
		size, err := s.plainSize(ctx, name)
		if err != nil {
			return fmt.Errorf("layer %s: %w", clip(name), err)
		}
		id := config.RootFS.DiffIDs[i]
		s.layers[id] = archiveName(name)
		doc.Layers = append(doc.Layers, dockerDescriptor{mediaDockerLayer, size, id})
	}
	s.manifest, err = json.Marshal(doc)
	return err
}

const mediaDockerLayer = "application/vnd.docker.image.rootfs.diff.tar.gzip"

// dockerManifest is Docker's image manifest version 2 schema 2, as far as it is
// written here; its fields are in the order in which Podman writes them.
type dockerManifest struct {
	SchemaVersion int                `json:"schemaVersion"`
	MediaType     string             `json:"mediaType"`
	Config        dockerDescriptor   `json:"config"`
	Layers        []dockerDescriptor `json:"layers"`
}

type dockerDescriptor struct {
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
	Digest    string `json:"digest"`
}

// parseArchiveManifest parses manifest.json.
func parseArchiveManifest(raw []byte) ([]archiveImage, error) {
	var list []archiveImage
	if err := unmarshal(raw, &list); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, badImage(errors.New("lists no image"))
	}
	if len(list) > maxArchiveImages {
		return nil, badImage(fmt.Errorf("lists more than %d images", maxArchiveImages))
	}
	for i, image := range list {
		if image.Config == "" || slices.Contains(image.Layers, "") {
			return nil, badImage(fmt.Errorf("image %d: a path is missing", i))
		}
	}
	return list, nil
}

// pickArchived returns the image with a tag, at an index "@N", or the only one
// where the tag is empty.
func pickArchived(list []archiveImage, tag string) (*archiveImage, error) {
	var have []string
	for i := range list {
		for _, name := range list[i].RepoTags {
			have = append(have, printable(name))
			if tag != "" && archivedName(name) == tag {
				return &list[i], nil
			}
		}
	}
	hint := "the archive has no names"
	if len(have) > 0 {
		hint = "the archive has " + clipList(have)
	}
	if index, ok := strings.CutPrefix(tag, "@"); ok {
		n, err := strconv.Atoi(index)
		if err != nil || n >= len(list) {
			return nil, fault.New(fault.NotFound, fmt.Errorf("the archive has %d images, none of them is number %s", len(list), clip(index)), hint)
		}
		return &list[n], nil
	}
	switch {
	case tag != "":
		return nil, fault.New(fault.NotFound, fmt.Errorf("no image is called %s", clip(tag)), hint)
	case len(list) > 1:
		return nil, fault.New(fault.Usage, errors.New("the archive has several images and none was named"), hint)
	}
	return &list[0], nil
}

// archivedName normalises a name of the archive, or returns "".
func archivedName(name string) string {
	r, err := parseName(name, func(format string, args ...any) (Reference, error) {
		return Reference{}, fmt.Errorf(format, args...)
	})
	if err != nil {
		return ""
	}
	return r.Name()
}

// plainSize returns how many bytes a layer has that may be compressed.
func (s *dockerArchive) plainSize(ctx context.Context, name string) (int64, error) {
	at, ok := s.store.find(archiveName(name))
	if !ok {
		return 0, lacks(&fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist})
	}
	head := make([]byte, min(maxMagic, at.size))
	if _, err := s.store.f.ReadAt(head, at.off); err != nil {
		return 0, err
	}
	if sniff(head) == plain {
		return at.size, nil
	}
	r, err := s.plainLayer(name)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	buf := make([]byte, chunkSize)
	for size := int64(0); ; {
		n, err := r.Read(buf)
		if size += int64(n); size > defaultLimits.Bytes {
			return 0, badImage(fmt.Errorf("unpacks to more than %d bytes", defaultLimits.Bytes))
		}
		switch {
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case err == io.EOF:
			return size, nil
		case err != nil:
			return 0, badStream(ctx, err)
		}
	}
}

// plainLayer opens a layer and decompresses it.
func (s *dockerArchive) plainLayer(name string) (io.ReadCloser, error) {
	f, err := s.store.open(archiveName(name))
	if err != nil {
		return nil, lacks(err)
	}
	return decompress(bufio.NewReaderSize(f, readBuffer))
}

// lacks classes the error of a file that the archive does not have.
func lacks(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.BadImage, fmt.Errorf("the archive lacks a file: %w", err), "the archive may be incomplete; save the image again")
	}
	return err
}

func (s *dockerArchive) local() bool  { return true }
func (s *dockerArchive) Close() error { return s.store.Close() }

func (s *dockerArchive) root(context.Context) ([]byte, string, error) {
	return s.manifest, mediaDockerManifest, nil
}

func (s *dockerArchive) document(_ context.Context, d descriptor, _ int64) ([]byte, error) {
	if d.Digest != sum(s.config) {
		return nil, badImage(errors.New("the archive has no such document"))
	}
	return s.config, nil
}

func (s *dockerArchive) blob(_ context.Context, digest string, _ int64) (io.ReadCloser, error) {
	return s.plainLayer(s.layers[digest])
}
