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

// dirSource is an image in the directory that skopeo's "dir:" makes,
// containers-transports(5): a file "version", the manifest in manifest.json,
// manifests that an index names in HEX.manifest.json, and blobs in files named by
// the hexadecimal digits of their digest.
type dirSource struct {
	ref   Reference
	store dirStore
}

// dirVersion is how the file "version" starts, before a number.
const dirVersion = "Directory Transport Version: "

func openDir(ref Reference) (source, error) {
	fi, err := os.Stat(ref.place)
	if err == nil && !fi.IsDir() {
		err = fmt.Errorf("%s is not a directory", ref.place)
	}
	if err != nil {
		return nil, fault.New(fault.NotFound, fmt.Errorf("image directory: %w", err), "")
	}
	s := &dirSource{ref, dirStore(ref.place)}
	version, err := s.read("version", 1<<10)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint := ""
		if _, err := os.Stat(filepath.Join(ref.place, "oci-layout")); err == nil {
			hint = "it is an OCI layout: " + TransportLayout + ":" + ref.place
		}
		return nil, fault.New(fault.NotFound, fmt.Errorf("%s is no image directory of skopeo: %w", ref.place, err), hint)
	case err != nil:
		return nil, fault.Default(fault.BadImage, err)
	case !strings.HasPrefix(string(version), dirVersion+"1."):
		return nil, fault.New(fault.Unsupported, fmt.Errorf("%s: version %s of image directories", ref.place, clip(strings.TrimSpace(string(version)))),
			"copy it with: skopeo copy dir:DIR oci:LAYOUT:latest")
	}
	return s, nil
}

func (s *dirSource) read(name string, limit int64) ([]byte, error) {
	f, err := s.store.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, name, limit)
}

func (s *dirSource) local() bool  { return true }
func (s *dirSource) Close() error { return nil }

func (s *dirSource) root(context.Context) ([]byte, string, error) {
	raw, err := s.read("manifest.json", maxManifest)
	return raw, "", missing(err)
}

func (s *dirSource) document(_ context.Context, d descriptor, limit int64) ([]byte, error) {
	switch d.MediaType {
	case mediaIndex, mediaManifest, mediaDockerList, mediaDockerManifest:
		raw, err := s.read(hexOf(d.Digest)+".manifest.json", limit)
		if errors.Is(err, fs.ErrNotExist) {
			// skopeo copies one platform of an index with the index unless it
			// is told otherwise.
			return nil, fault.New(fault.NotFound, fmt.Errorf("the directory lacks the manifest: %w", err), "copy the image with: skopeo copy --all")
		}
		return raw, err
	}
	raw, err := s.read(hexOf(d.Digest), limit)
	return raw, missing(err)
}

func (s *dirSource) blob(_ context.Context, digest string, _ int64) (io.ReadCloser, error) {
	f, err := s.store.open(hexOf(digest))
	if errors.Is(err, fs.ErrNotExist) {
		// Version 1.0 had names with a suffix.
		if old, oerr := s.store.open(hexOf(digest) + ".tar"); oerr == nil {
			return old, nil
		}
	}
	return f, missing(err)
}
