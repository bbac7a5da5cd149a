package registries

import (
	"os"
	"path/filepath"
)

// Env is what the look-up of files depends on.
type Env struct {
	Getenv func(string) string
	Home   string
	Root   string // put before the system's paths; "" for none
	System bool   // the user is root, whose aliases are the system's
}

// Find returns the files to read: registries.conf as the user named it, by the
// argument or by $CONTAINERS_REGISTRIES_CONF, or else that of the user, or where
// there is none that of the system; then registries.conf.d of both, unless the
// file is the user's own, which stands for the system's as a whole.
func Find(explicit string, env Env) Paths {
	if env.Getenv == nil {
		return Paths{File: explicit, Required: true}
	}
	get := env.Getenv
	if explicit == "" {
		explicit = get("CONTAINERS_REGISTRIES_CONF")
	}
	p := Paths{
		File: filepath.Join(env.Root, "/etc/containers/registries.conf"),
		Dirs: []string{filepath.Join(env.Root, "/etc/containers/registries.conf.d")},
	}
	if explicit != "" {
		p.File, p.Required = explicit, true
	}
	cache := get("XDG_CACHE_HOME")
	if env.Home != "" {
		user := filepath.Join(env.Home, ".config", "containers")
		if _, err := os.Stat(filepath.Join(user, "registries.conf")); err == nil && explicit == "" {
			p.File, p.Dirs = filepath.Join(user, "registries.conf"), nil
		}
		p.Dirs = append(p.Dirs, filepath.Join(user, "registries.conf.d"))
		if cache == "" {
			cache = filepath.Join(env.Home, ".cache")
		}
	}
	switch {
	case env.System:
		p.Aliases = filepath.Join(env.Root, "/var/cache/containers/short-name-aliases.conf")
	case cache != "":
		p.Aliases = filepath.Join(cache, "containers", "short-name-aliases.conf")
	}
	return p
}
