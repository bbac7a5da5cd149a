package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"imgbuild/fault"
)

// Env says where configuration is looked for.
type Env struct {
	Getenv func(string) string // nil is an empty environment
	Home   string              // "" without one
	UID    int
	Root   string // put before the absolute paths of the system's configuration
}

func (e Env) getenv(name string) string {
	if e.Getenv == nil {
		return ""
	}
	return e.Getenv(name)
}

// config returns the user's directory for containers' configuration, or "".
func (e Env) config() string {
	if dir := e.getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "containers")
	}
	if e.Home == "" {
		return ""
	}
	return filepath.Join(e.Home, ".config", "containers")
}

// Load reads the policy in a file, or where path is empty the first that there is
// of $CONTAINERS_POLICY_JSON, the user's, /etc/containers/policy.json and
// /usr/share/containers/policy.json. Without any, everything is accepted: that is
// where this differs from containers/image, which then accepts nothing.
//
// Errors are of the class Config; of Usage when the path does not exist.
func Load(path string, env Env) (*Policy, error) {
	explicit := path != ""
	if !explicit {
		path = env.getenv("CONTAINERS_POLICY_JSON")
	}
	if path != "" {
		p, err := parseFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.Usage, err, "")
		}
		if err == nil && explicit {
			p = p.Explicit()
		}
		return p, err
	}
	var list []string
	if dir := env.config(); dir != "" {
		list = append(list, filepath.Join(dir, "policy.json"))
	}
	for _, dir := range []string{"/etc/containers", "/usr/share/containers"} {
		list = append(list, filepath.Join(env.Root, filepath.FromSlash(dir), "policy.json"))
	}
	for _, path := range list {
		p, err := parseFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return p, err
	}
	return Anything(), nil
}

func parseFile(path string) (*Policy, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fault.New(fault.Config, fmt.Errorf("signature policy: %w", err), "")
	}
	p, err := Parse(data, path)
	if err != nil {
		return nil, fault.New(fault.Config, fmt.Errorf("signature policy %s: %w", path, err), "another policy can be named with --signature-policy")
	}
	return p, nil
}
