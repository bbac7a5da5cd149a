package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"imgbuild/fault"
)

// blobStore is what a layout directory and a tar of one have in common: named
// files, image-layout.md.
type blobStore interface {
	// open opens the regular file at a slash-separated path. The error wraps
	// fs.ErrNotExist where there is none.
	open(path string) (io.ReadCloser, error)
	Close() error
}

// layoutSource is an image in an image layout.
type layoutSource struct {
	ref   Reference
	store blobStore
	arch  string
}

func openLayout(ref Reference, arch string) (source, error) {
	fi, err := os.Stat(ref.place)
	if err != nil {
		return nil, fault.New(fault.NotFound, fmt.Errorf("image layout: %w", err), "")
	}
	if !fi.IsDir() {
		return nil, fault.New(fault.NotFound, fmt.Errorf("image layout %s: not a directory", ref.place),
			"a tar of a layout is opened with "+TransportArchive+":"+ref.place)
	}
	return &layoutSource{ref: ref, store: dirStore(ref.place), arch: arch}, nil
}

// dirStore is the directory of a layout.
type dirStore string

func (d dirStore) open(path string) (io.ReadCloser, error) {
	name := filepath.Join(string(d), filepath.FromSlash(path))
	// Anything but a file, a FIFO above all, would block or never end.
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return os.Open(name)
}

func (d dirStore) Close() error { return nil }

func (s *layoutSource) local() bool  { return true }
func (s *layoutSource) Close() error { return s.store.Close() }

// root picks the manifests of index.json that the tag or digest names, and
// returns the one of them for the architecture.
func (s *layoutSource) root(ctx context.Context) ([]byte, string, error) {
	raw, err := s.read("index.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fault.New(fault.NotFound, fmt.Errorf("%s is not an image layout: %w", s.ref.place, err), "")
	} else if err != nil {
		return nil, "", err
	}
	doc, err := parseDocument(raw, "")
	if err == nil && doc.Manifests == nil {
		err = badImage(errors.New("is a manifest"))
	}
	if err != nil {
		return nil, "", fmt.Errorf("index.json: %w", err)
	}
	d, err := s.pick(doc.Manifests)
	if err != nil {
		return nil, "", err
	}
	raw, err = readDocument(ctx, s, *d, maxManifest, nil)
	return raw, d.MediaType, err
}

func (s *layoutSource) pick(all []descriptor) (*descriptor, error) {
	var list []descriptor
	var tags []string
	for _, d := range all {
		tag := d.Annotations[annotationRefName]
		if isArtifact(d) && s.ref.tag == "" && s.ref.digest == "" {
			continue // a signature or the like
		}
		if tag != "" && !isArtifact(d) {
			tags = append(tags, printable(tag))
		}
		if (s.ref.tag == "" || s.ref.tag == tag) && (s.ref.digest == "" || s.ref.digest == d.Digest) {
			list = append(list, d)
		}
	}
	hint := "the layout has no tags"
	if len(tags) > 0 {
		hint = "the layout has " + clipList(tags)
	}
	switch {
	case len(list) == 0 && s.ref.tag != "":
		return nil, fault.New(fault.NotFound, fmt.Errorf("no image is tagged %s", clip(s.ref.tag)), hint)
	case len(list) == 0:
		return nil, fault.New(fault.NotFound, errors.New("no such image in the layout"), hint)
	case len(list) > 1 && s.ref.tag == "" && s.ref.digest == "" && len(tags) > 1:
		return nil, fault.New(fault.Usage, errors.New("the layout has several images and no tag was given"), hint)
	case len(list) == 1 && list[0].Platform == nil:
		return &list[0], nil
	}
	return choose(list, s.arch)
}

// read returns a file of at most limit bytes.
func (s *layoutSource) read(path string, limit int64) ([]byte, error) {
	f, err := s.store.open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, path, limit)
}

func readLimited(r io.Reader, what string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if int64(len(b)) > limit {
		return nil, badImage(fmt.Errorf("%s has more than %d bytes", what, limit))
	}
	return b, nil
}

func (s *layoutSource) document(_ context.Context, d descriptor, limit int64) ([]byte, error) {
	b, err := s.read(blobPath(d.Digest), limit)
	return b, missing(err)
}

func (s *layoutSource) blob(_ context.Context, digest string, _ int64) (io.ReadCloser, error) {
	f, err := s.store.open(blobPath(digest))
	return f, missing(err)
}

// missing classes the error of a blob that the layout does not have.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.BadImage, fmt.Errorf("the image lacks the blob: %w", err), "the copy of the image may be incomplete; copy it again")
	}
	return err
}

// blobPath returns the path of a checked digest within a layout.
func blobPath(digest string) string {
	alg, hex, _ := strings.Cut(digest, ":")
	return "blobs/" + alg + "/" + hex
}
