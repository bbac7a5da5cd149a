package blueprints

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"imgbuild/fault"
	"imgbuild/toml"
)

// Settings is what imgbuild applies of a config file so far. Only that has a
// field: any other key is refused while reading, so nothing is ignored.
type Settings struct {
	KernelAppend []string // customizations.kernel.append, one argument each
}

// MaxSize is the largest config file that is read, in bytes.
const MaxSize = 256 << 10

// Parse reads a blueprint. name is the file's, for errors and to choose the
// syntax by its ending: .toml or .json; "-" may be either.
func Parse(name string, text []byte) (*Settings, error) {
	var top map[string]any
	var err error
	switch {
	case strings.HasSuffix(name, ".toml"):
		top, err = toml.Decode(string(text))
	case strings.HasSuffix(name, ".json"):
		top, err = parseJSON(text)
	case name == "-":
		if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '{' {
			top, err = parseJSON(text)
		} else {
			top, err = toml.Decode(string(text))
		}
	default:
		return nil, fault.New(fault.Usage, fmt.Errorf("config %s: neither .toml nor .json", name), "rename the file by its syntax")
	}
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("config %s: %w", name, err), "")
	}
	b, err := interpret(top)
	if err != nil {
		return nil, fault.New(fault.ClassOf(err), fmt.Errorf("config %s: %w", name, err), fault.HintOf(err))
	}
	return b, nil
}

func parseJSON(text []byte) (map[string]any, error) {
	var top map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&top); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("byte %d: data after the end of the object", d.InputOffset())
	}
	// The form in which older tools saved blueprints.
	if inner, ok := top["blueprint"].(map[string]any); ok && len(top) == 1 {
		return inner, nil
	}
	return top, nil
}

// interpret reads the keys that imgbuild applies, and refuses all others.
func interpret(top map[string]any) (*Settings, error) {
	b := &Settings{}
	var refused []string
	for key, value := range top {
		switch key {
		case "name", "description", "version", "distro": // say what the file is, not what the disk is
		case "customizations":
			table, ok := value.(map[string]any)
			if !ok {
				return nil, fault.New(fault.Usage, errors.New("customizations: not a table"), "")
			}
			more, err := b.customize(table)
			if err != nil {
				return nil, err
			}
			refused = append(refused, more...)
		default:
			refused = append(refused, key)
		}
	}
	if len(refused) > 0 {
		slices.Sort(refused)
		return nil, fault.New(fault.Unsupported, fmt.Errorf("not applied by this version: %s", strings.Join(refused, ", ")),
			"take the keys out and write the same into the image's Containerfile")
	}
	return b, nil
}

// customize reads the customizations table and returns the keys it refuses.
func (b *Settings) customize(table map[string]any) (refused []string, err error) {
	for key, value := range table {
		if key != "kernel" {
			refused = append(refused, "customizations."+key)
			continue
		}
		kernel, ok := value.(map[string]any)
		if !ok {
			return nil, fault.New(fault.Usage, errors.New("customizations.kernel: not a table"), "")
		}
		for key, value := range kernel {
			text, isText := value.(string)
			switch {
			case key != "append":
				refused = append(refused, "customizations.kernel."+key)
			case !isText:
				return nil, fault.New(fault.Usage, errors.New("customizations.kernel.append: not a string"), "")
			default:
				b.KernelAppend = SplitKargs(text)
			}
		}
	}
	return refused, nil
}

// SplitKargs splits a kernel command line into arguments as the kernel does:
// at white space outside double quotes, which stay.
func SplitKargs(s string) []string {
	var args []string
	start, quoted := -1, false
	for i, r := range s {
		space := r == ' ' || r == '\t' || r == '\n' || r == '\r' || r == '\v' || r == '\f'
		switch {
		case space && !quoted:
			if start >= 0 {
				args = append(args, s[start:i])
			}
			start = -1
			continue
		case r == '"':
			quoted = !quoted
		}
		if start < 0 {
			start = i
		}
	}
	if start >= 0 {
		args = append(args, s[start:])
	}
	return args
}
