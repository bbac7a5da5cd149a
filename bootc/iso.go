package bootc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"imgbuild/tree"
)

// ISOConfig is what an image says of the live medium that it is on, the iso.yaml
// of image-builder.
type ISOConfig struct {
	Label string `yaml:"label"` // volume id; "" leaves it open
	// KernelArgs are all arguments of the kernel, instead of the usual ones.
	KernelArgs []string `yaml:"kernel_args"`
	GRUB       struct {
		Default *int           `yaml:"default"` // index of the entry that is started
		Timeout *int           `yaml:"timeout"` // seconds
		Entries []ISOMenuEntry `yaml:"entries"`
	} `yaml:"grub2"`
}

// ISOMenuEntry is an entry of the boot menu. ${kernelpath}, ${initrdpath}, ${root}
// (the arguments of the kernel), ${isolabel}, ${product} and ${version} stand for
// their values.
type ISOMenuEntry struct {
	Name   string `yaml:"name"`
	Linux  string `yaml:"linux"`  // path of the kernel and its arguments
	Initrd string `yaml:"initrd"` // paths
}

// maxISOYAML bounds an iso.yaml, in bytes.
const maxISOYAML = 64 << 10

// maxISOLine bounds what a line of an entry becomes, in bytes; no kernel takes that
// many arguments.
const maxISOLine = 64 << 10

// ReadISO returns the image's iso.yaml, empty where it has none. Keys that nobody
// knows are an error.
func ReadISO(root *tree.Inode) (*ISOConfig, error) {
	for _, dir := range []string{"usr/lib/image-builder/bootc", "usr/lib/bootc-image-builder"} {
		name := path.Join(dir, "iso.yaml")
		text, err := tree.ReadFile(root, name, maxISOYAML)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, bad(err, "")
		}
		c, err := parseISO(text)
		if err != nil {
			return nil, bad(fmt.Errorf("the image's /%s: %w", name, err), "")
		}
		return c, nil
	}
	return &ISOConfig{}, nil
}

func parseISO(text []byte) (*ISOConfig, error) {
	c := &ISOConfig{}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		// The library has a line for each problem behind a first one.
		lines := strings.Split(strings.TrimPrefix(err.Error(), "yaml: "), "\n")
		text := strings.TrimSpace(lines[min(1, len(lines)-1)])
		text, _, _ = strings.Cut(text, " in type bootc.")
		return nil, errors.New(text)
	}
	g := &c.GRUB
	for i, e := range g.Entries {
		switch {
		case e.Name == "":
			return nil, fmt.Errorf("grub2.entries[%d]: no name", i)
		case len(strings.Fields(e.Linux)) == 0:
			return nil, fmt.Errorf("grub2.entries[%d]: no kernel (linux)", i)
		}
	}
	if n := g.Default; n != nil && (*n < 0 || len(g.Entries) > 0 && *n >= len(g.Entries)) {
		return nil, fmt.Errorf("grub2.default: there is no entry %d", *n)
	}
	if n := g.Timeout; n != nil && *n > 1<<20 {
		return nil, errors.New("grub2.timeout: " + strconv.Itoa(*n) + " seconds")
	}
	for _, a := range c.KernelArgs {
		if strings.ContainsAny(a, "\n\r\x00") {
			return nil, fmt.Errorf("kernel_args: %q has more than one line", a)
		}
	}
	return c, nil
}

// Expand returns the words of a line of an entry with its variables replaced. A
// variable that nobody knows is an error.
func (e *ISOMenuEntry) Expand(line string, values map[string]string) ([]string, error) {
	var b strings.Builder
	for rest := line; ; {
		before, after, ok := strings.Cut(rest, "${")
		b.WriteString(before)
		if !ok {
			break
		}
		name, tail, ok := strings.Cut(after, "}")
		value, known := values[name]
		if !ok || !known {
			return nil, bad(fmt.Errorf("iso.yaml: entry %q: unknown variable %.40q", e.Name, name), "")
		}
		b.WriteString(value)
		if b.Len() > maxISOLine {
			return nil, bad(fmt.Errorf("iso.yaml: entry %q: more than %d bytes in a line", e.Name, maxISOLine), "")
		}
		rest = tail
	}
	return strings.Fields(b.String()), nil
}
