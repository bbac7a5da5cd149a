package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"imgbuild/fault"
)

// Places says where signatures of images in registries are: registries.d.
type Places struct {
	fallback *place           // default-docker
	places   map[string]place // docker, by scope
	store    string           // URL of simple signatures where nothing else is said
}

// place is a configuration section.
type place struct {
	Lookaside   string `yaml:"lookaside"`
	SigStore    string `yaml:"sigstore"` // its old name
	Attachments *bool  `yaml:"use-sigstore-attachments"`
}

// LoadPlaces reads the files of a directory, or where it is empty those of the
// system and the user: registries.d, and of the system registries.rootful.d or
// registries.rootless.d. A file hides one of the same name in a directory before
// it. The error is of the class Config, or Usage when the directory that was named
// cannot be read.
func LoadPlaces(dir string, env Env) (*Places, error) {
	p := &Places{places: map[string]place{}, store: fileURL(filepath.Join(env.Root, "/var/lib/containers/sigstore"))}
	if env.UID != 0 {
		p.store = fileURL(filepath.Join(env.Home, ".local", "share", "containers", "sigstore"))
	}
	dirs := []string{dir}
	if dir == "" {
		dirs = env.placeDirs()
	} else if _, err := os.ReadDir(dir); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("registries.d: %w", err), "")
	}
	files := map[string]string{} // path, by name
	for _, dir := range dirs {
		list, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, fault.New(fault.Config, fmt.Errorf("registries.d: %w", err), "")
		}
		for _, e := range list {
			if strings.HasSuffix(e.Name(), ".yaml") && !e.IsDir() {
				files[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	from := map[string]string{} // where a scope was read, "" being the default
	for _, name := range sortedKeys(files) {
		if err := p.add(files[name], from); err != nil {
			return nil, fault.New(fault.Config, fmt.Errorf("registries.d: %w", err), "")
		}
	}
	return p, nil
}

// fileURL returns the URL of a path, RFC 8089: one with a drive has a slash before
// it.
func fileURL(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
}

// placeDirs returns the directories in which files are looked for, the last first
// in rank.
func (e Env) placeDirs() (dirs []string) {
	for _, base := range []string{"/usr/share/containers", "/etc/containers"} {
		base = filepath.Join(e.Root, filepath.FromSlash(base))
		dirs = append(dirs, filepath.Join(base, "registries.d"))
		if e.UID == 0 {
			dirs = append(dirs, filepath.Join(base, "registries.rootful.d"))
		} else if e.UID > 0 {
			less := filepath.Join(base, "registries.rootless.d")
			dirs = append(dirs, less, filepath.Join(less, strconv.Itoa(e.UID)))
		}
	}
	if dir := e.config(); dir != "" {
		dirs = append(dirs, filepath.Join(dir, "registries.d"))
	}
	return dirs
}

func (p *Places) add(path string, from map[string]string) error {
	data, err := readFile(path)
	if err != nil {
		return err
	}
	var f struct {
		Default *place           `yaml:"default-docker"`
		Docker  map[string]place `yaml:"docker"`
	}
	if err := yaml.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if f.Default != nil {
		if p.fallback != nil {
			return fmt.Errorf("default-docker is both in %s and in %s", from[""], path)
		}
		p.fallback, from[""] = f.Default, path
	}
	for _, scope := range sortedKeys(f.Docker) {
		if other, twice := from[scope]; twice && scope != "" {
			return fmt.Errorf("%s is both in %s and in %s", clip(scope), other, path)
		}
		p.places[scope], from[scope] = f.Docker[scope], path
	}
	return nil
}

// each calls fn with the sections for an image, the narrowest first, until it
// returns true.
func (p *Places) each(img *Image, fn func(place) bool) {
	for _, scope := range img.scopes {
		if at, ok := p.places[scope]; ok && fn(at) {
			return
		}
	}
	if p.fallback != nil {
		fn(*p.fallback)
	}
}

// Attachments tells whether sigstore signatures of an image are looked for in its
// registry. said is false where no file says so.
func (p *Places) Attachments(img *Image) (use, said bool) {
	p.each(img, func(at place) bool {
		if at.Attachments != nil {
			use, said = *at.Attachments, true
		}
		return said
	})
	return use, said
}

// Lookaside returns the URL of the simple signatures of an image, without the
// path of its repository.
func (p *Places) Lookaside(img *Image) string {
	url := ""
	p.each(img, func(at place) bool {
		if url = at.Lookaside; url == "" {
			url = at.SigStore
		}
		return url != ""
	})
	if url == "" {
		return p.store
	}
	return url
}
