package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// File is a file of a derived layer: a regular file, a symbolic link where Link is
// set, or a directory.
type File struct {
	Name string // relative, without a leading slash
	Mode int64
	Data []byte
	Link string
	Dir  bool
}

// Tree returns what is at the names below a directory of the machine, with all
// below them and the directories they are in, as files of root's. A name may be a
// pattern.
func Tree(dir string, names ...string) ([]File, error) {
	seen := map[string]bool{}
	var list []File
	add := func(name string) error {
		if name == "." || seen[name] {
			return nil
		}
		seen[name] = true
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		f := File{Name: name, Mode: int64(info.Mode().Perm())}
		switch {
		case info.IsDir():
			f.Dir = true
		case info.Mode()&os.ModeSymlink != 0:
			f.Link, err = os.Readlink(filepath.Join(dir, name))
		default:
			f.Data, err = os.ReadFile(filepath.Join(dir, name))
		}
		list = append(list, f)
		return err
	}
	for _, name := range names {
		found, err := filepath.Glob(filepath.Join(dir, name))
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("%s: nothing at %s: %w", dir, name, err)
		}
		for _, top := range found {
			for parent := filepath.Dir(top); len(parent) > len(dir); parent = filepath.Dir(parent) {
				rel, err := filepath.Rel(dir, parent)
				if err == nil {
					err = add(rel)
				}
				if err != nil {
					return nil, err
				}
			}
			err := filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
				if err != nil {
					return err
				}
				rel, err := filepath.Rel(dir, path)
				if err != nil {
					return err
				}
				return add(rel)
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// Derive writes an OCI layout into dir, which it makes: the image of the layout
// from, which has one, with a layer of files on top. Directories that the files
// need must be among them, or in the image.
func Derive(from, dir string, files []File) error {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o777); err != nil {
		return err
	}
	var index struct {
		descriptors
		SchemaVersion int `json:"schemaVersion"`
	}
	if err := readJSON(filepath.Join(from, "index.json"), &index); err != nil {
		return err
	}
	if len(index.Manifests) != 1 {
		return fmt.Errorf("%s has %d images", from, len(index.Manifests))
	}
	blobOf := func(digest any) string {
		return filepath.Join(from, "blobs", "sha256", strings.TrimPrefix(fmt.Sprint(digest), "sha256:"))
	}
	var manifest, config map[string]any
	if err := readJSON(blobOf(index.Manifests[0]["digest"]), &manifest); err != nil {
		return err
	}
	configOf, _ := manifest["config"].(map[string]any)
	if err := readJSON(blobOf(configOf["digest"]), &config); err != nil {
		return err
	}
	layers, _ := manifest["layers"].([]any)
	rootfs, _ := config["rootfs"].(map[string]any)
	diffIDs, _ := rootfs["diff_ids"].([]any)
	if len(layers) == 0 || len(layers) != len(diffIDs) {
		return errors.New("the image has no layers, or not as many as its config")
	}
	for _, l := range layers {
		digest := l.(map[string]any)["digest"]
		if err := linkOrCopy(blobOf(digest), filepath.Join(blobs, filepath.Base(blobOf(digest)))); err != nil {
			return err
		}
	}
	layer, err := layerOf(files)
	if err != nil {
		return err
	}
	put := func(data []byte) (digest string, err error) {
		sum := sha256.Sum256(data)
		name := hex.EncodeToString(sum[:])
		return "sha256:" + name, os.WriteFile(filepath.Join(blobs, name), data, 0o666)
	}
	digest, err := put(layer)
	if err != nil {
		return err
	}
	manifest["layers"] = append(layers, map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": len(layer)})
	rootfs["diff_ids"] = append(diffIDs, digest)
	if history, ok := config["history"].([]any); ok {
		config["history"] = append(history, map[string]any{"created_by": "derived"})
	}
	for _, doc := range []struct {
		value any
		to    map[string]any
	}{{config, configOf}, {manifest, index.Manifests[0]}} {
		b, err := json.Marshal(doc.value)
		if err != nil {
			return err
		}
		if doc.to["digest"], err = put(b); err != nil {
			return err
		}
		doc.to["size"] = len(b)
	}
	b, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), b, 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o666)
}

type descriptors struct {
	Manifests []map[string]any `json:"manifests"`
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o666)
}

// layerOf returns the plain tar of a layer.
func layerOf(files []File) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: f.Mode, Typeflag: tar.TypeReg, Size: int64(len(f.Data)), Format: tar.FormatPAX}
		if f.Link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.Link, 0
		}
		if f.Dir {
			h.Name, h.Typeflag, h.Size = f.Name+"/", tar.TypeDir, 0
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
