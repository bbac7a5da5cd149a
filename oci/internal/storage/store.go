package storage

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	// maxRecords is the most that is read of images.json or layers.json, in
	// bytes: some hundred thousand of them.
	maxRecords = 256 << 20
	// maxChain is more layers than any driver stacks.
	maxChain = 4096
)

// Errors that callers tell apart.
var (
	ErrNoStore = errors.New("there is no store")
	ErrNoImage = errors.New("the store has no such image")
	// ErrDriver is for a store that has a driver that cannot be read.
	ErrDriver = errors.New("storage driver cannot be read")
)

// image is an element of images.json.
type image struct {
	ID             string            `json:"id"`
	Digest         string            `json:"digest"`
	Names          []string          `json:"names"`
	TopLayer       string            `json:"layer"`
	Metadata       string            `json:"metadata"`
	BigDataNames   []string          `json:"big-data-names"`
	BigDataDigests map[string]string `json:"big-data-digests"`
}

// layer is an element of layers.json.
type layer struct {
	ID     string `json:"id"`
	Parent string `json:"parent"`
	DiffID string `json:"diff-digest"`
	TOC    string `json:"toc-digest"`
}

// place is a driver's part of a graph root.
type place struct {
	root, driver string
	images       []image
	layers       map[string]*layer
}

// Store is what one user's images are in: the graph root and additional stores.
type Store struct {
	places []*place
	roots  []string
	other  []string // drivers that cannot be read and have images
}

// Open reads what is in the store. It is an error, ErrNoStore, when there is none.
func Open(c Config) (*Store, error) {
	s := &Store{}
	for _, root := range append([]string{c.ImageStore, c.GraphRoot}, c.Additional...) {
		if root != "" && !slices.Contains(s.roots, root) {
			s.roots = append(s.roots, root)
		}
	}
	switch c.Driver {
	case "", "overlay", "vfs":
	default:
		return nil, fmt.Errorf("%w: %q", ErrDriver, c.Driver)
	}
	for _, root := range s.roots {
		for _, driver := range []string{"overlay", "vfs", "btrfs", "zfs", "aufs"} {
			if c.Driver != "" && c.Driver != driver {
				continue
			}
			p, err := openPlace(root, driver)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return nil, err
			}
			if driver != "overlay" && driver != "vfs" {
				s.other = append(s.other, driver)
				continue
			}
			s.places = append(s.places, p)
		}
	}
	if len(s.places) == 0 {
		if len(s.other) > 0 {
			return nil, fmt.Errorf("%w: %s", ErrDriver, strings.Join(s.other, ", "))
		}
		return nil, fmt.Errorf("%w in %s", ErrNoStore, strings.Join(s.roots, ", "))
	}
	return s, nil
}

// Roots returns the directories that the store is in.
func (s *Store) Roots() []string { return s.roots }

func openPlace(root, driver string) (*place, error) {
	p := &place{root: root, driver: driver, layers: make(map[string]*layer)}
	path := filepath.Join(root, driver+"-images", "images.json")
	raw, err := readFile(path, maxRecords)
	if err != nil {
		return nil, err
	}
	if p.images, err = parseImages(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range []string{"layers.json", "volatile-layers.json"} {
		path := filepath.Join(root, driver+"-layers", name)
		raw, err := readFile(path, maxRecords)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		list, err := parseLayers(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for i := range list {
			p.layers[list[i].ID] = &list[i]
		}
	}
	return p, nil
}

// reID is what ids may be, which become names of files.
var reID = regexp.MustCompile(`^[0-9a-zA-Z][0-9a-zA-Z_.-]{0,254}$`)

func parseImages(raw []byte) ([]image, error) {
	var list []image
	if len(raw) == 0 {
		return nil, nil // a store that was never written to
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("invalid JSON: %w", err)
	}
	for _, i := range list {
		if !reID.MatchString(i.ID) || i.TopLayer != "" && !reID.MatchString(i.TopLayer) {
			return nil, fmt.Errorf("image %.100q with layer %.100q: not an id", i.ID, i.TopLayer)
		}
	}
	return list, nil
}

func parseLayers(raw []byte) ([]layer, error) {
	var list []layer
	if len(raw) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("invalid JSON: %w", err)
	}
	for _, l := range list {
		if !reID.MatchString(l.ID) || l.Parent != "" && !reID.MatchString(l.Parent) {
			return nil, fmt.Errorf("layer %.100q on %.100q: not an id", l.ID, l.Parent)
		}
	}
	return list, nil
}

// Image is an image of the store.
type Image struct {
	store *Store
	place *place
	rec   *image
}

// Query says which image is looked for. Empty fields match all images, but not
// all of them may be empty.
type Query struct {
	Name   string // "registry/repository:tag", normalised
	Repo   string // "registry/repository", for one that is pinned by Digest
	Digest string // of one of the image's manifests
	ID     string // or how it starts
}

// Find returns the image, of the first of the stores that has it. Otherwise the
// error is ErrNoImage, or says that the start of an id is not enough.
func (s *Store) Find(q Query) (*Image, error) {
	var found *Image
	for _, p := range s.places {
		for i := range p.images {
			rec := &p.images[i]
			if !rec.matches(q) {
				continue
			}
			if q.ID != "" && found != nil && found.rec.ID != rec.ID {
				return nil, fmt.Errorf("%w: several have an id that starts with %s", ErrNoImage, q.ID)
			}
			if found == nil {
				found = &Image{s, p, rec}
			}
		}
		if found != nil && q.ID == "" {
			break
		}
	}
	if found == nil {
		return nil, ErrNoImage
	}
	return found, nil
}

func (rec *image) matches(q Query) bool {
	if q == (Query{}) {
		return false
	}
	if q.ID != "" && !strings.HasPrefix(rec.ID, q.ID) {
		return false
	}
	if q.Name != "" && !slices.Contains(rec.Names, q.Name) {
		return false
	}
	if q.Repo != "" && !slices.ContainsFunc(rec.Names, func(name string) bool {
		rest, ok := strings.CutPrefix(name, q.Repo)
		return ok && (rest == "" || (rest[0] == ':' || rest[0] == '@') && !strings.Contains(rest, "/"))
	}) {
		return false
	}
	if q.Digest == "" || rec.Digest == q.Digest {
		return true
	}
	for name, digest := range rec.BigDataDigests {
		if digest == q.Digest && strings.HasPrefix(name, "manifest") {
			return true
		}
	}
	return false
}

// ByDigest returns the image that has a manifest with a digest.
func (s *Store) ByDigest(digest string) (*Image, error) { return s.Find(Query{Digest: digest}) }

// ID returns the id of the image.
func (i *Image) ID() string { return i.rec.ID }

// Data returns a document of the image by its key, at most limit bytes: "manifest",
// "manifest-" and a digest, or the digest of the config.
func (i *Image) Data(key string, limit int64) ([]byte, error) {
	return readFile(filepath.Join(i.place.root, i.place.driver+"-images", i.rec.ID, dataName(key)), limit)
}

// dataName returns the file name of a key, store.go makeBigDataBaseName.
func dataName(key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }) {
		return "=" + base64.StdEncoding.EncodeToString([]byte(key))
	}
	return key
}

// Layer is a layer of an image.
type Layer struct {
	place *place
	rec   *layer
}

// ID returns the id of the layer.
func (l *Layer) ID() string { return l.rec.ID }

// DiffID returns the digest of the layer's tar, "" where the store does not know.
func (l *Layer) DiffID() string { return l.rec.DiffID }

// Layers returns the layers of the image, lowest first.
func (i *Image) Layers() ([]*Layer, error) {
	var list []*Layer
	for id := i.rec.TopLayer; id != ""; {
		l := i.store.layer(i.place, id)
		if l == nil {
			return nil, fmt.Errorf("layer %s of image %s: the store does not have it", id, i.rec.ID)
		}
		if len(list) == maxChain {
			return nil, fmt.Errorf("image %s: more than %d layers", i.rec.ID, maxChain)
		}
		list = append(list, l)
		id = l.rec.Parent
	}
	slices.Reverse(list)
	return list, nil
}

// layer finds a layer, in the image's own place first.
func (s *Store) layer(own *place, id string) *Layer {
	for _, p := range append([]*place{own}, s.places...) {
		if rec := p.layers[id]; rec != nil {
			return &Layer{p, rec}
		}
	}
	return nil
}

// dir returns the directory with the files of the layer.
func (l *Layer) dir() string {
	if l.place.driver == "vfs" {
		return filepath.Join(l.place.root, "vfs", "dir", l.rec.ID)
	}
	return filepath.Join(l.place.root, "overlay", l.rec.ID, "diff")
}

// composefs tells whether the files of the layer are kept by their digest.
func (l *Layer) composefs() bool {
	_, err := os.Stat(filepath.Join(l.place.root, "overlay", l.rec.ID, "composefs-data"))
	return l.place.driver == "overlay" && err == nil
}
