package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	bounded "imgbuild/toml"
)

// maxConfig is the most that is read of a storage.conf, in bytes.
const maxConfig = 1 << 20

// Env is what the look-up of the store depends on.
type Env struct {
	Getenv func(string) string // nil is an empty environment
	Home   string
	UID    int    // of the user; 0 has the store of the system
	Root   string // put before the system's paths; "" for none
}

func (e Env) get(name string) string {
	if e.Getenv == nil {
		return ""
	}
	return e.Getenv(name)
}

// Config says where the store is.
type Config struct {
	Driver     string // "" takes whichever there is
	GraphRoot  string
	ImageStore string   // where images are if not in GraphRoot
	Additional []string // graph roots of more images
}

// configFile is storage.conf, as far as it matters to a reader.
type configFile struct {
	Storage struct {
		Driver              string `toml:"driver"`
		GraphRoot           string `toml:"graphroot"`
		ImageStore          string `toml:"imagestore"`
		RootlessStoragePath string `toml:"rootless_storage_path"`
		Options             struct {
			ImageStore            string   `toml:"imagestore"`
			AdditionalImageStores []string `toml:"additionalimagestores"`
		} `toml:"options"`
	} `toml:"storage"`
}

func parseConfig(text []byte) (*configFile, error) {
	// The first keeps the parser's memory bounded.
	if _, err := bounded.Decode(string(text)); err != nil {
		return nil, err
	}
	f := &configFile{}
	_, err := toml.Decode(string(text), f)
	return f, err
}

func readConfig(path string) (*configFile, error) {
	text, err := readFile(path, maxConfig)
	if err != nil {
		return nil, err
	}
	f, err := parseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Locate finds the store of the user: that of $CONTAINERS_STORAGE_CONF, or of the
// user's storage.conf, or of the system's, with their defaults. Root has
// /var/lib/containers/storage, others ~/.local/share/containers/storage.
// $STORAGE_DRIVER and the image stores of $STORAGE_OPTS come before the files.
func Locate(env Env) (Config, error) {
	file, own, err := findConfig(env)
	if err != nil {
		return Config{}, err
	}
	s := &file.Storage
	c := Config{Driver: s.Driver, GraphRoot: s.GraphRoot, ImageStore: s.ImageStore, Additional: s.Options.AdditionalImageStores}
	if c.ImageStore == "" {
		c.ImageStore = s.Options.ImageStore
	}
	if env.UID != 0 {
		// The system's file says of a user's store no more than where it is and
		// which driver it has.
		if !own {
			c.GraphRoot, c.ImageStore = "", ""
		}
		if c.GraphRoot == "" {
			c.GraphRoot = s.RootlessStoragePath
		}
	}
	if c.GraphRoot == "" {
		if c.GraphRoot, err = defaultRoot(env); err != nil {
			return Config{}, err
		}
	}
	if d := env.get("STORAGE_DRIVER"); d != "" {
		c.Driver = d
	}
	for _, opt := range strings.Split(env.get("STORAGE_OPTS"), ",") {
		key, value, _ := strings.Cut(opt, "=")
		if i := strings.LastIndexByte(key, '.'); i >= 0 {
			key = key[i+1:]
		}
		if (key == "imagestore" || key == "additionalimagestore") && value != "" {
			c.Additional = append(c.Additional, value)
		}
	}
	if c.Driver == "overlay2" {
		c.Driver = "overlay"
	}
	c.GraphRoot = env.expand(c.GraphRoot)
	c.ImageStore = env.expand(c.ImageStore)
	c.Additional = slices.Clone(c.Additional)
	for i := range c.Additional {
		c.Additional[i] = env.expand(c.Additional[i])
	}
	return c, nil
}

// findConfig reads the storage.conf that counts. own tells whether it is for the
// user alone, rather than the system's.
func findConfig(env Env) (file *configFile, own bool, err error) {
	if path := env.get("CONTAINERS_STORAGE_CONF"); path != "" {
		file, err = readConfig(path)
		return file, true, err
	}
	type place struct {
		path string
		own  bool
	}
	var places []place
	user := env.get("XDG_CONFIG_HOME")
	if user == "" && env.Home != "" && env.UID != 0 {
		user = filepath.Join(env.Home, ".config")
	}
	if user != "" {
		places = append(places, place{filepath.Join(user, "containers", "storage.conf"), true})
	}
	places = append(places, place{filepath.Join(env.Root, "/etc/containers/storage.conf"), false},
		place{filepath.Join(env.Root, "/usr/share/containers/storage.conf"), false})
	for _, p := range places {
		file, err = readConfig(p.path)
		if !errors.Is(err, fs.ErrNotExist) {
			return file, p.own, err
		}
	}
	return &configFile{}, false, nil
}

func defaultRoot(env Env) (string, error) {
	if env.UID == 0 {
		return filepath.Join(env.Root, "/var/lib/containers/storage"), nil
	}
	if dir := env.get("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "containers", "storage"), nil
	}
	if env.Home == "" {
		return "", fmt.Errorf("%w: nor a home directory to look in", ErrNoStore)
	}
	return filepath.Join(env.Home, ".local", "share", "containers", "storage"), nil
}

// expand replaces variables in a path of storage.conf.
func (e Env) expand(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Clean(os.Expand(path, func(name string) string {
		switch name {
		case "UID":
			return strconv.Itoa(e.UID)
		case "HOME":
			if e.Home != "" {
				return e.Home
			}
		}
		return e.get(name)
	}))
}

// ParseSpec parses "DRIVER@GRAPHROOT+RUNROOT:OPTIONS", of which only GRAPHROOT
// has to be there, into what it names instead of the user's store.
func ParseSpec(s string) (Config, error) {
	c := Config{}
	if driver, rest, ok := strings.Cut(s, "@"); ok {
		if driver == "" {
			return c, errors.New("the driver before @ is missing")
		}
		c.Driver, s = driver, rest
	}
	s, options, _ := strings.Cut(s, ":")
	s, _, _ = strings.Cut(s, "+")
	if !filepath.IsAbs(s) {
		return c, fmt.Errorf("the path %q is not absolute", s)
	}
	c.GraphRoot = filepath.Clean(s)
	for _, opt := range strings.Split(options, ",") {
		key, value, _ := strings.Cut(opt, "=")
		if i := strings.LastIndexByte(key, '.'); i >= 0 {
			key = key[i+1:]
		}
		if (key == "imagestore" || key == "additionalimagestore") && value != "" {
			c.Additional = append(c.Additional, value)
		}
	}
	if c.Driver == "overlay2" {
		c.Driver = "overlay"
	}
	return c, nil
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b, err
}

func openRegular(path string) (*os.File, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	return os.Open(path)
}
