package blueprints

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"imgbuild/customize"
	"imgbuild/customize/accounts"
	"imgbuild/document"
	"imgbuild/fault"
)

// MaxSize is the largest config file that is read, in bytes.
const MaxSize = document.MaxSize

// Source is a config file as it was found.
type Source struct {
	// Name is for messages, and its ending names the syntax: .toml or .json. "-"
	// may be either.
	Name string
	Text []byte
}

// Options are what the command line says about config files.
type Options struct {
	// IgnoreUnsupported turns what cannot be applied into warnings.
	IgnoreUnsupported bool
	// AllowPaths are paths below which files and directories may be written, beyond
	// those that always may.
	AllowPaths []string
	// Media is the kind of installation medium among what is made, "" for none: the
	// keys about such are applied then.
	Media Media
	// Kickstart is a kickstart file beside the config files, nil without one. It
	// becomes installer.kickstart.contents.
	Kickstart *Source
}

// Config is what all config files of a build ask for.
type Config struct {
	Blueprint Blueprint // merged
	Files     []string  // names of the files, in the order they were merged
	Options   Options
	Warnings  []string // about what is allowed, but unwise
	Ignored   []string // about what is not applied, on demand

	places document.Places
}

// Load reads config files, merges them in their order by the rules of package
// document and the tags of the types, and checks all that can be checked without
// an image. The error is a *Report of everything that is wrong; there is a Config
// even then, for its warnings.
func Load(sources []Source, o Options) (*Config, error) {
	r := &Report{}
	var values []*document.Value
	var names []string
	for _, s := range sources {
		names = append(names, s.Name)
		v, err := parse(s)
		if err != nil {
			r.add(err)
			continue
		}
		values = append(values, v)
	}
	return load(values, names, o, r)
}

// load makes a configuration of documents, and adds what is wrong with them to a
// report.
func load(values []*document.Value, names []string, o Options, r *Report) (*Config, error) {
	c := &Config{Options: o, Files: names, places: document.Places{}}
	var merged *document.Value
	for _, v := range values {
		_, problems := document.Decode(v, &Blueprint{})
		for _, p := range problems {
			r.add(p)
		}
		if merged == nil {
			merged = v
		} else {
			merged = document.Merge(reflect.TypeFor[Blueprint](), merged, v)
		}
	}
	if merged != nil {
		c.places, _ = document.Decode(merged, &c.Blueprint)
	}
	c.setKickstart(r)
	c.normalize()
	c.sudoers()
	c.check(r)
	c.refuse(r)
	return c, c.settle(r)
}

// parse reads a file by its syntax.
func parse(s Source) (*document.Value, error) {
	switch {
	case strings.HasSuffix(s.Name, ".toml"):
		return document.ParseTOML(s.Name, string(s.Text))
	case strings.HasSuffix(s.Name, ".json"), s.Name == "-" && document.LooksLikeJSON(s.Text):
		v, err := document.ParseJSON(s.Name, string(s.Text))
		if err == nil && len(v.Fields) == 1 && v.Fields[0].Name == "blueprint" {
			// The form in which older tools saved blueprints.
			v = v.Fields[0].Value
		}
		return v, err
	case s.Name == "-":
		return document.ParseTOML(s.Name, string(s.Text))
	}
	return nil, document.Problem{At: document.Position{File: s.Name}, Message: "neither .toml nor .json; name the file by its syntax"}
}

// normalize brings old spellings to the new ones.
func (c *Config) normalize() {
	b := &c.Blueprint.Customizations
	for i := range b.Filesystem {
		if f := &b.Filesystem[i]; f.MinSize == 0 {
			f.MinSize = f.Size
		}
	}
	if b.Disk != nil {
		for i := range b.Disk.Partitions {
			if p := &b.Disk.Partitions[i]; p.Type == "" {
				p.Type = PartitionPlain
			}
		}
	}
	for i := range b.User {
		if home := b.User[i].Home; home != nil && len(*home) > 1 {
			*home = strings.TrimRight(*home, "/")
		}
	}
}

// has tells whether a key was given.
func (c *Config) has(path string) bool {
	_, ok := c.places[path]
	return ok
}

// problem returns a problem with the key at path.
func (c *Config) problem(path string, err error) Problem {
	class := fault.ClassOf(err)
	if class == fault.Internal || class == fault.Usage {
		class = fault.Config
	}
	return Problem{At: c.places.Of(path), Path: path, Message: err.Error(), Hint: fault.HintOf(err), Class: class}
}

// Problems turns what a customization says into a report, with the places of the
// keys that it is about. What is not supported is left out, and becomes a
// warning, if that is to be ignored.
func (c *Config) Problems(list []error) error {
	r := &Report{}
	for _, err := range list {
		r.addAt(c, err)
	}
	return c.settle(r)
}

// settle returns what is left of a report once the keys that are to be ignored are
// taken out of the configuration.
func (c *Config) settle(r *Report) error {
	if c.Options.IgnoreUnsupported {
		var paths []string
		r.Problems = slices.DeleteFunc(r.Problems, func(p Problem) bool {
			if p.Class != fault.Unsupported {
				return false
			}
			c.Ignored = append(c.Ignored, "ignored: "+strings.TrimSuffix(p.Error(), "; in the Containerfile:"))
			paths = append(paths, p.Path)
			return true
		})
		c.Blueprint.remove(paths)
	}
	return r.err(c.Files)
}

// Warning returns a warning about a key as a line.
func (c *Config) Warning(err error) string {
	var p customize.Problem
	var account accounts.Problem
	switch {
	case errors.As(err, &p):
		return c.problem("customizations."+p.Field, p.Err).Error()
	case errors.As(err, &account):
		return c.problem(c.accountPath(account), account.Err).Error()
	}
	return err.Error()
}

// KeyError is an error about the key at a path.
type KeyError struct {
	Path string
	Err  error
}

func (e *KeyError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *KeyError) Unwrap() error { return e.Err }

// Asked returns the customizations that are given, by their keys.
func (c *Config) Asked() []string {
	list := []string{}
	for _, k := range document.Keys(reflect.TypeFor[Customizations]()) {
		if path := "customizations." + k.Name; asked(&c.Blueprint, path) {
			list = append(list, path)
		}
	}
	return list
}

// Embed returns the configuration with the file systems or the partitioning of a
// config file of the image, unless it has its own: nothing else of such a file is
// applied. c may be nil.
func Embed(c *Config, s Source) (*Config, error) {
	if c == nil {
		c = &Config{places: document.Places{}}
	}
	b := &c.Blueprint.Customizations
	if len(b.Filesystem) > 0 || b.Disk != nil {
		return c, nil
	}
	v, err := parse(s)
	if err != nil {
		r := &Report{}
		r.add(err)
		return nil, r.err(nil)
	}
	// The rest is not looked at: it may be of a newer schema.
	var left []string
	only := func(v *document.Value, path string, keys ...string) *document.Value {
		out := *v
		out.Fields = nil
		for _, f := range v.Fields {
			if slices.Contains(keys, f.Name) {
				out.Fields = append(out.Fields, f)
			} else {
				left = append(left, path+f.Name)
			}
		}
		return &out
	}
	v = only(v, "", "customizations", "name", "description", "version", "distro")
	for i, f := range v.Fields {
		if f.Name == "customizations" {
			v.Fields[i].Value = only(f.Value, "customizations.", "filesystem", "disk")
		}
	}
	own, err := load([]*document.Value{v}, []string{s.Name}, c.Options, &Report{})
	if err != nil {
		return nil, err
	}
	out := *c
	out.Files = append(slices.Clone(c.Files), s.Name)
	out.Warnings = append(slices.Clone(c.Warnings), own.Warnings...)
	out.Ignored = append(slices.Clone(c.Ignored), own.Ignored...)
	if len(left) > 0 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%s: of a config file in the image only filesystem and disk are applied, not %s", s.Name, strings.Join(left, ", ")))
	}
	out.Blueprint.Customizations.Filesystem = own.Blueprint.Customizations.Filesystem
	out.Blueprint.Customizations.Disk = own.Blueprint.Customizations.Disk
	out.places = document.Places{}
	for _, places := range []document.Places{own.places, c.places} {
		for path, at := range places {
			out.places[path] = at
		}
	}
	return &out, nil
}
