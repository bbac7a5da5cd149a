package registries

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	bounded "imgbuild/toml"
)

// maxFile is the most that is read of a file, in bytes.
const maxFile = 4 << 20

// Config is what the files say together.
type Config struct {
	registries []registry // by prefix, each prefix once
	aliases    map[string]string
	// Search lists host[:port] for names without a registry, nil where no file
	// sets it.
	Search []string
	// Mode says what to do with a short name that can stand for several.
	Mode Mode
	// Helpers are the credential helpers to ask in turn; "containers-auth.json"
	// stands for the credentials files. Nil where no file sets them.
	Helpers []string
	// Origin is the file that Search comes from.
	Origin string
}

// Mode is short-name-mode. Without a terminal to ask on, permissive is disabled.
type Mode string

// The modes. The empty one is Permissive.
const (
	Enforcing  Mode = "enforcing"
	Permissive Mode = "permissive"
	Disabled   Mode = "disabled"
)

// endpoint is where a registry really is.
type endpoint struct {
	Location       string `toml:"location"`
	Insecure       bool   `toml:"insecure"`
	PullFromMirror string `toml:"pull-from-mirror"`
}

// registry is an element of [[registry]].
type registry struct {
	Prefix string `toml:"prefix"`
	endpoint
	Mirrors            []endpoint `toml:"mirror"`
	Blocked            bool       `toml:"blocked"`
	MirrorByDigestOnly bool       `toml:"mirror-by-digest-only"`
}

// file is a file of either version.
type file struct {
	Registries []registry        `toml:"registry"`
	Search     []string          `toml:"unqualified-search-registries"`
	Helpers    []string          `toml:"credential-helpers"`
	Mode       string            `toml:"short-name-mode"`
	Aliases    map[string]string `toml:"aliases"`
	V1         struct {
		Search   v1List `toml:"search"`
		Insecure v1List `toml:"insecure"`
		Block    v1List `toml:"block"`
	} `toml:"registries"`
}

type v1List struct {
	Registries []string `toml:"registries"`
}

// Paths say which files are read.
type Paths struct {
	File     string   // registries.conf, "" for none
	Required bool     // File has to exist
	Dirs     []string // registries.conf.d, those that exist
	Aliases  string   // short-name-aliases.conf, which Podman writes; "" for none
}

// Load reads the files. Later ones replace what earlier ones say: registries by
// their prefix, aliases by their name, lists and modes as a whole.
func Load(p Paths) (*Config, error) {
	c := &Config{aliases: make(map[string]string)}
	if p.File != "" {
		err := c.add(p.File, false)
		if err != nil && (p.Required || !errors.Is(err, fs.ErrNotExist)) {
			return nil, err
		}
	}
	for _, dir := range p.Dirs {
		list, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, e := range list { // by name
			if e.IsDir() || !strings.HasSuffix(e.Name(), ".conf") {
				continue
			}
			if err := c.add(filepath.Join(dir, e.Name()), true); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	if p.Aliases != "" {
		if err := c.add(p.Aliases, true); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return c, nil
}

func (c *Config) add(path string, dropIn bool) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("more than %d bytes", maxFile)
	}
	if err == nil {
		err = c.merge(text, path, dropIn)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// merge lays a file over what was read before.
func (c *Config) merge(text []byte, origin string, dropIn bool) error {
	f, err := parse(text)
	if err != nil {
		return err
	}
	if dropIn && f.hasV1() {
		return errors.New("a file of registries.conf.d has to be of version 2")
	}
	if err := f.convert(); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, r := range f.Registries {
		if seen[r.Prefix] { // the first wins within a file
			continue
		}
		seen[r.Prefix] = true
		c.registries = slices.DeleteFunc(c.registries, func(o registry) bool { return o.Prefix == r.Prefix })
		c.registries = append(c.registries, r)
	}
	if f.Search != nil {
		c.Search, c.Origin = f.Search, origin
	}
	if f.Helpers != nil {
		c.Helpers = f.Helpers
	}
	if f.Mode != "" {
		c.Mode = Mode(f.Mode)
	}
	maps.Copy(c.aliases, f.Aliases)
	return nil
}

func parse(text []byte) (*file, error) {
	// The first keeps the parser's memory bounded.
	if _, err := bounded.Decode(string(text)); err != nil {
		return nil, err
	}
	f := &file{}
	_, err := toml.Decode(string(text), f)
	return f, err
}

func (f *file) hasV1() bool {
	return f.V1.Search.Registries != nil || f.V1.Insecure.Registries != nil || f.V1.Block.Registries != nil
}

// convert turns version 1 into version 2, and checks and completes the file.
func (f *file) convert() error {
	if f.hasV1() {
		if f.Registries != nil || f.Search != nil || f.Helpers != nil || f.Mode != "" || f.Aliases != nil {
			return errors.New("versions 1 and 2 of the format are mixed")
		}
		f.Search = f.V1.Search.Registries
		index := make(map[string]int)
		at := func(location string) *registry {
			i, ok := index[location]
			if !ok {
				i = len(f.Registries)
				index[location] = i
				f.Registries = append(f.Registries, registry{endpoint: endpoint{Location: location}})
			}
			return &f.Registries[i]
		}
		for _, l := range f.V1.Block.Registries {
			at(l).Blocked = true
		}
		for _, l := range f.V1.Insecure.Registries {
			at(l).Insecure = true
		}
	}
	switch Mode(f.Mode) {
	case "", Enforcing, Permissive, Disabled:
	default:
		return fmt.Errorf("short-name-mode %q: neither enforcing, permissive nor disabled", f.Mode)
	}
	for i := range f.Registries {
		if err := f.Registries[i].check(); err != nil {
			return err
		}
	}
	if err := f.checkConflicts(); err != nil {
		return err
	}
	for i, host := range f.Search {
		host, err := location(host)
		if err != nil {
			return err
		}
		if f.Search[i] = host; !reHost.MatchString(host) {
			return fmt.Errorf("unqualified-search-registries: %q is not the name of a host", host)
		}
	}
	for name, value := range f.Aliases {
		if err := checkAlias(name, value); err != nil {
			return err
		}
	}
	return nil
}

// reHost is host[:port], as in the grammar of references.
var reHost = regexp.MustCompile(`^(?:[a-zA-Z0-9][a-zA-Z0-9.-]*|\[[0-9a-fA-F:.]+\])(?::[0-9]+)?$`)

// location takes trailing slashes from a location, which has no scheme.
func location(s string) (string, error) {
	if strings.Contains(s, "://") {
		return "", fmt.Errorf("location %q: has a scheme, which does not belong there", s)
	}
	return strings.TrimRight(s, "/"), nil
}

func (r *registry) check() (err error) {
	if r.Location, err = location(r.Location); err != nil {
		return err
	}
	if r.Prefix, err = location(r.Prefix); err != nil {
		return err
	}
	wild := strings.HasPrefix(r.Prefix, "*.")
	switch {
	case r.Prefix == "" && r.Location == "":
		return errors.New("a registry has neither a prefix nor a location")
	case wild && strings.ContainsAny(r.Prefix, "/@:"):
		return fmt.Errorf("prefix %q: one with * is of the form *.example.com", r.Prefix)
	case !wild && r.Location == "":
		return fmt.Errorf("prefix %q: has no location", r.Prefix)
	case r.PullFromMirror != "":
		return fmt.Errorf("registry %q: pull-from-mirror is for mirrors", r.Location)
	}
	if r.Prefix == "" {
		r.Prefix = r.Location
	}
	for i := range r.Mirrors {
		m := &r.Mirrors[i]
		if m.Location, err = location(m.Location); err != nil {
			return err
		}
		switch {
		case m.Location == "":
			return fmt.Errorf("registry %q: a mirror has no location", r.Prefix)
		case r.MirrorByDigestOnly && m.PullFromMirror != "":
			return fmt.Errorf("registry %q: mirror-by-digest-only, and pull-from-mirror for %q", r.Prefix, m.Location)
		}
		switch m.PullFromMirror {
		case "", "all", "digest-only", "tag-only":
		default:
			return fmt.Errorf("mirror %q: pull-from-mirror %q is neither all, digest-only nor tag-only", m.Location, m.PullFromMirror)
		}
	}
	return nil
}

// checkConflicts refuses a location that is safe in one place and not in another.
func (f *file) checkConflicts() error {
	first := make(map[string]*registry)
	for i := range f.Registries {
		r := &f.Registries[i]
		key := r.Location
		if key == "" {
			key = r.Prefix
		}
		o := first[key]
		switch {
		case o == nil:
			first[key] = r
		case o.Insecure != r.Insecure:
			return fmt.Errorf("registry %q: once with insecure and once without", key)
		case o.Blocked != r.Blocked:
			return fmt.Errorf("registry %q: once with blocked and once without", key)
		}
	}
	return nil
}

// checkAlias checks NAME = "HOST/REPOSITORY"; an empty value takes an alias of
// an earlier file back.
func checkAlias(name, value string) error {
	if name == "" || strings.ContainsAny(name, ":@ ") || hasHost(name) {
		return fmt.Errorf("alias %q: is not a name without registry, tag and digest", name)
	}
	if value == "" {
		return nil
	}
	host, rest, ok := strings.Cut(value, "/")
	if !ok || !hasHost(value) || !reHost.MatchString(host) || rest == "" || strings.ContainsAny(rest, ":@ ") {
		return fmt.Errorf("alias %q: %q is not a registry and a repository without tag and digest", name, value)
	}
	return nil
}

// hasHost tells whether a name starts with a registry.
func hasHost(name string) bool {
	host, _, ok := strings.Cut(name, "/")
	return ok && (host == "localhost" || strings.ContainsAny(host, ".:"))
}
