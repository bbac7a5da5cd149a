package image

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// ReadFile returns the regular file of a layout's image whose name matches a pattern
// of path.Match, and its name, as the last layer that has one has it.
func ReadFile(layout, pattern string) (name string, data []byte, err error) {
	var index descriptors
	if err := readJSON(filepath.Join(layout, "index.json"), &index); err != nil {
		return "", nil, err
	}
	if len(index.Manifests) != 1 {
		return "", nil, fmt.Errorf("%s has %d images", layout, len(index.Manifests))
	}
	blob := func(digest any) string {
		return filepath.Join(layout, "blobs", "sha256", strings.TrimPrefix(fmt.Sprint(digest), "sha256:"))
	}
	var manifest struct {
		Layers []struct {
			MediaType string `json:"mediaType"`
			Digest    string `json:"digest"`
		} `json:"layers"`
	}
	if err := readJSON(blob(index.Manifests[0]["digest"]), &manifest); err != nil {
		return "", nil, err
	}
	for i := len(manifest.Layers) - 1; i >= 0; i-- {
		l := manifest.Layers[i]
		name, data, err = readLayer(blob(l.Digest), l.MediaType, pattern)
		if !errors.Is(err, fs.ErrNotExist) {
			return name, data, err
		}
	}
	return "", nil, fmt.Errorf("%s: %s: %w", layout, pattern, fs.ErrNotExist)
}

func readLayer(blob, mediaType, pattern string) (string, []byte, error) {
	f, err := os.Open(blob)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	var plain io.Reader = f
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		plain, err = gzip.NewReader(f)
	case strings.HasSuffix(mediaType, "zstd"):
		var d *zstd.Decoder
		if d, err = zstd.NewReader(f); err == nil {
			defer d.Close()
			plain = d
		}
	}
	if err != nil {
		return "", nil, err
	}
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return "", nil, fs.ErrNotExist
		} else if err != nil {
			return "", nil, err
		}
		name := path.Clean(h.Name)
		if ok, err := path.Match(pattern, name); err != nil {
			return "", nil, err
		} else if ok && h.Typeflag == tar.TypeReg {
			data, err := io.ReadAll(r)
			return name, data, err
		}
	}
}
