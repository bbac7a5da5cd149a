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

	"imgbuild/content"
	"imgbuild/tree"
)

// ReadFile returns the regular file of a layout's image whose name matches a pattern
// of path.Match, and its name, as the last layer that has one has it.
func ReadFile(layout, pattern string) (name string, data []byte, err error) {
	err = eachLayer(layout, func(blob, mediaType string) error {
		return eachFile(blob, mediaType, func(h *tar.Header, r io.Reader) error {
			p := path.Clean(h.Name)
			ok, err := path.Match(pattern, p)
			if err != nil || !ok || h.Typeflag != tar.TypeReg {
				return err
			}
			name = p
			data, err = io.ReadAll(r)
			return err
		})
	})
	if err == nil && name == "" {
		err = fmt.Errorf("%s: %s: %w", layout, pattern, fs.ErrNotExist)
	}
	return name, data, err
}

// eachLayer calls fn for the layers of the one image of a layout, the lowest first.
func eachLayer(layout string, fn func(blob, mediaType string) error) error {
	var index descriptors
	if err := readJSON(filepath.Join(layout, "index.json"), &index); err != nil {
		return err
	}
	if len(index.Manifests) != 1 {
		return fmt.Errorf("%s has %d images", layout, len(index.Manifests))
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
		return err
	}
	for _, l := range manifest.Layers {
		if err := fn(blob(l.Digest), l.MediaType); err != nil {
			return err
		}
	}
	return nil
}

// eachFile calls fn for the entries of a layer.
func eachFile(blob, mediaType string, fn func(h *tar.Header, r io.Reader) error) error {
	f, err := os.Open(blob)
	if err != nil {
		return err
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
		return err
	}
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := fn(h, r); err != nil {
			return err
		}
	}
}

// ReadDir returns the directories, regular files and symbolic links of a layout's
// image below a directory, as one tree with dir as its root. Whiteouts are not
// applied.
func ReadDir(layout, dir string) (*tree.Inode, error) {
	root := tree.NewDir(0o755)
	err := eachLayer(layout, func(blob, mediaType string) error {
		return eachFile(blob, mediaType, func(h *tar.Header, r io.Reader) error {
			rel, ok := strings.CutPrefix(path.Clean(h.Name), dir+"/")
			if !ok {
				return nil
			}
			switch h.Typeflag {
			case tar.TypeReg:
				data, err := io.ReadAll(r)
				if err != nil {
					return err
				}
				return tree.Put(root, rel, tree.NewFile(uint32(h.Mode), content.Bytes(data)))
			case tar.TypeSymlink:
				return tree.Put(root, rel, tree.NewLink(h.Linkname))
			case tar.TypeDir:
				_, err := tree.MkdirAll(root, rel)
				return err
			}
			return nil
		})
	})
	return root, err
}
